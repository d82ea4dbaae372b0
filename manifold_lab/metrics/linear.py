"""Linear readability: how much of one set of channels the best affine map reads from another, on held-out points.

Everything is computed from second moments, which add over batches, so that any number of points takes the same memory.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lab.core import domain

RELATIVE = 1e-10
"""Eigenvalues of the correlations below this share of the largest count as zero: repeated channels."""
ROUNDING = 1e-13
"""A variance below this share of the mean square is rounding: a channel that does not move."""

Moments = Float[Tensor, "columns columns"]


def second_moments(observed: Float[Tensor, "points observed"], wanted: Float[Tensor, "points wanted"]) -> Moments:
    """Sums of products of the columns [1, observed, wanted], in float64; sums over batches are sums of these.

    Raises:
        InputError: for numbers that are not finite, no points, or parts of unequal length.
    """
    observed, wanted = (domain.tensor(name, part, "points channels").detach().double()
                        for name, part in (("observed", observed), ("wanted", wanted)))  # fmt: skip
    domain.same_length("observed, wanted", observed, wanted)
    columns = torch.cat([torch.ones_like(observed[:, :1]), observed, wanted], 1)
    return columns.T @ columns


def affine_map(fit: Moments, wanted: int) -> Float[Tensor, "rows wanted"]:
    """The affine map from observed to wanted channels with the least squared error: shifts, then weights by row.

    Args:
        fit: of `second_moments`.
        wanted: how many of the last columns are wanted.
    """
    split, means = len(fit) - wanted, fit[0] / fit[0, 0]
    centred = fit / fit[0, 0] - means[:, None] * means
    spread = centred.diagonal()[1:split]
    moves = spread > ROUNDING * fit.diagonal()[1:split] / fit[0, 0]
    scale = torch.where(moves, spread, 1).rsqrt() * moves
    gram = centred[1:split, 1:split] * scale * scale[:, None]
    weights = torch.linalg.pinv(gram, rtol=RELATIVE, hermitian=True) @ (centred[1:split, split:] * scale[:, None])
    weights = weights * scale[:, None]
    return torch.cat([means[None, split:] - means[None, 1:split] @ weights, weights])


def held_out_r2(fit: Moments, test: Moments, wanted: int) -> float:
    """R² over `test` of the affine map from observed to wanted channels that is best over `fit`.

    Pooled over the wanted channels: one minus the sum of squared errors over the sum of squares about the test mean.
    nan where nothing varies.

    Args:
        fit: of `second_moments`, over some images.
        test: over other images.
        wanted: how many of the last columns are wanted.
    """
    split, weights = len(fit) - wanted, affine_map(fit, wanted)
    square, cross, own = test[:split, :split], test[:split, split:], test[split:, split:]
    errors = own.trace() - 2 * (weights * cross).sum() + (weights * (square @ weights)).sum()
    spread = own.trace() - (cross[0] ** 2).sum() / test[0, 0]
    return float(1 - errors / spread) if spread > 0 else float("nan")
