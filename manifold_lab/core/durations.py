"""Durations as readers see them."""

UNITS = ((2, 86_400, "days"), (1, 3600, "h"), (1, 60, "min"), (0, 1, "s"))
"""From so many of a unit on it is the unit, in seconds."""


def duration(seconds: int | float) -> str:
    """A duration in one unit, to two digits.

    >>> [duration(seconds) for seconds in (0.0123, 9.4, 312, 9000, 90_000, 200_000)]
    ['0.012 s', '9.4 s', '5.2 min', '2.5 h', '25 h', '2.3 days']
    """
    size, unit = next((size, unit) for fewest, size, unit in UNITS if seconds >= fewest * size)
    found = seconds / size
    return f"{found:.2g} {unit}" if found < 100 else f"{found:.3g} {unit}"
