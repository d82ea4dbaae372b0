"""Intervals and tests by drawing units again, and the rank correlation that they are mostly of."""

import math
from collections.abc import Callable

import numpy as np

from manifold_lab.core.statistics import LEVEL, NO_RUNS, RESAMPLES, Estimate


def resampled(units: int, statistic: Callable[[np.ndarray], float], rng: np.random.Generator) -> Estimate:
    """A number with the interval of the percentile bootstrap over the units that it rests on (Efron 1979).

    Args:
        units: how many there are; `n` of the estimate.
        statistic: of the numbers of the drawn units; resamples of which it is nan are left out.
        rng: draws the units, with replacement.
    """
    if not units:
        return NO_RUNS
    drawn = np.array([statistic(rng.integers(units, size=units)) for _ in range(RESAMPLES)])
    drawn, tail = drawn[np.isfinite(drawn)], (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]) if units > 2 and len(drawn) > RESAMPLES / 2 else (np.nan, np.nan)
    return Estimate(float(statistic(np.arange(units))), float(low), float(high), units)


def permutation_p(units: int, statistic: Callable[[np.ndarray], float], rng: np.random.Generator) -> float:
    """The two-sided p-value of a statistic of pairs under random pairing of their units; never 0.

    Args:
        units: how many there are.
        statistic: of an order of the units, in which one side of every pair is taken.
        rng: draws the orders.
    """
    found = abs(statistic(np.arange(units)))
    drawn = np.abs([statistic(rng.permutation(units)) for _ in range(RESAMPLES)])
    return float((1 + (drawn >= found - 1e-12).sum()) / (1 + RESAMPLES)) if math.isfinite(found) else math.nan


def rank_correlation(x: np.ndarray, y: np.ndarray, *given: np.ndarray) -> float:
    """Spearman's correlation of two columns beyond what others tell of both; nan where these tell one of them whole."""
    from scipy.stats import rankdata  # noqa: PLC0415  (more than half a second that few callers need)

    ranks = np.ascontiguousarray(rankdata((x, y, *given), axis=1).T) - (len(x) + 1) / 2
    pair, others = ranks[:, :2], ranks[:, 2:]
    left = pair - others @ np.linalg.lstsq(others, pair)[0] if given else pair
    size = (left**2).sum(0)
    return float(left[:, 0] @ left[:, 1] / np.sqrt(size.prod())) if (size > 1e-9 * len(x) ** 3).all() else np.nan
