"""When x -> ReLU(Tx) is one-to-one on all of R^n, not only at a typical point."""

import itertools
import math

import torch
from jaxtyping import Bool, Float, Int
from scipy import special
from torch import Tensor

from manifold_lab.core import domain
from manifold_lab.core.errors import InputError

VERTEX_LIMIT = 200_000
_WIDEST, _SHARPEST, _STRIDE = 0.5, 0.02, 0.5
"""Widths of the sigmoid of a search, in units of a typical <row, x>, and its first step on the unit sphere."""


def injectivity_probability(ambient: int, inputs: int) -> float | None:
    """P(ReLU(Tx) is injective on R^n) for sign-symmetric rows in general position; None where no closed form is known.

    n = 1: both signs must occur, 1 - 2^(1-m). n = 2: 1 - m(m-2)/2^(m-1) for m >= 4, and 0 below (the bivariate sign
    test of Hodges 1955; Joffe and Klotz 1962). For n > 2 see `injectivity_lower_bound`; for large n the thresholds
    of m/n that are proved or predicted for Gaussian rows are

    | m/n        | statement                        | status                                                     |
    |------------|----------------------------------|------------------------------------------------------------|
    | < 2        | never injective                  | proved, Puthawala et al. 2020, arXiv:2006.08464            |
    | < 3.4      | not injective, w.h.p.            | proved, ibid.                                              |
    | 6.698      | the threshold                    | not rigorous (replica), Maillard et al., arXiv:2302.14112  |
    | > 7.65     | injective, w.h.p.                | proved, ibid.                                              |
    | > 9.09     | injective, w.h.p.                | proved, by the union bound below                           |
    | > 10.5     | injective, w.h.p.                | proved, Puthawala et al. 2020                              |

    >>> [injectivity_probability(m, 2) for m in (4, 5, 6, 8, 10)]
    [0.0, 0.0625, 0.25, 0.625, 0.84375]

    Raises:
        InputError: for dimensions that are no whole numbers of at least one.
    """
    ambient, inputs = domain.whole("ambient", ambient, 1), domain.whole("inputs", inputs, 1)
    if inputs == 1:
        return 1 - 2.0 ** (1 - ambient)
    if inputs == 2:
        return 1 - ambient * (ambient - 2) * 2.0 ** (1 - ambient) if ambient >= 4 else 0.0
    return None


def injectivity_lower_bound(ambient: int, inputs: int) -> float:
    """Union bound over the cells: P(injective) >= 1 - C(m, n) P(Binomial(m, 1/2) < n), never below zero.

    C(m, n) = 2 sum_{i<n} binom(m - 1, i) is the number of cells that m hyperplanes through the origin cut R^n into
    (Schlaefli; Wendel 1962).

    Raises:
        InputError: for dimensions that are no whole numbers of at least one.
    """
    ambient, inputs = domain.whole("ambient", ambient, 1), domain.whole("inputs", inputs, 1)
    if ambient < inputs:
        return 0.0
    cells = 2 * sum(math.comb(ambient - 1, i) for i in range(inputs))
    return max(0.0, 1.0 - cells * float(special.bdtr(inputs - 1, ambient, 0.5)))


def tukey_depth(matrix: Float[Tensor, "draws ambient inputs"]) -> Int[Tensor, " draws"]:
    """Half-space depth of the origin among the rows: the fewest active rows that any direction x can have.

    Exact for rows in general position: the minimum is reached next to a direction orthogonal to n - 1 rows, with
    those rows switched off, so binom(m, n - 1) directions and their opposites are tried.

    Raises:
        InputError: if that number of directions is above VERTEX_LIMIT, or for a matrix that is not finite.
    """
    matrix = domain.tensor("matrix", matrix, "draws ambient inputs")
    _, ambient, inputs = matrix.shape
    if ambient < inputs:
        return torch.zeros(len(matrix), dtype=torch.int64, device=matrix.device)
    if math.comb(ambient, inputs - 1) > VERTEX_LIMIT:
        raise InputError(f"tukey_depth: {ambient} rows in R^{inputs} need more than {VERTEX_LIMIT} directions")
    chosen = list(itertools.combinations(range(ambient), inputs - 1))
    subset = torch.tensor(chosen, device=matrix.device, dtype=torch.int64).reshape(len(chosen), inputs - 1)
    direction = _orthogonal(matrix[:, subset])
    projection = torch.einsum("dvn,dmn->dvm", direction, matrix)
    own = torch.zeros(subset.shape[0], ambient, dtype=torch.bool, device=matrix.device)
    own.scatter_(1, subset, value=True)
    above = ((projection > 0) & ~own).sum(-1).amin(-1)
    below = ((projection < 0) & ~own).sum(-1).amin(-1)
    return torch.minimum(above, below)


