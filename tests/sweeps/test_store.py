import contextlib
import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from manifold_lab.core.config import key
from manifold_lab.core.errors import DivergedError, InputError
from manifold_lab.sweeps import run_lock, runner, store
from manifold_lab.sweeps.status_table import status_table
from manifold_lab.sweeps.store import ABSENT, DAMAGED, DIVERGED, DONE, FAILED, RUNNING, Result
from tests.tiny import Tiny

WHERE = {"versions": {"torch": "2"}, "commit": None, "host": "h", "device": "cpu", "seconds": 2.5, "attempt": 1}
HISTORY = [{"step": 0, "loss": 0.1 + 0.2}, {"step": 1, "loss": 1e-300}]


def kept(root: Path, spec: Any, value: float = 0.1, history: Any = HISTORY) -> Path:
    """A finished run."""
    folder = root / key(spec)
    store.begin(spec, folder)
    store.finish(spec, folder, Result({"value": value, "missing": None}, history), WHERE)
    return folder


def one(root: Path, spec: Any) -> store.Run:
    (run,) = store.read_runs(root, [spec])
    return run


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    kept(tmp_path, Tiny(3), 1 / 3)
    run = one(tmp_path, Tiny(3))
    assert (run.state, run.numbers, run.provenance) == (DONE, {"value": 1 / 3, "missing": None}, WHERE)
    assert run.verified
    rows = [{name: float(word) for name, word in row.items()} for row in store.history(run)]
    assert rows == HISTORY


def test_what_was_never_run_is_absent_and_looking_makes_nothing(tmp_path: Path) -> None:
    run = one(tmp_path / "none", Tiny())
    assert (run.state, run.numbers, run.note) == (ABSENT, {}, "")
    assert store.stored(tmp_path / "none") == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scalar", [np.float32(0.5), np.int64(2), torch.tensor(0.25)])
def test_scalars_of_numpy_and_torch_are_numbers(scalar: Any, tmp_path: Path) -> None:
    kept(tmp_path, Tiny(), scalar)
    assert one(tmp_path, Tiny()).numbers["value"] == scalar.item()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), object(), np.ones(2)])
def test_what_is_no_finite_number_is_refused_and_nothing_is_written(value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="numbers must be finite"):
        kept(tmp_path, Tiny(), value)
    assert one(tmp_path, Tiny()).state == ABSENT


def changed(folder: Path, **entries: Any) -> None:
    """Another value in a record, and the digest that it had."""
    record = json.loads((folder / "result.json").read_text()) | entries
    (folder / "result.json").write_text(store.records.as_json(record))


DAMAGE = {
    "half a result": ("result.json", lambda folder: cut(folder / "result.json", 0.5)),
    "all but a byte": ("result.json", lambda folder: cut(folder / "result.json", 1, -2)),
    "an empty result": ("result.json", lambda folder: cut(folder / "result.json", 0)),
    "another file": ("result.json", lambda folder: (folder / "result.json").write_text("[1]")),
    "another number": ("result.json", lambda folder: changed(folder, numbers={"value": 0.2, "missing": None})),
    "another schema": ("result.json", lambda folder: changed(folder, schema=99)),
    "another key": ("result.json", lambda folder: changed(folder, key="0123456789abcdef")),
    "nested lists": ("result.json", lambda folder: (folder / "result.json").write_text('{"a":' + "[" * 10**5)),
    "a folder": ("result.json", lambda folder: replaced(folder / "result.json", Path.mkdir)),
    "a pipe": ("result.json", lambda folder: replaced(folder / "result.json", os.mkfifo)),
    "a loop": ("result.json", lambda folder: replaced(folder / "result.json", lambda path: path.symlink_to(path))),
    "half a history": ("history.csv", lambda folder: cut(folder / "history.csv", 0.5)),
    "another history": ("history.csv", lambda folder: (folder / "history.csv").write_text("x" * 45)),
    "no history": ("history.csv", lambda folder: (folder / "history.csv").unlink()),
    "a pipe as history": ("history.csv", lambda folder: replaced(folder / "history.csv", os.mkfifo)),
}


