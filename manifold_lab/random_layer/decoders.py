"""Ways back from R^m to R^n: the pseudo-inverse, the best affine map, least squares on active rows, all preimages."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from manifold_lab.core.errors import InputError
from manifold_lab.metrics.active_rows import ActiveRows

Products = tuple[Float[Tensor, " draws"], Float[Tensor, " draws"], Float[Tensor, " draws"]]
"""Sums over points of x_hat.x, x_hat.x_hat and x.x for the linear decoder."""


def linear_decode(
    inverse: Float[Tensor, "*draws inputs ambient"],
    y: Float[Tensor, "*draws points ambient"],
    bias: float = 0.0,
    scale: float = 1.0,
) -> Float[Tensor, "*draws points inputs"]:
    """The paper's decoder, x_hat = scale * inverse (y - bias), with inverse = pinv(T) (Figure 1's T^-1).

    For ReLU it returns x/2 + pinv(T)|Tx|/2 whatever was or was not lost: it never undoes the activation.
    """
    return scale * (y - bias) @ inverse.mT


@dataclass(frozen=True)
class AffineMoments:
    """First and second moments of pairs (x, y) over points: all that a least-squares fit and its error need."""

    x: Float[Tensor, " inputs"]
    y: Float[Tensor, "*draws ambient"]
    xx: Float[Tensor, "inputs inputs"]
    xy: Float[Tensor, "*draws inputs ambient"]
    yy: Float[Tensor, "*draws ambient ambient"]


def moments(x: Float[Tensor, "points inputs"], y: Float[Tensor, "*draws points ambient"]) -> AffineMoments:
    """Averages over the points, without subtracting means."""
    count = x.shape[0]
    return AffineMoments(x.mean(0), y.mean(-2), x.mT @ x / count, x.mT @ y / count, y.mT @ y / count)


@dataclass(frozen=True)
class Affine:
    """x_hat = weight y + offset."""

    weight: Float[Tensor, "*draws inputs ambient"]
    offset: Float[Tensor, "*draws inputs"]

    def __call__(self, y: Float[Tensor, "*draws points ambient"]) -> Float[Tensor, "*draws points inputs"]:
        """Decode."""
        return y @ self.weight.mT + self.offset.unsqueeze(-2)


def fit_affine(train: AffineMoments) -> Affine:
    """Least squares from y to x, what the next 1x1 convolution could do at best.

    A ridge of eps^(2/3) of the mean variance keeps channels that never fire, and pairs of channels that always agree,
    from blowing up; it costs a relative error of that order.

    Raises:
        InputError: for moments that are not finite, or where the mean of y hides its spread in this precision.
    """
    if not all(bool(torch.isfinite(part).all()) for part in (train.x, train.y, train.xx, train.xy, train.yy)):
        raise InputError("y: NaN or infinity among inputs or outputs; every number must be finite")
    covariance = train.yy - train.y.unsqueeze(-1) * train.y.unsqueeze(-2)
    cross = train.xy - train.x.unsqueeze(-1) * train.y.unsqueeze(-2)
    variance = torch.diagonal(covariance, dim1=-2, dim2=-1)
    floor = torch.finfo(covariance.dtype).tiny
    ridge = torch.finfo(covariance.dtype).eps ** (2 / 3) * variance.mean(-1, keepdim=True) + floor
    factor, failed = torch.linalg.cholesky_ex(covariance + torch.diag_embed(ridge.expand_as(variance)))
    if failed.any():
        precision = str(covariance.dtype).removeprefix("torch.")
        raise InputError(f"bias: outputs so far from zero hide their spread in {precision}; give a smaller bias")
    weight = torch.cholesky_solve(cross.mT, factor).mT
    return Affine(weight, train.x - (weight @ train.y.unsqueeze(-1)).squeeze(-1))


def affine_error(affine: Affine, test: AffineMoments) -> Float[Tensor, "*draws"]:
    """Mean of |x_hat - x|^2 over the points that `test` sums up."""
    w, c = affine.weight, affine.offset.unsqueeze(-1)
    x, y = test.x.unsqueeze(-1), test.y.unsqueeze(-1)
    square = test.xx + w @ test.yy @ w.mT + c @ c.mT
    cross = w @ test.xy.mT + c @ x.mT - w @ y @ c.mT
    return torch.diagonal(square - 2 * cross, dim1=-2, dim2=-1).sum(-1).clamp_min(0)


def exact_decode(
    rows: ActiveRows, preactivation: Float[Tensor, "draws points ambient"], active: Bool[Tensor, "draws points ambient"]
) -> Float[Tensor, "draws points inputs"]:
    """Least squares of smallest norm on the active rows: exact, to rounding, wherever these have rank n.

    `preactivation` is what the active outputs were before the activation, less the bias; inactive entries are ignored.
    Where the rank is below n the result is the projection of x on the span of the active rows.
    """
    return rows.solve(torch.where(active, preactivation, 0))


@dataclass(frozen=True)
class Preimage:
    """Per point the smallest box, with sides along the axes, around all x of the data's box that give the same y."""

    low: Float[np.ndarray, "points inputs"]
    high: Float[np.ndarray, "points inputs"]

    @property
    def extent(self) -> Float[np.ndarray, " points"]:
        """Longest side of the box: 0 where x is known exactly."""
        return (self.high - self.low).max(axis=1)

    @property
    def middle(self) -> Float[np.ndarray, "points inputs"]:
        """Centre of the box: the guess with the smallest worst error in every coordinate."""
        return (self.high + self.low) / 2


def preimage(
    matrix: Float[np.ndarray, "ambient inputs"],
    low: Float[np.ndarray, "points ambient"],
    high: Float[np.ndarray, "points ambient"],
    box: tuple[Float[np.ndarray, " inputs"], Float[np.ndarray, " inputs"]],
) -> Preimage:
    """The polyhedron {x in box : low <= Tx <= high} of each point, by 2n linear programs (scipy's HiGHS).

    An active row has low = high; one that a flat piece swallowed has an infinite end. Without the box a polyhedron
    with fewer than n active rows is often unbounded. Points with equal bounds are solved once.
    """
    bounds, back = np.unique(np.concatenate([low, high], axis=1), axis=0, return_inverse=True)
    solved = np.stack([_extent(matrix, row[: len(matrix)], row[len(matrix) :], box) for row in bounds])
    each = solved[back.reshape(-1)]
    return Preimage(each[:, 0], each[:, 1])


def _extent(matrix: np.ndarray, low: np.ndarray, high: np.ndarray, box: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    from scipy.optimize import linprog  # noqa: PLC0415  (a third of a second that only this decoder needs)

    equal = low == high
    below, above = np.isfinite(high) & ~equal, np.isfinite(low) & ~equal
    program = {
        "A_eq": matrix[equal] if equal.any() else None,
        "b_eq": low[equal] if equal.any() else None,
        "A_ub": np.concatenate([matrix[below], -matrix[above]]),
        "b_ub": np.concatenate([high[below], -low[above]]),
        "bounds": np.stack(box, axis=1),
    }
    ends = []
    for sign in (1, -1):
        solutions = [linprog(sign * axis, **program) for axis in np.eye(matrix.shape[1])]
        if not all(solution.success for solution in solutions):
            raise InputError(f"preimage: no x of the box gives this y ({solutions[0].message})")
        ends.append([sign * solution.fun for solution in solutions])
    return np.array(ends)
