"""Where the channels of every tensor are: followed from function to function through one forward pass.

Operators and norms say where the channels of their outputs are; functions that act on every number keep them there;
functions that move numbers (view, permute, slices) are applied to a tensor of channel numbers, and its result shows
where they went. Whatever else a network does makes the place unknown: nothing is concluded from a number of dimensions.
"""

import math
import weakref
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from manifold_lab.activations import Activation
from manifold_lab.probe import axis_rules
from manifold_lab.probe.activation_types import CLIPS
from manifold_lab.probe.axis_rules import Axes, Origin, Placed, tensors
from manifold_lab.probe.compositions import recognised
from manifold_lab.probe.product_rules import SUMS, behind_product

CONSTANT = Origin((), constant=True)
Source = tuple[Tensor, Origin]


class ChannelTracker:
    """Follows the tensors of one forward pass.

    Args:
        constants: identities of the parameters and buffers.
        moves: what was found out about functions that move numbers, kept from pass to pass.
    """

    def __init__(self, constants: frozenset[int], moves: dict[Any, list[Axes | None]]):
        self.constants, self.moves = constants, moves
        self.known: dict[int, tuple[weakref.ref[Tensor], Origin]] = {}
        self.parts: set[str] = set()
        """Activations whose output was multiplied with another function of their input, such as x * sigmoid(x)."""
        self.unlisted: dict[str, None] = {}
        """Functions of `Origin.unlisted` whose result reached an operator or the network's output."""
        self.replaced: set[str] = set()
        """Of `parts`, those of which the whole is a known activation."""

    def of(self, x: Tensor) -> Origin | None:
        """What is known of a tensor; None where nothing that was followed has made it."""
        found = self.known.get(id(x))
        if found is not None and found[0]() is x:
            return found[1]
        return CONSTANT if id(x) in self.constants else None

    def axes(self, x: Tensor) -> Axes | None:
        """Where the channels of a tensor are; empty where there are none, None where unknown."""
        found = self.of(x)
        return None if found is None else found.axes

    def note(self, x: Tensor, origin: Origin) -> None:
        """Remember."""
        if origin.root.made is None:
            origin.root.made = weakref.ref(x)
        self.known[id(x)] = (weakref.ref(x), origin)

    def begin(self, value: object) -> None:
        """Note the network's own inputs; two dimensions are examples and features."""
        for x in tensors(value):
            self.note(x, Origin((1,)) if x.dim() == 2 else Origin(given=True))

    def end(self, value: object) -> None:
        """Note what reached the network's output."""
        self._reached([origin for x in tensors(value) if (origin := self.of(x)) is not None])

    def passed(self, x: Tensor, layer: str) -> None:
        """Note that a tensor is the output of an activation."""
        found = self.of(x)
        if found is not None:
            self.note(x, replace(found, through=found.through | {layer}, unlisted=frozenset()))

    def may_be_whole(self, y: Tensor) -> bool:
        """Whether a tensor is made of a product of different functions of one tensor."""
        origin = self.of(y)
        return origin is not None and origin.gated

    def whole(self, y: Tensor) -> tuple[Tensor, str, Activation] | None:
        """The input, the kind and the activation where a tensor is one that the network has written out."""
        origin = self.of(y)
        u = origin.root.tensor() if origin is not None and origin.gated else None
        found = None if u is None else recognised(u, y)
        if found is None or u is None or origin is None:
            return None
        self.parts -= origin.through
        self.replaced |= origin.through
        self.note(y, replace(origin, through=frozenset(), unlisted=frozenset(), gated=False))
        return u, *found

    def acts(self, name: str, x: Tensor) -> bool:
        """Whether a function of `FUNCTIONS` may be an activation: not on parameters, and a clip only on channels."""
        found = self.of(x)
        if name in CLIPS:
            return found is not None and found.axes != ()
        return found is None or not found.constant

    def follow(self, call: "Call", output: object) -> None:
        """Note where a function's outputs have their channels."""
        outputs = list(tensors(output))
        if not outputs:
            return
        sources = [(x, origin) for x in call.tensors() if (origin := self.of(x)) is not None]
        if call.name in axis_rules.OPERATORS or call.name in SUMS:
            self._reached([origin for _, origin in sources])
        elif not sources:
            return
        found = self._found(call, sources, outputs)
        for y, origin in zip(outputs, found, strict=True):
            self.note(y, origin)

    def _reached(self, origins: list[Origin]) -> None:
        self.unlisted.update(dict.fromkeys(name for origin in origins for name in sorted(origin.unlisted)))

    def _found(self, call: "Call", sources: list[Source], outputs: list[Tensor]) -> list[Origin]:
        first = outputs[0]
        constant = call.name in axis_rules.CREATORS or (sources and all(origin.constant for _, origin in sources))
        if constant and call.name not in axis_rules.OPERATORS:
            return [CONSTANT] * len(outputs)
        if call.name in axis_rules.MOVED and sources[0][0] is call.args[0]:
            return [self._one(call, sources, axes) for axes in self._moved(call, sources[0], outputs)]
        axes = _placed(sources)
        if call.name in axis_rules.ELEMENTWISE or (call.name in axis_rules.REDUCED and call.compares()):
            return [self._elementwise(call, sources, axis_rules.broadcast_axes(axes, y.dim())) for y in outputs]
        return [self._one(call, sources, self._behind(call, axes, first))] * len(outputs)

    def _behind(self, call: "Call", axes: Placed, y: Tensor) -> Axes | None:
        """The axes behind an operator, a norm, a reduction, or a function that keeps them in place."""
        given, named = call.args, call.kwargs
        rules: tuple[tuple[Container[str], Callable[[], Axes | None]], ...] = (
            (axis_rules.OPERATORS, lambda: axis_rules.OPERATORS[call.name](y)),
            (axis_rules.NORMALISED, lambda: axis_rules.behind_norm(given, named, call.name, axes, y)),
            (axis_rules.REDUCED, lambda: axis_rules.reduced(given, named, axes, y)),
            (axis_rules.KEPT, lambda: axis_rules.kept(call.name, axes, y)),
            (SUMS, lambda: behind_product(self.of, call.name, given)),
        )
        return next((rule() for names, rule in rules if call.name in names), None)

    def _one(self, call: "Call", sources: list[Source], axes: Axes | None) -> Origin:
        """An output that is no function of its inputs number by number."""
        follows = call.name in axis_rules.MOVED or call.name in axis_rules.KEPT
        given = axes is None and follows and all(origin.given for _, origin in sources)
        unlisted = frozenset[str]().union(*(origin.unlisted for _, origin in sources)) if follows else frozenset[str]()
        return Origin(axes, given, unlisted=unlisted)

    def _elementwise(self, call: "Call", sources: list[Source], axes: Axes | None) -> Origin:
        origins = [origin for _, origin in sources if not origin.constant]
        given = axes is None and all(origin.given for origin in origins if origin.axes != ())
        unlisted = frozenset[str]().union(*(origin.unlisted for origin in origins))
        through = frozenset[str]().union(*(origin.through for origin in origins))
        if call.name in axis_rules.NONLINEAR and call.watched and axes != () and not through:
            unlisted |= {f"{call.caller}.{call.name}()" if call.caller else f"{call.name}()"}
        if len({id(origin.root) for origin in origins}) != 1:
            return Origin(axes, given, unlisted=unlisted)
        gated = call.name in axis_rules.PRODUCTS and len({(origin.through, origin.unlisted) for origin in origins}) > 1
        self.parts |= through if gated else frozenset()
        gated = gated or any(origin.gated for origin in origins)
        return Origin(axes, given, root=origins[0].root, through=through, unlisted=unlisted, gated=gated)

    def _moved(self, call: "Call", source: Source, outputs: list[Tensor]) -> list[Axes | None]:
        """The axes behind a function that moves numbers, as the channels' own numbers show when it moves them."""
        x, origin = source
        if not origin.axes:
            return [origin.axes] * len(outputs)
        if call.function.__name__.endswith("_") and not call.function.__name__.startswith("__"):
            return [None] * len(outputs)  # in place: the shape that it had is gone
        others = [other for other in call.tensors() if other is not x]
        key = (call.name, tuple(x.shape), origin.axes, repr(call.rest()))
        if others or key not in self.moves:
            found = _shown(call, x, origin.axes, len(outputs))
            if others:
                return found
            self.moves[key] = found
        return self.moves[key]


