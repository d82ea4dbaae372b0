"""What is measured of a trained network's bottlenecks, against direct computations; and what their ranks decide."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.linear_model import LinearRegression

from experiments import ext_information
from manifold_lab import data, theory
from manifold_lab.core import resampling
from manifold_lab.core.random_streams import stream
from manifold_lab.core.resampling import rank_correlation
from manifold_lab.models.mobilenet import Activate, build
from manifold_lab.models.specs import DIGITS
from manifold_lab.report.tables import Record
from manifold_lab.sweeps import information_run, runner, store
from manifold_lab.sweeps.information_run import InformationRun, RepairRun
from manifold_lab.sweeps.store import Run
from manifold_lab.sweeps.training_run import TrainingRun
from manifold_lab.training import RECIPES
from tests.tabled import tabled

RUN = InformationRun(TrainingRun(DIGITS, RECIPES["smoke"], "digits"), images=100, positions=300)
FEW = 100
"""Resamples: enough to see which way a verdict goes."""


def test_positions_are_what_the_projection_gives_and_the_hooks_go() -> None:
    network = build(DIGITS, stream(0, "weights")).eval()
    images = data.load("digits")
    clouds = information_run.bottlenecks(network, images, RUN)
    assert [tuple(cloud.shape) for cloud in clouds] == [(300, block.stage.outputs) for block in network.blocks]
    assert not any(module._forward_hooks for module in network.modules())
    x = torch.cat([x for x, _ in information_run.image_batches(images, RUN)])
    with torch.inference_mode():
        first = network.blocks[0]
        everything = first.project.norm(first.project.conv(first.depthwise(network.stem(x)))).movedim(1, -1)
    distance = torch.cdist(clouds[0].double(), everything.flatten(0, 2).double()).min(1).values
    assert distance.max() < 1e-4


def test_independent_channels_are_lost_as_the_binomial_says() -> None:
    network = build(DIGITS, stream(0, "weights"))
    cloud = torch.randn((4000, 8), generator=stream(0, "cloud"))
    seen = information_run.bottleneck_row(network, 0, cloud)
    k = round(float(seen["dimension"]))
    assert 4 <= k <= 8 and seen["channels"] == 8
    lost = float(theory.collapsed_fraction(8, min(8, k + 1)))
    assert seen["predicted_lost"] == lost
    assert seen["measured_lost"] == pytest.approx(lost, abs=4 * (lost * (1 - lost) / len(cloud)) ** 0.5)


def test_a_plane_in_eight_channels_has_two_dimensions() -> None:
    rng = stream(0, "plane")
    cloud = torch.randn((4000, 2), generator=rng) @ torch.randn((2, 8), generator=rng)
    seen = information_run.bottleneck_row(build(DIGITS, stream(0, "weights")), 0, cloud)
    assert seen["dimension"] == pytest.approx(2, abs=0.2) and seen["two_nn"] == pytest.approx(2, abs=0.2)


def test_a_lesions_cost_is_that_of_a_network_that_was_changed_by_hand() -> None:
    network = build(dataclasses.replace(DIGITS, dropout=0.0), stream(0, "weights")).eval()
    images = data.load("digits")
    costs = information_run.lesion_costs(network, images, RUN)
    changed = copy.deepcopy(network)
    changed.blocks[2].project.act = Activate("relu6")
    x, y = (torch.cat(parts) for parts in zip(*information_run.image_batches(images, RUN), strict=True))
    with torch.inference_mode():
        right = [(one(x).argmax(1) == y).double().mean().item() for one in (network, changed)]
    assert set(costs) == set(range(len(network.blocks)))
    assert costs[2] == pytest.approx(100 * (right[0] - right[1]))


@pytest.mark.slow
def test_repaired_costs_are_those_of_a_network_that_was_mended_by_hand() -> None:
    network = build(dataclasses.replace(DIGITS, dropout=0.0), stream(0, "weights")).eval()
    images, run = data.load("digits"), RepairRun(RUN.training, images=100)
    rows = information_run.repaired_costs(network, images, run)
    assert [row["block"] for row in rows] == [*range(len(network.blocks)), information_run.ALL_BLOCKS]
    costs = information_run.lesion_costs(network, images, run)
    assert {place: rows[place]["cost"] for place in costs} == pytest.approx(costs)
    ((x, y),) = information_run.image_batches(images, run)
    right = 0
    for start in (0, 1):
        block = network.blocks[2].project
        with torch.inference_mode():
            reached = [network.stem(part) for part in (x[1 - start :: 2], x[start::2])]
            for place in (0, 1):
                reached = [network.blocks[place](part)[0] for part in reached]
            fit, shown = (block.norm(block.conv(network.blocks[2].depthwise(network.blocks[2].expand(part))))
                          for part in reached)  # fmt: skip
            rows_of = [one.movedim(1, -1).flatten(0, 2).numpy() for one in (fit, shown)]
            map_back = LinearRegression().fit(rows_of[0].clip(0, 6), rows_of[0])
            mended = torch.from_numpy(map_back.predict(rows_of[1].clip(0, 6))).float()
            after = network.blocks[2].join(
                reached[1], mended.unflatten(0, shown.movedim(1, -1).shape[:3]).movedim(-1, 1)
            )
            for block_after in network.blocks[3:]:
                after = block_after(after)[0]
            scores = network.head(network.last(after))
        right += int((scores.argmax(1) == y[start::2]).sum())
    with torch.inference_mode():
        before = int((network(x).argmax(1) == y).sum())
    assert rows[2][ext_information.REPAIRED] == pytest.approx(100 * (before - right) / len(y))


def bottleneck_lines(cost: Callable[[int, np.random.Generator], float], networks: int = 5) -> list[Record]:
    """Bottlenecks whose losses fall along depth, with noise that all networks share, in five networks."""
    rng = np.random.default_rng(0)
    shared = 2 * rng.normal(size=17)
    return [
        dict.fromkeys(ext_information.COLUMNS) |
        {"arm": "linear", "seed": str(seed), "shortcut": "identity" if block % 3 else "none", "block": str(block),
         "channels": "16", "dimension_5": "", "two_nn": str(17 - block), "cost": str(cost(block, rng)),
         **dict.fromkeys(("predicted_lost", "measured_lost"), str(-block + shared[block] + 0.1 * rng.normal()))}
        for seed in range(networks) for block in range(17)
    ]  # fmt: skip


def verdicts(lines: list[Record], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(resampling, "RESAMPLES", FEW)
    return {claim.id: claim.verdict for claim in ext_information.claims(tabled(lines))}


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "verdict"), [(1, "holds"), (-1, "fails")])
def test_a_rank_correlation_follows_the_order(sign: int, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = verdicts(bottleneck_lines(lambda block, rng: -sign * block + rng.normal()), monkeypatch)
    for name in ("predicted_lost", "measured_lost", "earliness"):
        assert (found[f"cost_goes_with/{name}/all"], found[f"cost_goes_with/{name}/shortcut"]) == (verdict, verdict)
    assert found["cost_goes_with/predicted_lost_5/all"] == "not run", "no run has measured it"
    assert found["better_than_depth/predicted_lost"] == ("fails" if sign == 1 else "holds")


@pytest.mark.slow
def test_blocks_and_not_networks_are_the_replicate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", FEW)
    studies, decided, by_network = 40, 0, 0
    rng = np.random.default_rng(1)
    for _ in range(studies):
        loss, cost = rng.normal(size=(2, 17))  # unrelated, and the same in every network but for noise
        columns = [np.stack([loss + 0.5 * rng.normal(size=17), cost + 0.5 * rng.normal(size=17)]) for _ in range(5)]
        found = resampling.resampled(17, lambda order, of=columns: ext_information.correlation(of, order), rng)
        each = [spearmanr(*pair).statistic for pair in columns]
        by_network += abs(np.mean(each)) > 2.776 * np.std(each, ddof=1) / 5**0.5
        decided += found.exceeds(0) is not None
    assert decided / studies < 0.05 + 3 * (0.05 * 0.95 / studies) ** 0.5 < by_network / studies


def test_the_bootstrap_covers_and_the_permutation_is_scipys() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=60)
    found = resampling.resampled(60, lambda order: float(values[order].mean()), rng)
    half = 1.96 * values.std() / 60**0.5
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    x, y = rng.normal(size=(2, 60)) + 0.2 * rng.normal(size=60)
    p_value = resampling.permutation_p(60, lambda order: float(np.corrcoef(x, y[order])[0, 1]), rng)
    exact = pearsonr(x, y).pvalue
    assert p_value == pytest.approx(exact, abs=4 * (exact * (1 - exact) / resampling.RESAMPLES) ** 0.5 + 0.002)
    assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert resampling.resampled(0, lambda _: 0.0, rng).n == 0


def test_what_only_depth_tells_is_no_correlation_given_depth() -> None:
    rng = np.random.default_rng(0)
    depth, shared = np.arange(400.0), rng.normal(size=400)
    first, second = (-depth + 50 * rng.normal(size=400) for _ in range(2))
    assert abs(rank_correlation(first, second, depth)) < 4 / 400**0.5
    assert rank_correlation(first + 100 * shared, second + 100 * shared, depth) > 0.5
    assert np.isnan(rank_correlation(first, depth, depth))


def test_a_partial_correlation_is_that_of_the_residuals_of_the_ranks() -> None:
    x, y, z = np.random.default_rng(1).normal(size=(3, 60)) + np.linspace(0, 3, 60)
    one, two, three = (rankdata(values) for values in (x, y, z))
    left = [values - np.polyval(np.polyfit(three, values, 1), three) for values in (one, two)]
    assert rank_correlation(x, y, z) == pytest.approx(np.corrcoef(left)[0, 1])
    half = np.arange(60) % 2 == 0
    given = np.stack([three, half], axis=1)
    left = [values - LinearRegression().fit(given, values).predict(given) for values in (one, two)]
    assert rank_correlation(x, y, z, half) == pytest.approx(np.corrcoef(left)[0, 1])


def test_prediction_and_count_agree_where_they_are_near() -> None:
    def found(apart: float) -> str:
        lines = [{**line, "predicted_lost": "0.5", "measured_lost": str(0.5 + apart * (1 + 0.5 * (block % 3)))}
                 for block, line in enumerate(bottleneck_lines(lambda block, _rng: block, networks=1))]  # fmt: skip
        return ext_information.agreeing(tabled(lines)).verdict

    assert [found(apart) for apart in (0.01, -0.01, 0.033, -0.2)] == ["holds", "holds", "undecided", "fails"]


def test_no_linear_network_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{**line, "arm": "relu6"} for line in bottleneck_lines(lambda block, _rng: block)]
    assert set(verdicts(lines, monkeypatch).values()) == {"not run"}
    ext_information.STUDY.figure(tabled(lines))


def test_a_run_waits_for_a_training_that_runs_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = TrainingRun(DIGITS, dataclasses.replace(RECIPES["smoke"], images=64))
    asked, really = [], runner.run_one

    def busy(work: runner.Work, run: Run) -> Run:
        asked.append(run.key)
        return really(work, run) if len(asked) > 2 else dataclasses.replace(run, state=store.RUNNING)

    monkeypatch.setattr(runner, "run_one", busy)
    monkeypatch.setattr(information_run, "WAIT", 0.0)
    assert information_run.awaited_network(wanted, tmp_path).spec == DIGITS
    assert len(asked) == 3
