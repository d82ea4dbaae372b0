"""MobileNeXt's block: wide where the inverted residual is narrow, and priced by its formula."""

import dataclasses

import pytest
import torch
from torch import nn

from manifold_lab.core.errors import InputError
from manifold_lab.core.random_streams import stream
from manifold_lab.models import memory, profiler, split, weights
from manifold_lab.models.mobilenet import Sandglass, build
from manifold_lab.models.specs import NetworkSpec, stages

SPEC = NetworkSpec(
    block="sandglass", rows=((2, 16, 1, 1), (6, 48, 2, 2), (6, 48, 2, 1)), stem_channels=24, resolution=32,
    num_classes=10, stem_stride=1, last_channels=0, round_to=1,
)  # fmt: skip


def test_the_block_costs_what_its_formula_says() -> None:
    network = build(SPEC)
    convs = profiler.profile(network, (3, 32, 32))
    size = 32
    for place, stage in enumerate(stages(SPEC)):
        c, n, out, after = stage.inputs, stage.hidden, stage.outputs, size // stage.stride
        expected = size**2 * (9 * c + c * n + n * out) + after**2 * 9 * out
        mine = [one.madds for one in convs if one.name.startswith(f"blocks.{place}.") and one.name.endswith("conv")]
        assert len(mine) == 4 and sum(mine) == expected
        assert n == round(out / stage.expansion)
        size = after


def test_shortcut_and_both_depthwise_convolutions_are_wide_and_the_middle_is_narrow() -> None:
    network = build(SPEC, stream(0, "weights")).eval()
    block = network.blocks[2]
    assert isinstance(block, Sandglass) and block.stage.shortcut == "identity"
    seen: dict[str, int] = {}
    for name, module in block.named_modules():
        if isinstance(module, nn.Conv2d):
            seen[name.removesuffix(".conv")] = module.out_channels
            assert (module.groups > 1) == name.startswith("depthwise")
    assert seen == {"depthwise": 48, "project": 8, "expand": 48, "depthwise_out": 48}
    assert list(seen) == ["depthwise", "project", "expand", "depthwise_out"]
    assert block.bottleneck is block.project.act and block.bottleneck.name == "linear"


def test_with_its_last_norm_at_zero_a_block_is_its_shortcut() -> None:
    block = build(SPEC, stream(0, "weights")).eval().blocks[2]
    x = torch.randn((2, 48, 8, 8), generator=stream(0, "x"))
    assert not torch.equal(block(x)[0], x)
    nn.init.zeros_(block.depthwise_out.norm.weight)
    assert torch.equal(block(x)[0], x)


def test_no_activation_stands_behind_the_bottleneck_and_the_last_convolution() -> None:
    block = build(SPEC, stream(0, "weights")).eval().blocks[1]
    x = torch.randn((2, 16, 8, 8), generator=stream(0, "x"))
    outputs: dict[str, torch.Tensor] = {}
    for name in ("depthwise", "project", "expand", "depthwise_out"):
        layer = getattr(block, name)
        layer.register_forward_hook(lambda _layer, _x, y, name=name: outputs.update({name: y}))
    block(x)
    negative = {name: bool((y < 0).any()) for name, y in outputs.items()}
    assert negative == {"depthwise": False, "project": True, "expand": False, "depthwise_out": True}


def test_what_needs_another_layout_refuses_it() -> None:
    network = build(SPEC, stream(0, "weights")).eval()
    with pytest.raises(InputError, match="sandglass"):
        memory.peak_split(network, 2)
    with pytest.raises(InputError, match="only inverted and separable"):
        split.split_forward(network, torch.zeros(1, 3, 32, 32), 2)
    with pytest.raises(InputError, match="no place in the PyTorch layout"):
        weights.pytorch_names(SPEC)


def test_by_operator_a_shortcut_keeps_the_wide_input_beside_everything_behind_it() -> None:
    one = dataclasses.replace(SPEC, rows=((6, 24, 1, 1),), stem_channels=24)
    (held,) = memory.with_shortcuts(build(one))
    wide = 24 * 32 * 32
    assert held.by_operator == max(2 * wide, wide + wide + 4 * 32 * 32, wide + 2 * wide)
    assert held.as_one == 2 * wide
