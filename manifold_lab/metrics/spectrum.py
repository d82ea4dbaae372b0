"""Linear spread of a cloud of points, from the eigenvalues of its covariance.

All rise when a curve is bent into more directions: they measure the embedding's curvature, not information.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def variance_shares(points: Float[Tensor, "*draws points channels"]) -> Float[Tensor, "*draws values"]:
    """Each principal direction's share of the variance, the largest first."""
    centred = points.double() - points.double().mean(-2, keepdim=True)
    variance = torch.linalg.svdvals(centred) ** 2
    return variance / variance.sum(-1, keepdim=True)


def covariance_shares(covariance: Float[Tensor, "channels channels"]) -> Float[Tensor, " values"]:
    """The same from a covariance; nan where nothing varies."""
    variance = torch.linalg.eigvalsh(covariance.double()).flip(-1).clamp_min(0)
    return variance / variance.sum(-1, keepdim=True)


def participation_ratio_of(shares: Float[Tensor, "*draws values"]) -> Float[Tensor, "*draws"]:
    """(sum l)^2 / sum l^2 over the covariance eigenvalues l: 1 for a line, d for an isotropic cloud in R^d."""
    return 1 / (shares**2).sum(-1)


def effective_rank_of(shares: Float[Tensor, "*draws values"]) -> Float[Tensor, "*draws"]:
    """Exp of the entropy of the normalised covariance eigenvalues (Roy and Vetterli 2007); at least the former."""
    return torch.special.entr(shares).sum(-1).exp()


def directions_for(shares: Float[Tensor, " values"], share: float = 0.99) -> int:
    """The fewest principal directions that hold this share of the variance; over channels, delve's saturation.

    Richter et al. 2020, arXiv:2006.08679.
    """
    return int((shares.cumsum(-1) < share * shares.sum(-1)).sum()) + 1


def participation_ratio(points: Float[Tensor, "*draws points channels"]) -> Float[Tensor, "*draws"]:
    """`participation_ratio_of` a cloud of points."""
    return participation_ratio_of(variance_shares(points))


def effective_rank(points: Float[Tensor, "*draws points channels"]) -> Float[Tensor, "*draws"]:
    """`effective_rank_of` a cloud of points."""
    return effective_rank_of(variance_shares(points))