@dataclass(frozen=True)
class Call:
    """A function that a network calls."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    caller: str = ""
    """The module that calls it, by name."""
    watched: bool = True
    """Whether it is called outside of known activations."""

    def tensors(self) -> Iterator[Tensor]:
        """What it is given."""
        return tensors((self.args, self.kwargs))

    def rest(self) -> tuple[Any, ...]:
        """The arguments behind the first."""
        return (*self.args[1:], *sorted(self.kwargs.items()))

    def compares(self) -> bool:
        """Whether a function that may reduce is given two tensors number by number, as torch.max(x, y)."""
        return len(self.args) > 1 and isinstance(self.args[1], Tensor)


def _placed(sources: list[Source]) -> Placed:
    """The axes of what has any to say: not of parameters, nor of the network's own input."""
    placed = [(x, origin.axes) for x, origin in sources if not (origin.constant or origin.given)]
    given = any(origin.given for _, origin in sources)
    return [(x, axes) for x, axes in placed if axes != ()] if given else placed


def _shown(call: Call, x: Tensor, axes: Axes, count: int) -> list[Axes | None]:
    sizes = [x.shape[axis] for axis in axes]
    if math.prod(sizes) == 1 or x.numel() == 0:
        return [None] * count  # one channel is everywhere
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.dim())]
    numbers = torch.arange(math.prod(sizes), device=x.device).reshape(shape).expand(x.shape).contiguous()
    args = tuple(numbers if value is x else value for value in call.args)
    kwargs = {name: numbers if value is x else value for name, value in call.kwargs.items()}
    kwargs.pop("memory_format", None)
    try:
        moved = list(tensors(call.function(*args, **kwargs)))
    except (RuntimeError, TypeError, ValueError):
        return [None] * count
    return [_varying(y) for y in moved] if len(moved) == count else [None] * count


def _varying(numbers: Tensor) -> Axes | None:
    """The axes along which channel numbers vary, where they count different channels; else None."""
    axes = tuple(
        axis for axis in range(numbers.dim())
        if numbers.shape[axis] > 1 and not torch.equal(numbers, numbers.narrow(axis, 0, 1).expand_as(numbers))
    )  # fmt: skip
    corner = numbers[tuple(slice(None) if axis in axes else 0 for axis in range(numbers.dim()))] if axes else numbers
    return axes if axes and len(torch.unique(corner)) == corner.numel() else None
