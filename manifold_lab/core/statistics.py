"""From values over draws to an estimate with n and an interval that is right for the quantity."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import special
from scipy import stats as scipy_stats

from manifold_lab.core.errors import InputError

LEVEL = 0.95
RESAMPLES = 1000
GROUPS = 4096
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}


@dataclass(frozen=True)
class Estimate:
    """A number, the interval around it at confidence `LEVEL`, and the count of draws that it rests on."""

    value: float
    low: float
    high: float
    n: int

    def covers(self, other: int | float) -> bool:
        """Whether the interval holds `other`."""
        return self.low <= other <= self.high

    def exceeds(self, bound: int | float = 0) -> bool | None:
        """Whether it is above `bound`; None, for lack of runs, where its interval holds that or is nan."""
        return None if math.isnan(self.low) or self.covers(bound) else self.low > bound

    def below(self, bound: int | float = 0) -> bool | None:
        """Whether it is below `bound`; None, for lack of runs, where its interval holds that or is nan."""
        above = self.exceeds(bound)
        return None if above is None else not above

    def minus(self, value: int | float) -> "Estimate":
        """The estimate less a known number."""
        return Estimate(self.value - value, self.low - value, self.high - value, self.n)

    def within(self, margin: int | float) -> bool | None:
        """Whether it is nearer to zero than a margin; None, for lack of runs, where its interval does not tell."""
        if math.isnan(self.low) or self.covers(margin) or self.covers(-margin):
            return None
        return -margin < self.value < margin


NO_RUNS = Estimate(math.nan, math.nan, math.nan, 0)
"""Where there is nothing to estimate from."""


def counted(value: int | float) -> Estimate:
    """A number that was counted or computed once, not sampled: its interval is the number itself."""
    return Estimate(float(value), float(value), float(value), 1)


def proportion(successes: int, n: int) -> Estimate:
    """Exact binomial interval (Clopper and Pearson 1934): right also at 0 and n successes."""
    tail = (1 - LEVEL) / 2
    low = float(special.betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(special.betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return Estimate(successes / n, low, high, n)


@dataclass(frozen=True)
class PairedProportion:
    """How a share changed over the same n units: the difference, who lost, who gained, and McNemar's exact p-value."""

    difference: Estimate
    lost: int
    gained: int
    p_value: float


def paired_proportion(before: Bool[np.ndarray, " n"], after: Bool[np.ndarray, " n"]) -> PairedProportion:
    """Change of a share from `before` to `after`, unit by unit.

    The p-value is McNemar's (1947) by the exact binomial law of those that changed; the interval is Bonett and Price's
    (2012), which adds one to either kind of change.
    """
    n, lost, gained = len(before), int((before & ~after).sum()), int((~before & after).sum())
    changed = lost + gained
    p_value = float(scipy_stats.binomtest(gained, changed).pvalue) if changed else 1.0
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(special.ndtri((1 + LEVEL) / 2)) * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    low, high = max(up - down - half, -1.0), min(up - down + half, 1.0)
    return PairedProportion(Estimate((gained - lost) / n, low, high, n), lost, gained, p_value)


