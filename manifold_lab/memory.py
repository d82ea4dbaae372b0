"""Memory of inference: Equation 2 of MobileNetV2 under three stated rules, and what was really allocated.

Equation 2 (arXiv:1801.04381): M = max over operators of inputs + outputs + what the operator itself holds. Weights are
not counted. All counts are in numbers, not bytes, of one picture; Table 3 has two bytes each.
"""

from collections.abc import Callable

import torch
from torch import nn

from manifold_lab.mobilenet import Block, Network
from manifold_lab.probes import Seen, watch
from manifold_lab.split import chunks


def peak_by_operator(network: Network) -> Seen:
    """Rule 1: every convolution is an operator; the one with the largest inputs + outputs."""
    return max(_watch(network, nn.Conv2d), key=lambda seen: seen.elements)


def peak_by_block(network: Network) -> Seen:
    """Rule 2: a block is one operator that holds nothing of its own; the stem and the last convolution as in rule 1."""
    blocks = _watch(network, Block)
    outside = [one for one in _watch(network, nn.Conv2d) if not one.name.startswith("blocks.")]
    return max(blocks + outside, key=lambda seen: seen.elements)


def peak_split(network: Network, parts: int) -> int:
    """Rule 3: a block holds, besides its input and output, one chunk before and one after its 3x3 convolution."""
    inner = {one.name: one for one in _watch(network, nn.Conv2d)}
    held = [one.elements for name, one in inner.items() if not name.startswith("blocks.")]
    for block in _watch(network, Block):
        assert isinstance(block.module, Block)
        middle = inner[f"{block.name}.depthwise.conv"]
        largest = chunks(block.module.stage.hidden, parts)[0]
        held.append(block.elements + middle.elements * (largest.stop - largest.start) // block.module.stage.hidden)
    return max(held)


def _watch(network: Network, kind: type[nn.Module]) -> list[Seen]:
    spec = network.spec
    return watch(network, (spec.in_channels, spec.resolution, spec.resolution), (kind,))


def allocated_peak(work: Callable[[], object]) -> int:
    """Bytes by which the live memory of torch's CPU allocator rose at most while `work` ran, by torch's profiler."""
    work()  # what is made once, such as packed weights, is not the pass's own
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    live, peak = 0, 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak
