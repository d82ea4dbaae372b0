"""What one layer has left behind after any number of forward passes."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from manifold_lab.core.errors import at_least
from manifold_lab.core.random_streams import stream
from manifold_lab.probe.accumulators import ActiveCounts, Covariance, Reservoir, Still, distinct
from manifold_lab.probe.layer_types import BOTTLENECK, NORM, Window, channels_at, kinds, narrows, window
from manifold_lab.probe.tracing import Chain

COUNTS, COVARIANCE, SAMPLE, PICTURES, PRODUCTS = NEEDS = ("counts", "covariance", "sample", "pictures", "products")
"""What measures are made of."""
LayerRow = dict[str, float | int | str | None]
"""A line of a table of layers."""


@dataclass(frozen=True)
class Sampling:
    """How much is kept of a layer for the measures that need points, and by which chance.

    `positions`: of all pictures together, the channels of each and of its input. `pictures`: whole maps, of each at
    most `coordinates` numbers, the same ones of every picture, drawn once.
    """

    positions: int = 2000
    pictures: int = 1000
    coordinates: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be kept."""
        for name in ("positions", "pictures", "coordinates"):
            at_least(name, getattr(self, name), 1)


@dataclass
class LayerRecord:
    """One site: what it is, what stands before it, and its accumulators as far as `needs` asks for them."""

    name: str
    module: nn.Module
    needs: frozenset[str]
    sampling: Sampling
    chain: Chain = field(default_factory=Chain)
    calls: int = 0
    batches: list[int] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    counts: ActiveCounts | None = None
    still: Still = field(default_factory=Still)
    covariance: Covariance = field(default_factory=Covariance)
    products: Float[Tensor, "points points"] | None = None
    shape: tuple[int, ...] = ()
    coordinates: Int64[Tensor, " coordinates"] | None = None
    whole: tuple[int, ...] = ()
    pending: tuple[int, Tensor, Tensor, tuple[Tensor, Tensor]] | None = None
    """Of the input's positions: how many, which were taken, by which keys, and of each its row and its image."""

    def __post_init__(self) -> None:
        """Streams of chance of its own, so that no other layer moves its sample."""
        seed, room = self.sampling.seed, self.sampling
        self.sample = Reservoir(room.positions, stream(seed, "positions", self.name))
        self.pictures = Reservoir(room.pictures, stream(seed, "pictures", self.name))
        self.paired = True

        self.window: Window | None = window(self.module)
        tells = not kinds(self.module) or isinstance(self.module, nn.Linear | nn.LayerNorm)
        self.operator = self.module if tells else self.chain.operator
        """What tells where the channels of its output are."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it is."""
        found = kinds(self.module)
        narrow = NORM in found and self.chain.operator is not None and narrows(self.chain.operator)
        return (*found, BOTTLENECK) if narrow else found

    def before(self, u: Tensor | None, fed: Tensor | None) -> None:
        """Take what is needed of the input `u` before it can be overwritten; `fed` is the operator's own input."""
        self.pending = None
        if u is None or u.numel() == 0:
            return
        axis = channels_at(u, self.chain.operator)
        if COUNTS in self.needs and self.window is not None:
            self.still.add(u, axis)
        if SAMPLE in self.needs and self.paired:
            own = self.chain.operator is not None and fed is not None
            x = self._strided(fed) if own else u  # type: ignore[arg-type]
            of = channels_at(x, self.chain.operator if own else None)
            positions = x.numel() // x.shape[of]
            taken, keys = self.sample.propose(positions)
            images = sum(self.batches) + (taken * len(x)).div(positions, rounding_mode="floor")
            self.pending = (positions, taken, keys, (gather(x, of, taken), images.to(x.device)))

    def _strided(self, fed: Tensor) -> Tensor:
        """Of an operator's input, the positions that it looks at."""
        for axis, step in enumerate(getattr(self.chain.operator, "stride", ()), start=2):
            fed = fed[(slice(None),) * axis + (slice(None, None, step),)]
        return fed

    def after(self, y: Tensor | None) -> None:
        """Take one batch of outputs in."""
        if y is None or not y.is_floating_point() or y.numel() == 0:
            self.note("gives no numbers")
            return
        self.calls += 1
        self.batches.append(len(y))
        axis = channels_at(y, self.operator)
        self._see(y, axis)
        takers: dict[str, Callable[[Tensor, int], None]] = {
            COUNTS: self._count, COVARIANCE: self.covariance.add, SAMPLE: self._sample, PICTURES: self._picture,
            PRODUCTS: self._products,
        }  # fmt: skip
        for need in NEEDS:
            if need in self.needs:
                takers[need](y, axis)

    def _see(self, y: Tensor, axis: int) -> None:
        shape = (y.shape[axis], *(size for place, size in enumerate(y.shape) if place not in (0, axis)))
        if self.shape and shape != self.shape:
            self.note("pictures of different sizes")
        self.shape = self.shape or shape

    def note(self, words: str) -> None:
        """Remember something that the table should say of this layer."""
        self.notes[words] = None

    def _count(self, y: Tensor, axis: int) -> None:
        if self.window is None:
            return
        if self.counts is None:
            self.counts = ActiveCounts.empty(self.window, y.shape[axis], y.device)
        self.counts.add(y, axis)

    def _sample(self, y: Tensor, axis: int) -> None:
        positions, found = y.numel() // y.shape[axis], self.pending
        self.pending = None
        if found is not None and found[0] == positions:
            _, taken, keys, of_input = found
            self.sample.accept(keys, (gather(y, axis, taken), *of_input))
            return
        if self.paired:  # outputs have other positions than inputs have: there are no pairs
            self.paired, self.sample.parts = False, self.sample.parts[:1]
            self.sample.seen -= 0 if found is None else found[0]
        taken, keys = self.sample.propose(positions)
        self.sample.accept(keys, (gather(y, axis, taken),))

    def _picture(self, y: Tensor, _axis: int) -> None:
        size = y[0].numel()
        if self.coordinates is None:
            rng = stream(self.sampling.seed, "coordinates", self.name)
            wanted = min(size, self.sampling.coordinates)
            self.coordinates = torch.arange(size) if wanted == size else distinct(size, wanted, rng).sort().values
            self.whole = tuple(y.shape[1:])
        if tuple(y.shape[1:]) != self.whole:
            return
        taken, keys = self.pictures.propose(len(y))
        places = [place.to(y.device) for place in torch.unravel_index(self.coordinates, self.whole)]
        self.pictures.accept(keys, (y[(taken.to(y.device)[:, None], *places)],))

    def _products(self, y: Tensor, _axis: int) -> None:
        """Products of the whole maps of a batch with each other, around their mean; of one batch only."""
        if self.calls > 1:
            self.note("information is that of the first batch")
            return
        flat = y.flatten(1)
        self.products = torch.zeros((len(y), len(y)), dtype=torch.float64, device=y.device)
        for part in flat.split(1 << 16, dim=1):
            centred = part.double() - part.double().mean(0)
            self.products += centred @ centred.t()


def gather(x: Tensor, axis: int, taken: Tensor) -> Float[Tensor, "taken channels"]:
    """The rows of these positions, copied, without laying the whole tensor out anew."""
    last = x.movedim(axis, -1)
    places = torch.unravel_index(taken.to(x.device), last.shape[:-1])
    return last[places].detach().clone()
