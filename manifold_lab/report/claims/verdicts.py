"""What several rows say together, and how verdicts are told."""

from collections import Counter
from collections.abc import Iterable, Sequence

from manifold_lab.core import contrasts, statistics
from manifold_lab.core.statistics import FAILS, HOLDS, NOT_RUN, UNDECIDED
from manifold_lab.report.tables import ClaimResult

NOT_TESTABLE = "not testable here"
VERDICTS = (*statistics.VERDICTS, NOT_TESTABLE)
PLURALS = dict(zip(VERDICTS, ("hold", "fail", "are undecided", "are not run", "are not testable here"), strict=True))
"""A verdict of several claims."""
SINGULARS = dict(zip(VERDICTS, ("holds", "fails", "is undecided", "is not run", "is not testable here"), strict=True))


def combined(rows: Sequence[ClaimResult]) -> str:
    """The verdict of a claim that several rows decide.

    Rows with a p-value count as decided after Holm's correction over them alone. The claim holds where at least one row
    does and none fails, fails where at least one does and none holds, and is undecided otherwise: where it is false,
    or true, everywhere, it is decided wrongly in at most 5 %. A counted row is exact: one that fails fails the claim.
    """
    if all(row.verdict == NOT_RUN for row in rows):
        return NOT_RUN
    if any(row.verdict == FAILS and not row.tested for row in rows):
        return FAILS
    verdicts = {row.verdict for row in decided(rows)}
    return verdicts.pop() if len(verdicts) == 1 else UNDECIDED


def decided(rows: Sequence[ClaimResult]) -> list[ClaimResult]:
    """The rows of a claim that hold or fail, those with a p-value after Holm's correction over them alone."""
    p_values = contrasts.holm({row.id: row.p_value for row in rows if row.p_value is not None and row.tested})
    return [row for row in rows if row.verdict in (HOLDS, FAILS) and p_values.get(row.id, 0.0) < 1 - statistics.LEVEL]


def verdict_counts(verdicts: Iterable[str]) -> str:
    """How many claims stand how.

    >>> verdict_counts(["holds", "holds", "fails"])
    '2 hold, 1 fails'
    """
    found = Counter(verdicts)
    words = {word: SINGULARS if found[word] == 1 else PLURALS for word in VERDICTS}
    return ", ".join(f"{found[word]} {words[word][word]}" for word in VERDICTS if found[word])
