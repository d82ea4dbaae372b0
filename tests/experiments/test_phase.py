"""Intrinsic dimension against channels: a task that needs every coordinate, paired arms, claims that can fail."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from scipy.stats import binom

from experiments import ext_phase
from experiments.drawing.ext_phase import REGIONS
from experiments.ext_phase import CHANNELS, INTRINSIC, MARGIN, SEEDS
from manifold_lab import stream
from manifold_lab.core import config, resampling
from manifold_lab.core.errors import InputError
from manifold_lab.data import DataOptions, ManifoldTask, load, synthetic
from manifold_lab.models.mobilenet import build
from manifold_lab.models.weights import save_weights
from manifold_lab.random_layer import manifolds
from manifold_lab.random_layer.manifolds import ManifoldSpec, Points
from manifold_lab.report.tables import Record, pick
from manifold_lab.sweeps.store import Run
from manifold_lab.sweeps.training_run import WEIGHTS
from tests.tabled import tabled

CENTRED = ManifoldTask(ManifoldSpec("sphere", inputs=5), ambient=9, points=4000, centres=4)
STRETCHES = dataclasses.replace(CENTRED, centres=0)
PLACES = [(k, n) for k in INTRINSIC for n in CHANNELS]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for a p-value below .01."""
    monkeypatch.setattr(resampling, "RESAMPLES", 200)


