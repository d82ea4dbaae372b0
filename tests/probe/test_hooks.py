"""The probe's hooks: they touch nothing, always go away, and are not fooled."""

import copy
from pathlib import Path

import numpy as np
import pytest
import skdim
import timm
import torch
from torch import nn
from torch.nn import functional
from torchvision import models

from manifold_lab import metrics, stream
from manifold_lab.core.errors import InputError
from manifold_lab.models.fast import plain_layers
from manifold_lab.probe import Probe, Sampling
from manifold_lab.probe.curve import Curve, information_along
from manifold_lab.probe.names import LAYER_KINDS
from tests.networks import pictures, small

FEW = Sampling(positions=100, pictures=30)
EVERY = ("active", "rank", "spectrum", "dimension", "preservation", "recovery")


def sequence(inplace: bool, *after: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    act = nn.ReLU6(inplace=inplace)
    return nn.Sequential(nn.Conv2d(4, 12, 1, bias=False), nn.BatchNorm2d(12), act, *after).eval()


def table(model: nn.Module, *batches: torch.Tensor, **asked: object) -> dict[str, dict]:
    with torch.no_grad(), Probe(model, **asked) as found:  # type: ignore[arg-type]
        for x in batches:
            model(x)
    return {str(row["layer"]): row for row in found.table()}


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "autocast"])
@plain_layers()  # a step of a training leaves its fast layers to torch where they are watched: test_fast.py
def test_output_state_mode_and_chance_are_the_same_with_and_without(training: bool, half: bool) -> None:
    plain = small().train(training)
    watched, x = copy.deepcopy(plain), pictures(3)
    outputs = []
    for model in (plain, watched):
        torch.manual_seed(1)  # dropout draws
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            if model is watched:
                with Probe(model, LAYER_KINDS, EVERY, FEW) as found:
                    outputs.append(model(x))
            else:
                outputs.append(model(x))
        outputs[-1].float().sum().backward()
        outputs.append(torch.rand(3))
    assert torch.equal(outputs[0], outputs[2]) and torch.equal(outputs[1], outputs[3]) and hooks(watched) == 0
    assert watched.training is training and len(found.table()) > 35
    for one, two in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    for one, two in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)


@pytest.mark.slow
def test_hooks_go_away_when_the_forward_fails() -> None:
    model = small()
    with pytest.raises(RuntimeError, match="channels"), Probe(model, measures=EVERY, sampling=FEW) as found:
        model(torch.zeros(1, 5, 32, 32))
    assert hooks(model) == 0
    with torch.no_grad(), found:
        model(pictures())
    assert hooks(model) == 0 and len(found.table()) == 35


def test_working_in_place_falsifies_nothing() -> None:
    x = 6 * torch.randn((5, 4, 8, 8), generator=stream(0, "x"))
    one, two = (table(sequence(inplace), x, layers="nonlinearity", measures=EVERY) for inplace in (False, True))
    assert list(one) == list(two) == ["2"] and one["2"]["threshold"] == 4
    for name, value in one["2"].items():
        assert two["2"][name] == value or two["2"][name] == pytest.approx(value), name
    assert 0 < one["2"]["high_share"] < 1 and one["2"]["inversion_error_full_rank"] < 1e-8


class Functional(nn.Module):
    """The sequence with its activation called as a function."""

    def __init__(self, inplace: bool):
        super().__init__()
        self.conv, self.norm, _ = sequence(False)
        self.inplace = inplace
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu6(self.norm(self.conv(x)), inplace=self.inplace)


@pytest.mark.parametrize("inplace", [False, True])
def test_an_activation_called_as_a_function_is_a_layer_like_its_module(inplace: bool) -> None:
    x = 6 * torch.randn((5, 4, 8, 8), generator=stream(0, "x"))
    model = Functional(inplace)
    (one,) = table(sequence(False), x, measures=("active", "spectrum")).values()
    (message,) = table(model, x, measures=("active", "spectrum")).values()
    assert message == one | {"layer": "relu6()"} and message["threshold"] == 4 and hooks(model) == 0
    assert table(nn.Sequential(model), x, layers=("0.relu6()",)).keys() == {"0.relu6()"}
    with pytest.raises(InputError, match=r"nothing of relu\(\) ran in this model"):
        table(model, x, layers=("relu()",))


def test_outputs_that_are_overwritten_later_are_seen_before() -> None:
    x = torch.randn((3, 4, 8, 8), generator=stream(0, "x"))
    one, two = (table(sequence(inplace), x, layers=("1",), measures=["spectrum"])["1"] for inplace in (False, True))
    assert one["participation_ratio"] == two["participation_ratio"]


