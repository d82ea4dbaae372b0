"""What would decide an undecided claim four times in five, if the value seen is the true one; in words."""

import math
from collections.abc import Sequence

import numpy as np

from manifold_lab.core import contrasts
from manifold_lab.core.contrasts import MOST_RUNS
from manifold_lab.core.statistics import Estimate

RUNS = "runs an arm"
"""What is repeated where arms are compared."""
ALIKE = "that differ from each other"
"""Of replicates that were all alike, so that nothing tells how far they spread."""
Groups = Sequence[tuple[Sequence[float] | np.ndarray, int | float]]
"""The runs of each arm, and its weight."""


def in_words(count: int | None, of: str, fewest: int = 2, most: int = MOST_RUNS) -> str:
    """So many replicates: at least the fewest that decide anything; more than the most where there is no number.

    >>> in_words(12, "images"), in_words(None, "images"), in_words(3, "runs", fewest=5)
    ('12 images', 'more than 10,000 images', '5 runs')
    """
    return f"more than {most:,} {of}" if count is None else f"{max(count, fewest):,} {of}"


def runs(groups: Groups, fewest: int, margin: float = 0.0) -> str:
    """Runs of each arm that would decide whether a weighted sum of means is zero, by Student's test.

    Args:
        groups: the runs of each arm, and its weight.
        fewest: runs of an arm below which nothing is decided.
        margin: decide instead whether the sum is nearer to zero than this.
    """
    there = min(len(values) for values, _ in groups)
    if there < 2:
        return in_words(fewest, RUNS)
    spread = math.sqrt(sum(weight**2 * np.var(values, ddof=1) for values, weight in groups) / 2)
    if spread == 0:
        return f"{RUNS} {ALIKE}"
    effect = abs(contrasts.contrast(groups).estimate.value) - margin
    return in_words(contrasts.runs_to_decide(effect, spread), RUNS, fewest)


def seeds(values: Sequence[float] | np.ndarray, bound: int | float, of: str, fewest: int = 2) -> str:
    """Seeds whose mean Student's test would tell from a bound.

    Args:
        values: one of every seed.
        bound: what the mean is compared with.
        of: what is repeated, in the plural.
        fewest: of them, below which nothing is decided.
    """
    if len(values) < 2:
        return in_words(fewest, of)
    spread = float(np.std(values, ddof=1))
    if spread == 0:
        return f"{of} {ALIKE}"
    return in_words(contrasts.runs_to_decide(float(np.mean(values)) - bound, spread, paired=True), of, fewest)


def replicates(found: Estimate, bound: int | float, of: str, tests: int = 1) -> str:
    """Replicates with which such an interval would leave out a bound; just more where this one does already.

    Args:
        found: what was measured, with an interval that narrows with the root of the replicates.
        bound: what decides.
        of: what is repeated, in the plural.
        tests: that the interval was corrected for by Bonferroni's method.
    """
    if math.isnan(found.low) or not found.covers(bound):
        return f"more {of}"
    level = 1 - (1 - contrasts.LEVEL) / tests
    return in_words(contrasts.replicates_to_decide(found, bound, level), of, most=MOST_RUNS * found.n)
