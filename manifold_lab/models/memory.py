"""Memory of inference: Equation 2 of MobileNetV2 under stated rules, lifetimes of tensors, and what was allocated.

Equation 2 (arXiv:1801.04381): M = max over operators of inputs + outputs + what the operator itself holds. Weights are
not counted. All counts are in numbers, not bytes, of one image; Table 3 has two bytes each.
"""

import functools
import itertools
import os
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from manifold_lab.core.errors import InputError
from manifold_lab.core.hooks import attached
from manifold_lab.models.mobilenet import Block, Network, Sandglass
from manifold_lab.models.profiler import LayerProfile, profile
from manifold_lab.models.split import chunks

QUIET = "6"
"""The level of torch's profiler at which it does not tell on the terminal when it starts and stops."""


def peak_by_operator(network: Network) -> LayerProfile:
    """Rule 1: every convolution is an operator; the one with the largest inputs + outputs."""
    return max(_watch(network, nn.Conv2d), key=lambda seen: seen.elements)


def peak_by_block(network: Network) -> LayerProfile:
    """Rule 2: a block is one operator that holds nothing of its own; the stem and the last convolution as in rule 1."""
    blocks = _watch(network, Block)
    outside = [one for one in _watch(network, nn.Conv2d) if not one.name.startswith("blocks.")]
    return max(blocks + outside, key=lambda seen: seen.elements)


def peak_split(network: Network, parts: int) -> int:
    """Rule 3: a block holds, besides its input and output, one chunk before and one after its 3x3 convolution.

    Raises:
        InputError: for sandglass blocks, whose inner tensor is not wide.
    """
    if network.spec.block == "sandglass":
        raise InputError("block: sandglass has no wide inner tensor to split; allowed: inverted, classic, separable")
    inner = {one.name: one for one in _watch(network, nn.Conv2d)}
    held = [one.elements for name, one in inner.items() if not name.startswith("blocks.")]
    for block, seen in zip(network.blocks, _watch(network, Block), strict=True):
        middle = inner[f"{seen.name}.depthwise.conv"]
        largest = chunks(block.stage.hidden, parts)[0]
        held.append(seen.elements + middle.elements * (largest.stop - largest.start) // block.stage.hidden)
    return max(held)


@dataclass(frozen=True)
class Held:
    """A block's peaks by rules 1 and 2, with what shortcuts keep; `joined`: one begins or ends here."""

    name: str
    by_operator: int
    as_one: int
    joined: bool


def with_shortcuts(network: Network) -> list[Held]:
    """Rules 1 and 2 of every block, plus the tensors that a shortcut keeps for later, which Equation 2 leaves out.

    A shortcut between bottlenecks keeps the block's input until the sum; one between expansions keeps the depthwise
    output until the next block has expanded.
    """
    inner = {one.name: one for one in _watch(network, nn.Conv2d)}
    found, wide = [], 0
    for block, seen in zip(network.blocks, _watch(network, Block), strict=True):
        stage = block.stage
        given = inner[f"{seen.name}.depthwise.conv"].output_elements if stage.gives_wide else 0
        joined = bool(wide or given) or stage.shortcut != "none"
        found.append(Held(seen.name, _by_operator(block, seen, inner, wide), seen.elements + wide + given, joined))
        wide = given
    return found


def _by_operator(block: Block, seen: LayerProfile, inner: dict[str, LayerProfile], wide: int) -> int:
    """The block's operators one by one: its input is kept beside the later ones if a shortcut needs it."""
    stage = block.stage
    kept = seen.input_elements if stage.shortcut != "none" else 0
    beside = {"expand": wide, "depthwise": kept if stage.expands else 0, "project": kept}
    if isinstance(block, Sandglass):  # which begins with its depthwise convolution
        beside = {"depthwise": 0, "project": kept, "expand": kept, "depthwise_out": kept}
    beside["bridge"] = seen.output_elements
    convs = {name: inner[f"{seen.name}.{name}.conv"] for name in beside if f"{seen.name}.{name}.conv" in inner}
    return max(conv.elements + beside[name] for name, conv in convs.items())


def _watch(network: Network, kind: type[nn.Module]) -> list[LayerProfile]:
    return profile(network, network.spec.image_shape, (kind,))


class _Living(TorchDispatchMode):
    """Sums the storages that operators make while it is active, until nothing refers to them any more."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.place = 0, ""
        self.peaks: dict[str, int] = {}
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in _storages((args, kwargs)):
            self._add(storage, 0)  # it was there before, or is counted already
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            self._add(storage, storage.nbytes())
        return out

    def _add(self, storage: torch.UntypedStorage, size: int) -> None:
        if storage._cdata in self.known:
            return
        self.known.add(storage._cdata)
        self.live += size
        self.peaks[self.place] = max(self.peaks.get(self.place, 0), self.live)
        weakref.finalize(storage, self._gone, storage._cdata, size)

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def live_peaks(network: Network, run: Callable[[Tensor], object] | None = None) -> dict[str, int]:
    """Numbers alive at most while each part runs, the image itself included, by the lifetimes of an eager pass.

    Parts are the network's children and blocks; `run` is another way through the network, the forward pass by default.
    Nothing but shapes is needed: it works on the meta device.
    """
    like, living = network.classifier.weight, _Living()
    parts = dict(network.named_children()) | {f"blocks.{i}": block for i, block in enumerate(network.blocks)}
    with torch.no_grad(), _placed(living, parts), living:
        (run or network)(torch.zeros((1, *network.spec.image_shape), dtype=like.dtype, device=like.device))
    return {name: peak // like.element_size() for name, peak in living.peaks.items()}


def live_peak(work: Callable[[], object]) -> int:
    """Bytes alive at most while `work` runs, by the lifetimes of the tensors that it makes."""
    living = _Living()
    with torch.no_grad(), living:
        work()
    return max(living.peaks.values())


def _placed(living: _Living, parts: dict[str, nn.Module]) -> AbstractContextManager[None]:
    """Tell `living` which part runs."""

    def enter(name: str, *_: object) -> None:
        living.place = name

    return attached(part.register_forward_pre_hook(functools.partial(enter, name)) for name, part in parts.items())


def allocated_peak(work: Callable[[], object]) -> int:
    """Bytes by which the live memory of torch's CPU allocator rose at most while `work` ran, by torch's profiler."""
    os.environ.setdefault("KINETO_LOG_LEVEL", QUIET)  # read once, when the profiler first starts
    work()  # what is made once, such as packed weights, is not the pass's own
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return max(itertools.accumulate(changes, initial=0))