class Residual(nn.Module):
    """A shortcut's sum made in place on the norm's own output, and one ReLU for all."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.norm1, self.norm2, self.relu = nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.second(self.relu(self.norm1(self.first(x)))))
        y += x
        return self.relu(y)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_one_module_called_twice_is_two_layers_and_a_sum_in_place_is_no_norm(mode: type) -> None:
    model = Residual().eval()
    with mode(), Probe(model, measures=["active"]) as found:
        model(torch.randn(2, 8, 5, 5, generator=stream(0, "x")))
    rows = found.table()
    assert [(row["layer"], row["threshold"]) for row in rows] == [("relu", 8), ("relu#2", None)]
    assert list(table(model, torch.randn(2, 8, 5, 5), layers=("relu#2",))) == ["relu#2"]


@pytest.mark.slow
def test_passes_under_inference_mode_and_without_add_up() -> None:
    model, x = small(), pictures(4)
    with Probe(model, measures=("active", "spectrum", "recovery"), sampling=FEW) as found:
        with torch.inference_mode():
            model(x[:2])
        model(x[2:])
    again = table(model, x)
    assert all(row["active_mean"] == pytest.approx(again[str(row["layer"])]["active_mean"]) for row in found.table())


def test_what_is_wrong_is_said_by_layer() -> None:
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.a, self.b, self.never = nn.Conv2d(3, 3, 1), nn.ReLU(), nn.ReLU6(), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(self.conv(x)).clone()
            y[0, 1] = torch.nan
            return self.b(y)

    rows = table(Odd(), torch.randn(1, 3, 4, 4), measures=EVERY)
    assert rows["a"]["note"].endswith("batches of one image") and rows["a"]["active_mean"] is not None
    assert "NaN or infinite in 1 channels" in rows["b"]["note"] and rows["b"]["active_mean"] is None
    assert rows["never"]["note"] == "never reached" and rows["never"]["active_mean"] is None
    infinite = table(nn.Sequential(nn.ReLU()), torch.full((2, 3), torch.inf), measures=["recovery"])["0"]
    assert infinite["note"] == "NaN or infinite"


def test_constant_and_dead_channels_are_found() -> None:
    model = sequence(False)
    with torch.no_grad():
        model[0].weight[:3] = 0  # constant before the norm
        model[1].bias[:3] = torch.tensor([-1.0, 2.0, 9.0])  # never active, active, always clipped
        model[1].bias[3] = -100  # varies, and never active
    row = table(model, torch.randn(4, 4, 9, 9), torch.randn(4, 4, 9, 9))["2"]
    assert (row["constant_input"], row["never_active"], row["always_saturated"]) == (3, 2, 1)


@pytest.mark.slow
def test_kinds_and_names_choose_layers() -> None:
    model, x = small(), pictures()
    blocks = table(model, x, layers="bottleneck", measures=["spectrum"])
    assert list(blocks) == [f"blocks.{place}.project.norm" for place in range(17) if
                            model.blocks[place].stage.outputs < model.blocks[place].stage.hidden]  # fmt: skip
    assert list(table(model, x, layers="block")) == [f"blocks.{place}" for place in range(17)]
    assert list(table(model, x, layers=("stem.act", "blocks.1?.expand.act"))) == ["stem.act"] + [
        f"blocks.{place}.expand.act" for place in range(10, 17)
    ]
    assert len(table(model, x, layers="convolution")) == 52 == len(table(model, x, layers="norm"))


@pytest.mark.slow
def test_inside_distributed_data_parallel(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        model, x = small().train(), pictures(3)
        plain = table(copy.deepcopy(model), x)
        parallel = nn.parallel.DistributedDataParallel(model)
        with Probe(model) as found:
            parallel(x).sum().backward()
        assert {str(row["layer"]): row for row in found.table()} == plain
    finally:
        torch.distributed.destroy_process_group()


def test_dimension_is_scikit_dimensions_on_the_same_points() -> None:
    model = nn.Sequential(nn.Conv2d(3, 20, 1, bias=False), nn.LeakyReLU())
    x = torch.randn((20, 3, 12, 12), generator=stream(0, "x"))
    with torch.no_grad(), Probe(model, measures=["dimension"], sampling=Sampling(positions=800)) as found:
        model(x)
    (row,) = found.table()
    points = found.layers["1"].sample.parts[0].numpy()
    assert row["two_nn"] == pytest.approx(skdim.id.TwoNN().fit(points).dimension_, rel=1e-2)
    theirs = skdim.id.MLE(K=20).fit(points, comb="mle").dimension_
    assert row["mle"] == pytest.approx(theirs, rel=0.08)  # (k - 2) where ours has (k - 1)
    assert metrics.likelihood_error(metrics.neighbours(torch.from_numpy(points), 20), 20) == row["mle_error"] < 0.1


def test_information_along_a_curve_is_all_there_through_an_isometry_and_less_behind_a_relu() -> None:
    frame = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(frame.weight)
    squeeze = nn.Sequential(frame, nn.Identity(), nn.Flatten(), nn.Linear(64, 3), nn.ReLU(), nn.Linear(3, 3)).eval()
    curve = Curve(points=150, radius=0.5)
    torch.manual_seed(0)
    with torch.no_grad():
        rows = information_along(squeeze, torch.randn(1, 8, 8), curve, "*")
    message = {row["layer"]: row["information"] for row in rows}
    points = curve.drawn - curve.drawn.mean(0)
    points = points / (points**2).sum(1).mean().sqrt()
    exact = metrics.known_channel_information(points[None], 0.03, 2000, stream(0, "noise"))
    assert message["0"] == pytest.approx(float(exact), abs=0.06) and message["0"] == pytest.approx(
        message["1"], abs=1e-3
    )
    assert message["4"] < message["0"] < np.log(150) + 0.05
    with torch.no_grad():
        inside = information_along(squeeze, torch.randn(1, 8, 8), Curve(points=150, space="3"), "*")
    assert [row["layer"] for row in inside if row["information"] is None] == ["0", "1", "2"]


@pytest.mark.slow
def test_torchvisions_and_timms_networks_have_their_thresholds() -> None:
    x = torch.randn((2, 3, 64, 64), generator=stream(0, "x"))
    rows = table(models.mobilenet_v2().eval(), x, measures=("active", "rank"), sampling=Sampling(positions=50))
    assert len(rows) == 35 and sum(row["threshold"] is not None for row in rows.values()) == 17
    assert all((row["full_rank"] is None) == (row["threshold"] is None) for row in rows.values())
    bottlenecks = table(models.resnet50().eval(), x)
    assert [row["threshold"] for row in list(bottlenecks.values())[1:4]] == [64, None, None]
    fused = table(timm.create_model("mobilenetv2_100").eval(), x)
    assert [row["threshold"] for row in fused.values()] == [row["threshold"] for row in rows.values()]
