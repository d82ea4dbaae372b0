"""How much more would decide what is undecided, in words, for an effect of the size seen."""

import math
from collections.abc import Sequence

import numpy as np

from manifold_lab.core import contrasts
from manifold_lab.core.contrasts import MOST_RUNS
from manifold_lab.core.statistics import Estimate

RUNS = "runs an arm"
"""What is repeated where arms are compared."""


def in_words(count: int | None, of: str, fewest: int = 2, most: int = MOST_RUNS) -> str:
    """So many replicates: at least the fewest that decide anything; more than the most where there is no number.

    >>> in_words(12, "images"), in_words(None, "images"), in_words(3, "runs", fewest=5)
    ('12 images', 'more than 10,000 images', '5 runs')
    """
    return f"more than {most:,} {of}" if count is None else f"{max(count, fewest):,} {of}"


Groups = Sequence[tuple[Sequence[float] | np.ndarray, int | float]]
"""The runs of each arm, and its weight."""


def runs(groups: Groups, fewest: int, margin: float = 0.0) -> str:
    """Runs of each arm that would decide whether a weighted sum of means is zero, by Student's test; else empty.

    Args:
        groups: the runs of each arm, and its weight; with fewer than two of one their spread is not known.
        fewest: runs of an arm below which nothing is decided.
        margin: decide instead whether the sum is nearer to zero than this.
    """
    if min(len(values) for values, _ in groups) < 2:
        return ""
    spread = math.sqrt(sum(weight**2 * np.var(values, ddof=1) for values, weight in groups) / 2)
    effect = abs(contrasts.contrast(groups).estimate.value) - margin
    return in_words(contrasts.runs_to_decide(effect, spread), RUNS, fewest)


def replicates(found: Estimate, bound: int | float, of: str) -> str:
    """Replicates with which an interval as this one would leave out a bound; empty where it has no interval.

    Args:
        found: what was measured, with the replicates that it rests on.
        bound: what decides, on either side.
        of: what is repeated, in the plural.
    """
    if math.isnan(found.low) or found.n < 2:
        return ""
    count = contrasts.replicates_to_decide(found, bound)
    return in_words(count, of, found.n + 1, MOST_RUNS * found.n)
