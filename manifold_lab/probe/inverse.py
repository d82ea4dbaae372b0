"""Back from a layer's output to its input: exactly on the active rows, and by the best affine map."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from manifold_lab.probe.layer import LayerRecord, LayerRow
from manifold_lab.probe.layer_types import NONLINEARITY
from manifold_lab.probe.tracing import effective

DECOMPOSED, AT_ONCE = 128, 16
"""Positions whose active rows are decomposed, and how many at a time."""
PARTS = 4
"""Parts of the images of a ridge regression: two to fit, one to choose the ridge, one to test."""
RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0)


def rank(layer: LayerRecord) -> LayerRow:
    """Lemma 2 proper, at sampled positions: do the active rows of the convolution, norm folded in, span its input?

    Sees the rank, the smallest singular value there and the condition number (over the positions of full rank), and the
    error of least squares from the active channels back to the real input, |x_hat - x|^2 over |x|^2: on positions of
    full rank what rounding of float32 leaves, elsewhere what is lost. Does not see that real inputs fill a small part
    of R^n (see `preservation`), nor shared information of neighbouring positions. For ReLU and its clipped kin only,
    behind a 1x1 convolution with nothing, or a batch norm in evaluation mode, in between.
    """
    window, sample = layer.window, layer.sample.parts
    if window is None or window[0] != 0 or layer.chain.inputs is None or len(sample) < 2:
        return {}
    if not layer.chain.fixed or NONLINEARITY not in layer.kinds or type(layer.module).__name__ in FOLDING:
        layer.note("rank: the map before it is not fixed and piecewise linear")
        return {}
    matrix, offset = (part.cpu() for part in effective(layer.chain))
    found = [_solved(matrix, offset, y, x, window[1]) for y, x in
             zip(*(part[:DECOMPOSED].cpu().double().split(AT_ONCE) for part in sample[:2]), strict=True)]  # fmt: skip
    spanned, smallest, condition, error, size = (torch.cat(part) for part in zip(*found, strict=True))
    full = spanned.bool()
    told: LayerRow = {"full_rank": float(full.double().mean()), "rank_positions": len(full),
                 "inversion_error": float(error.sum() / size.sum())}  # fmt: skip
    if full.any():
        told |= {"singular_value_min": float(smallest[full].min()), "singular_value": float(smallest[full].median()),
                 "condition": float(condition[full].median()),
                 "inversion_error_full_rank": float(error[full].sum() / size[full].sum())}  # fmt: skip
    return told


FOLDING = ("GELU", "SiLU", "Hardswish", "Mish", "Swish", "HardSwish", "HardMish", "GELUTanh", "QuickGELU")


def _solved(matrix: Tensor, offset: Tensor, y: Tensor, x: Tensor, top: float) -> tuple[Tensor, ...]:
    """Per position: full rank, smallest singular value, condition, squared error of the inverse, squared size.

    By the eigenvalues of the active rows' Gram matrix, in float64: many times as fast as their singular values, and
    exact enough, as float32 cannot tell singular values below max(m, n) * eps of the largest from zero.
    """
    inside = (y > 0) & (y < top)
    rows = matrix * inside[..., None]
    values, vectors = torch.linalg.eigh(rows.mT @ rows)
    singular = values.clamp_min(0).sqrt()
    kept = singular > max(matrix.shape) * torch.finfo(torch.float32).eps * singular[:, -1:]
    right = (rows.mT @ torch.where(inside, y - offset, 0)[..., None]).squeeze(-1)
    back = vectors @ (torch.where(kept, 1 / values, 0) * (vectors.mT @ right[..., None]).squeeze(-1))[..., None]
    error = ((back.squeeze(-1) - x) ** 2).sum(1)
    return kept.all(1), singular[:, 0], singular[:, -1] / singular[:, 0], error, (x**2).sum(1)


def ridge_r2(
    x: Float[Tensor, "positions inputs"], y: Float[Tensor, "positions outputs"], images: Int64[Tensor, " positions"]
) -> float | None:
    """Held-out R^2 of x from y by ridge regression, on images of which no position was fitted.

    Half of the images fit, a quarter chooses the best of RIDGES, and a quarter is what the R^2 is of. Neighbouring
    positions of one image are alike, so that a split by position would flatter the fit.

    Args:
        x: what is predicted.
        y: what it is predicted from; a ridge is so many times its mean variance.
        images: which image each position is of.

    Returns:
        None for fewer than four images.
    """
    number = images.unique(return_inverse=True)[1]
    if int(number.max()) + 1 < PARTS:
        return None
    fit, choose, test = number % 2 == 0, number % PARTS == 1, number % PARTS == PARTS - 1
    y0, x0 = y[fit].mean(0), x[fit].mean(0)
    values, vectors = torch.linalg.eigh((y[fit] - y0).mT @ (y[fit] - y0) / fit.sum())
    cross = vectors.mT @ ((y[fit] - y0).mT @ (x[fit] - x0)) / fit.sum()
    scale = values.mean() + torch.finfo(values.dtype).tiny

    def r2(ridge: float, held: Tensor) -> float:
        error = (y[held] - y0) @ (vectors @ (cross / (values.clamp_min(0) + ridge * scale)[:, None])) + x0 - x[held]
        return float(1 - (error**2).sum() / ((x[held] - x[held].mean(0)) ** 2).sum())

    return r2(max(RIDGES, key=lambda ridge: r2(ridge, choose)), test)
