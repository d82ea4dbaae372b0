"""What follows from counting active rows: Theorem 1, its bounds, and the information dimension."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from manifold_lab.core import domain
from manifold_lab.core.errors import InputError


def active_probability(
    radius: float | np.ndarray, bias: float = 0.0, active: tuple[float, float] = (0.0, math.inf)
) -> np.ndarray:
    """P(low < b.x + bias < high) for one Gaussian row b ~ N(0, I) at a point of norm `radius`.

    >>> float(active_probability(1.0))
    0.5

    Raises:
        InputError: for a radius that is negative or not finite, a bias that is not finite, or low above high.
    """
    r, shift = domain.array("radius", radius, 0), domain.array("bias", bias)
    low, high = domain.values("active", active, ndim=1, least=2)
    if not low <= high:
        raise InputError(f"active: from {low:g} to {high:g} is no interval; the first must be at most the second")
    scale = np.where(r > 0, r, 1)
    spread = special.ndtr((high - shift) / scale) - special.ndtr((low - shift) / scale)
    return np.asarray(np.where(r > 0, spread, (low < shift) & (shift < high)))


def preserved_fraction(ambient: int, needed: int, p: float | np.ndarray = 0.5) -> np.ndarray:
    """Expected fraction of points with one preimage: P(Binomial(m, p) >= needed).

    With `needed` = n this is Theorem 1 (N / 2^m; the paper's text calls it the collapsed fraction, erratum 6). With
    `needed` = min(n, k + 1) it is the fraction of almost every point of a k-manifold that stays unique within that
    manifold (Sauer, Yorke and Casdagli 1991, applied to each set of active rows). `p` is each row's chance to be
    active: one half where the law of the rows is sign-symmetric and there is no bias.

    >>> [float(preserved_fraction(m, 2)) for m in (2, 3, 5)]
    [0.25, 0.5, 0.8125]

    Raises:
        InputError: for dimensions that are not whole, a negative `ambient`, or a p outside of [0, 1].
    """
    ambient, needed, p = _checked(ambient, needed, p)
    if needed <= 0:
        return np.ones_like(p)
    return np.asarray(special.bdtrc(needed - 1, ambient, p)) if needed <= ambient else np.zeros_like(p)


def collapsed_fraction(ambient: int, needed: int, p: float | np.ndarray = 0.5) -> np.ndarray:
    """The complement of `preserved_fraction`, computed without cancellation: P(Binomial(m, p) < needed).

    Raises:
        InputError: as `preserved_fraction`.
    """
    ambient, needed, p = _checked(ambient, needed, p)
    if needed <= 0:
        return np.zeros_like(p)
    return np.asarray(special.bdtr(needed - 1, ambient, p)) if needed <= ambient else np.ones_like(p)


def _checked(ambient: int, needed: int, p: float | np.ndarray) -> tuple[int, int, Float[np.ndarray, "*shape"]]:
    """Rows, how many of them are needed, and their probabilities, which rounding may have left [0, 1] by a little."""
    return domain.whole("ambient", ambient, 0), domain.whole("needed", needed), domain.probability("p", p)


def log2_collapsed_fraction(ambient: int, needed: int) -> float:
    """log2 P(Binomial(m, 1/2) < needed), exact where the probability itself underflows; minus infinity where it is 0.

    >>> round(log2_collapsed_fraction(144, 24), 2)
    -55.93

    Raises:
        InputError: for dimensions that are not whole, or a negative `ambient`.
    """
    ambient, needed, _ = _checked(ambient, needed, 0.5)
    if needed <= 0:
        return -math.inf
    count = np.arange(min(needed, ambient + 1))
    return float(special.logsumexp(_log_binomial(ambient, count)) / math.log(2) - ambient)


def _log_binomial(ambient: int, count: np.ndarray) -> np.ndarray:
    return special.gammaln(ambient + 1) - special.gammaln(count + 1) - special.gammaln(ambient - count + 1)


def information_dimension_loss(ambient: int, intrinsic: int, p: float | np.ndarray = 0.5) -> np.ndarray:
    """Share of the information dimension that is lost: E[(k - c)_+] / k for c ~ Binomial(m, p).

    The scale-free, noiseless fraction of information lost (Geiger and Kubin 2016, Entropy 18(11):410) by a
    piecewise-linear map of a density on a k-manifold; for m = n = k it is one half. Zero for invertible activations
    however flat they are: those need a noise scale.

    >>> [round(float(information_dimension_loss(m, 2)), 6) for m in (2, 3, 5)]
    [0.5, 0.3125, 0.109375]

    Raises:
        InputError: for dimensions that are not whole, a negative `ambient`, an `intrinsic` below one, or a p outside of
            [0, 1].
    """
    domain.whole("intrinsic", intrinsic, 1)
    ambient, intrinsic, p = _checked(ambient, intrinsic, p)
    p = p[..., None]
    count = np.arange(min(intrinsic, ambient + 1))
    log_mass = _log_binomial(ambient, count) + special.xlogy(count, p) + special.xlog1py(ambient - count, -p)
    return np.asarray((np.exp(log_mass) * (intrinsic - count)).sum(-1) / intrinsic)


def poisson_binomial(p: Float[np.ndarray, " ambient"]) -> Float[np.ndarray, " counts"]:
    """P(c of the rows are active) for c = 0 .. m, rows independent and each with its own chance.

    >>> poisson_binomial(np.array([0.5, 0.5])).tolist()
    [0.25, 0.5, 0.25]

    Raises:
        InputError: for a probability outside of [0, 1].
    """
    mass = np.ones(1)
    for active in domain.probability("p", p, ndim=1):
        mass = np.append(mass * (1 - active), 0) + np.append(0, mass * active)
    return mass


def _law(mass: Float[np.ndarray, " counts"]) -> Float[np.ndarray, " counts"]:
    """Probabilities of 0, 1, 2, ... that sum to one, but for rounding.

    Raises:
        InputError: for anything else.
    """
    found = domain.array("mass", mass, 0, 1, ndim=1)
    if not abs(found.sum() - 1) <= domain.ROUNDING:
        raise InputError(f"mass: a law of counts sums to 1, not to {found.sum():g}")
    return found


def preserved_of(mass: Float[np.ndarray, " counts"], needed: int) -> float:
    """P(c >= needed) for a law of counts, such as `poisson_binomial` gives: `preserved_fraction` for unequal rows.

    Raises:
        InputError: for a `mass` that is no law, or a `needed` that is not whole.
    """
    return min(1.0, float(_law(mass)[max(domain.whole("needed", needed), 0) :].sum()))


def dimension_loss_of(mass: Float[np.ndarray, " counts"], intrinsic: int) -> float:
    """E[(k - c)_+] / k for a law of counts: `information_dimension_loss` for unequal rows.

    Raises:
        InputError: for a `mass` that is no law, or an `intrinsic` that is not a whole number of at least one.
    """
    mass, intrinsic = _law(mass), domain.whole("intrinsic", intrinsic, 1)
    count = np.arange(min(intrinsic, len(mass)))
    return min(1.0, float((mass[: len(count)] * (intrinsic - count)).sum() / intrinsic))


PAIR_LIMIT = 4096


def inactive_pairs(x: Float[Tensor, "points inputs"]) -> Float[Tensor, " pairs"] | None:
    """Probability that a row of isotropic law is inactive at both points, for every pair of them.

    (pi - t) / (2 pi) for points at angle t, 1/2 where one of them is the origin; 1 for equal points, which share every
    image whatever the row. None above PAIR_LIMIT points, where the pairs would be too many.

    Raises:
        InputError: for numbers that are not finite, or fewer than two points.
    """
    x = domain.unit_scale(domain.tensor("x", x, "points:2 inputs").detach().double())[0]
    if len(x) > PAIR_LIMIT:
        return None
    origin = (x == 0).all(1)
    chord = torch.pdist(x / torch.where(origin, 1, x.norm(dim=1))[:, None])
    chord.masked_fill_(torch.pdist(origin[:, None].double()) > 0, 0)
    inactive = (math.pi - 2 * torch.arcsin((chord / 2).clamp_max_(1))) / (2 * math.pi)
    distinct, index = torch.unique(x, dim=0, return_inverse=True)
    if len(distinct) < len(x):
        inactive.masked_fill_(torch.pdist(index[:, None].double()) == 0, 1)
    return inactive


def collapsed_pairs_of(inactive: Float[Tensor, " pairs"], ambient: int) -> float:
    """Expected fraction of pairs at which all of so many independent rows are inactive, from each row's probability.

    Raises:
        InputError: for no rows.
    """
    return float(inactive.pow(domain.whole("ambient", ambient, 1)).mean())


def expected_collapsed_pairs(x: Float[Tensor, "points inputs"], ambient: int) -> float | None:
    """Expected fraction of pairs of points that ReLU(Tx) sends to the same image, for isotropic independent rows.

    Two points coincide (almost surely) only where every row is inactive at both (`inactive_pairs`). Averaged over all
    pairs of the sample. None above PAIR_LIMIT points.

    Raises:
        InputError: for numbers that are not finite, fewer than two points, or no rows.
    """
    domain.whole("ambient", ambient, 1)
    inactive = inactive_pairs(x)
    return None if inactive is None else collapsed_pairs_of(inactive, ambient)


@dataclass(frozen=True)
class BoundChain:
    """In log2: the collapsed fraction (`exact`) and the paper's bounds on it, m^(n+1)/2^m and 2^(-m/2)."""

    exact: float
    middle: float
    last: float

    @property
    def last_step_holds(self) -> bool:
        """Whether the paper's closing bound 2^(-m/2) is one: whether the collapsed fraction is at most that."""
        return self.exact <= self.last + 1e-12 * abs(self.last)

    @property
    def vacuous(self) -> bool:
        """Whether the middle of the chain says nothing (its bound on a fraction is above one)."""
        return self.middle >= 0


def paper_bounds(ambient: int, inputs: int) -> BoundChain:
    """The chain after Theorem 1, N/2^m >= 1 - m^(n+1)/2^m >= 1 - 2^((n+1) log2 m - m) >= 1 - 2^(-m/2), in log2.

    Its last step needs (n + 1) log2 m <= m / 2 and fails at t = m / n = 6 for every layer of MobileNetV2 (erratum 7):

    >>> paper_bounds(144, 24).last_step_holds, paper_bounds(144, 24).vacuous
    (False, True)

    Raises:
        InputError: for dimensions that are not whole numbers of at least one.
    """
    domain.whole("ambient", ambient, 1)
    domain.whole("inputs", inputs, 1)
    middle = (inputs + 1) * math.log2(ambient) - ambient
    return BoundChain(log2_collapsed_fraction(ambient, inputs), middle, -ambient / 2)
