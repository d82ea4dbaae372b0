"""Differences between groups of runs: contrasts of means, ratios, several tests, runs that decide."""

import bisect
import gc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from manifold_lab.core import domain
from manifold_lab.core.errors import InputError
from manifold_lab.core.statistics import LEVEL, Estimate, quiet


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of group means, its interval, and the p-value of the two-sided test that it is zero."""

    estimate: Estimate
    p_value: float
    freedom: float

    def exceeds(self, bound: int | float = 0) -> bool | None:
        """Whether the sum is above `bound`; None where its interval holds that or is nan."""
        return self.estimate.exceeds(bound)


def contrast(groups: Sequence[tuple[Sequence[float] | np.ndarray, int | float]], level: float = LEVEL) -> Contrast:
    """A weighted sum of the means of independent groups, by Welch's test with Satterthwaite's degrees of freedom.

    The variances need not be equal (Welch 1947; Satterthwaite 1946). Interval and p-value are nan where a group has
    fewer than two values or nothing varies, so that equal values never decide.

    Args:
        groups: the values of each group and the weight of its mean: two groups with 1 and -1 give Welch's t-test.
        level: of the interval.

    Raises:
        InputError: for a level outside of (0, 1), or a weight that is not finite.
    """
    if domain.number("level", level, 0, 1, above=True) == 1:
        raise InputError("level: 1 is not allowed; it must be above 0 and below 1")
    values = [domain.values("groups", group, ndim=1) for group, _ in groups]
    weights = [domain.number("weight", weight) for _, weight in groups]
    n = sum(map(len, values))
    if not n or not all(map(len, values)):
        return Contrast(Estimate(math.nan, math.nan, math.nan, n), math.nan, math.nan)
    means = [float(quiet(np.mean, group)) for group in values]
    centre = sum(weight * level for level, weight in zip(means, weights, strict=True))
    unknown = Contrast(Estimate(centre, math.nan, math.nan, n), math.nan, math.nan)
    if any(len(group) < 2 or not np.isfinite(group).all() for group in values):
        return unknown
    parts = [weight**2 * group.var(ddof=1) / len(group) for group, weight in zip(values, weights, strict=True)]
    total = float(sum(parts))
    if total == 0:
        return unknown
    freedom = total**2 / float(sum(part**2 / (len(group) - 1) for part, group in zip(parts, values, strict=True)))
    error = math.sqrt(total)
    half = float(special.stdtrit(freedom, (1 + level) / 2)) * error
    p_value = 2 * float(special.stdtr(freedom, -abs(centre) / error))
    return Contrast(Estimate(centre, centre - half, centre + half, n), p_value, freedom)


def squared_error(values: Sequence[float] | np.ndarray) -> float:
    """Variance of the mean of independent values; nan for fewer than two."""
    known = domain.values("values", values, ndim=1)
    return float(quiet(np.var, known, ddof=1)) / len(known) if len(known) > 1 else math.nan


def ratio(
    numerator: float, denominator: float, covariance: Sequence[Sequence[int | float]], freedom: int | float
) -> Estimate:
    """A ratio of two correlated estimates with Fieller's interval (1954); nan where that is not bounded.

    Args:
        numerator: the first estimate.
        denominator: the second one.
        covariance: theirs, 2 x 2.
        freedom: degrees of freedom; `n` of the result is one more.

    Raises:
        InputError: for a covariance that is none, or degrees of freedom that are not above zero.
    """
    n = round(domain.number("freedom", freedom, 0, above=True)) + 1
    given = domain.values("covariance", covariance, ndim=2)
    (aa, ab), (ba, bb) = given if given.shape == (2, 2) else ((-1, 0), (0, 0))
    if aa < 0 or bb < 0 or not (math.isnan(ab) or math.isclose(ab, ba)) or ab**2 > aa * bb * (1 + domain.ROUNDING):
        raise InputError(f"covariance: {given.tolist()} is none of two estimates")
    if not denominator:
        return Estimate(math.nan, math.nan, math.nan, n)
    value = numerator / denominator
    square = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) ** 2
    first, third = denominator**2 - square * bb, numerator**2 - square * aa
    second = numerator * denominator - square * ab
    root = second**2 - first * third
    if not (first > 0 and root >= 0):
        return Estimate(value, math.nan, math.nan, n)
    low, high = (float((second + sign * math.sqrt(root)) / first) for sign in (-1, 1))
    return Estimate(value, low, high, n)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values adjusted for their number by Holm's method (1979, statsmodels); those that are nan stay so.

    Raises:
        InputError: for a number outside of [0, 1].
    """
    from statsmodels.stats.multitest import multipletests  # noqa: PLC0415  (half a second that few callers need)

    known = {name: domain.number(name, value, 0, 1) for name, value in p_values.items() if not math.isnan(value)}
    gc.freeze()  # it collects garbage at every call, which takes long where it looks at all that is there
    try:
        adjusted = multipletests(list(known.values()), method="holm")[1] if known else []
    finally:
        gc.unfreeze()
    return dict(p_values) | dict(zip(known, map(float, adjusted), strict=True))


