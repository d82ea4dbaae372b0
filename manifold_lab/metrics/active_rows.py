"""The rows of T that are active at a point: what Lemma 2 asks about, and what an exact decoder solves with."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from manifold_lab.core import domain
from manifold_lab.core.errors import InputError
from manifold_lab.core.shown import Shown


@dataclass(frozen=True, repr=False)
class ActiveRows(Shown):
    """Singular value decompositions of T's active rows, one per run of neighbouring points with the same rows.

    `group` tells each point's run. Inactive rows are kept as zeros, so that shapes are those of T; along a curve there
    are far fewer runs than points.
    """

    left: Float[Tensor, "groups ambient values"]
    singular: Float[Tensor, "groups values"]
    right: Float[Tensor, "groups values inputs"]
    group: Int[Tensor, "draws points"]
    tolerance: float

    @property
    def _significant(self) -> Bool[Tensor, "groups values"]:
        return self.singular > self.tolerance * self.singular.amax(-1, keepdim=True)

    @property
    def inputs(self) -> int:
        """The input dimension n."""
        return self.right.shape[-1]

    @property
    def rank(self) -> Int[Tensor, "draws points"]:
        """Numerical rank of the active rows at each point."""
        return self._significant.sum(-1)[self.group]

    @property
    def smallest_singular_value(self) -> Float[Tensor, "draws points"]:
        """The n-th singular value at each point: how far from losing x; 0 where the rank is below n."""
        full = self._significant.sum(-1) == self.inputs
        return torch.where(full, self.singular[:, -1], 0)[self.group]

    @property
    def log_volume(self) -> Float[Tensor, "draws points"]:
        """How the layer scales volume there, log sqrt det(B_A' B_A); minus infinity where the rank is below n."""
        full = self._significant.sum(-1) == self.inputs
        return torch.where(full, self.singular.log().sum(-1), -torch.inf)[self.group]

    def solve(self, value: Float[Tensor, "draws points ambient"]) -> Float[Tensor, "draws points inputs"]:
        """Least-squares solution of smallest norm of B_A x = value_A at each point."""
        inverse = torch.where(self._significant, 1 / self.singular, 0)
        pseudo_inverse = (self.right.mT * inverse[:, None]) @ self.left.mT
        return (pseudo_inverse[self.group] @ value[..., None]).squeeze(-1)


def active_rows(
    matrix: Float[Tensor, "draws ambient inputs"],
    active: Bool[Tensor, "draws points ambient"],
    tolerance: float | None = None,
) -> ActiveRows:
    """Decompose the active rows of each draw's T at each of its points.

    A singular value counts when it is above `tolerance` times the largest one there; default max(m, n) * eps.

    Raises:
        InputError: for numbers that are not finite, shapes that do not fit, or a negative tolerance.
    """
    matrix = domain.tensor("matrix", matrix, "draws ambient inputs").detach()
    active = domain.flags("active", active, "draws points ambient")
    draws, points, ambient = active.shape
    if (draws, ambient) != matrix.shape[:2]:
        raise InputError(f"active: shape {tuple(active.shape)} does not fit a matrix of {tuple(matrix.shape)}")
    if tolerance is None:
        tolerance = max(matrix.shape[-2:]) * torch.finfo(matrix.dtype).eps
    domain.number("tolerance", tolerance, 0)
    new = torch.ones(draws, points, dtype=torch.bool, device=active.device)
    new[:, 1:] = (active[:, 1:] != active[:, :-1]).any(-1)
    group = new.flatten().cumsum(0).reshape(draws, points) - 1
    draw = torch.arange(draws, device=active.device)[:, None].expand_as(new)[new]
    rows = matrix[draw] * active[new][..., None]
    left, singular, right = torch.linalg.svd(rows, full_matrices=False)
    return ActiveRows(left, singular, right, group, tolerance)
