"""Errors that a command reports in one line: what was wrong, and what is allowed."""

import difflib
import math
from collections.abc import Iterable, Iterator

MANY, NEAREST = 40, 5
"""So many names are all listed; of more, the nearest."""
LONGEST, LONGEST_WORD = 300, 100
"""Characters of a message at most, however many faults it lists, and of a name in it that is longer than that."""


class InputError(ValueError):
    """An input that cannot be used; its text is the one line that the user sees."""


class DiskError(InputError):
    """A disk that is full, over quota or read-only: nobody's fault but the disk's, and gone when it is mended."""


class SourceError(InputError):
    """A file of data or weights that is missing, damaged or out of reach: no run's fault, gone when it is mended."""


class DivergedError(Exception):
    """A run whose numbers left the finite ones at a step: an outcome of its spec, not a fault to be tried again."""

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(reason)
        self.step = step


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and all those that it was raised from or in the handling of."""
    found = [error]
    for one in found:  # which grows meanwhile
        yield one
        found += [more for more in (one.__cause__, one.__context__) if more is not None and more not in found]


def error_line(error: BaseException) -> str:
    """An error's kind and message, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def one_line(message: str) -> str:
    """A message for the user: of LONGEST characters at most, where the middle of long names goes before the end does.

    >>> cut = one_line("out: cannot write into " + "long/" * 100 + " (Too long)")
    >>> len(cut) <= LONGEST, "…" in cut, cut.endswith("long/ (Too long)")
    (True, True, True)
    """
    words = message.split()
    if sum(map(len, words)) + len(words) > LONGEST:
        words = [_middle_cut(word) for word in words]
    line = " ".join(words)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _middle_cut(word: str) -> str:
    half = LONGEST_WORD // 2
    return word if len(word) <= LONGEST_WORD else f"{word[: half - 1]}…{word[-half:]}"


def one_of(field: str, name: str, allowed: Iterable[str]) -> str:
    """Return `name` when it is allowed.

    Raises:
        InputError: with the nearest allowed name and the whole list, or the nearest of a long one.
    """
    names = list(allowed)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=NEAREST)
    hint = f"did you mean {near[0]!r}? " if near else ""
    some = ", ".join(near or names[:NEAREST])
    listed = ", ".join(names) if len(names) <= MANY else f"{len(names)} names, such as {some}"
    raise InputError(f"{field}: {name!r} is unknown; {hint}allowed: {listed}")


def at_least(field: str, value: int | float, low: int | float) -> None:
    """Refuse a number that is below `low`, or no number at all.

    Raises:
        InputError: naming the field, the value and the bound.
    """
    if not (math.isfinite(value) and value >= low):
        raise InputError(f"{field}: {value} is not allowed; it must be a finite number of at least {low}")


def above(field: str, value: int | float, low: int | float) -> None:
    """Refuse a number that is not above `low`.

    Raises:
        InputError: naming the field, the value and the bound.
    """
    if not (math.isfinite(value) and value > low):
        raise InputError(f"{field}: {value} is not allowed; it must be a finite number above {low}")


def within(field: str, value: int | float, low: int | float, high: int | float) -> None:
    """Refuse a number that is not from `low` to `high`, both allowed.

    Raises:
        InputError: naming the field, the value and both bounds.
    """
    if not low <= value <= high:
        raise InputError(f"{field}: {value} is not allowed; it must be from {low:,} to {high:,}")
