"""Back from a layer's output to its input: exactly on the active rows, and by the best affine map."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from manifold_lab.activations import Activation
from manifold_lab.probe.activation_types import no_inverse
from manifold_lab.probe.counting import rounded_window
from manifold_lab.probe.layer import LayerRecord, LayerRow
from manifold_lab.probe.tracing import Chain, effective

DECOMPOSED, CUBES = 128, 128 * 512**3
"""Positions whose active rows are decomposed, and the sum of the cubes of their Gram matrices' sizes, at most."""
LARGEST = 2048
"""Size of a Gram matrix above which none is decomposed."""
CELLS = 1 << 24
"""Numbers that are held at a time."""
PARTS = 4
"""Parts of the images of a ridge regression: two to fit, one to choose the ridge, one to test."""
RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0)


def rank(layer: LayerRecord) -> LayerRow:
    """Lemma 2 proper, at sampled positions: do the active rows of the convolution, norm folded in, span its input?

    Sees the rank, the smallest singular value there and the condition number (over the positions of full rank), and the
    error of least squares from the active channels back to the real input, |x_hat - x|^2 over |x|^2: on positions of
    full rank what rounding leaves, elsewhere what is lost. Outputs are undone by the activation's own inverse; where it
    folds (GELU), what its other outputs could tell is not used. Does not see that real inputs fill a small part of R^n
    (see `preservation`), nor shared information of neighbouring positions. For activations behind a 1x1 convolution or
    linear layer with nothing, or a batch norm with fixed statistics, in between; that the map is what the weights say
    is verified on the sample.
    """
    sample, activation = layer.sample.parts, layer.activation
    if not isinstance(activation, Activation) or layer.chain.inputs is None or len(sample) < 2:
        return {}
    if not layer.chain.fixed:
        return layer.unmeasured("rank: the norm before it uses the statistics of each batch")
    if activation.inverse is no_inverse:
        return layer.unmeasured(f"rank: no inverse of {activation.name} is known")
    size = gram_size(layer.chain)
    if size > LARGEST:
        return layer.unmeasured(f"rank: {size} rows or columns are too many to decompose; at most {LARGEST}")
    matrix, offset = (part.cpu() for part in effective(layer.chain))
    y, x = (part[: min(DECOMPOSED, CUBES // size**3)].cpu() for part in sample[:2])
    inside, u = undone(activation, y)
    if not agrees(torch.where(inside, u - (x.double() @ matrix.mT + offset), 0), u[inside], y.dtype):
        return layer.unmeasured("rank: the map before it is not that of its weights")
    if activation.folds:
        layer.note("rank: a lower bound, as the activation folds")
    return _summary(matrix, torch.where(inside, u - offset, 0), inside, x.double())


def gram_size(chain: Chain) -> int:
    """Rows or columns of the map before a layer, whichever are fewer."""
    operator = chain.operator
    assert operator is not None and isinstance(operator.weight, Tensor)
    return min(len(operator.weight), operator.weight[0].numel())


def undone(activation: Activation, y: Tensor) -> tuple[Tensor, Tensor]:
    """Which outputs are active, and the inputs of these, in float64; 0 elsewhere."""
    low, high = rounded_window(activation.outputs, y.dtype)
    outputs = y.double()
    inside = (outputs > low) & (outputs < high)
    safe = torch.where(inside, outputs, outputs[inside][0] if inside.any() else 0)
    return inside, torch.where(inside, activation.inverse(safe), 0)


def agrees(difference: Tensor, u: Tensor, kind: torch.dtype) -> bool:
    """Whether inputs are those of the weights, to what numbers of this precision and the inverse's slope can tell."""
    allowed = min(0.25, 64 * torch.finfo(kind).eps ** 0.5)
    return not u.numel() or float(difference.square().sum()) <= allowed**2 * float(u.square().sum())


def _summary(matrix: Tensor, right: Tensor, inside: Tensor, x: Tensor) -> LayerRow:
    ambient, inputs = matrix.shape
    step = max(1, CELLS // max(ambient * min(ambient, inputs), 1))
    found = [solved(matrix, *parts) for parts in zip(*(part.split(step) for part in (right, inside, x)), strict=True)]
    spanned, smallest, condition, error, size = (torch.cat(part) for part in zip(*found, strict=True))
    full = spanned.bool()
    row: LayerRow = {"full_rank": float(full.double().mean()), "rank_positions": len(full),
                     "inversion_error": float(error.sum() / size.sum())}  # fmt: skip
    if full.any():
        row |= {"singular_value_min": float(smallest[full].min()), "singular_value": float(smallest[full].median()),
                "condition": float(condition[full].median()),
                "inversion_error_full_rank": float(error[full].sum() / size[full].sum())}  # fmt: skip
    return row


def solved(matrix: Tensor, right: Tensor, inside: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Per position: full rank, smallest singular value, condition, squared error of the inverse, squared size.

    By the eigenvalues of the active rows' Gram matrix, the smaller of the two, in float64: many times as fast as their
    singular values, and exact enough, as float32 cannot tell singular values below max(m, n) * eps of the largest from
    zero.

    Args:
        matrix: m x n.
        right: positions x m, matrix @ x on active rows, 0 elsewhere.
        inside: positions x m, which rows are active.
        x: positions x n.
    """
    active = inside.to(matrix)
    wide = matrix.shape[0] < matrix.shape[1]
    if wide:  # the products of all rows, of which each position has some
        gram = (matrix @ matrix.mT) * active[:, None] * active[..., None]
    else:
        gram = matrix.mT @ (matrix * active[..., None])
    values, vectors = torch.linalg.eigh(gram)
    singular = values.clamp_min(0).sqrt()
    kept = singular > max(matrix.shape) * torch.finfo(torch.float32).eps * singular[:, -1:]
    known = right if wide else right @ matrix
    weight = torch.where(kept, 1 / values, 0)[..., None] * (vectors.mT @ known[..., None])
    back = (vectors @ weight).squeeze(-1)
    back = (back * active) @ matrix if wide else back
    error = ((back - x) ** 2).sum(1)
    full = kept.all(1) & (not wide)
    return full, singular[:, 0], singular[:, -1] / singular[:, 0], error, (x**2).sum(1)


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
