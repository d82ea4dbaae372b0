"""Linear spread of a cloud of points, from the eigenvalues of its covariance.

All rise when a curve is bent into more directions: they measure the embedding's curvature, not information.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lab.core import domain
from manifold_lab.core.errors import InputError

SUMS_TO_ONE = 1e-4
"""Rounding of float32 over thousands of shares."""


def variance_shares(points: Float[Tensor, "*draws points channels"]) -> Float[Tensor, "*draws values"]:
    """Each principal direction's share of the variance, the largest first; nan where nothing varies.

    Raises:
        InputError: for numbers that are not finite, or fewer than two points.
    """
    points = domain.unit_scale(domain.tensor("points", points, "* points:2 channels").double())[0]
    varies = (points != points[..., :1, :]).any(-2, keepdim=True)  # the mean of equal numbers may be another one
    centred = torch.where(varies, points - points.mean(-2, keepdim=True), 0)
    variance = torch.linalg.svdvals(domain.unit_scale(centred)[0]) ** 2
    return variance / variance.sum(-1, keepdim=True)


def covariance_shares(covariance: Float[Tensor, "channels channels"]) -> Float[Tensor, " values"]:
    """The same from a covariance, whose negative eigenvalues count as rounding of zero; nan where nothing varies.

    Raises:
        InputError: for a matrix that is not finite, square and symmetric.
    """
    covariance = domain.unit_scale(domain.tensor("covariance", covariance, "channels channels").double())[0]
    if covariance.shape[0] != covariance.shape[1] or not torch.allclose(covariance, covariance.T, atol=1e-6):
        raise InputError(f"covariance: a matrix of {tuple(covariance.shape)} that is not symmetric is none")
    variance = torch.linalg.eigvalsh(covariance).flip(-1).clamp_min(0)
    return variance / variance.sum(-1, keepdim=True)


def participation_ratio_of(shares: Float[Tensor, "*draws values"]) -> Float[Tensor, "*draws"]:
    """(sum l)^2 / sum l^2 over the covariance eigenvalues l: 1 for a line, d for an isotropic cloud in R^d.

    Raises:
        InputError: for shares that are negative or do not sum to one; those of a cloud that does not vary are nan, and
            so is the ratio.
    """
    return 1 / (_checked(shares) ** 2).sum(-1)


def _checked(shares: Float[Tensor, "*draws values"]) -> Float[Tensor, "*draws values"]:
    """Shares that are nan together or sum to one."""
    shares = domain.tensor("shares", shares, "* values", finite=False)
    right = (shares >= 0).all(-1) & ((shares.sum(-1) - 1).abs() < SUMS_TO_ONE)
    if not bool((right | shares.isnan().all(-1)).all()):
        raise InputError("shares: they must be at least 0 and sum to 1")
    return shares


def effective_rank_of(shares: Float[Tensor, "*draws values"]) -> Float[Tensor, "*draws"]:
    """Exp of the entropy of the normalised covariance eigenvalues (Roy and Vetterli 2007); at least the former.

    Raises:
        InputError: as `participation_ratio_of`.
    """
    return torch.special.entr(_checked(shares)).sum(-1).exp()


def directions_for(shares: Float[Tensor, " values"], share: int | float = 0.99) -> int:
    """The fewest principal directions that hold this share of the variance; over channels, delve's saturation.

    Richter et al. 2020, arXiv:2006.08679.

    Raises:
        InputError: for shares that are nan, negative or do not sum to one, or a `share` outside of (0, 1].
    """
    shares = domain.tensor("shares", _checked(shares), "values").detach()
    domain.number("share", share, 0, 1, above=True)
    return int((shares.cumsum(-1) < share * shares.sum(-1)).sum()) + 1


def participation_ratio(points: Float[Tensor, "*draws points channels"]) -> Float[Tensor, "*draws"]:
    """`participation_ratio_of` a cloud of points; as `variance_shares` for what is none."""
    return participation_ratio_of(variance_shares(points))


def effective_rank(points: Float[Tensor, "*draws points channels"]) -> Float[Tensor, "*draws"]:
    """`effective_rank_of` a cloud of points; as `variance_shares` for what is none."""
    return effective_rank_of(variance_shares(points))
