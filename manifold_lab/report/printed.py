"""Exact counts beside what a paper prints, compared to the printed precision."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from manifold_lab.core import statistics
from manifold_lab.report.tables import ClaimResult, estimated_claim


@dataclass(frozen=True)
class Printed:
    """A number as a paper prints it: rounded, or cut off after its last digit.

    Args:
        digits: as printed: `3.4`.
        unit: what they count: a million for `3.4M`.
        place: the last place that is meant, where that is before the last digit: `100` for a 1568 printed as 1600.

    >>> Printed("300", 10**6).compared(300_774_272), Printed("1.7", 10**6).compared(1_663_048)
    ('matches as printed (cut off)', 'matches as printed')
    >>> Printed("575", 10**6).compared(568_740_352)
    'differs by -1.1 %'
    """

    digits: str
    unit: int = 1
    place: str = ""

    def matches(self, count: int | float) -> bool:
        """Whether the count, rounded or cut off at the last printed place, is what is printed."""
        return Decimal(self.digits) in (self._at_place(count, ROUND_HALF_UP), self._at_place(count, ROUND_DOWN))

    def compared(self, count: int | float) -> str:
        """That it matches, or by how much of the printed number the count differs."""
        if not self.matches(count):
            return f"differs by {100 * (float(count) / self.unit / float(self.digits) - 1):+.2g} %"
        rounded = self._at_place(count, ROUND_HALF_UP) == Decimal(self.digits)
        return "matches as printed" if rounded else "matches as printed (cut off)"

    def _at_place(self, count: int | float, rounding: str) -> Decimal:
        last = Decimal(self.place) if self.place else Decimal(1).scaleb(Decimal(self.digits).as_tuple().exponent)  # type: ignore[arg-type]
        return (Decimal(str(count)) / self.unit / last).quantize(Decimal(1), rounding) * last


CountedClaim = tuple[str, str, str, str, int | float, bool | Printed]
"""Name, place, claim, what was counted, the count, and whether the claim holds or what is printed of it."""


def counted_claims(found: Iterable[CountedClaim]) -> list[ClaimResult]:
    """Claims about counts, which are exact: each holds or fails; of a printed number it is said how it compares."""
    made = []
    for name, place, says, measure, count, rule in found:
        holds = rule.matches(count) if isinstance(rule, Printed) else bool(rule)
        measured = f"{measure}: {rule.compared(count)}" if isinstance(rule, Printed) else measure
        made.append(estimated_claim(name, says, measured, statistics.counted(count), holds, place=place))
    return made
