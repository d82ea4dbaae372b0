"""Random linear maps from R^n into R^m, each with its linear way back."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lab.core.errors import InputError, one_of
from manifold_lab.core.shown import Shown
from manifold_lab.random_layer.specs import LAWS

BATCH_OF_DRAWS = 16
"""Draws are made in blocks of 16, so that draw i is the same whatever the number of draws and the chunking."""


@dataclass(frozen=True, repr=False)
class Embedding(Shown):
    """A batch of maps `matrix` and, for each, the linear map `inverse` back that undoes it where nothing was lost."""

    matrix: Float[Tensor, "draws ambient inputs"]
    inverse: Float[Tensor, "draws inputs ambient"]


def _gaussian(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _orthonormal(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Haar-distributed orthonormal columns (rows where m < n), scaled to entries of variance one."""
    draws, ambient, inputs = shape
    tall = _gaussian((draws, max(ambient, inputs), min(ambient, inputs)), generator)
    factor = torch.linalg.qr(tall)
    q = factor.Q * torch.sign(torch.diagonal(factor.R, dim1=-2, dim2=-1))[:, None, :]
    return math.sqrt(max(ambient, inputs)) * (q if ambient >= inputs else q.mT)


def _uniform(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    return math.sqrt(3) * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)


def _rademacher(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(0, 2, shape, generator=generator, dtype=torch.int8).to(torch.float64) - 1


DRAWS: dict[str, Callable[[tuple[int, int, int], torch.Generator], Tensor]] = {
    "gaussian": _gaussian,
    "orthonormal": _orthonormal,
    "uniform": _uniform,
    "rademacher": _rademacher,
    "zero_pad": _gaussian,
}
"""For each of `specs.LAWS`, matrices of a shape (draws, ambient, inputs), square where the law is."""


def draw_embedding(law: str, shape: tuple[int, int, int], generator: torch.Generator) -> Embedding:
    """Draw a batch of embeddings of shape (draws, ambient, inputs), in float64 on the CPU.

    Raises:
        InputError: for an unknown law, or for `zero_pad` with ambient < inputs.
    """
    one_of("embedding", law, LAWS)
    draws, ambient, inputs = shape
    if LAWS[law].square and ambient < inputs:
        raise InputError(f"dims: {ambient} is not allowed with zero_pad; it must be at least {inputs}, the input's")
    blocks = -(-draws // BATCH_OF_DRAWS) * BATCH_OF_DRAWS
    matrix = DRAWS[law]((blocks, ambient, ambient if LAWS[law].square else inputs), generator)[:draws]
    if LAWS[law].square:
        return Embedding(matrix[:, :, :inputs], torch.linalg.inv(matrix)[:, :inputs, :])
    return Embedding(matrix, pseudo_inverse(matrix))


def pseudo_inverse(matrix: Float[Tensor, "draws ambient inputs"]) -> Float[Tensor, "draws inputs ambient"]:
    """Moore-Penrose inverse of a batch: by QR, or by SVD where a matrix is wide or its columns are dependent."""
    if matrix.shape[-2] < matrix.shape[-1]:
        return torch.linalg.pinv(matrix)
    factor = torch.linalg.qr(matrix)
    diagonal = torch.diagonal(factor.R, dim1=-2, dim2=-1).abs()
    if (diagonal.amin(-1) <= 100 * torch.finfo(matrix.dtype).eps * diagonal.amax(-1)).any():
        return torch.linalg.pinv(matrix)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand_as(factor.R)
    return (factor.Q @ torch.linalg.solve_triangular(factor.R, identity, upper=True).mT).mT
