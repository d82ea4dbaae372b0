"""What the trained ablations decide, on made-up lines; what is seen inside a network, against direct computations."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from sklearn.linear_model import LinearRegression
from test_contrast import final

from experiments import ext_expansion, ext_information, ext_shortcut_x_nonlinearity, ext_width_resolution, tab_block
from experiments.ext_information import LOSSES, Look
from manifold_lab import data, theory
from manifold_lab.core.random_streams import stream
from manifold_lab.models import matching
from manifold_lab.models.mobilenet import Activate, build
from manifold_lab.models.specs import DIGITS
from manifold_lab.report.tables import Lines
from manifold_lab.sweeps import ablation, runner, store
from manifold_lab.sweeps.store import Cell
from manifold_lab.sweeps.training_run import TrainingRun
from manifold_lab.training import RECIPES

LOOK = Look(TrainingRun(DIGITS, RECIPES["smoke"], "digits"), pictures=100, positions=300)
JITTER = (0.0, 0.01, -0.01)


def lines(levels: dict[tuple[str, str], float]) -> Lines:
    """Three seeds of every (arm, group) around its level, not equally far from it."""
    return [
        {**final(arm, seed, level + JITTER[(seed + place) % 3] / 10), "group": group, "madds": "1000000"}
        for place, ((arm, group), level) in enumerate(levels.items())
        for seed in range(3)
    ]


@pytest.mark.parametrize(("with_shortcut", "verdict"), [(0.79, "holds"), (0.60, "fails"), (0.701, "lacks runs")])
def test_a_shortcut_softens_only_what_is_lost_less_with_it(with_shortcut: float, verdict: str) -> None:
    found = lines({("linear", "none"): 0.7, ("relu6", "none"): 0.6, ("linear", "bottleneck"): 0.8,
                   ("relu6", "bottleneck"): with_shortcut})  # fmt: skip
    claims = ext_shortcut_x_nonlinearity.claims(found)
    assert [claim.verdict for claim in claims if claim.place == "Footnote 3"] == [verdict]


@pytest.mark.parametrize(("level", "verdict"), [(0.801, "holds"), (0.83, "fails"), (0.81, "lacks runs")])
def test_nearly_the_same_is_within_a_point(level: float, verdict: str) -> None:
    found = lines({("6", "0.35"): 0.8, ("8", "0.35"): level})
    claim = ext_expansion.near(found, ("0.35", "1000"), "8")
    assert claim.verdict == verdict and claim.estimate.value == pytest.approx(100 * (level - 0.8), abs=0.11)


def test_every_factor_and_block_costs_what_the_papers_does() -> None:
    base = ablation.cifar_setting(0.35).network
    price = matching.madds(base)
    for arms in (ext_expansion.ARMS, tab_block.ARMS):
        assert all(matching.madds(arm(base)) == pytest.approx(price, rel=0.01) for arm in arms.values())


def test_multipliers_are_compared_one_at_a_time() -> None:
    assert ext_width_resolution.steps("0.25 @ 32", "0.35 @ 32") and ext_width_resolution.steps("0.35 @ 24", "0.35 @ 32")
    assert not ext_width_resolution.steps("0.25 @ 24", "0.35 @ 32")
    assert not ext_width_resolution.steps("0.25 @ 32", "0.5 @ 32")
    assert not ext_width_resolution.steps("0.35 @ 32", "0.25 @ 32")
    found = lines({("linear", "0.25 @ 32"): 0.6, ("linear", "0.35 @ 32"): 0.5})
    assert [claim.verdict for claim in ext_width_resolution.claims(found)] == ["fails"]


def test_positions_are_what_the_projection_gives_and_the_hooks_go() -> None:
    network = build(DIGITS, stream(0, "weights")).eval()
    pictures = data.load("digits")
    clouds = ext_information.bottlenecks(network, pictures, LOOK)
    assert [tuple(cloud.shape) for cloud in clouds] == [(300, block.stage.outputs) for block in network.blocks]
    assert not any(module._forward_hooks for module in network.modules())
    x = torch.cat([x for x, _ in ext_information.shown(pictures, LOOK)])
    with torch.inference_mode():
        first = network.blocks[0]
        everything = first.project.norm(first.project.conv(first.depthwise(network.stem(x)))).movedim(1, -1)
    distance = torch.cdist(clouds[0].double(), everything.flatten(0, 2).double()).min(1).values
    assert distance.max() < 1e-4


def test_independent_channels_are_lost_as_the_binomial_says() -> None:
    network = build(DIGITS, stream(0, "weights"))
    cloud = torch.randn((4000, 8), generator=stream(0, "cloud"))
    seen = ext_information.describe(network, 0, cloud)
    k = round(float(seen["dimension"]))
    assert 4 <= k <= 8 and seen["channels"] == 8
    lost = float(theory.collapsed_fraction(8, min(8, k + 1)))
    assert seen["predicted_lost"] == lost
    assert seen["measured_lost"] == pytest.approx(lost, abs=4 * (lost * (1 - lost) / len(cloud)) ** 0.5)


def test_a_plane_in_eight_channels_has_two_dimensions() -> None:
    rng = stream(0, "plane")
    cloud = torch.randn((4000, 2), generator=rng) @ torch.randn((2, 8), generator=rng)
    seen = ext_information.describe(build(DIGITS, stream(0, "weights")), 0, cloud)
    assert seen["dimension"] == pytest.approx(2, abs=0.2) and seen["two_nn"] == pytest.approx(2, abs=0.2)


def test_a_lesions_cost_is_that_of_a_network_that_was_changed_by_hand() -> None:
    network = build(dataclasses.replace(DIGITS, dropout=0.0), stream(0, "weights")).eval()
    pictures = data.load("digits")
    costs = ext_information.lesion_costs(network, pictures, LOOK)
    changed = copy.deepcopy(network)
    changed.blocks[2].project.act = Activate("relu6")
    x, y = (torch.cat(parts) for parts in zip(*ext_information.shown(pictures, LOOK), strict=True))
    with torch.inference_mode():
        right = [(one(x).argmax(1) == y).double().mean().item() for one in (network, changed)]
    assert set(costs) == set(range(len(network.blocks)))
    assert costs[2] == pytest.approx(100 * (right[0] - right[1]))


def looked(cost: Callable[[int, np.random.Generator], float]) -> Lines:
    """Bottlenecks whose losses fall along depth, with noise, in five networks."""
    rng = np.random.default_rng(0)
    return [
        {"arm": "linear", "seed": str(seed), "shortcut": "identity", "block": str(block),
         "cost": str(cost(block, rng)), **dict.fromkeys(LOSSES, str(-block + 3 * rng.normal()))}
        for seed in range(5) for block in range(17)
    ]  # fmt: skip


@pytest.mark.parametrize(("sign", "verdict"), [(1, "holds"), (-1, "fails")])
def test_a_rank_correlation_follows_the_order(sign: int, verdict: str) -> None:
    found = looked(lambda block, rng: -sign * block + rng.normal())
    plain = [f", {where}, mean" for where in (ext_information.ALL, ext_information.AROUND)]
    ordered = [claim for claim in ext_information.claims(found) if any(where in claim.measure for where in plain)]
    assert [claim.verdict for claim in ordered] == [verdict] * 6
    assert all(-1 <= claim.estimate.low <= claim.estimate.high <= 1 for claim in ordered)
    assert ext_information.correlations([{**line, "cost": "1"} for line in found], "measured_lost") == {}


def test_what_only_depth_tells_is_no_correlation_given_depth() -> None:
    rng = np.random.default_rng(0)
    depth, shared = np.arange(400.0), rng.normal(size=400)
    first, second = (-depth + 50 * rng.normal(size=400) for _ in range(2))
    assert abs(ext_information.partial(first, second, depth)) < 4 / 400**0.5
    assert ext_information.partial(first + 100 * shared, second + 100 * shared, depth) > 0.5
    assert np.isnan(ext_information.partial(first, depth, depth))


def test_a_partial_correlation_is_that_of_the_residuals_of_the_ranks() -> None:
    x, y, z = np.random.default_rng(1).normal(size=(3, 60)) + np.linspace(0, 3, 60)
    one, two, three = (rankdata(values) for values in (x, y, z))
    left = [values - np.polyval(np.polyfit(three, values, 1), three) for values in (one, two)]
    assert ext_information.partial(x, y, z) == pytest.approx(np.corrcoef(left)[0, 1])
    half = np.arange(60) % 2 == 0
    given = np.stack([three, half], axis=1)
    left = [values - LinearRegression().fit(given, values).predict(given) for values in (one, two)]
    assert ext_information.partial(x, y, z, half) == pytest.approx(np.corrcoef(left)[0, 1])


def test_prediction_and_count_agree_where_they_are_near() -> None:
    def found(apart: float) -> str:
        lines = [{**line, "predicted_lost": "0.5", "measured_lost": str(0.5 + apart * (1 + 0.1 * int(line["seed"])))}
                 for line in looked(lambda block, _chance: block)]  # fmt: skip
        return ext_information.agreeing(lines).verdict

    assert [found(apart) for apart in (0.01, -0.01, 0.042, -0.2)] == ["holds", "holds", "lacks runs", "fails"]


def test_no_linear_network_is_told_as_no_runs() -> None:
    lines = [{**line, "arm": "relu6"} for line in looked(lambda block, _chance: block)]
    assert {claim.verdict for claim in ext_information.claims(lines)} == {"lacks runs"}
    ext_information.figure(lines)


def test_a_look_waits_for_a_training_that_runs_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = TrainingRun(DIGITS, dataclasses.replace(RECIPES["smoke"], images=64))
    asked, really = [], runner.run_cell

    def busy(work: runner.Work, cell: Cell) -> Cell:
        asked.append(cell.key)
        return really(work, cell) if len(asked) > 2 else dataclasses.replace(cell, state=store.RUNNING)

    monkeypatch.setattr(runner, "run_cell", busy)
    monkeypatch.setattr(ext_information, "WAIT", 0.0)
    assert ext_information.network_of(wanted, tmp_path).spec == DIGITS
    assert len(asked) == 3
