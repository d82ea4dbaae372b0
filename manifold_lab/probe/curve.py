"""A curve of inputs through the real network: the spiral drawn in pixel space, or into what some layer gives."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lab.core.errors import InputError, above, at_least
from manifold_lab.core.hooks import attached
from manifold_lab.core.random_streams import stream
from manifold_lab.probe.hooks import Probe
from manifold_lab.probe.layer import Sampling
from manifold_lab.probe.layer_types import first_tensor
from manifold_lab.probe.measures import LayerRow
from manifold_lab.probe.names import CURVE_POINTS, NONLINEARITY, PIXEL_SPACE
from manifold_lab.random_layer.manifolds import ManifoldSpec, sample


@dataclass(frozen=True)
class Curve:
    """A manifold of `points` points in a random plane around an image, of radius `radius` times the image's norm.

    `space`: pixel, or the name of a layer, into whose output it is drawn instead (radius times that output's norm).
    """

    manifold: ManifoldSpec = ManifoldSpec()  # noqa: RUF009  (frozen)
    points: int = CURVE_POINTS
    radius: float = 0.5
    space: str = PIXEL_SPACE
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        at_least("points", self.points, 2)
        above("radius", self.radius, 0)

    def around(self, x: Tensor) -> Tensor:
        """The curve around one image or map `x` (without a batch dimension): one copy per point."""
        rng = stream(self.seed, "plane", self.space)
        flat = torch.randn((x.numel(), self.drawn.shape[1]), generator=rng, dtype=torch.float64)
        plane = torch.linalg.qr(flat).Q
        offsets = (self.radius * x.double().norm().cpu() * self.drawn @ plane.mT).reshape(-1, *x.shape)
        layout = torch.channels_last if x.dim() == 3 else torch.preserve_format
        return (x + offsets.to(x)).contiguous(memory_format=layout)

    @property
    def drawn(self) -> Float[Tensor, "points inputs"]:
        """The points of the manifold, farthest at 1."""
        x = sample(self.manifold, self.points, stream(self.seed, "curve")).x
        return x / x.norm(dim=1).max()


def information_along(
    model: nn.Module,
    image: Float[Tensor, "channels height width"],
    curve: Curve,
    layers: str | Sequence[str] = NONLINEARITY,
) -> list[LayerRow]:
    """The table of `information` (see `measures.information`) at every layer that comes at or after the curve.

    Layers before the one into which a curve is drawn see one image only, and have nothing to say. All points go
    through the network at once.

    Raises:
        InputError: for a layer that does not exist.
    """
    with drawn_into(model, curve), Probe(model, layers, ("information",), Sampling(seed=curve.seed)) as probe:
        model(curve.around(image) if curve.space == PIXEL_SPACE else image.expand(curve.points, *image.shape))
    return probe.table()


def drawn_into(model: nn.Module, curve: Curve) -> AbstractContextManager[None]:
    """Within the context the layer named by the curve's space gives the curve around what it gives for one image."""
    if curve.space == PIXEL_SPACE:
        return nullcontext()
    found = dict(model.named_modules())
    if curve.space not in found:
        raise InputError(f"space: the model has no layer {curve.space!r}; allowed: pixel, or a layer's name")

    def replace(_module: nn.Module, _inputs: object, output: object) -> object:
        y = first_tensor(output)
        assert y is not None
        curved = curve.around(y[0])
        return (curved, *output[1:]) if isinstance(output, tuple) else curved

    return attached(module.register_forward_hook(replace) for module in (found[curve.space],))
