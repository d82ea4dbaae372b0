"""Linear readability: how much of one set of channels the best affine map reads from another, on held-out points.

Everything is computed from second moments, which add over batches, so that any number of points takes the same memory.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lab.core import domain

RELATIVE = 1e-10
"""Eigenvalues of the covariance below this share of the largest count as zero: dead or repeated channels."""

Moments = Float[Tensor, "columns columns"]


def second_moments(
    observed: Float[Tensor, "points observed"], wanted: Float[Tensor, "points wanted"]
) -> Float[Tensor, "columns columns"]:
    """Sums of products of the columns [1, observed, wanted], in float64; sums over batches are sums of these.

    Raises:
        InputError: for numbers that are not finite, no points, or parts of unequal length.
    """
    observed, wanted = (domain.tensor(name, part, "points channels").detach().double()
                        for name, part in (("observed", observed), ("wanted", wanted)))  # fmt: skip
    domain.same_length("observed, wanted", observed, wanted)
    columns = torch.cat([torch.ones_like(observed[:, :1]), observed, wanted], 1)
    return columns.T @ columns


def held_out_r2(fit: Moments, test: Moments, wanted: int) -> float:
    """R² over `test` of the affine map from observed to wanted channels that is best over `fit`.

    Pooled over the wanted channels: one minus the sum of squared errors over the sum of squares about the test mean.
    nan where nothing varies.

    Args:
        fit: of `second_moments`, over some images.
        test: over other images.
        wanted: how many of the last columns are wanted.
    """
    split = len(fit) - wanted
    scale = fit.diagonal()[:split].clamp_min(torch.finfo(torch.float64).tiny).rsqrt()
    gram = fit[:split, :split] * scale * scale[:, None]
    weights = torch.linalg.pinv(gram, rtol=RELATIVE, hermitian=True) @ (fit[:split, split:] * scale[:, None])
    weights = weights * scale[:, None]
    square, cross, own = test[:split, :split], test[:split, split:], test[split:, split:]
    errors = own.trace() - 2 * (weights * cross).sum() + (weights * (square @ weights)).sum()
    spread = own.trace() - (cross[0] ** 2).sum() / test[0, 0]
    return float(1 - errors / spread) if spread > 0 else float("nan")