POWER = 0.8
"""The chance with which so many runs decide a true effect."""
MOST_RUNS = 10_000
"""Above so many runs, or times the replicates that there were, the number that would decide is not looked for."""


def runs_to_decide(effect: float, spread: float, *, paired: bool = False, level: float = LEVEL) -> int | None:
    """Runs of each arm with which Student's two-sided test decides an effect with probability 0.8.

    Args:
        effect: the difference of two means, or the mean of a difference where `paired`.
        spread: standard deviation within an arm, or of the differences where `paired`.
        paired: whether runs come in pairs.
        level: of the interval that the test asks, 0.95 for a test at 5 %.

    Returns:
        None where the effect or the spread is zero, or it takes more than 10,000 runs.

    Raises:
        InputError: for numbers that are not finite, a spread below zero, or a level outside of [0, 1].
    """
    from statsmodels.stats.power import TTestIndPower, TTestPower  # noqa: PLC0415  (half a second)

    domain.number("level", level, 0, 1, above=True)
    if domain.number("effect", effect) == 0 or domain.number("spread", spread, 0) == 0:
        return None
    test = TTestPower() if paired else TTestIndPower()
    size, allowed = abs(effect) / spread, range(2, MOST_RUNS + 1)
    # for many runs of a large effect the power is nan, which is not below POWER either
    place = bisect.bisect_left(allowed, POWER, key=lambda runs: float(test.power(size, runs, 1 - level)))
    return allowed[place] if place < len(allowed) else None


def replicates_to_decide(found: Estimate, bound: int | float = 0, level: float = LEVEL) -> int | None:
    """Replicates with which an interval leaves out a bound with probability 0.8, where the value seen is the true one.

    By the normal law, of an interval that narrows with the root of their number; of a mean over a few seeds
    `runs_to_decide` is right.

    Args:
        found: what was seen, with its interval and the replicates that it rests on.
        bound: what is to be left out.
        level: of the interval.

    Returns:
        None where the value lies on the bound, or it takes more than 10,000 times those that there were.

    Raises:
        InputError: for numbers that are not finite, or a level outside of [0, 1].
    """
    value, bound = domain.number("value", found.value), domain.number("bound", bound)
    domain.number("level", level, 0, 1, above=True)
    near = domain.number("interval", found.low if value > bound else found.high)
    if value == bound:
        return None
    growth = (1 + special.ndtri(POWER) / special.ndtri((1 + level) / 2)) * (value - near) / (value - bound)
    return math.ceil(found.n * growth**2) if growth**2 <= MOST_RUNS else None


def trials_to_decide(share: float, bound: float) -> int | None:
    """Trials with which the two-sided test at 5 % tells a share from a bound with probability 0.8.

    By the normal law with the deviation of each (Fleiss, Levin and Paik 2003, section 2.5).

    Args:
        share: the true one.
        bound: another one, neither 0 nor 1.

    Returns:
        None where they are equal.

    Raises:
        InputError: for numbers outside of [0, 1].
    """
    share, bound = domain.number("share", share, 0, 1), domain.number("bound", bound, 0, 1)
    if share == bound:
        return None
    null, true = (math.sqrt(one * (1 - one)) for one in (bound, share))
    deviations = float(special.ndtri((1 + LEVEL) / 2)) * null + float(special.ndtri(POWER)) * true
    return math.ceil((deviations / (share - bound)) ** 2)
