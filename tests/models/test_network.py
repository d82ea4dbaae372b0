"""The network against known integers, its switches against what they must change, costs against torch's own counter."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from manifold_lab import network as door
from manifold_lab import stream
from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError
from manifold_lab.models import matching, profiler
from manifold_lab.models.mobilenet import Activate, build
from manifold_lab.models.specs import (
    CIFAR,
    DIGITS,
    NETWORKS,
    TABLE_2,
    V1,
    V2,
    Intervention,
    NetworkSpec,
    rounded_channels,
    stages,
)
from tests.networks import SMALL, pictures, small

PICTURE = (3, 224, 224)


@pytest.mark.parametrize(
    ("width", "resolution", "parameters", "madds"),
    [(1.0, 224, 3_504_872, 300_774_272), (1.4, 224, 6_108_776, 582_195_824)],
)
def test_costs_are_the_known_integers(width: float, resolution: int, parameters: int, madds: int) -> None:
    network = build(dataclasses.replace(V2, width=width, resolution=resolution))
    cost = profiler.cost(profiler.profile(network, (3, resolution, resolution)))
    assert (cost.parameters, cost.madds) == (parameters, madds)
    assert width > 1 or cost.parameters - cost.norm_parameters == 3_470_760


def test_an_expansion_in_the_first_block_would_cost_what_the_erratum_says() -> None:
    expanded = dataclasses.replace(V2, rows=((1.001, *TABLE_2[0][1:]), *TABLE_2[1:]))
    assert matching.madds(expanded) == 313_619_328


COARSE: list[tuple[NetworkSpec, dict[str, object]]] = [
    (CIFAR, {"block": "classic"}),
    (CIFAR, {"block": "separable"}),
    (dataclasses.replace(CIFAR, width=0.35), {"block": "sandglass"}),
    (DIGITS, {"block": "sandglass"}),
    (dataclasses.replace(V2, width=0.35), {"block": "classic"}),
    (dataclasses.replace(V2, width=0.35), {"block": "classic", "shortcut": "projected"}),
    (dataclasses.replace(V2, width=0.1), {"block": "separable"}),
    (dataclasses.replace(V2, width=1.4), {"block": "classic", "shortcut": "projected"}),
    (DIGITS, {"block": "classic"}),
    (DIGITS, {"block": "separable"}),
    (dataclasses.replace(DIGITS, width=0.1), {"block": "classic"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("base", "changes"), COARSE, ids=lambda value: str(getattr(value, "width", value)))
def test_a_block_of_another_kind_comes_at_matched_madds(base: NetworkSpec, changes: dict[str, object]) -> None:
    target = matching.madds(base)
    found = matching.at_madds(dataclasses.replace(base, **changes), target)
    assert abs(matching.spec_cost(found).madds / target - 1) <= matching.TOLERANCE == 0.01
    assert found.round_to in (1, base.round_to)
    unscaled = {"rows": base.rows, "stem_channels": base.stem_channels, "round_to": base.round_to}
    assert dataclasses.replace(found, block="inverted", shortcut=base.shortcut, **unscaled) == base


PRICED: list[dict[str, object]] = [
    {},
    {"norm": "group", "bottleneck_activation": "tanh"},
    {"block": "sandglass"},
    {"shortcut": "projected", "intervention": Intervention(renormed=True, noise=0.5)},
    {"bottleneck_activation": "leaky_relu", "intervention": Intervention(slope=0.5)},
]


@pytest.mark.parametrize("changes", PRICED)
def test_a_specs_cost_is_that_of_its_network_with_activations(changes: dict[str, object]) -> None:
    spec = dataclasses.replace(DIGITS, **changes)
    assert matching.spec_cost(spec) == profiler.cost(profiler.profile(build(spec, 0), (1, 8, 8)))


def test_a_match_that_whole_channels_do_not_allow_is_refused_with_how_near_it_comes() -> None:
    tiny = dataclasses.replace(
        DIGITS,
        rows=((1, 1, 1, 1),),
        stem_channels=1,
        width=1,
        last_channels=0,
        shortcut="none",
        num_classes=1,
        round_to=1,
    )
    with pytest.raises(InputError, match=r"madds: 1,510 is not met; .* allow is 1,542, 2\.1% off, and 1% is allowed"):
        matching.at_madds(tiny, 1510)


def test_a_target_out_of_reach_is_refused() -> None:
    with pytest.raises(InputError, match="out of reach"):
        matching.at_madds(DIGITS, 10)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("width", [0.35, 0.5, 1.0, 1.4])
def test_counted_madds_are_those_of_torchs_flop_counter(name: str, width: float) -> None:
    spec = dataclasses.replace(NETWORKS[name], width=width)
    network = build(spec).eval()
    shape = (spec.in_channels, spec.resolution, spec.resolution)
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, *shape, device="meta"))
    assert 2 * profiler.cost(profiler.profile(network, shape)).madds == counter.get_total_flops()


@pytest.mark.parametrize(("width", "resolution"), [(0.1, 32), (0.1, 224), (1.4, 32), (0.25, 33), (1.4, 224)])
@pytest.mark.parametrize("spec", [V2, V1], ids=["v2", "v1"])
def test_every_width_and_resolution_gives_logits(spec: NetworkSpec, width: float, resolution: int) -> None:
    network = build(dataclasses.replace(spec, width=width, resolution=resolution)).eval()
    assert network(torch.empty(2, 3, resolution, resolution, device="meta")).shape == (2, 1000)


def test_mobilenet_v1_has_its_published_size() -> None:
    cost = profiler.cost(profiler.profile(build(V1), PICTURE))
    assert round(cost.madds / 1e6) == 569
    assert round(cost.parameters / 1e6, 1) == 4.2
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in build(V1).modules()) == 28


@pytest.mark.parametrize(("shortcut", "count"), [("bottleneck", 10), ("expansion", 10), ("none", 0), ("projected", 17)])
def test_every_variant_has_the_shortcuts_of_its_wiring(shortcut: str, count: int) -> None:
    plan = stages(dataclasses.replace(V2, shortcut=shortcut))
    assert sum(stage.shortcut != "none" or stage.gives_wide for stage in plan) == count


def test_the_shortcut_between_bottlenecks_adds_the_blocks_input() -> None:
    with_it, without = small(), small(shortcut="none")
    x = torch.randn(2, 8, 16, 16, generator=stream(0, "x"))
    place = next(i for i, stage in enumerate(stages(SMALL)) if stage.shortcut == "identity" and stage.inputs == 8)
    with torch.no_grad():
        assert torch.allclose(with_it.blocks[place](x, None)[0], x + without.blocks[place](x, None)[0], atol=1e-6)


def test_the_shortcut_between_expansions_adds_the_depthwise_output_before() -> None:
    network = small(shortcut="expansion")
    seen: dict[str, torch.Tensor] = {}
    place = next(i for i, stage in enumerate(stages(network.spec)) if stage.gives_wide)
    first, second = network.blocks[place], network.blocks[place + 1]
    first.depthwise.register_forward_hook(lambda _m, _i, out: seen.update(depthwise=out))
    second.expand.register_forward_hook(lambda _m, _i, out: seen.update(expanded=out))
    second.depthwise.register_forward_hook(lambda _m, inputs, _o: seen.update(entered=inputs[0]))
    network(pictures())
    assert torch.equal(seen["entered"], seen["depthwise"] + seen["expanded"])


PLACES = {
    "bottleneck_activation": {"project"},
    "expansion_activation": {"expand"},
    "depthwise_activation": {"depthwise"},
    "outer_activation": {"stem", "last"},
}


@pytest.mark.parametrize("name", PLACES)
def test_an_activation_changes_its_own_place_and_nothing_else(name: str) -> None:
    network = small(**{name: "tanh"})
    changed = {key.split(".")[-2] for key, module in network.named_modules()
               if isinstance(module, Activate) and module.name == "tanh"}  # fmt: skip
    assert changed == PLACES[name]


def test_the_word_for_the_outside_renames_no_run() -> None:
    assert [key(spec) for spec in (V2, V1, CIFAR)] == ["7902f976360b3fc4", "90f27d9b02143d3b", "4475e30eaef7c443"]


def test_relu6_in_the_bottleneck_acts_before_the_sum() -> None:
    block = small(bottleneck_activation="relu6").blocks[4]
    x = torch.full((1, block.stage.inputs, 8, 8), -5.0)
    assert block.stage.shortcut == "identity"
    y, _ = block(x, None)
    assert (y - x >= 0).all() and (y - x <= 6).all() and y.min() < 0


def test_what_a_hook_saw_stays_what_it_was() -> None:
    network, kept = small(), []
    for module in network.modules():
        module.register_forward_hook(lambda _m, _i, out: kept.append(out[0] if isinstance(out, tuple) else out))
    copies: list[torch.Tensor] = []
    for module in network.modules():
        module.register_forward_hook(
            lambda _m, _i, out: copies.append((out[0] if isinstance(out, tuple) else out).clone())
        )
    network(pictures())
    assert len(kept) == len(copies) > 100
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


UNBUILDABLE: list[tuple[dict[str, object], str]] = [
    ({"rows": ((6, 24, 2, 3),)}, "stride in .*: 3 is not allowed; it must be from 1 to 2"),
    ({"rows": ((0.01, 16, 2, 1),)}, "expansion 0.01 leaves no channel"),
    ({"rows": ((6, 24, 0, 1),)}, "repeats"),
    ({"rows": ()}, "rows: none given"),
    ({"rows": ((6, 24, 1, 2),)}, "joins nothing"),
    ({"width": 0.01}, "leaves no channel"),
    ({"dropout": 1.0}, "dropout"),
    ({"stem_stride": 4}, "stem_stride: 4 .* from 1 to 2"),
    ({"width": 1e9}, r"width: 1000000000\.0 is not allowed; it must be from 0\.001 to 10"),
    ({"width": float("nan")}, "width: nan"),
    ({"resolution": 99999999999999}, "resolution: 99999999999999 .* to 4,096"),
    ({"num_classes": 10**20}, "num_classes: 1.* from 1 to 1,000,000"),
    ({"rows": ((6, 24, 9999999, 1),)}, "repeats in .*: 9999999 .* from 1 to 100"),
    ({"rows": ((6, 24, 60, 1),) * 2}, "blocks in all: 120 .* from 1 to 100"),
    ({"rows": ((100, 100_000, 2, 1),)}, "middle of a block: 10000000 .* to 1,000,000"),
    ({"block": "separable", "expansion_activation": "linear"}, "expansion_activation: linear has no place"),
    ({"shortcut": "expnsion"}, "did you mean 'expansion'"),
    ({"bottleneck_activation": "relu66"}, "did you mean 'relu6'"),
    ({"block": "classic", "shortcut": "expansion"}, "needs block inverted"),
    ({"block": "sandglass", "shortcut": "expansion"}, "needs block inverted"),
    ({"block": "sandglass", "intervention": Intervention(placement="sum")}, "placement: sum is wide"),
]


@pytest.mark.parametrize(("changes", "message"), UNBUILDABLE)
def test_an_unbuildable_spec_is_refused_when_it_is_made(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        dataclasses.replace(V2, **changes)
    assert len(str(refused.value).splitlines()) == 1


def test_rounding_never_loses_more_than_a_tenth() -> None:
    assert all(
        rounded_channels(c / 7, 8) % 8 == 0 and rounded_channels(c / 7, 8) >= 0.9 * c / 7 for c in range(1, 5000)
    )
    assert [dataclasses.replace(V2, width=width).last_width for width in (0.35, 1.0, 1.4)] == [1280, 1280, 1792]


@pytest.mark.parametrize("block", ["inverted", "classic", "separable", "sandglass"])
@pytest.mark.parametrize("shortcut", ["bottleneck", "none", "projected"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_every_combination_takes_a_step(block: str, shortcut: str, norm: str) -> None:
    spec = dataclasses.replace(DIGITS, block=block, shortcut=shortcut, norm=norm)
    network = build(spec, stream(0, "weights")).train()
    network(pictures(4, spec)).logsumexp(1).sum().backward()
    assert all(
        parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in network.parameters()
    )


def test_initial_weights_have_the_reference_spread_and_come_from_the_generator() -> None:
    first, again, other = (build(V2, stream(seed, "weights")) for seed in (0, 0, 1))
    weight = first.last.conv.weight
    assert weight.std().item() == pytest.approx((2 / weight.shape[0]) ** 0.5, rel=0.01)
    assert first.classifier.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert torch.equal(weight, again.last.conv.weight) and not torch.equal(weight, other.last.conv.weight)


def test_hooks_go_away_also_when_the_forward_pass_fails() -> None:
    network = small()
    with pytest.raises(RuntimeError):
        profiler.profile(network, (5, 32, 32))
    profiler.profile(network.train(), (3, 32, 32))
    assert network.training
    assert all(not module._forward_hooks for module in network.modules())


@pytest.mark.slow
def test_the_command_prints_the_integers_of_any_spec(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "manifold_lab.network"]
    done = subprocess.run([*command, "mobilenet_v2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "3,504,872 parameters" in done.stdout and "300,774,272 MAdds" in done.stdout
    assert door.main(["mobilenet_v2", "--stem-stride", "3"]) == 2
    assert capsys.readouterr().err.startswith("error: stem_stride: 3")


@pytest.mark.slow
def test_a_door_that_cannot_print_says_so_in_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "manifold_lab.network", "digits"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: output: cannot be written (No space left on device)\n"


@pytest.mark.parametrize("changes", [{"shortcut": "projected"}, {"shortcut": "none"}, {"shortcut": "expansion"},
                                     {"bottleneck_activation": "relu6"}])  # fmt: skip
def test_arms_of_an_ablation_start_from_the_same_weights(changes: dict[str, str]) -> None:
    base = dict(build(DIGITS, stream(0, "weights")).named_parameters())
    arm = dict(build(dataclasses.replace(DIGITS, **changes), stream(0, "weights")).named_parameters())
    assert base.keys() <= arm.keys()
    assert all(torch.equal(arm[name], value) for name, value in base.items())
