"""Killed at any moment, a run goes on as if nothing had happened: to the bit.

Run as a script it is the process that is killed: `test_resume.py FOLDER` starts a run again and again, each time in a
fork that dies by SIGKILL, and lets the last one end.
"""

import dataclasses
import errno
import functools
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import manifold_lab
from manifold_lab import stream
from manifold_lab.core.errors import InputError
from manifold_lab.data import Augmentation, Data, load
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import DIGITS
from manifold_lab.training import Bookkeeping, Outcome, Recipe, checkpoint, train

pytestmark = pytest.mark.slow

KILLS, EVERY = 20, 4
RECIPE = Recipe(
    images=200 * 64, batch_size=64, ema_decay=0.99, evaluate_every=1000, label_smoothing=0.1,
    augmentation=Augmentation(pad=1, cutout=2),
)  # fmt: skip
SHORT = dataclasses.replace(RECIPE, images=30 * 64)
CPU = torch.device("cpu")
Result = dict[str, torch.Tensor]


@functools.cache
def digits() -> Data:
    return load("digits")


def network(seed: int = 0) -> nn.Module:
    """With dropout, besides augmentation and a moving average: everything that could lose its place."""
    return build(dataclasses.replace(DIGITS, dropout=0.2), stream(seed, "weights"))


def go(folder: Path | None, model: nn.Module, recipe: Recipe = RECIPE, seed: int = 0) -> tuple[Result, Outcome]:
    kept = Bookkeeping(folder, checkpoint_every=EVERY, check_every=5, bar=False)
    outcome = train(model, digits(), recipe, seed=seed, bookkeeping=kept)
    return model.state_dict(), dataclasses.replace(outcome, images_per_second=0.0)


def same(first: tuple[Result, Outcome], second: tuple[Result, Outcome]) -> bool:
    weights = all(torch.equal(first[0][name], second[0][name]) for name in first[0])
    return weights and first[0].keys() == second[0].keys() and first[1] == second[1]


def at_step(model: nn.Module, step: int, act: Callable[[], object]) -> None:
    """Act in the forward pass of a step, counted from the start of this process."""
    count = itertools.count(1)

    def hook(module: nn.Module, _x: object, _y: object) -> None:
        if module.training and next(count) == step:
            act()

    model.register_forward_hook(hook)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_writing(place: str) -> None:
    """Let the next checkpoint be this process's death, at a place of its writing."""
    fsync, calls = os.fsync, itertools.count(1)

    def deadly(descriptor: int) -> None:
        call = next(calls)  # the first is the file's, the second, after the renaming, the folder's
        if place == "half" and call == 1:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        if place == "synced":
            fsync(descriptor)
        if place != "renamed" or call == 2:
            die()

    os.fsync = deadly


def run_and_die(folder: Path, place: str, after: int) -> None:
    model = network()
    at_step(model, after, die if place == "step" else lambda: die_in_writing(place))
    go(folder, model)


