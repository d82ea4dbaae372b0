"""A trial: its numbers come out again from the network that it left, and every way to end has its lines."""

import dataclasses
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch.nn import functional

from manifold_lab import stream
from manifold_lab.core.config import key
from manifold_lab.core.errors import DivergedError, InputError
from manifold_lab.data import load
from manifold_lab.models.bottlenecks import read_bottlenecks
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import DIGITS, V1_TENSORFLOW, NetworkSpec
from manifold_lab.models.weights import open_weights, save_weights
from manifold_lab.sweeps import runner, training_run
from manifold_lab.sweeps.store import ABSENT, DIVERGED, DONE, FAILED, PROGRESS, RUNNING, Run, history
from manifold_lab.sweeps.training_run import CURVE, FINAL, TrainingRun, trained_network
from manifold_lab.training import RECIPES
from tests.networks import SMALL, lively

pytestmark = pytest.mark.slow

BATCH, STEPS = 32, 60
RECIPE = dataclasses.replace(
    RECIPES["smoke"], images=BATCH * STEPS, batch_size=BATCH, learning_rate=0.03, evaluate_every=BATCH * 25
)
TRIAL = TrainingRun(DIGITS, RECIPE, seed=3, arm="plain", group="small")
LOST = dataclasses.replace(TRIAL, recipe=dataclasses.replace(RECIPE, learning_rate=1e30))
WORK = runner.Work(training_run.run_training)
SPECS = {
    "digits": DIGITS,
    "expansion": dataclasses.replace(SMALL, shortcut="expansion", bottleneck_activation="relu6", norm="group"),
    "classic": dataclasses.replace(SMALL, block="classic", shortcut="none"),
    "separable": dataclasses.replace(V1_TENSORFLOW, width=0.25, num_classes=7),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def ended(runs: Path, spec: TrainingRun) -> Run:
    return runner.run_one(WORK, Run(spec, runs / training_run.TRAINING_RUNS / key(spec)))


@pytest.fixture(scope="module")
def done(runs: Path) -> Run:
    return ended(runs, TRIAL)


@pytest.fixture(scope="module")
def lost(runs: Path) -> Run:
    return ended(runs, LOST)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_numbers_come_out_again_from_the_network_that_was_kept(runs: Path, done: Run, split: str) -> None:
    data = load("digits", seed=TRIAL.seed)
    ((x, y),) = data.evaluation(split, data.size(split))
    with torch.no_grad():
        logits = trained_network(runs, done.key)(x).double()
    assert done.numbers[f"{split}_pictures"] == len(y)
    assert done.numbers[f"{split}_accuracy"] == pytest.approx((logits.argmax(1) == y).double().mean().item(), abs=1e-12)
    assert done.numbers[f"{split}_loss"] == pytest.approx(functional.cross_entropy(logits, y).item(), rel=1e-5)
    assert done.numbers[f"{split}_accuracy"] > 0.4, "it has learned: an untrained network would not do"


def test_bottlenecks_are_fitted_on_one_half_of_validation_and_measured_on_the_other(runs: Path, done: Run) -> None:
    data = load("digits", seed=TRIAL.seed)
    half = data.size("validation") // 2
    assert half % training_run.HELD_OUT_BATCH, "the last batch of a half is smaller"
    ((x, _),) = data.evaluation("validation", data.size("validation"))
    found = read_bottlenecks(trained_network(runs, done.key), [x[:half]], [x[half : 2 * half]])
    for message, one in zip(done.numbers["bottlenecks"], found, strict=True):
        assert message == pytest.approx(dataclasses.asdict(one), rel=1e-5)


def test_the_same_trial_under_another_name_ends_alike_and_another_seed_does_not(tmp_path: Path, done: Run) -> None:
    named = dataclasses.replace(TRIAL, arm="other", group="")
    for spec, same in ((named, True), (dataclasses.replace(TRIAL, seed=4), False)):
        numbers = dict(training_run.run_training(spec, tmp_path / str(spec.seed)).numbers) | {"images_per_second": 0}
        assert (numbers == dict(done.numbers) | {"images_per_second": 0}) is same


def test_history_ends_with_the_final_validation_and_progress_with_nothing_left(done: Run) -> None:
    *_, last = history(done)
    assert float(last["validation_accuracy"]) == done.numbers["validation_accuracy"]
    assert float(last["validation_loss"]) == done.numbers["validation_loss"]
    assert [int(row["step"]) for row in history(done)] == [25, 40, 50, STEPS], (
        "every 25 steps, at the epoch's end, at the end"
    )
    message = json.loads((done.folder / PROGRESS).read_text(encoding="utf-8"))
    assert (message["step"], message["steps"], message["seconds_left"]) == (STEPS, STEPS, 0)
    assert message["images_per_second"] > 0


def test_a_trial_that_diverges_tells_the_step_and_leaves_no_network(tmp_path: Path, runs: Path, lost: Run) -> None:
    with pytest.raises(DivergedError) as message:
        training_run.run_training(LOST, tmp_path)
    assert message.value.step == 2, "the first loss is that of the initial weights"
    assert not list(tmp_path.rglob("*.safetensors"))
    assert (lost.state, lost.note) == (DIVERGED, "at step 2: the loss is not finite")
    with pytest.raises(InputError, match="tells no network"):
        trained_network(runs, lost.key)


def test_a_finished_trial_has_a_line_per_evaluation_and_a_final_one(done: Run) -> None:
    *curves, final = training_run.training_rows([done])
    rows = [row for row in history(done) if row["kind"] == "evaluation"]
    assert len(curves) == len(rows) == 3 and len(history(done)) == 4
    for line, row in zip(curves, rows, strict=True):
        shared = ("images", "train_loss", "validation_accuracy")
        assert (line["kind"], line["test_accuracy"]) == (CURVE, None)
        assert [line[name] for name in shared] == [row[name] for name in shared]
    assert (final["kind"], final["state"], final["train_loss"]) == (FINAL, DONE, None)
    for name in ("validation_accuracy", "test_accuracy"):
        assert float(final[name]) == pytest.approx(done.numbers[name], rel=1e-5)
    facts = {"arm": "plain", "group": "small", "length": BATCH * STEPS, "data": "digits", "seed": 3}
    assert all(facts.items() <= line.items() for line in (*curves, final))
    assert final["images"] == facts["length"] and tuple(final) == training_run.TRAINING_COLUMNS


def test_a_trial_that_diverged_or_failed_has_one_line_with_no_numbers(tmp_path: Path, lost: Run) -> None:
    failed = Run(TRIAL, tmp_path, FAILED, note="OSError: no room")
    lines = training_run.training_rows([lost, failed])
    assert [(line["kind"], line["state"]) for line in lines] == [(FINAL, DIVERGED), (FINAL, FAILED)]
    for line in lines:
        assert [line[name] for name in ("train_loss", "validation_accuracy", "test_accuracy")] == [None] * 3


@pytest.mark.parametrize("state", [ABSENT, RUNNING])
def test_a_trial_that_has_not_ended_has_no_line(tmp_path: Path, state: str) -> None:
    assert training_run.training_rows([Run(TRIAL, tmp_path, state)]) == []


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_network_is_opened_as_it_was_saved_to_the_bit(tmp_path: Path, spec: NetworkSpec) -> None:
    network = lively(build(spec, stream(0, "weights"))).train()
    save_weights(network, tmp_path / "net.safetensors")
    opened = open_weights(tmp_path / "net.safetensors")
    assert opened.spec == spec and key(opened.spec) == key(spec) and not opened.training
    states = network.state_dict(), opened.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


TOLD = json.loads(json.dumps(dataclasses.asdict(DIGITS)))
FOREIGN = {
    "no header": None,
    "no spec": {"format": "pt"},
    "no json": {"spec": "digits"},
    "no object": {"spec": "[1, 2]"},
    "no rows": {"spec": "{}"},
    "flat rows": {"spec": json.dumps(TOLD | {"rows": [1, 16, 1, 1]})},
    "short rows": {"spec": json.dumps(TOLD | {"rows": [[1, 16, 1]]})},
    "a field too many": {"spec": json.dumps(TOLD | {"height": 8})},
    "a word for a number": {"spec": json.dumps(TOLD | {"width": "wide"})},
    "a word that is unknown": {"spec": json.dumps(TOLD | {"block": "inverse"})},
    "other tensors": {"spec": json.dumps(TOLD)},
}


@pytest.mark.parametrize("header", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_refused_in_one_line(tmp_path: Path, header: dict[str, str] | None) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(3)}, tmp_path / "net.safetensors", metadata=header)
    with pytest.raises(InputError) as message:
        open_weights(tmp_path / "net.safetensors")
    assert len(str(message.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "cut off"])
def test_what_is_no_file_of_ours_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(build(DIGITS, stream(0, "weights")), tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"no tensors\n" if kind == "text" else content[: len(content) // 2])
    with pytest.raises(InputError, match=r"^weights: .*net\.safetensors tells no network of ours") as message:
        open_weights(path)
    assert len(str(message.value).splitlines()) == 1


def test_a_key_that_never_ran_is_refused(runs: Path) -> None:
    with pytest.raises(InputError, match="0123456789abcdef"):
        trained_network(runs, "0123456789abcdef")


def test_without_evaluations_in_between_the_ends_of_epochs_are_the_curve(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TRIAL.recipe, images=BATCH * 100, evaluate_every=0)
    run = ended(tmp_path, dataclasses.replace(TRIAL, recipe=recipe))
    *curves, _final = training_run.training_rows([run])
    assert [int(line["images"]) for line in curves] == [40 * BATCH, 80 * BATCH, 100 * BATCH]