def bounded_means(values: Float[np.ndarray, "quantities n"], rng: np.random.Generator) -> list[Estimate]:
    """Means of quantities that lie in [0, 1]; safe where almost every draw gives the same value.

    Gaffke's interval (2005; Learned-Miller and Thomas 2019, arXiv:1905.06208): the Bayesian bootstrap with one more
    atom, at 0 for the low and at 1 for the high end. For zeros and ones it is Clopper and Pearson's, for many
    well-spread values the usual one; where every draw gives 1 its low end is still below 1, as it must be.
    """
    values = np.sort(np.asarray(values, dtype=np.float64), axis=1)
    n = values.shape[1]
    size = -(-n // GROUPS)
    edges = np.arange(0, n, size)
    counts = np.diff(np.append(edges, n))
    low_end, high_end = values[:, edges], values[:, edges + counts - 1]
    weights = rng.standard_gamma(counts, (RESAMPLES, len(counts))) if size > 1 else None
    if weights is None:
        weights = rng.standard_exponential((RESAMPLES, n))
    extra = rng.standard_exponential(RESAMPLES)
    total = weights.sum(1) + extra
    tail = (1 - LEVEL) / 2
    low = np.quantile(low_end @ weights.T / total, tail, axis=1)
    high = np.quantile((high_end @ weights.T + extra) / total, 1 - tail, axis=1)
    mean = values.mean(1)
    return [
        Estimate(float(m), float(min(a, m)), float(min(max(b, m), 1.0)), n)
        for m, a, b in zip(mean, low, high, strict=True)
    ]


def mean(values: Float[np.ndarray, " n"]) -> Estimate:
    """Student's interval: right for finite variance and n large against the tails; nan for fewer than two values."""
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return NO_RUNS
    n, centre = len(values), float(values.mean())
    if n < 2:
        return Estimate(centre, math.nan, math.nan, n)
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(centre, centre - half, centre + half, n)


@dataclass(frozen=True)
class Paired:
    """The mean of first − second over pairs, and the p-value of Student's two-sided test that it is zero."""

    difference: Estimate
    p_value: float

    def exceeds(self, bound: int | float = 0) -> bool | None:
        """Whether the difference is above `bound`; None, for lack of runs, where its interval holds that or is nan."""
        return self.difference.exceeds(bound)


def paired(first: Mapping[int, int | float], second: Mapping[int, int | float]) -> Paired:
    """Two arms compared over the seeds that both have, by Student's interval and test of their differences.

    Interval and p-value are nan below two pairs. Right where the differences are near a normal law.

    Raises:
        InputError: if the arms share no seed.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise InputError("seeds: the two arms share none; a paired difference needs at least one")
    values = np.array([float(first[seed]) - float(second[seed]) for seed in shared])
    difference, n = mean(values), len(values)
    if n < 2:
        return Paired(difference, math.nan)
    error = float(values.std(ddof=1)) / math.sqrt(n)
    t = abs(difference.value) / error if error else math.inf if difference.value else 0.0
    return Paired(difference, 2 * float(special.stdtr(n - 1, -t)))


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of group means, its interval, and the p-value of the two-sided test that it is zero."""

    estimate: Estimate
    p_value: float
    freedom: float

    def exceeds(self, bound: int | float = 0) -> bool | None:
        """Whether the sum is above `bound`; None where its interval holds that or is nan."""
        return self.estimate.exceeds(bound)


def contrast(groups: Sequence[tuple[Sequence[float] | np.ndarray, float]], level: float = LEVEL) -> Contrast:
    """A weighted sum of the means of independent groups, by Welch's test with Satterthwaite's degrees of freedom.

    The variances need not be equal (Welch 1947; Satterthwaite 1946). Interval and p-value are nan where a group has
    fewer than two values or nothing varies, so that equal values never decide.

    Args:
        groups: the values of each group and the weight of its mean: two groups with 1 and -1 give Welch's t-test.
        level: of the interval.
    """
    values = [np.asarray(group, dtype=np.float64) for group, _ in groups]
    weights = [weight for _, weight in groups]
    n = sum(map(len, values))
    if not all(map(len, values)):
        return Contrast(Estimate(math.nan, math.nan, math.nan, n), math.nan, math.nan)
    centre = float(sum(weight * group.mean() for group, weight in zip(values, weights, strict=True)))
    unknown = Contrast(Estimate(centre, math.nan, math.nan, n), math.nan, math.nan)
    if any(len(group) < 2 for group in values):
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
    """Variance of the mean of independent values."""
    return float(np.var(np.asarray(values, dtype=np.float64), ddof=1)) / len(values)


def ratio(
    numerator: float, denominator: float, covariance: Sequence[Sequence[int | float]], freedom: int | float
) -> Estimate:
    """A ratio of two correlated estimates with Fieller's interval (1954); nan where that is not bounded.

    Args:
        numerator: the first estimate.
        denominator: the second one.
        covariance: theirs, 2 x 2.
        freedom: degrees of freedom; `n` of the result is one more.
    """
    value, n = numerator / denominator, round(freedom) + 1
    (aa, ab), (_, bb) = covariance
    square = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) ** 2
    first, third = denominator**2 - square * bb, numerator**2 - square * aa
    second = numerator * denominator - square * ab
    root = second**2 - first * third
    if first <= 0 or root < 0:
        return Estimate(value, math.nan, math.nan, n)
    return Estimate(value, (second - math.sqrt(root)) / first, (second + math.sqrt(root)) / first, n)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values adjusted for their number by Holm's method (1979, statsmodels); those that are nan stay so."""
    from statsmodels.stats.multitest import multipletests  # noqa: PLC0415  (half a second that few callers need)

    known = {name: value for name, value in p_values.items() if not math.isnan(value)}
    adjusted = multipletests(list(known.values()), method="holm")[1] if known else []
    return dict(p_values) | dict(zip(known, map(float, adjusted), strict=True))