def _orthogonal(rows: Float[Tensor, "draws vertices rows inputs"]) -> Float[Tensor, "draws vertices inputs"]:
    """A vector orthogonal to n - 1 rows of R^n: the generalised cross product."""
    inputs = rows.shape[-1]
    if inputs == 3:
        return torch.linalg.cross(rows[..., 0, :], rows[..., 1, :])
    columns = [torch.cat([rows[..., :i], rows[..., i + 1 :]], dim=-1) for i in range(inputs)]
    minors = torch.linalg.det(torch.stack(columns, dim=-3))
    return minors * (-1.0) ** torch.arange(inputs, device=rows.device)


def is_injective(matrix: Float[Tensor, "draws ambient inputs"]) -> Bool[Tensor, " draws"]:
    """Exact test of x -> ReLU(Tx) for rows in general position: the origin's Tukey depth is at least n.

    Below 2n rows it never is: c rows are active at x and m - c at -x, so that one of the two is at most m/2 < n.

    Source: directed spanning sets, Puthawala et al. 2020, arXiv:2006.08464. Deciding it is coNP-complete in general
    (Froese, Grillo and Skutella 2025, arXiv:2405.19805), so it is for small n.

    Raises:
        InputError: as `tukey_depth`.
    """
    matrix = domain.tensor("matrix", matrix, "draws ambient inputs")
    draws, ambient, inputs = matrix.shape
    if ambient < 2 * inputs:
        return torch.zeros(draws, dtype=torch.bool, device=matrix.device)
    return tukey_depth(matrix) >= inputs


def fewest_active_found(
    matrix: Float[Tensor, "draws ambient inputs"],
    generator: torch.Generator,
    *,
    starts: int = 32,
    steps: int = 100,
) -> Int[Tensor, " draws"]:
    """The fewest active rows that a search over directions found; never fewer than `tukey_depth`, for any n.

    Below n it shows that x -> ReLU(Tx) is not injective; n or more show nothing. From random directions the search
    walks down the number of active rows, smoothed by a sigmoid that gets sharper at every step.

    Args:
        matrix: The rows of every draw.
        generator: Of the first directions.
        starts: Directions of every draw that walk.
        steps: Of every walk.

    Raises:
        InputError: for numbers that are not finite, or no directions.
    """
    matrix = domain.tensor("matrix", matrix, "draws ambient inputs").detach()
    starts, steps = domain.whole("starts", starts, 1), domain.whole("steps", steps, 0)
    draws, ambient, inputs = matrix.shape
    unit = torch.nn.functional.normalize(matrix, dim=2)
    first = torch.randn((draws, starts, inputs), generator=generator, dtype=matrix.dtype)
    x = torch.nn.functional.normalize(first, dim=2)
    fewest = torch.full((draws,), ambient, device=matrix.device)
    for step in range(steps + 1):
        value, left = x @ unit.mT, 1 - step / max(steps, 1)
        fewest = torch.minimum(fewest, (value > 0).sum(-1).amin(-1))
        width = _SHARPEST * (_WIDEST / _SHARPEST) ** left / math.sqrt(inputs)
        soft = torch.sigmoid(value / width)
        slope = torch.nn.functional.normalize((soft * (1 - soft)) @ unit, dim=2)
        x = torch.nn.functional.normalize(x - _STRIDE * left * slope, dim=2)
    return fewest