def cut(path: Path, share: float, end: int | None = None) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))][:end])


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_said_with_its_file_stays_in_its_run_and_is_redone_when_asked(damage: str, tmp_path: Path) -> None:
    folder = kept(tmp_path, Tiny())
    kept(tmp_path, Tiny(1))
    file, harm = DAMAGE[damage]
    harm(folder)
    bad, good = store.read_runs(tmp_path, [Tiny(), Tiny(1)])
    assert (bad.state, good.state, list(store.stored(tmp_path))) == (DAMAGED, DONE, [good.key])
    assert bad.note.startswith(f"{file}: ") and not bad.numbers and store.history(bad) == []
    assert runner.missing([bad, good]) == [] and runner.missing([bad, good], retry_damaged=True) == [bad]
    assert "1 damaged" in runner.left_over([bad, good], [])
    again = runner.run_one(runner.Work(lambda *_: Result({"value": 0.1})), bad)
    assert (again.state, again.numbers, again.verified) == (DONE, {"value": 0.1}, True)
    assert (folder / f"damaged-0001-{file}").is_symlink() or list(folder.glob("damaged-0001-*"))


def test_every_changed_byte_of_a_record_and_of_its_history_is_found(tmp_path: Path) -> None:
    folder = kept(tmp_path, Tiny())
    for file in ("result.json", "history.csv"):
        whole = (folder / file).read_bytes()
        for place in range(len(whole)):
            for bit in (place % 8,):
                changed = whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
                (folder / file).write_bytes(changed)
                run = one(tmp_path, Tiny())
                assert run.state == DAMAGED and run.note.startswith(file), (file, place, bit)
        (folder / file).write_bytes(whole)
    assert one(tmp_path, Tiny()).state == DONE


OLD_DAMAGE: dict[str, dict[str, Any]] = {
    "an accuracy of 7.5": {"numbers": {"test_accuracy": 7.5}},
    "an accuracy in words": {"numbers": {"test_accuracy": "0.5"}},
    "an accuracy of a part": {"numbers": {"parts": [{"accuracy": -0.1}]}},
    "no numbers": {"numbers": {}, "history_bytes": 0},
    "numbers in a list": {"numbers": [1]},
    "another kind": {"kind": "Other"},
    "another key": {"key": "0123456789abcdef"},
    "another seed": {"spec": {"seed": 1, "arm": "plain", "ends": "well"}},
    "an empty provenance": {"provenance": {}},
    "a negative time": {"provenance": WHERE | {"seconds": -1}},
    "a commit in numbers": {"provenance": WHERE | {"commit": 3}},
    "another schema": {"schema": 99},
}


def of_older_release(folder: Path, **entries: Any) -> None:
    """The record as releases without digests wrote it."""
    record = json.loads((folder / "result.json").read_text()) | entries
    del record["digest"], record["history_sha256"]
    (folder / "result.json").write_text(store.records.as_json(record))
    if not record["history_bytes"]:
        (folder / "history.csv").unlink()


def test_a_record_of_an_older_release_is_read_and_set_apart(tmp_path: Path) -> None:
    of_older_release(kept(tmp_path, Tiny()))
    kept(tmp_path, Tiny(1))
    runs = store.read_runs(tmp_path, [Tiny(), Tiny(1)])
    assert [(run.state, run.verified) for run in runs] == [(DONE, False), (DONE, True)]
    console = Console(record=True, width=200)
    console.print(status_table("tiny", runs))
    assert "1 of the done were stored before runs had checksums" in console.export_text()


