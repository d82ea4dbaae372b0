"""What one layer has left behind after any number of forward passes."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from manifold_lab.activations import Activation
from manifold_lab.core.errors import at_least
from manifold_lab.core.random_streams import stream
from manifold_lab.probe.accumulators import ActiveCounts, Covariance, Reservoir, Still, distinct
from manifold_lab.probe.activation_types import Found, of_module
from manifold_lab.probe.axis_rules import Axes
from manifold_lab.probe.layer_types import Window, input_axis, kinds, narrows
from manifold_lab.probe.names import BOTTLENECK, NONLINEARITY, NORM, PER_IMAGE, POSITIONS
from manifold_lab.probe.tracing import Chain

COUNTS, COVARIANCE, SAMPLE, PICTURES, PRODUCTS = NEEDS = ("counts", "covariance", "sample", "pictures", "products")
"""What measures are made of."""
LayerRow = dict[str, float | int | str | None]
"""A line of a table of layers."""

CHANGED_INSIDE = ("batches", "notes", "counts", "still", "covariance", "sample", "images")
"""Fields of a record that are changed in place, one level deep."""
UNKNOWN = "where its channels are is not known"
NO_CHANNELS = "it acts on no channels: on parameters, or behind a sum over all channels"


@dataclass(frozen=True)
class Sampling:
    """How much is kept of a layer for the measures that need points, and by which chance.

    `positions`: of all images together, the channels of each and of its input. `pictures` (the name that stored runs
    have): whole maps of images, of each at most `coordinates` numbers, the same ones of every image, drawn once.
    `per_image`: of each image, for the covariance, drawn once for all images of a size; 0 for all positions.
    """

    positions: int = POSITIONS
    pictures: int = 1000
    coordinates: int = 2048
    seed: int = 0
    per_image: int = PER_IMAGE

    def __post_init__(self) -> None:
        """Refuse what cannot be kept."""
        for name in ("positions", "pictures", "coordinates"):
            at_least(name, getattr(self, name), 1)
        at_least("per_image", self.per_image, 0)


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

    activation: Found | None = None
    """What it applies, or why that is not counted; found from the module where it is not given."""
    kind: str = ""
    """What the table calls it: the class of its module, or the function."""
    unplaced: bool = False
    """Whether at some call it was not known where the channels are."""

    part: bool = False
    """Whether it is no activation by itself: its output is multiplied with another function of its input."""

    def __post_init__(self) -> None:
        """Make random generators of its own, so that no other layer moves its sample."""
        seed, room = self.sampling.seed, self.sampling
        self.sample = Reservoir(room.positions, stream(seed, "positions", self.name))
        self.images = Reservoir(room.pictures, stream(seed, "pictures", self.name))
        self.paired = True
        self.kind = self.kind or type(self.module).__name__
        self.activation = of_module(self.module) if self.activation is None else self.activation

    @property
    def window(self) -> Window | None:
        """Which of its outputs are active; None where it is no activation, or none that is counted."""
        return self.activation.outputs if isinstance(self.activation, Activation) else None

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it is."""
        found = kinds(self.module)
        if self.activation is not None and NONLINEARITY not in found:
            found = (NONLINEARITY, *found)
        narrow = NORM in found and self.chain.operator is not None and narrows(self.chain.operator)
        return (*found, BOTTLENECK) if narrow else found

    def state(self) -> dict[str, Any]:
        """All that a forward pass changes, as it is now; what accumulators hold is replaced and never overwritten."""
        held = {name: copy.copy(value) if name in CHANGED_INSIDE else value for name, value in vars(self).items()}
        return held | {"generators": [reservoir.rng.get_state() for reservoir in (self.sample, self.images)]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        generators = state.pop("generators")
        vars(self).update(state)
        for reservoir, generator in zip((self.sample, self.images), generators, strict=True):
            reservoir.rng.set_state(generator)

    def before(self, u: Tensor | None, axes: Axes | None, fed: Tensor | None) -> None:
        """Take what is needed of the input `u` before it can be overwritten; `fed` is the operator's own input."""
        self.pending = None
        if u is None or u.numel() == 0 or not u.is_floating_point():
            return
        if COUNTS in self.needs and self.window is not None and axes:
            self.still.add(*placed(u, axes))
        if SAMPLE in self.needs and self.paired:
            operator = self.chain.operator if fed is not None else None
            if operator is not None:
                x = self._strided(fed)  # type: ignore[arg-type]
                axis = input_axis(operator, x)
            elif axes:
                x, axis = placed(u, axes)
            else:
                return
            positions = x.numel() // x.shape[axis]
            taken, keys = self.sample.propose(positions)
            images = sum(self.batches) + (taken * len(x)).div(positions, rounding_mode="floor")
            self.pending = (positions, taken, keys, (gather(x, axis, taken), images.to(x.device)))

    def _strided(self, fed: Tensor) -> Tensor:
        """Of an operator's input, the positions that it is applied to."""
        for axis, step in enumerate(getattr(self.chain.operator, "stride", ()), start=2):
            fed = fed[(slice(None),) * axis + (slice(None, None, step),)]
        return fed

    def after(self, y: Tensor | None, axes: Axes | None) -> None:
        """Take one batch of outputs in, whose channels are counted by the dimensions `axes` (None: not known)."""
        if y is None or not y.is_floating_point() or y.numel() == 0:
            self.note("gives no numbers")
            return
        self.calls += 1
        self.batches.append(len(y) if y.dim() else 1)
        takers: dict[str, Callable[[Tensor, int], None]] = {
            COUNTS: self._count, COVARIANCE: self._spread, SAMPLE: self._sample}  # fmt: skip
        if not axes:
            self.unplace(UNKNOWN if axes is None else NO_CHANNELS)
        elif not self.unplaced:
            ordered, axis = placed(y, axes)
            self._see(ordered, axis)
            for need in takers.keys() & self.needs if not self.unplaced else ():
                takers[need](ordered, axis)
        if PICTURES in self.needs:
            self._image(y)
        if PRODUCTS in self.needs:
            self._products(y)

    def applies(self, activation: Found) -> None:
        """Give up where a function is not called with the parameters that it had before."""
        given = activation.outputs if isinstance(activation, Activation) else None
        if given != self.window:
            self.unplace("its parameters differ from call to call")

    def unplace(self, reason: str) -> None:
        """Give up what is counted by channels, and say why."""
        self.note(reason)
        self.unplaced, self.pending = True, None
        self.counts, self.still, self.covariance, self.shape = None, Still(), Covariance(), ()
        self.sample = Reservoir(self.sampling.positions, self.sample.rng)

    def _see(self, y: Tensor, axis: int) -> None:
        shape = (y.shape[axis], *(size for place, size in enumerate(y.shape) if place not in (0, axis)))
        if self.shape and shape[0] != self.shape[0]:
            self.unplace("numbers of channels that differ from call to call")
            return
        if self.shape and shape != self.shape:
            self.note("images of different sizes")
        self.shape = self.shape or shape

    def note(self, text: str) -> None:
        """Remember something that the table should say of this layer."""
        self.notes[text] = None

    def unmeasured(self, why: str) -> LayerRow:
        """The empty columns of a measure that has nothing to say of this layer, and a note why."""
        self.note(why)
        return {}

    def _count(self, y: Tensor, axis: int) -> None:
        if self.window is None:
            return
        if self.counts is None:
            self.counts = ActiveCounts.empty(self.window, y.shape[axis], y.device)
        self.counts.add(y, axis)

    def _spread(self, y: Tensor, axis: int) -> None:
        last = y.movedim(axis, -1)
        inner, wanted = last.shape[1:-1], self.sampling.per_image
        if axis and 0 < wanted < inner.numel():
            rng = stream(self.sampling.seed, "covariance", self.name, inner.numel())
            places = distinct(inner.numel(), wanted, rng).sort().values.to(y.device)
            last = last.flatten(1, -2).index_select(1, places)
        self.covariance.add(last, last.dim() - 1)
        self.covariance.met += y.numel() // y.shape[axis]

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

    def _image(self, y: Tensor) -> None:
        size = y[0].numel()
        if self.coordinates is None:
            rng = stream(self.sampling.seed, "coordinates", self.name)
            wanted = min(size, self.sampling.coordinates)
            self.coordinates = torch.arange(size) if wanted == size else distinct(size, wanted, rng).sort().values
            self.whole = tuple(y.shape[1:])
        if tuple(y.shape[1:]) != self.whole:
            return
        taken, keys = self.images.propose(len(y))
        places = [place.to(y.device) for place in torch.unravel_index(self.coordinates, self.whole)]
        self.images.accept(keys, (y[(taken.to(y.device)[:, None], *places)],))

    def _products(self, y: Tensor) -> None:
        """Products of the whole maps of a batch with each other, around their mean; of one batch only."""
        if self.calls > 1:
            self.note("information is that of the first batch")
            return
        flat = y.flatten(1)
        self.products = torch.zeros((len(y), len(y)), dtype=torch.float64, device=y.device)
        for part in flat.split(1 << 16, dim=1):
            centred = part.double() - part.double().mean(0)
            self.products += centred @ centred.t()


def placed(x: Tensor, axes: Axes) -> tuple[Tensor, int]:
    """A tensor with its channels in one dimension, and which; channels in several dimensions are joined at the end."""
    if len(axes) == 1:
        return x, axes[0]
    rest = [axis for axis in range(x.dim()) if axis not in axes]
    return x.permute(*rest, *axes).flatten(len(rest)), len(rest)


def gather(x: Tensor, axis: int, taken: Tensor) -> Float[Tensor, "taken channels"]:
    """The rows of these positions, copied, without laying the whole tensor out anew."""
    last = x.movedim(axis, -1)
    places = torch.unravel_index(taken.to(x.device), last.shape[:-1])
    return last[places].detach().clone()
