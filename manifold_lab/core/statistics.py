"""From values over draws to an estimate with n and an interval that is right for the quantity.

A value that is nan makes the estimates from it nan: what is unknown of one draw is unknown of all.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from manifold_lab.core import domain
from manifold_lab.core.errors import InputError

LEVEL = 0.95
PERCENT = f"{100 * LEVEL:.0f} %"
"""The level as readers see it."""
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
    """Exact binomial interval (Clopper and Pearson 1934): right also at 0 and n successes; `NO_RUNS` for n = 0.

    Raises:
        InputError: for numbers that are not whole, or more successes than n.
    """
    successes, n = domain.whole("successes", successes, 0), domain.whole("n", n, 0)
    if successes > n:
        raise InputError(f"successes: {successes} of {n} is not allowed; there are at most n")
    if n == 0:
        return NO_RUNS
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

    Raises:
        InputError: for anything but two arrays of bool of one length, at least one.
    """
    before, after = _flags("before", before), _flags("after", after)
    domain.same_length("before, after", before, after)
    n, lost, gained = len(before), int((before & ~after).sum()), int((~before & after).sum())
    changed = lost + gained
    p_value = min(1.0, 2 * float(special.bdtr(min(lost, gained), changed, 0.5)))
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(special.ndtri((1 + LEVEL) / 2)) * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    low, high = max(up - down - half, -1.0), min(up - down + half, 1.0)
    return PairedProportion(Estimate((gained - lost) / n, low, high, n), lost, gained, p_value)


def _flags(field: str, given: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    found = np.asarray(given)
    if found.dtype != np.bool_ or found.ndim != 1 or not len(found):
        raise InputError(f"{field}: {found.dtype} of shape {found.shape} is not allowed; it must be a row of bool")
    return found


def bounded_means(values: Float[np.ndarray, "quantities n"], rng: np.random.Generator) -> list[Estimate]:
    """Means of quantities that lie in [0, 1]; safe where almost every draw gives the same value.

    Gaffke's interval (2005; Learned-Miller and Thomas 2019, arXiv:1905.06208): the Bayesian bootstrap with one more
    atom, at 0 for the low and at 1 for the high end. For zeros and ones it is Clopper and Pearson's, for many
    well-spread values the usual one; where every draw gives 1 its low end is still below 1, as it must be. `NO_RUNS`
    for no draws.

    Raises:
        InputError: for values outside of [0, 1], nan among them, or that are not quantities x draws.
    """
    values = np.sort(domain.array("values", values, 0, 1, ndim=2), axis=1)
    n = values.shape[1]
    if not n:
        return [NO_RUNS] * len(values)
    size = -(-n // GROUPS)
    edges = np.arange(0, n, size)
    counts = np.diff(np.append(edges, n))
    low_end, high_end = values[:, edges], values[:, edges + counts - 1]
    shape = (RESAMPLES, len(counts))
    weights = rng.standard_gamma(counts, shape) if size > 1 else rng.standard_exponential(shape)
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
    values = domain.values("values", values, ndim=1)
    if not len(values):
        return NO_RUNS
    n, centre = len(values), float(quiet(np.mean, values))
    if n < 2 or not np.isfinite(values).all():
        return Estimate(centre, math.nan, math.nan, n)
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(centre, centre - half, centre + half, n)


def quiet(function: Callable[..., Any], values: Float[np.ndarray, " n"], *more: Any, **named: Any) -> Any:
    """A function of values, among which infinity minus infinity is nan and needs no warning."""
    with np.errstate(invalid="ignore"):
        return function(values, *more, **named)


@dataclass(frozen=True)
class Paired:
    """The mean of first − second over pairs, the p-value of Student's two-sided test that it is zero, and the spread.

    The spread is the standard deviation of the differences; nan below two pairs.
    """

    difference: Estimate
    p_value: float
    spread: float = math.nan

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
    if math.isnan(difference.low):
        return Paired(difference, math.nan)
    spread = float(values.std(ddof=1))
    error = spread / math.sqrt(n)
    t = abs(difference.value) / error if error else math.inf if difference.value else 0.0
    return Paired(difference, 2 * float(special.stdtr(n - 1, -t)), spread)


def median(values: Float[np.ndarray, " n"]) -> Estimate:
    """Sample median, exact interval between order statistics: right whatever the tails; nan below six values."""
    ordered = np.sort(domain.values("values", values, ndim=1))
    n = len(ordered)
    if not n or math.isnan(ordered[-1]):
        return Estimate(math.nan, math.nan, math.nan, n)
    below = int(np.searchsorted(special.bdtr(np.arange(n), n, 0.5), (1 - LEVEL) / 2, side="right"))
    if below == 0:
        return Estimate(float(quiet(np.median, ordered)), math.nan, math.nan, n)
    return Estimate(float(quiet(np.median, ordered)), float(ordered[below - 1]), float(ordered[n - below]), n)


def quantiles(values: Float[np.ndarray, " n"]) -> dict[str, float]:
    """The spread over draws: 5, 25, 50, 75 and 95 %; nan for no draws."""
    ordered = domain.values("values", values, ndim=1)
    if not len(ordered):
        return dict.fromkeys(QUANTILES, math.nan)
    found = quiet(np.quantile, ordered, list(QUANTILES.values()))
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
