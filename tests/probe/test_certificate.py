"""The measure `certificate`: networks whose answers are known, and numpy's decompositions."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from manifold_lab import stream
from manifold_lab.probe import LayerRow, Probe, Sampling
from manifold_lab.probe.certificate import COLUMNS
from tests.networks import pictures, small


def normal(name: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=stream(0, name))


def rows_of(
    model: nn.Module, x: torch.Tensor, measures: tuple[str, ...] = ("certificate",), points: int = 100
) -> dict[str, LayerRow]:
    with torch.no_grad(), Probe(model, measures=measures, sampling=Sampling(positions=points)) as probe:
        model(x)
    return {str(row["layer"]): row for row in probe.table()}


def judged(model: nn.Module, x: torch.Tensor) -> LayerRow:
    return rows_of(model.eval(), x)["1"]


def pointwise(matrix: torch.Tensor, bias: float, activation: nn.Module) -> nn.Sequential:
    linear = nn.Linear(matrix.shape[1], len(matrix))
    with torch.no_grad():
        linear.weight.copy_(matrix)
        linear.bias.fill_(bias)
    return nn.Sequential(linear, activation)


BOTH = torch.cat([torch.eye(3), -torch.eye(3)])


def test_rows_and_their_opposites_are_certified_everywhere_with_the_margin_of_the_smallest_coordinate() -> None:
    x = normal("x", 60, 3)
    row = judged(pointwise(2 * BOTH, 0.0, nn.ReLU()), x)
    least = x.abs().amin(1).numpy()
    assert (row["certified"], row["certificate_points"], row["ball"]) == (1, 60, "certified")
    assert row["least_singular_value"] == pytest.approx(2) and row["stability"] == pytest.approx(math.sqrt(2))
    assert row["margin"] == pytest.approx(least.min(), rel=1e-5)
    assert row["margin_median"] == pytest.approx(np.sort(least)[29], rel=1e-5)
    assert row["data_radius"] == pytest.approx(float((x - x.mean(0)).norm(dim=1).max()), rel=1e-5)
    assert row["verdict"] == "certified on every one of 60 positions; and on the whole ball that holds them"


def test_the_ball_of_positive_data_is_certified_when_it_stays_positive_and_refuted_when_not() -> None:
    near, far = 5 + normal("x", 50, 3) / 10, 0.05 + normal("x", 50, 3).abs()
    found = [judged(pointwise(torch.eye(3), 0.0, nn.ReLU()), x) for x in (near, far)]
    assert [row["certified"] for row in found] == [1, 1]
    assert [row["ball"] for row in found] == ["certified", "refuted"]
    assert "two inputs in the ball" in str(found[1]["verdict"])


def test_a_share_of_positions_is_certified_and_the_ball_then_refuted_at_any_width() -> None:
    x = normal("x", 90, 12)
    matrix = normal("rows", 24, 12)
    row = judged(pointwise(matrix, 0.2, nn.ReLU()), x)
    active = (x @ matrix.mT + 0.2 > 0).numpy()
    full = [np.linalg.matrix_rank(matrix.numpy()[one]) == 12 for one in active]
    assert 0 < np.mean(full) < 1 and row["certified"] == pytest.approx(np.mean(full))
    assert row["ball"] == "refuted" and row["least_singular_value"] == 0 == row["stability"]
    assert float(row["margin"] or 0) < 0


def test_relu6_clips_are_inactive_and_bound_the_stability() -> None:
    x = 4 * normal("x", 80, 3)
    wide = torch.cat([BOTH, BOTH / 10])
    row = judged(pointwise(wide, 0.0, nn.ReLU6()), x)
    radius = float((x - x.mean(0)).norm(dim=1).max())
    least = min(
        np.linalg.svd(wide.numpy() * ((y > 0) & (y < 6)).numpy()[:, None], compute_uv=False)[-1] for y in x @ wide.mT
    )
    assert row["certified"] == 1 and row["least_singular_value"] == pytest.approx(least, rel=1e-5)
    assert row["stability"] == pytest.approx(min(least / math.sqrt(2), 3 / radius), rel=1e-5)
    clipped = judged(pointwise(BOTH, 60.0, nn.ReLU6()), x)
    assert clipped["certified"] == 0 and clipped["ball"] == "refuted"


def test_fewer_outputs_than_inputs_are_never_injective() -> None:
    row = judged(pointwise(normal("rows", 4, 9), 0.0, nn.ReLU()), normal("x", 20, 9))
    assert row["verdict"] == "not injective on any open set: 4 outputs at a position for 9 inputs"
    assert (row["certified"], row["ball"]) == (0, "refuted")


@pytest.mark.slow
def test_a_network_s_expansions_agree_with_rank_and_its_other_layers_say_why_not() -> None:
    found = rows_of(small(), pictures(1), ("rank", "certificate"), 30)
    expansions = [row for row in found.values() if row["threshold"]]
    assert len(expansions) > 10
    for row in expansions:
        assert row["certified"] == pytest.approx(row["full_rank"], abs=0.011)
        if row["certified"] == 1:
            assert row["least_singular_value"] == pytest.approx(row["singular_value_min"], rel=1e-3)
    assert all(row["verdict"] for row in found.values())


def test_a_convolution_is_judged_by_its_patches() -> None:
    model = nn.Sequential(nn.Conv2d(2, 60, 3, padding=1), nn.ReLU()).eval()
    x = normal("maps", 1, 2, 8, 8)
    row = rows_of(model, x)["1"]
    y = model(x).detach().flatten(2)[0].mT.numpy()
    weight = model[0].weight.detach().flatten(1).numpy()
    singular = [np.linalg.svd(weight[one > 0], compute_uv=False)[-1] for one in y]
    assert min((y > 0).sum(1)) >= 18 and row["certified"] == 1
    assert row["least_singular_value"] == pytest.approx(min(singular), rel=1e-4)
    assert row["ball"] == "not decided" and row["data_radius"] is None
    assert "patches from their own outputs" in str(row["verdict"])


@pytest.mark.parametrize(
    ("convolution", "verdict"),
    [
        (nn.Conv2d(4, 8, 3, padding=1), "not decided: a patch alone has 8 outputs for 36 inputs, but patches overlap"),
        (nn.Conv2d(4, 8, 3, stride=2), "not injective on any open set: 72 outputs of a map for 196 inputs"),
        (nn.Conv2d(4, 8, 3, groups=2), "not decided: a convolution of several groups with several channels each"),
        (nn.Conv2d(4, 8, 3, groups=4), "not decided: several outputs of each channel"),
        (nn.Conv2d(4, 4, 3, groups=4), "not injective on any open set: 36 outputs of a channel for 64 inputs"),
    ],
    ids=["overlap", "strided", "grouped", "multiplied", "depthwise"],
)
def test_what_counting_alone_says_of_a_convolution(convolution: nn.Conv2d, verdict: str) -> None:
    size = 7 if convolution.stride == (2, 2) else 8 if convolution.groups == 4 else 5
    row = judged(nn.Sequential(convolution, nn.ReLU()), normal("maps", 2, 4, size, size))
    assert row["verdict"] == verdict


def depthwise(shift: tuple[float, ...]) -> nn.Sequential:
    convolution = nn.Conv2d(len(shift), len(shift), 3, padding=1, groups=len(shift))
    with torch.no_grad():
        convolution.weight.copy_(normal("kernel", *convolution.weight.shape) / 20)
        convolution.weight[:, 0, 1, 1] += 1
        convolution.bias.copy_(torch.tensor(shift))
    return nn.Sequential(convolution, nn.ReLU())


def test_a_depthwise_channel_is_certified_where_all_of_its_outputs_are_active_and_its_map_is_invertible() -> None:
    x = normal("maps", 4, 2, 6, 6)
    model = depthwise((20.0, 20.0))
    row = judged(model, x)
    impulses = torch.eye(36).reshape(36, 1, 6, 6).expand(-1, 2, -1, -1)
    maps = (model[0](impulses) - 20).detach().flatten(2).transpose(0, 1).numpy()
    least = min(np.linalg.svd(one, compute_uv=False)[-1] for one in maps)
    assert row["certified"] == 1 and row["least_singular_value"] == pytest.approx(least, rel=1e-4)
    assert "on all images in 100.0% of channels" in str(row["verdict"])
    half = judged(depthwise((20.0, 0.0)), x)
    assert half["certified"] == 0.5 and half["ball"] == "refuted"
    large = judged(depthwise((20.0, 0.0)), normal("large", 1, 2, 40, 40))
    assert large["certified"] is None and str(large["verdict"]).startswith("at most 50.0% of channels")
    none = judged(depthwise((0.0, 0.0)), x)
    assert none["certified"] == 0 and "an inactive output in some image" in str(none["verdict"])


def test_layers_that_it_cannot_see_are_left_empty_and_named() -> None:
    x = normal("maps", 4, 3, 6, 6)
    training = nn.Sequential(nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12), nn.ReLU())
    smooth = nn.Sequential(nn.Conv2d(3, 12, 1), nn.GELU())
    for model, place in ((training, "2"), (smooth, "1")):
        row = rows_of(model, x)[place]
        assert all(row[name] is None for name in COLUMNS) and "not fixed and piecewise linear" in str(row["note"])
    assert rows_of(nn.Sequential(nn.ReLU()), x)["0"]["verdict"] is None


def test_a_batch_norm_is_folded_in() -> None:
    x = normal("maps", 3, 3, 5, 5)
    norm = nn.BatchNorm2d(12).eval()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2, generator=stream(0, "norm"))
        norm.bias.uniform_(-1, 1, generator=stream(1, "norm"))
        norm.running_mean.uniform_(-1, 1, generator=stream(2, "norm"))  # type: ignore[union-attr]
    model = nn.Sequential(nn.Conv2d(3, 12, 1), norm, nn.ReLU()).eval()
    row = rows_of(model, x)["2"]
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()  # type: ignore[operator]
    matrix = (scale[:, None] * model[0].weight.detach().flatten(1)).numpy()
    y = model(x).detach().movedim(1, -1).flatten(0, 2).numpy()
    singular = [np.linalg.svd(matrix * (one > 0)[:, None], compute_uv=False)[-1] for one in y]
    if row["certified"] == 1:
        assert row["least_singular_value"] == pytest.approx(min(singular), rel=1e-4)
    assert row["certified"] == pytest.approx(np.mean(np.array(singular) > 1e-5), abs=0.02)