@pytest.mark.parametrize("damage", OLD_DAMAGE)
def test_what_an_older_record_cannot_mean_is_damage(damage: str, tmp_path: Path) -> None:
    of_older_release(kept(tmp_path, Tiny()), **OLD_DAMAGE[damage])
    run = one(tmp_path, Tiny())
    assert run.state == DAMAGED and run.note.startswith("result.json: ")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_no_record_has_a_number_that_is_not_finite(number: str, tmp_path: Path) -> None:
    folder = kept(tmp_path, Tiny())
    of_older_release(folder, numbers={"value": 12345})
    path = folder / "result.json"
    path.write_text(path.read_text().replace("12345", number))
    assert one(tmp_path, Tiny()).state == DAMAGED


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity"])
def test_an_older_history_that_is_not_finite_is_damage_of_the_history(value: str, tmp_path: Path) -> None:
    folder = kept(tmp_path, Tiny(), history=[{"step": 1, "accuracy": 0.5}])
    for content in (f"step,loss\n1,{value}\n", "step,accuracy\n1,7.5\n", "step,loss\n1\n", "step,loss\n\xff,1\n"):
        (folder / "history.csv").write_text(content, encoding="latin-1")
        if b"digest" in (folder / "result.json").read_bytes():
            of_older_release(folder)
        changed(folder, history_bytes=len(content))
        assert one(tmp_path, Tiny()).note.startswith("history.csv: ")


@pytest.mark.parametrize("numbers", [{"test_accuracy": 1.5}, {"accuracy": True}, {"a": [{"accuracy": -1}]}])
def test_an_accuracy_that_is_no_share_is_never_written(numbers: dict, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no share from 0 to 1"):
        store.finish(Tiny(), tmp_path / key(Tiny()), Result(numbers), WHERE)
    with pytest.raises(InputError, match="is not finite"):
        store.finish(Tiny(), tmp_path / key(Tiny()), Result({"a": 1}, [{"loss": float("nan")}]), WHERE)


UNREADABLE = ["failure.json", "spec.json", "progress.json", "claim-0001"]


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path), lambda path: path.write_text("[" * 10**5)]
)
@pytest.mark.parametrize("file", UNREADABLE)
def test_what_stands_in_a_file_s_place_stops_no_other_run(file: str, make: Callable, tmp_path: Path) -> None:
    folder = tmp_path / key(Tiny())
    folder.mkdir()
    make(folder / file)
    if file == "claim-0001":
        with contextlib.suppress(OSError):
            os.utime(folder / file, (1, 1), follow_symlinks=False)
    kept(tmp_path, Tiny(1))
    bad, good = store.read_runs(tmp_path, [Tiny(), Tiny(1)])
    assert (bad.state, good.state) == (DAMAGED if file == "failure.json" else ABSENT, DONE)
    assert runner.run_one(runner.Work(lambda *_: Result({"value": 0.1})), bad).state == DONE


@pytest.mark.parametrize("make", [lambda path: path.write_text(""), os.mkfifo, lambda path: path.symlink_to(path)])
def test_what_stands_in_a_folder_s_place_stops_no_other_run(make: Callable, tmp_path: Path) -> None:
    make(tmp_path / key(Tiny()))
    kept(tmp_path, Tiny(1))
    bad, good = store.read_runs(tmp_path, [Tiny(), Tiny(1)])
    assert (bad.state, good.state) == (DAMAGED, DONE)
    assert runner.run_one(runner.Work(lambda *_: Result({"value": 0.1})), bad).state == DAMAGED


def test_a_history_without_its_result_is_not_a_result(tmp_path: Path) -> None:
    (kept(tmp_path, Tiny()) / "result.json").unlink()  # as a kill between the two renames leaves it
    assert one(tmp_path, Tiny()).state == ABSENT