def median(values: Float[np.ndarray, " n"]) -> Estimate:
    """Sample median, exact interval between order statistics: right whatever the tails; nan below six values."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    below = int(np.searchsorted(special.bdtr(np.arange(n), n, 0.5), (1 - LEVEL) / 2, side="right"))
    if below == 0:
        return Estimate(float(np.median(ordered)), math.nan, math.nan, n)
    return Estimate(float(np.median(ordered)), float(ordered[below - 1]), float(ordered[n - below]), n)


def quantiles(values: Float[np.ndarray, " n"]) -> dict[str, float]:
    """The spread over draws: 5, 25, 50, 75 and 95 %."""
    found = np.quantile(np.asarray(values, dtype=np.float64), list(QUANTILES.values()))
    return dict(zip(QUANTILES, map(float, found), strict=True))


@dataclass(frozen=True)
class ResultRow:
    """One line of a published table: what was estimated, of what, and what theory says; None is missing, never 0."""

    quantity: str
    statistic: str
    unit: str
    dim: int | None
    manifold: str
    inputs: int
    intrinsic: int
    embedding: str
    activation: str
    estimate: Estimate
    decoder: str = ""
    spread: dict[str, float] | None = None
    theory: float | None = None
    note: str = ""


HOLDS, FAILS, UNDECIDED, NOT_RUN = VERDICTS = ("holds", "fails", "undecided", "not run")
"""What a number can say of a claim. Undecided: the interval does not tell. Not run: there is no number."""


def verdict(holds: bool | None, found: Estimate | None = None) -> str:
    """The verdict of a decision; None is *undecided*, and *not run* where the estimate rests on nothing."""
    if holds is None:
        return NOT_RUN if found is not None and found.n == 0 else UNDECIDED
    return HOLDS if holds else FAILS


POWER = 0.8
"""The chance with which so many runs decide a true effect."""
MOST_RUNS = 10_000
"""Above so many runs the number that would decide is not told."""


def runs_to_decide(effect: float, spread: float, *, paired: bool = False) -> int | None:
    """Runs of each arm with which Student's two-sided test at 5 % decides an effect with probability 0.8.

    Args:
        effect: the difference of two means, or the mean of a difference where `paired`.
        spread: standard deviation within an arm, or of the differences where `paired`.
        paired: whether runs come in pairs.

    Returns:
        None where the effect is zero or unknown, or takes more than 10,000 runs.
    """
    from statsmodels.stats.power import TTestIndPower, TTestPower  # noqa: PLC0415  (half a second)

    if not (math.isfinite(effect) and math.isfinite(spread)) or effect == 0 or spread == 0:
        return None
    test = TTestPower() if paired else TTestIndPower()
    size = abs(effect) / spread
    most = 2
    while not test.power(size, most, 1 - LEVEL) >= POWER:  # upwards: for many runs of a large effect it is nan
        if most > MOST_RUNS:
            return None
        most *= 2
    least = max(2, most // 2)
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if test.power(size, middle, 1 - LEVEL) >= POWER else (middle + 1, most)
    return least
