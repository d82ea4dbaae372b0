"""A channel measured over many random draws, dim by dim: the numbers behind Figure 1."""

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import psutil
import torch
from torch import Tensor

from manifold_lab import activations, metrics, theory
from manifold_lab.activations import Activation
from manifold_lab.core.errors import InputError
from manifold_lab.core.random_streams import stream
from manifold_lab.core.shown import Shown
from manifold_lab.random_layer import decoders, embeddings, manifolds
from manifold_lab.random_layer.embeddings import Embedding
from manifold_lab.random_layer.layer import RandomLayer
from manifold_lab.random_layer.manifolds import Points
from manifold_lab.random_layer.planar_exact import Cones, PlaneCurve, plane_curve
from manifold_lab.random_layer.point_sums import sum_points
from manifold_lab.random_layer.specs import LAWS, MonteCarlo

CHUNK_BYTES = 32 * 2**20
POINTS_PER_CHANNEL = 4
"""An affine decoder is fitted only where there are at least this many points for each of its channels."""
NO_ERROR = 1e-12
"""A relative squared error that is rounding."""
QUERIES = 128
"""Noisy codes per draw in the Monte Carlo for mutual information."""


@dataclass(frozen=True, eq=False, repr=False)
class MonteCarloLayer(Shown):
    """One dim of a survey, ready to be drawn: its points, activation and the device that computes."""

    spec: MonteCarlo
    dim: int
    points: Points
    activation: Activation
    device: torch.device

    @property
    def inputs(self) -> int:
        """Input dimension n."""
        return self.points.x.shape[1]

    @property
    def planar(self) -> bool:
        """Whether the exact shortcut by cones applies."""
        law = LAWS[self.spec.embedding]
        return self.inputs == 2 and self.activation.slopes is not None and not self.spec.bias and law.general_position

    @property
    def fits_affine(self) -> bool:
        """Whether there are enough points for the affine decoder."""
        return POINTS_PER_CHANNEL * self.dim <= self.spec.points

    @property
    def bytes_per_draw(self) -> int:
        """Memory that one draw needs while it is measured, roughly."""
        matrix = self.dim * (self.dim if LAWS[self.spec.embedding].square else self.inputs)
        square = 16 * self.dim**2 if self.fits_affine else 0
        per_point = 0 if self.planar else self.spec.points * self.dim * (8 + self.inputs)
        vertices = 0 if self.planar or not self.tests_injectivity else self.vertices * self.dim
        return 8 * (square + per_point + vertices + 4 * matrix + 60 * self.dim)

    @property
    def vertices(self) -> int:
        """Directions that the exact test of injectivity has to try."""
        return math.comb(self.dim, self.inputs - 1)

    @property
    def tests_injectivity(self) -> bool:
        """Whether a test of injectivity on all of R^n is known for this layer and affordable."""
        law, slopes = LAWS[self.spec.embedding], self.activation.slopes
        known = slopes is not None and not self.spec.bias and law.general_position
        return known and (0 not in (slopes or ()) or self.vertices * self.dim <= theory.VERTEX_LIMIT)

    @property
    def bytes_per_code(self) -> int:
        """Memory that one draw needs while its mutual information is measured, roughly."""
        return 8 * self.spec.points * (3 * QUERIES + 4 * self.dim)

    @cached_property
    def scales(self) -> dict[str, float | None]:
        """The factors of the linear decoders; None where one does not exist."""
        slopes = self.activation.slopes
        radius = float(self.points.x.square().sum(1).mean().sqrt())
        gain = sum(slopes) / 2 if slopes else theory.gain(self.activation.function, radius)
        best = theory.best_scale(self.dim, self.inputs, slopes, self.spec.embedding) if slopes else None
        return {"pinv": 1.0, "pinv_gain": 1 / gain if abs(gain) > 1e-9 else None, "pinv_scale": best}


