"""What a trained network's bottlenecks keep of what reaches them: measured on images that it was not trained on."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from manifold_lab.core.hooks import attached
from manifold_lab.metrics.linear import held_out_r2, second_moments
from manifold_lab.models.interventions import ChannelNoise
from manifold_lab.models.mobilenet import Activate, Network


@dataclass(frozen=True)
class BottleneckReading:
    """One bottleneck, measured; None is missing, never 0.

    `linear_r2`: R² of the best affine map from what leaves the bottleneck's activation (and intervention) back to what
    reaches it, pooled over channels and positions, fitted on other images. `one_preimage`: share of positions none of
    whose channels shares its output with another input. `active`: the same share over channels and positions. Both are
    None where noise is added, which no preimage survives.
    """

    block: int
    linear_r2: float | None
    one_preimage: float | None
    active: float | None


@torch.no_grad()
def read_bottlenecks(network: Network, fit: Iterable[Tensor], test: Iterable[Tensor]) -> list[BottleneckReading]:
    """Every bottleneck of a network in evaluation mode.

    Args:
        network: a trained one.
        fit: batches of images, normalised, on which the affine maps are fitted.
        test: batches of other images, on which everything is measured.
    """
    counts = [_Counts(block.bottleneck) for block in network.blocks]
    network.eval()
    for split, batches in (("fit", fit), ("test", test)):
        with attached(_hooks(counts, split)):
            for x in batches:
                network(x)
    return [one.reading(place) for place, one in enumerate(counts)]


class _Counts:
    """Sums over the positions that one bottleneck has met."""

    def __init__(self, site: nn.Module):
        self.site = site
        parts = list(site.modules())
        self.activate = next(part for part in parts if isinstance(part, Activate))
        self.noisy = any(isinstance(part, ChannelNoise) for part in parts)
        self.moments: dict[str, Tensor] = {}
        self.channels, self.positions, self.unique, self.active = 0, 0, 0, 0

    def meet(self, split: str, u: Tensor, y: Tensor) -> None:
        """One batch, from before to behind the bottleneck's activation and interventions."""
        self.channels = u.shape[1]
        rows = [part.movedim(1, -1).flatten(0, -2) for part in (y, u)]
        made = second_moments(rows[0], rows[1])
        self.moments[split] = self.moments.get(split, 0) + made

    def count(self, y: Tensor) -> None:
        """One batch of the activation's own outputs."""
        active = self.activate.activation.is_active(y)
        self.positions += active.numel() // active.shape[1]
        self.unique += int(active.all(1).sum())
        self.active += int(active.sum())

    def reading(self, block: int) -> BottleneckReading:
        """What was found."""
        r2 = held_out_r2(self.moments["fit"], self.moments["test"], self.channels)
        shares = (self.unique / self.positions, self.active / self.positions / self.channels)
        unique, active = (None, None) if self.noisy else shares
        return BottleneckReading(block, r2 if math.isfinite(r2) else None, unique, active)


def _hooks(counts: list[_Counts], split: str) -> Iterator[RemovableHandle]:
    for one in counts:
        yield one.site.register_forward_hook(lambda _, inputs, y, one=one: one.meet(split, inputs[0], y))
        if split == "test":
            yield one.activate.register_forward_hook(lambda _, __, y, one=one: one.count(y))