def message(task: ManifoldTask, points: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    sampled = manifolds.sample(task.manifold, points, stream(0, "manifold"))
    return sampled.x, synthetic.classes(task, sampled, seed=0)


def neighbours_agree(x: torch.Tensor, y: torch.Tensor) -> float:
    """Accuracy of the nearest neighbour among the others."""
    near = torch.cdist(x, x).fill_diagonal_(math.inf).argmin(1)
    return float((y[near] == y).float().mean())


def shuffled(x: torch.Tensor, coordinate: int) -> torch.Tensor:
    order = torch.randperm(len(x), generator=stream(0, "shuffle", coordinate))
    return x.index_copy(1, torch.tensor([coordinate]), x[order, coordinate, None])


def test_a_class_with_centres_depends_on_every_coordinate() -> None:
    x, y = message(CENTRED)
    whole = neighbours_agree(x, y)
    assert whole > 0.6
    assert all(neighbours_agree(shuffled(x, coordinate), y) < whole - 0.15 for coordinate in range(5))


def test_a_stretch_of_a_sphere_depends_on_one_coordinate_alone() -> None:
    x, y = message(STRETCHES)
    order = x[:, 0].argsort()
    assert torch.equal(y[order], torch.arange(8).repeat_interleave(500))


def test_a_class_is_what_the_nearest_of_its_centres_says() -> None:
    x, y = message(CENTRED, points=400)
    first = torch.randperm(400, generator=stream(0, "centres"))[:32]
    assert y[first].tolist() == [place % 8 for place in range(32)]
    best = [max(range(32), key=lambda place: float(point @ x[first[place]])) % 8 for point in x]
    assert y.tolist() == best, "on a sphere the nearest centre has the largest inner product"


def test_every_class_is_there_and_centres_rename_no_older_run() -> None:
    data = load("manifold", options=DataOptions(task=CENTRED))
    assert all(len(split.y.bincount(minlength=8).nonzero()) == 8 for split in data.splits.values())
    assert config.key(STRETCHES) == config.key(ManifoldTask(ManifoldSpec("sphere", inputs=5), ambient=9))
    assert config.key(STRETCHES) != config.key(CENTRED)
    for wrong in ({"centres": -1}, {"centres": 51}):
        with pytest.raises(InputError, match="at least"):
            dataclasses.replace(CENTRED, **wrong)


def test_points_not_on_a_sphere_have_centres_too() -> None:
    line = Points(torch.arange(40.0)[:, None], torch.arange(40) / 40, 1)
    task = ManifoldTask(ManifoldSpec("line"), classes=2, points=40, centres=1)
    y = synthetic.classes(task, line, seed=0)
    a, b = torch.randperm(40, generator=stream(0, "centres"))[:2].tolist()
    assert y.tolist() == [int(abs(place - b) < abs(place - a)) for place in range(40)]


@pytest.mark.parametrize("smoke", [True, False])
def test_both_arms_have_the_same_seeds_and_one_changed_word(smoke: bool) -> None:
    trials = ext_phase.grid(smoke)
    made = {
        arm: [dataclasses.replace(t, arm="", network=dataclasses.replace(t.network, bottleneck_activation="linear"))
              for t in trials if t.arm == arm]
        for arm in ext_phase.ARMS
    }  # fmt: skip
    assert made["linear"] == made["relu6"]
    telling = sum(n > k for k in INTRINSIC for n in CHANNELS)
    whole = 2 * (len(PLACES) * SEEDS + telling * (ext_phase.MORE_SEEDS - SEEDS))
    assert len({config.key(trial) for trial in trials}) == len(trials) == (16 if smoke else whole)
    assert all(trial.network.bottleneck_activation == trial.arm for trial in trials)


@pytest.mark.parametrize("n", CHANNELS)
def test_nothing_but_the_bottleneck_is_narrow(n: int) -> None:
    network = build(ext_phase.base(n))
    widths = [module.out_channels for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert widths == [64, 64, n, 128]


def test_regions_end_where_the_binomial_crosses() -> None:
    _, (_, lost), (_, not_all) = REGIONS.values()
    for k in range(1, 17):
        assert lost(k, 2 * k) and not lost(k, 2 * k + 1), "the median of Binomial(2k + 1, 1/2)"
        first = next(n for n in range(1, 200) if binom.sf(k, n, 0.5) > 0.99)
        assert not_all(k, first - 1) and not not_all(k, first)


def lines(cost: dict[tuple[int, int], float], seeds: int = 5, spread: float = 0.1, kept: float = 0.9) -> list[Record]:
    """Accuracy 80 % of the linear bottleneck; of ReLU6 less by so many points, up to a spread over seeds."""
    return [
        {"k": str(k), "n": str(n), "arm": arm, "seed": str(seed), "state": "done",
         "preserved": str(binom.sf(k, n, 0.5)), "trained": str(kept) if arm == "relu6" else "",
         "test_accuracy": str(0.8 - (points + spread * (seed - 2)) / 100 * (arm == "relu6"))}
        for (k, n), points in cost.items() for seed in range(seeds) for arm in ext_phase.ARMS
    ]  # fmt: skip


def verdicts(found: list[Record]) -> list[str]:
    return [claim.verdict for claim in ext_phase.claims(tabled(found))]


@pytest.mark.slow
def test_claims_hold_where_the_cost_follows_theory_and_fail_where_it_runs_against() -> None:
    lost = {place: 1 - binom.sf(place[0], place[1], 0.5) for place in PLACES}
    follows = lines({place: 20 * share for place, share in lost.items()})
    against = lines({place: 20 * (1 - share) - 10 for place, share in lost.items()})
    assert verdicts(follows) == ["holds"] * 5
    assert verdicts(against)[:4] == ["fails"] * 4


@pytest.mark.slow
def test_a_cost_everywhere_is_not_loss() -> None:
    found = verdicts(lines({place: 3 * MARGIN for place in PLACES}))
    assert found[:3] == ["holds", "holds", "fails"], "what costs the same where nothing is lost refutes the third"


@pytest.mark.slow
def test_claims_lack_runs_where_seeds_disagree_or_cells_are_missing() -> None:
    noisy = {place: 1.0 for place in PLACES}
    assert verdicts(lines(noisy, spread=20))[:3] == ["undecided"] * 3
    assert verdicts(lines({(1, 2): 9.0, (2, 2): 9.0}, seeds=1)) == [
        "undecided",
        "undecided",
        *["not run"] * 2,
        "undecided",
    ]
    assert set(verdicts(lines({place: 20.0 for place in PLACES}, seeds=4))) == {"undecided"}, (
        "four seeds decide nothing"
    )


@pytest.mark.slow
def test_what_training_keeps_is_held_against_random_rows() -> None:
    cost = dict.fromkeys(PLACES, 1.0)
    assert [verdicts(lines(cost, kept=kept))[4] for kept in (0.9, 0.1)] == ["holds", "fails"]
    claim = ext_phase.claims(tabled(lines(cost, kept=0.9)))[4]
    theory = [binom.sf(k, n, 0.5) for k, n in ((1, 2), (2, 4), (4, 8), (8, 16))]
    assert claim.estimate.value == pytest.approx(0.9 - sum(theory) / 4)


def test_activity_counts_the_channels_that_a_hook_sees(tmp_path: Path) -> None:
    one = next(trial for trial in ext_phase.grid(smoke=True) if trial.group == "2 4" and trial.arm == "relu6")
    network = build(one.network, stream(3, "weights")).eval()
    save_weights(network, tmp_path / WEIGHTS)
    found = ext_phase.activity(Run(one, tmp_path, "done"), 2)
    data, seen = load("manifold", options=DataOptions(resolution=1, task=one.task)), []
    network.blocks[0].project.norm.register_forward_hook(lambda _module, _x, y: seen.append(y))
    assert torch.is_tensor(network(next(data.evaluation("test", 10_000))[0]))
    inside = (seen[0] > 0) & (seen[0] < 6)
    assert found["active"] == pytest.approx(inside.double().mean().item())
    assert found["trained"] == pytest.approx((inside.sum((1, 2, 3)) >= 3).double().mean().item())


def test_a_seed_that_lacks_an_arm_or_diverged_is_left_out() -> None:
    whole = lines({(1, 2): 5.0})
    broken = [{**line, "state": "diverged", "test_accuracy": ""} if line["seed"] == "0" and line["arm"] == "relu6"
              else line for line in whole]  # fmt: skip
    pair = ext_phase.paired(tabled(broken)).dropna().set_index("seed")
    assert list(pair.index) == [1, 2, 3, 4]
    assert pair["linear"][3] - pair["relu6"][3] == pytest.approx(5.1)


def test_one_arm_alone_is_drawn_as_nothing() -> None:
    alone = pick(tabled(lines({(1, 2): 1.0})), arm="linear")
    ext_phase.STUDY.figure(alone)
    assert {claim.verdict for claim in ext_phase.claims(alone)} == {"not run"}