def layers(spec: MonteCarlo, device: torch.device, activation: Activation | None = None) -> list[MonteCarloLayer]:
    """The layers of a survey; `activation`, where given, takes the place of the named one.

    Raises:
        InputError: for an unknown activation, or a dim of which one draw does not fit into memory.
    """
    activation = activation or activations.named(spec.activation)
    points = manifolds.sample(spec.manifold, spec.points, stream(spec.seed, "manifold"))
    points = replace(points, x=points.x.to(device, getattr(torch, spec.dtype)), position=points.position.to(device))
    made = [MonteCarloLayer(spec, dim, points, activation, device) for dim in spec.dims]
    _check_memory(max(made, key=lambda layer: layer.dim))
    return made


def _check_memory(layer: MonteCarloLayer) -> None:
    on_cpu = layer.device.type != "cuda"
    free = psutil.virtual_memory().available if on_cpu else torch.cuda.mem_get_info(layer.device)[0]

    def needed(dim: int) -> int:
        wanted, matrices = replace(layer, dim=dim), 8 * embeddings.BATCH_OF_DRAWS * 5 * dim * layer.inputs
        return max(wanted.bytes_per_draw, wanted.bytes_per_code) + matrices

    if needed(layer.dim) > 0.8 * free:
        fitting = bisect.bisect(range(min(layer.dim, 2**62)), 0.8 * free, key=needed) - 1
        raise InputError(f"dims: {layer.dim} needs {needed(layer.dim) / 2**30:.3g} GiB; at most {fitting} fit here")


