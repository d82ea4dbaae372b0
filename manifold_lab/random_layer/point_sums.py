"""What a batch of layers does to a sample, summed over its points: the general way, for any manifold and activation."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from manifold_lab import metrics
from manifold_lab.activations import ACTIVATIONS
from manifold_lab.metrics.active_rows import active_rows
from manifold_lab.random_layer import decoders
from manifold_lab.random_layer.decoders import AffineMoments, Products
from manifold_lab.random_layer.layer import RandomLayer

Images = tuple[Tensor, Tensor, Tensor]
"""Points x, their images y, and T x + bias as read back from y."""
Halves = tuple[AffineMoments, AffineMoments] | None
NOTHING = (math.inf, -math.inf)
"""The interval of outputs of an activation of which it is not known what can be read back."""
MAX_INPUTS = 16
"""Largest n of the compiled pass, whose n x n Gram matrices stay in the cache."""


@dataclass(frozen=True)
class PointSums:
    """What a batch of layers does to its points, per draw.

    Args:
        products: of the linear decoder over all points.
        kept: the same over preserved points alone; None where the activation does not say which outputs have one
            preimage.
        means: over points, by the names that `monte_carlo.measure_layer` gives them; the exact decoder's error is
            relative to the sum of |x|^2.
        halves: the moments to fit an affine decoder on and those held out.
    """

    products: Products
    kept: Products | None
    means: dict[str, Float[Tensor, " draws"]]
    halves: Halves


def sum_points(layer: RandomLayer, intrinsic: int, affine: bool) -> PointSums:
    """Sum a batch of layers over its points: by one compiled pass in float64 on the CPU, else point by point.

    Args:
        layer: the batch of layers and its points.
        intrinsic: dimension k of the manifold.
        affine: whether the moments of an affine decoder are wanted.
    """
    x = layer.x
    compiled = x.device.type == "cpu" and x.dtype == torch.float64 and x.shape[1] <= MAX_INPUTS
    return _compiled_sums(layer, intrinsic, affine) if compiled else reference_sums(layer, intrinsic, affine)


def reference_sums(layer: RandomLayer, intrinsic: int, affine: bool) -> PointSums:
    """The same sums from every point's decoded values, on any device: what the compiled pass is tested against."""
    x, kept, means = layer.x, None, {"collapsed_pairs": metrics.collapsed_pairs(layer.y)}
    if layer.activation.window is not None:
        kept = layer.linear_products(layer.preserved.to(x))
        means |= {
            "preserved_fraction": layer.preserved.to(x).mean(1),
            "preserved_on_manifold": metrics.preserved_on_manifold(layer.active, intrinsic, x.shape[1]).to(x).mean(1),
            "reconstruction_error/exact": (layer.exact() - x).square().sum((1, 2)) / x.square().sum(),
            "information_dimension_loss": metrics.dimension_loss(layer.active, intrinsic).mean(1),
        }
    return PointSums(layer.linear_products(), kept, means, layer.affine_moments() if affine else None)


def _compiled_sums(layer: RandomLayer, intrinsic: int, affine: bool) -> PointSums:
    from manifold_lab.random_layer import kernel  # noqa: PLC0415  (numba takes half a second, which the plane is spared)

    x = torch.cat([layer.x[0::2], layer.x[1::2]])  # each half of the affine decoder's points is one piece of memory
    y, value = _images(layer, x)
    window = layer.activation.outputs if layer.activation.window is not None else NOTHING
    embedding = layer.embedding
    sums, pairs = y.new_zeros(len(y), kernel.EXACT + 1), y.new_zeros(len(y))
    marks, unsure = y.new_empty(len(y), len(x)), y.new_empty((len(y), len(x)), dtype=torch.bool)
    arrays = [part.contiguous().numpy() for part in (x.mT, y, value, embedding.matrix, embedding.inverse)]
    kernel.sum_over_points(
        tuple(arrays[:3]), (*arrays[3:], (float(layer.bias), *window)), intrinsic, sums.numpy(), marks.numpy(),
        unsure.numpy(),
    )  # fmt: skip
    kernel.equal_pairs(marks.numpy(), arrays[1], pairs.numpy())
    if layer.activation.window is not None:
        _add_unsure(layer, (x, y, value), unsure, sums)
    return _means(layer, sums, pairs / (len(x) * (len(x) - 1)), intrinsic, _halves(x, y) if affine else None)


def _images(layer: RandomLayer, x: Tensor) -> tuple[Tensor, Tensor]:
    """The images y of points x, and T x + bias as read back from the active ones, each (draws, ambient, points)."""
    activation = layer.activation
    u = layer.embedding.matrix @ x.mT
    y = activation(u.add_(layer.bias) if layer.bias else u)
    if activation.window is None or activation.reads_back_itself:
        return y, y
    own = activation.name in ACTIVATIONS  # the inverse of another one may refuse what its window does not give
    return y, activation.inverse(y if own else y.where(activation.is_active(y), 1.0))


def _halves(x: Tensor, y: Tensor) -> tuple[AffineMoments, AffineMoments]:
    middle = (len(x) + 1) // 2
    first, second = slice(None, middle), slice(middle, None)
    return decoders.moments(x[first], y[..., first].mT), decoders.moments(x[second], y[..., second].mT)


def _add_unsure(layer: RandomLayer, points: Images, unsure: Bool[Tensor, "draws points"], sums: Tensor) -> None:
    """Add the points whose conditioning the compiled pass did not trust, by singular value decomposition."""
    from manifold_lab.random_layer import kernel  # noqa: PLC0415

    x, y, value = points
    draw, point = unsure.nonzero(as_tuple=True)
    if not len(draw):
        return
    embedding, on = layer.embedding, layer.activation.is_active(y[draw, :, point])
    patterns, group = torch.cat([draw[:, None], on], 1).unique(dim=0, return_inverse=True)
    rows = active_rows(embedding.matrix[patterns[:, 0]], patterns[:, None, 1:].bool())
    rows = replace(rows, group=rows.group.flatten()[group][:, None])
    x_hat = decoders.exact_decode(rows, value[draw, :, point][:, None] - layer.bias, on[:, None])[:, 0]
    linear = decoders.linear_decode(embedding.inverse[draw], y[draw, :, point][:, None], layer.bias)[:, 0]
    x, kept = x[point], metrics.preserved(rows)[:, 0]
    found = {
        kernel.KEPT: torch.ones_like(x[:, 0]),
        kernel.KEPT_CROSS: (linear * x).sum(1),
        kernel.KEPT_SQUARE: linear.square().sum(1),
        kernel.KEPT_ENERGY: x.square().sum(1),
    }
    sums[:, kernel.EXACT].index_add_(0, draw, (x_hat - x).square().sum(1))
    for column, value_here in found.items():
        sums[:, column].index_add_(0, draw, value_here * kept)


def _means(layer: RandomLayer, sums: Tensor, pairs: Tensor, intrinsic: int, halves: Halves) -> PointSums:
    """Columns of the compiled pass as what they are."""
    cross, square, energy, kept_cross, kept_square, kept_energy, preserved, on_manifold, lost, exact = sums.unbind(1)
    means, points = {"collapsed_pairs": pairs}, len(layer.x)
    if layer.activation.window is None:
        return PointSums((cross, square, energy), None, means, halves)
    means |= {
        "preserved_fraction": preserved / points,
        "preserved_on_manifold": on_manifold / points,
        "reconstruction_error/exact": exact / layer.x.square().sum(),
        "information_dimension_loss": lost / (points * intrinsic),
    }
    return PointSums((cross, square, energy), (kept_cross, kept_square, kept_energy), means, halves)
