"""The way back from ReLU(Wx + b) without a factorisation: the frame algorithm on the active rows, and its rate.

Source: Gröchenig 1993; for layers Haider, Ehler and Balazs, arXiv:2406.15856.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from manifold_lab.core import domain
from manifold_lab.core.errors import InputError


def frame_bounds(
    matrix: Float[Tensor, "ambient inputs"], active: Bool[Tensor, "points ambient"]
) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    """A and B of every point: A |x|^2 <= sum of <w_i, x>^2 over its active rows <= B |x|^2; A is 0 where none span.

    Raises:
        InputError: for numbers that are not finite, or shapes that do not fit.
    """
    values = torch.linalg.eigvalsh(_frame_operator(matrix, active))
    lowest, largest = values[:, 0].clamp_min(0), values[:, -1].clamp_min(0)
    rounding = matrix.shape[1] * torch.finfo(values.dtype).eps
    return torch.where(lowest > rounding * largest, lowest, 0), largest


def frame_rate(lowest: Float[Tensor, " points"], largest: Float[Tensor, " points"]) -> Float[Tensor, " points"]:
    """(B - A) / (B + A), by which every step makes the error smaller at least; 1 where the rows do not span.

    Raises:
        InputError: for numbers that are not finite, or unequal lengths.
    """
    lowest, largest = domain.tensor("lowest", lowest, "points"), domain.tensor("largest", largest, "points")
    domain.same_length("lowest, largest", lowest, largest)
    total = largest + lowest
    return torch.where(total > 0, (largest - lowest) / torch.where(total > 0, total, 1), 1)


def frame_algorithm(
    matrix: Float[Tensor, "ambient inputs"],
    bias: Float[Tensor, " ambient"],
    y: Float[Tensor, "points ambient"],
    steps: int,
) -> Float[Tensor, "points inputs"]:
    """The inputs of ReLU(Wx + b), by steps x + 2 / (A + B) W_A' (y_A - b_A - W_A x) from x = 0 on the active rows.

    After k steps the error is at most frame_rate ** k times |x|. Where the active rows do not span, what is found is
    the projection of x onto their span, as least squares gives it.

    Args:
        matrix: The rows w_i.
        bias: Of every row.
        y: Outputs; a row is active where y is above zero.
        steps: How many.

    Raises:
        InputError: for numbers that are not finite, shapes that do not fit, or a negative number of steps.
    """
    domain.whole("steps", steps, 0)
    y, bias = domain.tensor("y", y, "points ambient"), domain.tensor("bias", bias, "ambient")
    active = y > 0
    operator = _frame_operator(matrix, active)
    values = torch.linalg.eigvalsh(operator)
    largest = values[:, -1].clamp_min(0)
    spanned = values > matrix.shape[1] * torch.finfo(values.dtype).eps * largest[:, None]
    lowest = torch.where(spanned, values, torch.inf).amin(1)
    step = torch.where(largest > 0, 2 / (lowest + largest), 0)[:, None]
    target = torch.where(active, y - bias, 0).double() @ matrix.double()
    x = torch.zeros_like(target)
    for _ in range(steps):
        x = x + step * (target - (operator @ x[..., None]).squeeze(-1))
    return x


def _frame_operator(
    matrix: Float[Tensor, "ambient inputs"], active: Bool[Tensor, "points ambient"]
) -> Float[Tensor, "points inputs inputs"]:
    """W_A' W_A of every point, in float64."""
    matrix, active = domain.tensor("matrix", matrix, "ambient inputs"), domain.flags("active", active, "points ambient")
    if active.shape[1] != len(matrix):
        raise InputError(f"active: shape {tuple(active.shape)} does not fit a matrix of {tuple(matrix.shape)}")
    rows = matrix.double()
    return torch.einsum("pm,mi,mj->pij", active.double(), rows, rows)