def draw_random_layer(layer: MonteCarloLayer, draws: int, bytes_per_draw: int) -> Iterator[Embedding]:
    """The first `draws` random embeddings of a layer, in chunks that keep the memory bounded.

    Draw i is the same whatever the number of draws, their chunks, the device and the precision.
    """
    generator = stream(layer.spec.seed, "embedding", layer.spec.embedding, layer.dim)
    piece = max(1, CHUNK_BYTES // bytes_per_draw)
    chunk = -(-piece // embeddings.BATCH_OF_DRAWS) * embeddings.BATCH_OF_DRAWS
    for done in range(0, draws, chunk):
        count = min(chunk, draws - done)
        drawn = embeddings.draw_embedding(layer.spec.embedding, (count, layer.dim, layer.inputs), generator)
        like = layer.points.x
        for start in range(0, count, piece):
            part = slice(start, start + piece)
            yield Embedding(drawn.matrix[part].to(like), drawn.inverse[part].to(like))


def measure_layer(layer: MonteCarloLayer, tick: Callable[[int], None] = lambda _draws: None) -> dict[str, np.ndarray]:
    """Every quantity over the draws of a layer: name (and decoder) -> one value per draw; absent where undefined.

    `tick` is told the number of draws done, for a progress bar.
    """
    curve = plane_curve(layer.points.x) if layer.planar else None
    parts: list[dict[str, Tensor]] = []
    for embedding in draw_random_layer(layer, layer.spec.draws, layer.bytes_per_draw):
        parts.append(_planar(layer, embedding, curve) if curve else _general(layer, embedding))
        tick(len(embedding.matrix))
    found = {name: torch.cat([part[name] for part in parts]).double().cpu().numpy() for name in parts[0]}
    if np.isnan(found.get("decoder_share", 0)).any():
        del found["decoder_share"]  # pinv made no error that could be shared
    return found | {"mutual_information": _information(layer, _codes(layer), layer.dim)}


def _planar(layer: MonteCarloLayer, embedding: Embedding, curve: PlaneCurve) -> dict[str, Tensor]:
    cones = Cones(curve, embedding, layer.activation.slopes or (0, 0))
    count = cones.active_count
    null = cones.share((count == 0).to(curve.angle)) * len(curve.angle) if cones.slopes[0] == 0 else 0 * count[:, 0]
    pairs = (null * (null - 1)).clamp_min(0) / (len(curve.angle) * (len(curve.angle) - 1))
    k = layer.points.intrinsic
    found = {
        "preserved_fraction": cones.share((count >= 2).to(curve.angle)),
        "preserved_on_manifold": cones.share((count >= min(2, k + 1)).to(curve.angle)),
        "injective": cones.injective(),
        "collapsed_pairs": pairs,
        "reconstruction_error/exact": cones.exact_error(),
    }
    if not layer.activation.folds:
        found["information_dimension_loss"] = cones.share((k - count).clamp_min(0) / k)
    every, kept = cones.linear_products(), cones.linear_products((count >= 2).to(curve.angle))
    found |= _linear_errors(layer, *every) | _decoder_share(every, kept)
    return found | (_affine_error(*cones.affine_moments()) if layer.fits_affine else {})


def _general(layer: MonteCarloLayer, embedding: Embedding) -> dict[str, Tensor]:
    batch = RandomLayer(layer.points.x, embedding, layer.activation, layer.spec.bias)
    sums = sum_points(batch, layer.points.intrinsic, layer.fits_affine)
    found = dict(sums.means)
    if layer.activation.folds:
        found.pop("information_dimension_loss", None)
    if layer.tests_injectivity:
        found["injective"] = _injective(layer, embedding)
    shares = _linear_errors(layer, *sums.products) | _decoder_share(sums.products, sums.kept)
    return found | shares | (_affine_error(*sums.halves) if sums.halves else {})


def _injective(layer: MonteCarloLayer, embedding: Embedding) -> Tensor:
    """Injectivity on all of R^n: by depth for one flat side, by rank for none, never for a fold."""
    left, right = layer.activation.slopes or (0, 0)
    if left * right == 0:
        return theory.is_injective(embedding.matrix * (1 if right else -1))
    return torch.full((len(embedding.matrix),), left * right > 0 and layer.dim >= layer.inputs)


def _linear_errors(layer: MonteCarloLayer, cross: Tensor, square: Tensor, energy: Tensor) -> dict[str, Tensor]:
    """|a x_hat - x|^2 over |x|^2 for every factor a, from the sums of products."""
    return {
        f"reconstruction_error/{name}": ((energy - 2 * a * cross + a * a * square) / energy).clamp_min(0)
        for name, a in layer.scales.items()
        if a is not None
    }


def _decoder_share(every: tuple[Tensor, ...], kept: tuple[Tensor, ...] | None) -> dict[str, Tensor]:
    """Share of pinv's error that falls on preserved points, where nothing but the decoder is to blame."""
    if kept is None:
        return {}
    (cross, square, energy), (kept_cross, kept_square, kept_energy) = every, kept
    error, on_kept = energy - 2 * cross + square, kept_energy - 2 * kept_cross + kept_square
    share = torch.where(error <= NO_ERROR * energy, torch.nan, on_kept / error)
    return {"decoder_share": share.clamp(0, 1)}


def _affine_error(fit: decoders.AffineMoments, held_out: decoders.AffineMoments) -> dict[str, Tensor]:
    error = decoders.affine_error(decoders.fit_affine(fit), held_out)
    return {"reconstruction_error/affine": error / held_out.xx.diagonal().sum()}


def _codes(layer: MonteCarloLayer) -> Iterator[Tensor]:
    """Codes of the first draws, scaled by sqrt(2/m) so that the noise means the same at every m."""
    draws = min(layer.spec.draws, layer.spec.information_draws)
    for embedding in draw_random_layer(layer, draws, layer.bytes_per_code):
        yield RandomLayer(layer.points.x, embedding, layer.activation, layer.spec.bias).y * math.sqrt(2 / layer.dim)


def input_information(layer: MonteCarloLayer) -> np.ndarray:
    """Mutual information of the points themselves at the same noise in R^n: what an isometry would keep."""
    return _information(layer, itertools.repeat(layer.points.x[None], layer.spec.information_draws), "input")


def _information(layer: MonteCarloLayer, codes: Iterable[Tensor], noise: int | str) -> np.ndarray:
    """Mutual information of codes, with noise from the stream of this name."""
    generator, queries = stream(layer.spec.seed, "noise", noise), min(QUERIES, layer.spec.points)
    found = [metrics.known_channel_information(code, layer.spec.sigma, queries, generator) for code in codes]
    return torch.cat(found).double().cpu().numpy()
