"""How much of a standard normal channel stays linearly readable behind an activation with two slopes, or behind noise.

R² is that of the best affine map from the output back to the input: what the next 1x1 convolution can see of it.
"""

import math

from manifold_lab.core import domain


def channel_r2(slope: int | float) -> float:
    """R² of the best affine map from f(z) back to z ~ N(0, 1), for f of slope 1 on the right and `slope` on the left.

    ((1 + a)/2)² / ((1 + a²)/2 - (1 - a)²/(2 pi)): the covariance of z and f(z) is (1 + a)/2, and the denominator is the
    variance of f(z). ReLU is a = 0, |z| is a = -1.

    >>> [round(channel_r2(slope), 4) for slope in (1, 0.5, 0.1, 0, -1)]
    [1.0, 0.9612, 0.8043, 0.7335, 0.0]

    Raises:
        InputError: for a slope that is not finite.
    """
    domain.number("slope", slope)
    scale = max(1.0, abs(slope))  # R² does not depend on it, and squares of large slopes overflow
    right, left = 1 / scale, slope / scale
    variance = (right**2 + left**2) / 2 - (right - left) ** 2 / (2 * math.pi)
    return ((right + left) / 2) ** 2 / variance


def noise_for(r2: int | float) -> float:
    """Variance of the independent noise, over the channel's own, that leaves the same R²: (1 - R²)/R².

    >>> round(noise_for(channel_r2(0)), 4)
    0.3634

    Raises:
        InputError: outside of (0, 1].
    """
    domain.number("r2", r2, 0, 1, above=True)
    return (1 - r2) / r2