def test_failures_and_divergence_keep_their_reason(tmp_path: Path) -> None:
    for seed, error in enumerate((ValueError("two\nlines"), DivergedError(40, "the loss is nan"), SystemExit(3))):
        try:
            raise error
        except BaseException as caught:
            store.fail(tmp_path / key(Tiny(seed)), caught, WHERE)
    message = [(run.state, run.note) for run in store.read_runs(tmp_path, [Tiny(0), Tiny(1), Tiny(2)])]
    assert message == [
        (FAILED, "ValueError: two lines"),
        (DIVERGED, "at step 40: the loss is nan"),
        (FAILED, "SystemExit: 3"),
    ]
    written = json.loads((tmp_path / key(Tiny()) / "failure.json").read_text())
    assert any("test_store.py" in line for line in written["traceback"])
    kept(tmp_path, Tiny())
    assert one(tmp_path, Tiny()).state == DONE
    store.begin(Tiny(2), tmp_path / key(Tiny(2)))  # an attempt that is killed is no longer the failure before it
    assert one(tmp_path, Tiny(2)).state == ABSENT


def test_running_stopped_and_lost_cells_are_set_apart(tmp_path: Path) -> None:
    folder = tmp_path / key(Tiny())
    store.begin(Tiny(), folder)
    (folder / "progress.json").write_text('{"step": 12}')
    claim = run_lock.acquire(folder)
    run = one(tmp_path, Tiny())
    assert (run.state, run.progress, run.attempts) == (RUNNING, {"step": 12}, 1)
    run_lock.release(claim)
    assert (one(tmp_path, Tiny()).state, one(tmp_path, Tiny()).note) == (ABSENT, "stopped before its end")
    claim.path.write_text(claim.path.read_text().replace("released", "").replace('"pid": ', '"pid": 4'))
    assert "ended without a result" in one(tmp_path, Tiny()).note


@dataclass(frozen=True)
class Inner:
    width: float = 1.0
    rows: tuple[tuple[int, ...], ...] = ((1, 2), (3, 4))


@dataclass(frozen=True)
class Spec:
    seed: int = 0
    inner: Inner = field(default_factory=Inner)


def grown(**defaults: Any) -> Any:
    """The class Spec as later code may have it."""
    fields = [(name, type(value), value if isinstance(value, dataclasses.Field) else field(default=value))
              for name, value in defaults.items()]  # fmt: skip
    return dataclasses.make_dataclass("Spec", fields, frozen=True)


def test_an_old_run_is_read_by_a_spec_with_a_new_field(tmp_path: Path) -> None:
    kept(tmp_path, Spec(4, Inner(0.5)), 0.75)
    new = grown(seed=0, inner=Inner(), extra=0.1)
    assert one(tmp_path, new(4, Inner(0.5))).numbers["value"] == 0.75
    assert one(tmp_path, new(4, Inner(0.5), extra=0.2)).state == ABSENT


@pytest.mark.parametrize("inside", [False, True])
def test_a_default_that_changes_is_refused_until_the_first_one_is_said(inside: bool, tmp_path: Path) -> None:
    if inside:
        kept(tmp_path, Spec())
        changed = grown(seed=0, inner=Inner(width=2.0))
        message = field(default=Inner(width=2.0), metadata={"first_default": Inner()})
        cured, old = grown(seed=0, inner=message), {"inner": Inner()}
    else:
        kept(tmp_path, grown(seed=0, rate=0.5)())
        changed = grown(seed=0, rate=0.25)
        cured, old = grown(seed=0, rate=field(default=0.25, metadata={"first_default": 0.5})), {"rate": 0.5}
    found = one(tmp_path, changed())
    assert found.state == DAMAGED
    assert f"its {'inner.width' if inside else 'rate'} is not this" in found.note
    assert one(tmp_path, cured()).state == ABSENT
    assert one(tmp_path, cured(**old)).state == DONE


def test_a_cell_that_only_began_is_held_to_its_spec_too(tmp_path: Path) -> None:
    old, new = grown(seed=0, rate=0.5)(), grown(seed=0, rate=0.25)()
    store.begin(old, tmp_path / key(old))
    assert one(tmp_path, new).state == DAMAGED and "its rate is not this" in one(tmp_path, new).note
