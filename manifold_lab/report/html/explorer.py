"""The spiral explorer's half in Python: what it knows from the library, and the library's numbers of any of its states.

The state stands in the page's address, as in `dim=5&seed=3&turns=3&bias=0&activation=relu&decoder=pinv`; rows of T that
were turned by hand follow as `rows=0:1.571,4:-0.2`, each with its angle in radians.
"""

import base64
import functools
import math
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import torch
from torch import Tensor

from manifold_lab import activations
from manifold_lab.activations import ACTIVATIONS
from manifold_lab.core.errors import InputError, one_of
from manifold_lab.random_layer.embeddings import Embedding, pseudo_inverse
from manifold_lab.random_layer.layer import RandomLayer
from manifold_lab.random_layer.monte_carlo import draw_random_layer, layers
from manifold_lab.random_layer.specs import DECODERS, ManifoldSpec, MonteCarlo
from manifold_lab.report import plots, spiral_figure

DIMS, SEEDS = range(2, 31), range(16)
"""Of the matrices that it can show: the first draw of each."""
EXPLORED = ("pinv", "affine", "exact")
"""The decoders that it computes."""
SHADES = 16
"""Colours along the curve."""
FIRST_DIM = 5


def first_matrices(dims: Iterable[int], seed: int) -> list[Tensor]:
    """The first T of a seed and every dim, as the library draws it, in the single precision that the page carries."""
    made = layers(MonteCarlo(dims=tuple(dims), seed=seed, points=8), torch.device("cpu"))
    return [next(draw_random_layer(layer, 1, layer.bytes_per_draw)).matrix[0].float() for layer in made]


def packed_matrices() -> str:
    """The first T of every seed and dim in base64 of little-endian float32: seeds outermost, then dims, then rows."""
    flat = torch.cat([one.flatten() for seed in SEEDS for one in first_matrices(DIMS, seed)]).numpy()
    return base64.b64encode(flat.astype("<f4").tobytes()).decode()


@functools.cache
def typical_seed() -> int:
    """Of the seeds, the one whose share of kept points at first sight is nearest to the median over 1,000 draws."""
    (layer,) = layers(MonteCarlo(dims=(FIRST_DIM,)), torch.device("cpu"))
    pieces = draw_random_layer(layer, layer.spec.draws, layer.bytes_per_draw)
    x = layer.points.x

    def kept(drawn: Tensor) -> Tensor:  # any two rows of a Gaussian T are independent
        return ((drawn @ x.mT > 0).sum(-2) >= 2).double().mean(-1)

    median = torch.cat([kept(piece.matrix) for piece in pieces]).median()
    shown = torch.stack([kept(first_matrices((FIRST_DIM,), seed)[0].double()) for seed in SEEDS])
    return int((shown - median).abs().argmin())


def shades(low: int | float, high: int | float) -> list[str]:
    """Colours along the curve, between two places of the colour map."""
    return [plots.mpl.colors.to_hex(plots.mpl.colormaps["viridis"](place)) for place in np.linspace(low, high, SHADES)]


def knowledge() -> dict[str, Any]:
    """What the page's script needs to know."""

    def window(name: str) -> list[float | None]:
        ends = ACTIVATIONS[name].window or (math.nan, math.nan)
        return [end if math.isfinite(end) else None for end in ends]

    return {
        "dims": [DIMS[0], DIMS[-1]],
        "seeds": [SEEDS[0], SEEDS[-1]],
        "matrices": packed_matrices(),
        "points": MonteCarlo.points,
        "radius": ManifoldSpec.radius,
        "lostEvery": spiral_figure.LOST_EVERY,
        "shades": SHADES,
        "draws": MonteCarlo.draws,
        "activations": [
            {"name": name, "window": window(name), "folds": ACTIVATIONS[name].folds} for name in ACTIVATIONS
        ],
        "decoders": [{"name": name, "label": DECODERS[name]} for name in EXPLORED],
        "first": {
            "dim": FIRST_DIM, "seed": typical_seed(), "turns": ManifoldSpec.turns, "bias": MonteCarlo.bias,
            "activation": MonteCarlo.activation, "decoder": EXPLORED[0],
        },
    }  # fmt: skip


def layer_of(state: str) -> tuple[RandomLayer, str]:
    """The library's layer of a state of the page, and the name of its decoder.

    Raises:
        InputError: for a state that the explorer cannot be in.
    """
    known = {"dim": "5", "seed": "0", "turns": "3", "bias": "0", "activation": "relu", "decoder": "pinv", "rows": ""}
    chosen = known | {name: value for name, value in parse_qsl(state) if name in known}
    decoder = one_of("decoder", chosen["decoder"], EXPLORED)
    activation = activations.named(one_of("activation", chosen["activation"], ACTIVATIONS))
    try:
        dim, seed, turns, bias = int(chosen["dim"]), int(chosen["seed"]), float(chosen["turns"]), float(chosen["bias"])
        turned = {int(row): float(angle) for row, angle in (one.split(":") for one in chosen["rows"].split(",") if one)}
    except ValueError:
        raise InputError(f"state: {state[:80]!r} is not one of the explorer; copy it from the page's address") from None
    if set(turned) - set(range(dim)):
        raise InputError(f"state: rows {sorted(turned)} of a T with {dim} rows")
    (layer,) = layers(MonteCarlo((dim,), seed=seed, manifold=ManifoldSpec(turns=turns), bias=bias), torch.device("cpu"))
    drawn = first_matrices((dim,), seed)[0].double()
    for row, angle in turned.items():
        drawn[row] = drawn[row].norm() * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    return RandomLayer(layer.points.x, Embedding(drawn[None], pseudo_inverse(drawn[None])), activation, bias), decoder


def page_numbers(state: str) -> dict[str, float]:
    """What the page shows of a state, by the library: the share and number of points kept, and the decoder's error.

    Raises:
        InputError: as `layer_of`.
    """
    layer, decoder = layer_of(state)
    x, x_hat = layer.x, {"pinv": layer.linear, "affine": layer.affine, "exact": layer.exact}[decoder]()[0]
    judged = slice(1, None, 2) if decoder == "affine" else slice(None)
    spread = torch.linalg.svdvals(layer.y[0] - layer.y[0].mean(0)).square()
    return {
        "preserved": float(layer.preserved.double().mean()),
        "lost": float((~layer.preserved).sum()),
        "error": float((x_hat - x)[judged].square().sum() / x[judged].square().sum()),
        "seen": float(spread[:2].sum() / spread.sum()),
    }
