"""The values of Figure 1's panels: the typical draw of each dim, decoded the paper's way and exactly."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from manifold_lab.random_layer.embeddings import Embedding
from manifold_lab.random_layer.layer import RandomLayer
from manifold_lab.random_layer.monte_carlo import MonteCarloLayer, draw_random_layer

INPUT = "input"
"""In place of a decoder, for the manifold itself."""


def _plane(x: Tensor) -> Tensor:
    """Two orthonormal directions to look along: the axes of the plane, or the input's two widest."""
    if x.shape[1] == 2:
        return torch.eye(2, dtype=x.dtype, device=x.device)
    return torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:2].mT


def _decoded(channel: RandomLayer, layer: MonteCarloLayer, decoder: str) -> Tensor:
    if decoder == "preimage":
        return torch.as_tensor(channel.preimage(0).middle).to(channel.x)
    if decoder == "affine":
        return channel.affine()[0]
    if decoder == "exact":
        return channel.exact()[0]
    return channel.linear(layer.scales[decoder] or 0.0)[0]


def _rows(
    dim: int | None, decoder: str, layer: MonteCarloLayer, seen: Tensor, preserved: Sequence[int | None]
) -> Iterator[dict[str, Any]]:
    position = layer.points.position.tolist()
    for point, ((x1, x2), kept) in enumerate(zip(seen.tolist(), preserved, strict=True)):
        yield {
            "dim": dim,
            "decoder": decoder,
            "point": point,
            "position": _six(position[point]),
            "x1": _six(round(x1, 9)),
            "x2": _six(round(x2, 9)),
            "preserved": kept,
        }


def _six(value: float) -> float:
    """To six digits, which is more than a figure shows."""
    return float(f"{value:.6g}")


def _draw(layer: MonteCarloLayer, number: int) -> Embedding:
    """Draw number `number` of a layer, alone."""
    for embedding in draw_random_layer(layer, number + 1, layer.bytes_per_draw):
        last = embedding
    return Embedding(last.matrix[-1:], last.inverse[-1:])


def figure1_points(shown: dict[MonteCarloLayer, int], decoder: str) -> list[dict[str, Any]]:
    """Rows of the table of points: the input, and for each layer the draw of that number, by `decoder` and exactly.

    `dim` is missing and `decoder` is INPUT for the manifold itself; `preserved` is 1 or 0 by Lemma 2, and missing where
    the activation does not say.
    """
    first = next(iter(shown))
    points, plane = first.points.x, _plane(first.points.x)
    rows = list(_rows(None, INPUT, first, points @ plane, [None] * len(points)))
    for layer, number in shown.items():
        channel = RandomLayer(points, _draw(layer, number), layer.activation, layer.spec.bias)
        known = layer.activation.window is not None
        kept = channel.preserved[0].int().tolist() if known else [None] * len(points)
        for way in dict.fromkeys([decoder, "exact"] if known else [decoder]):  # the second row of panels is exact
            rows += _rows(layer.dim, way, layer, _decoded(channel, layer, way) @ plane, kept)
    return rows
