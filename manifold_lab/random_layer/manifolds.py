"""Point sets on curves, surfaces and blobs whose intrinsic dimension is known."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lab import theory
from manifold_lab.core.errors import at_least
from manifold_lab.core.shown import Shown
from manifold_lab.random_layer.specs import ManifoldSpec, dimensions


@dataclass(frozen=True, repr=False)
class Points(Shown):
    """A sample of a manifold: `x` on it, `position` in [0, 1] along it (what colour shows), its true dimension."""

    x: Float[Tensor, "points inputs"]
    position: Float[Tensor, " points"]
    intrinsic: int

    @cached_property
    def inactive_pairs(self) -> Float[Tensor, " pairs"] | None:
        """Of every pair, the chance that one isotropic row is inactive at both; None for too many points."""
        return theory.inactive_pairs(self.x)


Sampler = Callable[[ManifoldSpec, int, int, torch.Generator], tuple[Tensor, Tensor]]


def _midpoints(count: int) -> Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, dtype=torch.float64)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _spiral(spec: ManifoldSpec, count: int, _inputs: int, _generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Archimedean, r = radius * angle / last angle, at equal steps of arc length, so that a share is a volume."""
    last = 2 * math.pi * spec.turns

    def arc(angle: Tensor) -> Tensor:
        return (angle * torch.sqrt(1 + angle**2) + torch.asinh(angle)) / 2

    position = _midpoints(count)
    target = position * arc(torch.tensor(last, dtype=torch.float64))
    angle = torch.sqrt(2 * target)
    for _ in range(30):  # Newton on a convex function, from above: converges monotonically
        angle = angle - (arc(angle) - target) / torch.sqrt(1 + angle**2)
    return _polar(spec.radius * angle / last, angle), position


def _circle(spec: ManifoldSpec, count: int, _inputs: int, _generator: torch.Generator) -> tuple[Tensor, Tensor]:
    position = _midpoints(count)
    return _polar(torch.full_like(position, spec.radius), 2 * math.pi * position), position


def _polar(r: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([r * torch.cos(angle), r * torch.sin(angle)], dim=-1)


def _line(spec: ManifoldSpec, count: int, inputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A straight segment that misses the origin by half its half-length."""
    frame = torch.linalg.qr(_normal((inputs, 2), generator)).Q
    position = _midpoints(count)
    half = spec.radius * 2 / math.sqrt(5)
    return half * ((2 * position - 1)[:, None] * frame[:, 0] + 0.5 * frame[:, 1]), position


def _trigonometric(spec: ManifoldSpec, count: int, inputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A closed random curve: `inputs` harmonics with amplitudes that fall as 1 / frequency."""
    position = _midpoints(count)
    frequency = torch.arange(1, inputs + 1, dtype=torch.float64)
    phase = 2 * math.pi * position[:, None] * frequency
    waves = torch.cat([torch.cos(phase) / frequency, torch.sin(phase) / frequency], dim=1)
    x = waves @ _normal((2 * inputs, inputs), generator)
    return spec.radius * x / x.norm(dim=1).max(), position


def _swiss_roll(spec: ManifoldSpec, count: int, _inputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The usual roll: angle 1.5 pi to 4.5 pi, height 21, scaled so that the farthest point is at `radius`."""
    position = _uniform(count, generator)
    angle = 1.5 * math.pi * (1 + 2 * position)
    height = 21 * (_uniform(count, generator) - 0.5)
    x = torch.stack([angle * torch.cos(angle), height, angle * torch.sin(angle)], dim=1)
    return spec.radius * x / math.hypot(4.5 * math.pi, 10.5), position


def _sphere(spec: ManifoldSpec, count: int, inputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    direction = torch.nn.functional.normalize(_normal((count, inputs), generator), dim=1)
    return spec.radius * direction, (direction[:, 0] + 1) / 2


def _torus(spec: ManifoldSpec, count: int, _inputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tube radius one half of the ring radius, uniform in area (the angle around the tube by bisection)."""
    around = _uniform(count, generator)
    share = _uniform(count, generator)
    low, high = torch.zeros_like(share), torch.full_like(share, 2 * math.pi)
    for _ in range(60):
        middle = (low + high) / 2
        below = (middle + 0.5 * torch.sin(middle)) / (2 * math.pi) < share
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    ring = 1 + 0.5 * torch.cos(low)
    x = torch.cat([_polar(ring, 2 * math.pi * around), 0.5 * torch.sin(low)[:, None]], dim=1)
    return spec.radius * x / 1.5, around


def _blob(spec: ManifoldSpec, count: int, inputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Gaussian with standard deviation `radius`: fills R^n, so its intrinsic dimension is n."""
    x = _normal((count, inputs), generator)
    return spec.radius * x, torch.special.ndtr(x[:, 0])


SAMPLERS: dict[str, Sampler] = {
    "spiral": _spiral,
    "circle": _circle,
    "line": _line,
    "trigonometric": _trigonometric,
    "swiss_roll": _swiss_roll,
    "sphere": _sphere,
    "torus": _torus,
    "blob": _blob,
}
"""For each of `specs.MANIFOLDS`, its points and their positions from (spec, points, inputs, generator)."""


def sample(spec: ManifoldSpec, points: int, generator: torch.Generator) -> Points:
    """Draw `points` points of a manifold, in float64 on the CPU.

    Curves are laid out at equal steps, and only their shape is random; points of surfaces are uniform in area, those of
    blobs Gaussian.

    Raises:
        InputError: if `points` is below 2.
    """
    at_least("points", points, 2)
    inputs, intrinsic = dimensions(spec)
    x, position = SAMPLERS[spec.name](spec, points, inputs, generator)
    return Points(x, position, intrinsic)
