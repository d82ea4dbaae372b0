"""Linear spread of a cloud of points, from the eigenvalues of its covariance.

Both rise when a curve is bent into more directions: they measure the embedding's curvature, not information.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def _spectrum(points: Tensor) -> Tensor:
    centred = points.double() - points.double().mean(-2, keepdim=True)
    variance = torch.linalg.svdvals(centred) ** 2
    return variance / variance.sum(-1, keepdim=True)


def participation_ratio(points: Float[Tensor, "*draws points channels"]) -> Float[Tensor, "*draws"]:
    """(sum l)^2 / sum l^2 over the covariance eigenvalues l: 1 for a line, d for an isotropic cloud in R^d."""
    return 1 / (_spectrum(points) ** 2).sum(-1)


def effective_rank(points: Float[Tensor, "*draws points channels"]) -> Float[Tensor, "*draws"]:
    """Exp of the entropy of the normalised covariance eigenvalues (Roy and Vetterli 2007); at least the former."""
    return torch.special.entr(_spectrum(points)).sum(-1).exp()