def steps_saved(folder: Path) -> int:
    found = []
    for slot in checkpoint.SLOTS:
        if (folder / slot).exists():
            found.append(checkpoint.read_checkpoint(folder / slot, CPU)["step"])
    return max(found, default=0)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    network()(next(digits().evaluation("test", 64))[0])  # what is loaded here need not be loaded by every child
    torch.use_deterministic_algorithms(False)  # its first call loads half of torch
    rng, deaths, saved = random.Random(0), [], []
    for kill in range(KILLS):
        place = ("step", "half", "step", "synced", "step", "written", "step", "renamed")[kill % 8]
        after = rng.randint(EVERY + 2, 2 * EVERY + 4)
        child = os.fork()
        if child == 0:
            run_and_die(folder, place, after)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        deaths.append(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
        saved.append(steps_saved(folder))
    state, outcome = go(folder, network())
    torch.save({"deaths": deaths, "saved": saved, "state": state, "words": repr(outcome)}, folder / "result.pt")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_twenty_kills_leave_no_trace(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(manifold_lab.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, __file__, str(tmp_path)], check=True, env=environment)
    result = torch.load(tmp_path / "result.pt", weights_only=True)
    assert result["deaths"] == [signal.SIGKILL] * KILLS
    assert result["saved"] == sorted(result["saved"]) and 120 < result["saved"][-1] < 200, "spread over the run"
    state, outcome = go(None, network())
    assert repr(outcome) == result["words"] and outcome.status == "finished"
    assert all(torch.equal(value, result["state"][name]) for name, value in state.items())


class StopError(Exception):
    """Ends a run in its middle."""


def stop() -> None:
    raise StopError


def stopped(folder: Path, step: int = 15, recipe: Recipe = SHORT) -> None:
    model = network()
    at_step(model, step, stop)
    with pytest.raises(StopError):
        go(folder, model, recipe)


@pytest.fixture(scope="module")
def whole() -> tuple[Result, Outcome]:
    return go(None, network(), SHORT)


def newest(folder: Path) -> Path:
    return max(
        (folder / slot for slot in checkpoint.SLOTS), key=lambda path: checkpoint.read_checkpoint(path, CPU)["step"]
    )


RMSPROP = {"optimizer": "rmsprop", "learning_rate": 0.01, "ema_decay": None}


@pytest.mark.parametrize("changes", [{}, RMSPROP], ids=["sgd", "rmsprop"])
def test_every_recipe_goes_on_in_the_middle_of_an_epoch(tmp_path: Path, changes: dict) -> None:
    recipe = dataclasses.replace(SHORT, **changes)
    stopped(tmp_path, recipe=recipe)
    model, steps = network(), itertools.count(13)
    at_step(model, 18, lambda: next(steps))
    at_step(model, 19, stop)
    resumed = go(tmp_path, model, recipe)
    assert next(steps) == 14, "18 steps were left: it went on after the 12th"
    assert same(resumed, go(None, network(), recipe))


def test_the_checkpoint_that_was_read_stays_until_the_next_is_whole(tmp_path: Path) -> None:
    stopped(tmp_path, 15)
    stopped(tmp_path, 5)
    assert {checkpoint.read_checkpoint(tmp_path / slot, CPU)["step"] for slot in checkpoint.SLOTS} == {12, 16}


@pytest.mark.parametrize("damage", ["truncated", "empty", "changed", "text"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, whole: tuple[Result, Outcome], damage: str
) -> None:
    stopped(tmp_path)
    path = newest(tmp_path)
    content = path.read_bytes()
    changed = content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
    path.write_bytes({"truncated": content[:-1], "empty": b"", "changed": changed, "text": b"a\nb\nc"}[damage])
    with pytest.warns(UserWarning, match=f"{path.name} is cut off, changed or no checkpoint; it is passed over"):
        assert same(go(tmp_path, network(), SHORT), whole)


def test_a_checkpoint_that_would_run_code_is_passed_over(tmp_path: Path, whole: tuple[Result, Outcome]) -> None:
    stopped(tmp_path)
    torch.save({"run": Path.cwd, "step": 99, "state": {}}, tmp_path / "code")
    body = (tmp_path / "code").read_bytes()
    digest = checkpoint.hashlib.sha256(body).hexdigest().encode()
    newest(tmp_path).write_bytes(checkpoint.MAGIC + digest + b"\n" + body)
    with pytest.warns(UserWarning, match="is no checkpoint"):
        assert same(go(tmp_path, network(), SHORT), whole)


def test_another_runs_checkpoint_is_refused_and_its_own_used(tmp_path: Path, whole: tuple[Result, Outcome]) -> None:
    other, own = tmp_path / "other", tmp_path / "own"
    stopped(other, recipe=dataclasses.replace(SHORT, weight_decay=0.1))
    stopped(own)
    newest(own).write_bytes(newest(other).read_bytes())
    assert same(go(own, network(), SHORT), whole)


def test_a_field_that_is_added_with_a_default_renames_no_run(tmp_path: Path, whole: tuple[Result, Outcome]) -> None:
    stopped(tmp_path)
    grown = dataclasses.make_dataclass("Recipe", [("later", int, 0)], bases=(Recipe,), frozen=True)
    kept = {field.name: getattr(SHORT, field.name) for field in dataclasses.fields(SHORT)}
    assert same(go(tmp_path, network(), grown(**kept)), whole)


@pytest.mark.parametrize("difference", ["recipe", "seed", "weights", "network"])
def test_a_folder_of_another_run_is_refused_and_left_alone(tmp_path: Path, difference: str) -> None:
    stopped(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    recipe = dataclasses.replace(SHORT, images=31 * 64) if difference == "recipe" else SHORT
    model = network(1 if difference == "weights" else 0)
    if difference == "network":
        model = build(dataclasses.replace(DIGITS, dropout=0.2, bottleneck_activation="relu6"), stream(0, "weights"))
    with pytest.raises(InputError, match="holds another run's"):
        go(tmp_path, model, recipe, seed=1 if difference == "seed" else 0)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_finished_run_is_said_again_without_a_step(tmp_path: Path, whole: tuple[Result, Outcome]) -> None:
    assert same(go(tmp_path, network(), SHORT), whole)
    model = network()
    at_step(model, 1, stop)
    assert same(go(tmp_path, model, SHORT), whole)


def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, whole: tuple[Result, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(tmp_path)
    kept = newest(tmp_path).read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="No space left on device") as message:
            go(tmp_path, network(), SHORT)
    assert len(str(message.value).splitlines()) == 1 and newest(tmp_path).read_bytes() == kept
    assert same(go(tmp_path, network(), SHORT), whole)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="name another folder"):
        go(tmp_path / "file", network(), SHORT)


def test_a_folder_that_takes_no_files_is_refused_before_any_step() -> None:
    if not Path("/proc/self").exists():
        pytest.skip("this system has no /proc")
    model = network()
    at_step(model, 1, stop)
    with pytest.raises(InputError, match="cannot write into /proc/run"):
        go(Path("/proc/run"), model, SHORT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
