"""What each decoder should get wrong: closed forms for the pseudo-inverse, the affine and the exact decoder."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lab.core import domain
from manifold_lab.core.errors import InputError
from manifold_lab.theory.counting import information_dimension_loss
from manifold_lab.theory.geometry import arc_cosine_kernel, gaussian_expectation


def gain(function: Callable[[Tensor], Tensor], radius: int | float) -> float:
    """The factor by which pinv(T) f(Tx) shrinks x for many rows: E[f'(rz)] = E[z f(rz)] / r at |x| = r.

    Exactly one half for ReLU, GELU, SiLU and h-swish at every radius.

    Raises:
        InputError: for a radius that is not above zero, or a function that is not finite.
    """
    domain.number("radius", radius, 0, above=True)
    return gaussian_expectation(lambda z: z * function(radius * z)) / radius


def pinv_variance(ambient: int, inputs: int, law: str = "gaussian") -> float | None:
    """V = E|pinv(T) ReLU(Tx) - x/2|^2 / |x|^2 over T; None where no closed form is known, as for m < n.

    Gaussian rows: (1/4) [3/(m+2) + (m+1)(n-1)/((m+2)(m-n-1))], infinite for m <= n + 1.
    Orthonormal columns (Haar): (n+2) / (4(m+2)), finite for every m >= n: with u = Tx/|Tx| uniform on the sphere,
    <u, |u|>^2 has mean 3/(m+2), and the other n - 1 columns take (n-1)/(m-1) of what is left of |u|.

    >>> round(pinv_variance(15, 2), 4), pinv_variance(3, 2), pinv_variance(2, 2, "orthonormal")
    (0.0637, inf, 0.25)

    Raises:
        InputError: for dimensions that are not whole numbers of at least one.
    """
    m, n = domain.whole("ambient", ambient, 1), domain.whole("inputs", inputs, 1)
    if law == "gaussian" and m >= n:
        return (3 / (m + 2) + (m + 1) * (n - 1) / ((m + 2) * (m - n - 1))) / 4 if m > n + 1 else math.inf
    if law == "orthonormal" and m >= n:
        return (n + 2) / (4 * (m + 2))
    return None


def _parts(slopes: tuple[float, float]) -> tuple[float, float]:
    """A function with these left and right slopes is even * |u| + odd * u."""
    if len(slopes) != 2:
        raise InputError(f"slopes: {len(slopes)} numbers are not allowed; they must be the left and the right one")
    left, right = (domain.number("slopes", slope) for slope in slopes)
    return (right + left) / 2, (right - left) / 2


def best_scale(ambient: int, inputs: int, slopes: tuple[float, float], law: str = "gaussian") -> float | None:
    """The one factor a that minimises E|a pinv(T) f(Tx) - x|^2 over T: g / (g^2 + 4 h^2 V); 0 where V is infinite.

    f is the function with these slopes, f(u) = g u + h |u|; for ReLU it is (1/2) / (1/4 + V), between 0 and 2.

    Raises:
        InputError: as `pinv_variance`, and for slopes that are not two finite numbers.
    """
    variance, (odd, even) = pinv_variance(ambient, inputs, law), _parts(slopes)
    if variance is None:
        return None
    if even == 0:
        return 1 / odd if odd else None
    return odd / (odd**2 + 4 * even**2 * variance)


def pinv_error(
    ambient: int, inputs: int, slopes: tuple[float, float], scale: float = 1.0, law: str = "gaussian"
) -> float | None:
    """E|a pinv(T) f(Tx) - x|^2 / |x|^2 over T: (1 - a g)^2 + 4 a^2 h^2 V; infinite where V is.

    For ReLU and a = 1 this is 1/4 + V: it levels off at 1/4 however wide the layer is. With the best scale it is
    4V / (1 + 4V), which is 1 where V is infinite.

    >>> round(pinv_error(15, 2, (0.0, 1.0)), 3)
    0.314

    Raises:
        InputError: as `best_scale`, and for a scale that is not finite.
    """
    domain.number("scale", scale)
    variance, (odd, even) = pinv_variance(ambient, inputs, law), _parts(slopes)
    if variance is None:
        return None
    spread = 0.0 if scale * even == 0 else 4 * scale**2 * even**2 * variance
    return (1 - scale * odd) ** 2 + spread


def exact_decoder_error(ambient: int, inputs: int) -> float:
    """E|x_hat - x|^2 / |x|^2 of least squares on the active rows of ReLU(Tx), for isotropic sign-symmetric rows.

    With c < n active rows x_hat is the projection of x on their span. Flipping signs of rows does not move a span, so
    the span does not know on which side x lies: it is a uniformly random c-dimensional subspace, which holds c/n of
    |x|^2. The mean is E[(n - c)_+] / n, the information-dimension loss of a set that fills R^n.

    Raises:
        InputError: for dimensions that are not whole, a negative `ambient`, or an `inputs` below one.
    """
    domain.whole("inputs", inputs, 1)
    return float(information_dimension_loss(ambient, inputs))


def affine_r2(matrix: Float[Tensor, "draws ambient inputs"]) -> Float[Tensor, " draws"]:
    """R^2 of the best affine decoder of y = ReLU(Tx) for x ~ N(0, I), given T: tr(T' Cov(y)^-1 T) / (4n).

    Cov(x, y) = T'/2, and Cov(y) is the arc-cosine kernel (Cho and Saul 2009) less the product of the means.

    Raises:
        InputError: for numbers that are not finite.
    """
    matrix = domain.unit_scale(domain.tensor("matrix", matrix, "draws ambient inputs"))[0]
    norm = matrix.norm(dim=-1)
    scale = norm[:, :, None] * norm[:, None, :]
    cosine = (matrix @ matrix.mT) / torch.where(scale > 0, scale, 1)
    angle = torch.arccos(cosine.clamp(-1, 1))
    covariance = arc_cosine_kernel(scale, angle) - scale / (2 * math.pi)
    solved = torch.linalg.lstsq(covariance, matrix).solution
    return (matrix * solved).sum((-2, -1)) / (4 * matrix.shape[-1])
