"""Distances, volumes and stability of x -> f(Tx): infinite width, pullback metric, inverse Lipschitz bounds."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from manifold_lab.core import domain
from manifold_lab.core.errors import InputError


def gaussian_expectation(function: Callable[[Tensor], Tensor]) -> float:
    """E f(z) for z ~ N(0, 1), by the trapezoid rule on [-12, 12], to about 1e-8 also where f has kinks.

    Raises:
        InputError: where f is not finite.
    """
    z = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    found = float(torch.trapezoid(function(z).detach() * density, z))
    if not math.isfinite(found):
        raise InputError("function: it must be finite on [-12, 12], in the units that it is asked for")
    return found


def arc_cosine_kernel(norms: Float[Tensor, "*shape"], angle: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """E[ReLU(b.x) ReLU(b.x')] for b ~ N(0, I), from |x||x'| and the angle between them (Cho and Saul 2009).

    Raises:
        InputError: for a negative |x||x'|, an angle outside of [0, pi], or numbers that are not finite.
    """
    norms, angle = domain.tensor("norms", norms, "*"), domain.tensor("angle", angle, "*")
    if bool((norms < 0).any()) or bool(((angle < 0) | (angle > math.pi + domain.ROUNDING)).any()):
        raise InputError("norms, angle: products of norms must be at least 0 and angles from 0 to pi")
    return norms / (2 * math.pi) * (torch.sin(angle) + (math.pi - angle) * torch.cos(angle))


def infinite_width_distance(
    x: Float[Tensor, "points inputs"], other: Float[Tensor, "points inputs"]
) -> Float[Tensor, " points"]:
    """Limit of sqrt(2/m) |ReLU(Tx) - ReLU(Tx')| for m to infinity, Gaussian rows.

    It lies between |x - x'| / sqrt(2) (opposite points) and |x - x'| (the same direction): in the limit ReLU is an
    embedding with bi-Lipschitz distortion sqrt(2).

    Raises:
        InputError: for numbers that are not finite, or points that do not fit together.
    """
    x, other = domain.tensor("x", x, "points inputs"), domain.tensor("other", other, "points inputs")
    if x.shape != other.shape:
        raise InputError(f"other: shape {tuple(other.shape)} does not fit x, which has {tuple(x.shape)}")
    both, exponent = domain.unit_scale(torch.stack([x, other]))
    x, other = both
    r, s = x.norm(dim=-1), other.norm(dim=-1)
    u, v = (part / torch.where(norm > 0, norm, 1)[:, None] for part, norm in ((x, r), (other, s)))
    angle = 2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1))  # exact also near 0 and pi, unlike arccos
    squared = r**2 + s**2 - 4 * arc_cosine_kernel(r * s, angle)
    return torch.ldexp(squared.clamp_min(0).sqrt(), torch.tensor(exponent))


def expected_log_volume(inputs: int, active: int) -> float:
    """E log sqrt det(B_A' B_A) for `active` = c Gaussian rows in R^n: the log of how ReLU scales volume there.

    The determinant is a product of independent chi-squared variables with c, c - 1, ..., c - n + 1 degrees of freedom;
    minus infinity where c < n.

    >>> round(expected_log_volume(8, 24), 3)
    11.856

    Raises:
        InputError: for an `inputs` below one, a negative `active`, or numbers that are not whole.
    """
    domain.whole("inputs", inputs, 1)
    domain.whole("active", active, 0)
    if active < inputs:
        return -math.inf
    return 0.5 * sum(float(special.digamma((active - j) / 2)) + math.log(2) for j in range(inputs))


def pullback_coefficients(function: Callable[[Tensor], Tensor], radius: int | float) -> tuple[float, float]:
    """How f(Tx) / sqrt(m) stretches lengths at |x| = r, across and along x: a = E f'(rz)^2 and b = E z^2 f'(rz)^2.

    The pullback metric of a wide Gaussian layer is a I + (b - a) xx'/r^2. ReLU: a = b = 1/2. b << a (ReLU6 or tanh at
    large r) says that the radius is lost first.

    Raises:
        InputError: for a radius that is not above zero, or a function that is not finite.
    """
    domain.number("radius", radius, 0, above=True)

    def squared_slope(z: Tensor) -> Tensor:
        with torch.enable_grad():
            u = (radius * z).requires_grad_()
            (slope,) = torch.autograd.grad(function(u).sum(), u)
        return slope**2

    return gaussian_expectation(squared_slope), gaussian_expectation(lambda z: z**2 * squared_slope(z))


def smallest_cell_singular_value(matrix: Float[Tensor, "draws ambient 2"]) -> Float[Tensor, " draws"]:
    """S = min over all cones of the plane of the smallest singular value of the active rows; 0 if not injective.

    Raises:
        InputError: for numbers that are not finite, or anything but two inputs.
    """
    matrix = domain.tensor("matrix", matrix, "draws ambient inputs:2")
    if matrix.shape[-1] != 2:
        raise InputError(f"matrix: {matrix.shape[-1]} inputs are not allowed; cones of the plane need 2")
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


def inverse_stability_bounds(smallest: int | float) -> tuple[float, float]:
    """Bounds s/sqrt(2) <= L <= s on L = inf |ReLU(Tx) - ReLU(Tx')| / |x - x'|, s the smallest cell singular value.

    Lower bound: along a segment each row switches at most once, so its squared difference is at least what the weight
    2 min(t, 1 - t) of mass one half collects on its active part. Both ends are reached.

    Raises:
        InputError: for a singular value that is negative or not finite.
    """
    domain.number("smallest", smallest, 0)
    return smallest / math.sqrt(2), smallest
