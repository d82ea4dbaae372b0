"""Distances, volumes and stability of x -> f(Tx): infinite width, pullback metric, inverse Lipschitz bounds."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor


def gaussian_expectation(function: Callable[[Tensor], Tensor]) -> float:
    """E f(z) for z ~ N(0, 1), by the trapezoid rule on [-12, 12], to about 1e-8 also where f has kinks."""
    z = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(function(z) * density, z))


def arc_cosine_kernel(norms: Float[Tensor, "*shape"], angle: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """E[ReLU(b.x) ReLU(b.x')] for b ~ N(0, I), from |x||x'| and the angle between them (Cho and Saul 2009)."""
    return norms / (2 * math.pi) * (torch.sin(angle) + (math.pi - angle) * torch.cos(angle))


def infinite_width_distance(
    x: Float[Tensor, "points inputs"], other: Float[Tensor, "points inputs"]
) -> Float[Tensor, " points"]:
    """Limit of sqrt(2/m) |ReLU(Tx) - ReLU(Tx')| for m to infinity, Gaussian rows.

    It lies between |x - x'| / sqrt(2) (opposite points) and |x - x'| (the same direction): in the limit ReLU is an
    embedding with bi-Lipschitz distortion sqrt(2).
    """
    r, s = x.norm(dim=-1), other.norm(dim=-1)
    u, v = x / r[:, None], other / s[:, None]
    angle = 2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1))  # exact also near 0 and pi, unlike arccos
    squared = r**2 + s**2 - 4 * arc_cosine_kernel(r * s, angle)
    return squared.clamp_min(0).sqrt()


def expected_log_volume(inputs: int, active: int) -> float:
    """E log sqrt det(B_A' B_A) for `active` = c Gaussian rows in R^n: the log of how ReLU scales volume there.

    The determinant is a product of independent chi-squared variables with c, c - 1, ..., c - n + 1 degrees of freedom;
    minus infinity where c < n.

    >>> round(expected_log_volume(8, 24), 3)
    11.856
    """
    if active < inputs:
        return -math.inf
    return 0.5 * sum(float(special.digamma((active - j) / 2)) + math.log(2) for j in range(inputs))


def pullback_coefficients(function: Callable[[Tensor], Tensor], radius: float) -> tuple[float, float]:
    """How f(Tx) / sqrt(m) stretches lengths at |x| = r, across and along x: a = E f'(rz)^2 and b = E z^2 f'(rz)^2.

    The pullback metric of a wide Gaussian layer is a I + (b - a) xx'/r^2. ReLU: a = b = 1/2. b << a (ReLU6 or tanh at
    large r) says that the radius is lost first.
    """

    def squared_slope(z: Tensor) -> Tensor:
        with torch.enable_grad():
            u = (radius * z).requires_grad_()
            (slope,) = torch.autograd.grad(function(u).sum(), u)
        return slope**2

    return gaussian_expectation(squared_slope), gaussian_expectation(lambda z: z**2 * squared_slope(z))


def smallest_cell_singular_value(matrix: Float[Tensor, "draws ambient 2"]) -> Float[Tensor, " draws"]:
    """S = min over all cones of the plane of the smallest singular value of the active rows; 0 if not injective."""
    angle = torch.atan2(matrix[..., 1], matrix[..., 0])
    edges = torch.cat([angle - math.pi / 2, angle + math.pi / 2], dim=1)
    edges = torch.sort(torch.remainder(edges, 2 * math.pi), dim=1).values
    gap = torch.diff(edges, dim=1, append=edges[:, :1] + 2 * math.pi)
    middle = edges + gap / 2
    direction = torch.stack([torch.cos(middle), torch.sin(middle)], dim=-1)
    active = (direction @ matrix.mT > 0).to(matrix.dtype)
    rows = active[..., None] * matrix[:, None]
    smallest = torch.linalg.svdvals(rows)[..., -1] if matrix.shape[1] >= 2 else torch.zeros_like(gap)
    return smallest.amin(-1)


def inverse_stability_bounds(smallest: float) -> tuple[float, float]:
    """Bounds s/sqrt(2) <= L <= s on L = inf |ReLU(Tx) - ReLU(Tx')| / |x - x'|, s the smallest cell singular value.

    Lower bound: along a segment each row switches at most once, so its squared difference is at least what the weight
    2 min(t, 1 - t) of mass one half collects on its active part. Both ends are reached.
    """
    return smallest / math.sqrt(2), smallest
