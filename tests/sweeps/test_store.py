import dataclasses
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manifold_lab.core.config import key
from manifold_lab.core.errors import DivergedError, InputError
from manifold_lab.sweeps import index, run_lock, store
from manifold_lab.sweeps.store import ABSENT, DIVERGED, DONE, FAILED, RUNNING, Result
from tests.tiny import Tiny

WHERE = {"versions": {"torch": "2"}, "commit": None, "host": "h", "device": "cpu", "seconds": 2.5, "attempt": 1}
HISTORY = [{"step": 0, "loss": 0.1 + 0.2}, {"step": 1, "loss": 1e-300}]


def kept(root: Path, spec: Any, value: float = 0.1, history: Any = HISTORY) -> Path:
    """A finished run."""
    folder = root / key(spec)
    store.begin(spec, folder)
    store.finish(spec, folder, Result({"value": value, "missing": None}, history), WHERE)
    return folder


def one(root: Path, spec: Any) -> store.Cell:
    (cell,) = store.read_runs(root, [spec])
    return cell


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    kept(tmp_path, Tiny(3), 1 / 3)
    for _ in range(2):  # from the folder, then from the index
        cell = one(tmp_path, Tiny(3))
        assert (cell.state, cell.numbers, cell.provenance) == (DONE, {"value": 1 / 3, "missing": None}, WHERE)
    rows = [{name: float(word) for name, word in row.items()} for row in store.history(cell)]
    assert rows == HISTORY


def test_what_was_never_run_is_absent_and_looking_makes_nothing(tmp_path: Path) -> None:
    cell = one(tmp_path / "none", Tiny())
    assert (cell.state, cell.numbers, cell.note) == (ABSENT, {}, "")
    assert store.stored(tmp_path / "none") == {}
    assert list(tmp_path.iterdir()) == [] or [path.name for path in (tmp_path / "none").iterdir()] == [index.NAME]


@pytest.mark.parametrize("scalar", [np.float32(0.5), np.int64(2), torch.tensor(0.25)])
def test_scalars_of_numpy_and_torch_are_numbers(scalar: Any, tmp_path: Path) -> None:
    kept(tmp_path, Tiny(), scalar)
    assert one(tmp_path, Tiny()).numbers["value"] == scalar.item()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), object(), np.ones(2)])
def test_what_is_no_finite_number_is_refused_and_nothing_is_written(value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="numbers must be finite"):
        kept(tmp_path, Tiny(), value)
    assert one(tmp_path, Tiny()).state == ABSENT


DAMAGE = {
    "half a result": lambda folder: cut(folder / "result.json", 0.5),
    "all but a byte": lambda folder: (folder / "result.json").write_bytes((folder / "result.json").read_bytes()[:-2]),
    "an empty result": lambda folder: cut(folder / "result.json", 0),
    "another file": lambda folder: (folder / "result.json").write_text("[1]"),
    "half a history": lambda folder: cut(folder / "history.csv", 0.5),
    "no history": lambda folder: (folder / "history.csv").unlink(),
}


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("indexed", [False, True])
def test_a_damaged_result_counts_as_absent_and_is_said(damage: str, indexed: bool, tmp_path: Path) -> None:
    folder = kept(tmp_path, Tiny())
    kept(tmp_path, Tiny(1))
    if indexed:
        assert len(store.stored(tmp_path)) == 2
    DAMAGE[damage](folder)
    bad, good = store.read_runs(tmp_path, [Tiny(), Tiny(1)])
    assert (bad.state, good.state) == (ABSENT, DONE)
    assert "damaged" in bad.note
    kept(tmp_path, Tiny())
    assert one(tmp_path, Tiny()).state == DONE


def test_a_history_without_its_result_is_not_a_result(tmp_path: Path) -> None:
    (kept(tmp_path, Tiny()) / "result.json").unlink()  # as a kill between the two renames leaves it
    assert one(tmp_path, Tiny()).state == ABSENT


def test_failures_and_divergence_keep_their_reason(tmp_path: Path) -> None:
    for seed, error in enumerate((ValueError("two\nlines"), DivergedError(40, "the loss is nan"), SystemExit(3))):
        try:
            raise error
        except BaseException as caught:
            store.fail(tmp_path / key(Tiny(seed)), caught, WHERE)
    told = [(cell.state, cell.note) for cell in store.read_runs(tmp_path, [Tiny(0), Tiny(1), Tiny(2)])]
    assert told == [
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


def test_running_stopped_and_lost_cells_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / key(Tiny())
    store.begin(Tiny(), folder)
    (folder / "progress.json").write_text('{"step": 12}')
    claim = run_lock.acquire(folder)
    cell = one(tmp_path, Tiny())
    assert (cell.state, cell.progress, cell.attempts) == (RUNNING, {"step": 12}, 1)
    run_lock.release(claim)
    assert (one(tmp_path, Tiny()).state, one(tmp_path, Tiny()).note) == (ABSENT, "stopped before its end")
    claim.path.write_text(claim.path.read_text().replace("released", "").replace('"pid": ', '"pid": 4'))
    assert "ended without a result" in one(tmp_path, Tiny()).note


def many(root: Path, count: int) -> list[Tiny]:
    specs = [Tiny(seed, "plain" if seed % 3 else "better") for seed in range(count)]
    for spec in specs:
        kept(root, spec, spec.seed / 7, HISTORY if spec.seed % 2 else ())
    return specs


def by_folder(root: Path) -> dict[str, Any]:
    return {path.parent.name: json.loads(path.read_text()) for path in root.glob("*/result.json")}


def test_the_index_says_what_the_folders_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = many(tmp_path, 60)
    assert store.stored(tmp_path) == by_folder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_read_result", lambda _: pytest.fail("a result was read although the index has it"))
        again = store.stored(tmp_path)
        cells = store.read_runs(tmp_path, specs)
    assert again == by_folder(tmp_path)
    assert sum(cell.numbers["value"] for cell in cells) == pytest.approx(sum(range(60)) / 7)
    shutil.rmtree(tmp_path / key(specs[0]))
    kept(tmp_path, Tiny(99))
    kept(tmp_path, specs[5], -1.0)
    assert store.stored(tmp_path) == by_folder(tmp_path)
    assert len(store.stored(tmp_path)) == 60


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", '{"groups": [{}], "shared": []}', '{"groups": 3, "shared": 4}']
)
def test_a_lost_or_damaged_index_is_made_again(content: str | None, tmp_path: Path) -> None:
    many(tmp_path, 3)
    whole = store.stored(tmp_path)
    made = (tmp_path / index.NAME).read_text()
    (tmp_path / index.NAME).unlink()
    if content is not None:
        (tmp_path / index.NAME).write_text(content)
    assert store.stored(tmp_path) == whole
    assert (tmp_path / index.NAME).read_text() == made


def test_records_of_every_shape_pass_through_the_index(tmp_path: Path) -> None:
    records = [
        {"spec": {"rows": [[1, 2], [3]], "net": {"a": 1}}, "numbers": {}, "x": 0},
        {"spec": {}, "numbers": {"a": None}},
        {"spec": {"rows": [[1, 2], [3]], "net": {"a": 2}}, "numbers": {}, "x": [7]},
    ]
    entries = {str(place): ((place, 2, 3), record) for place, record in enumerate(records)}
    index.write(tmp_path, entries)
    assert index.read(tmp_path) == entries


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
def test_a_default_that_changes_is_refused_until_the_first_one_is_told(inside: bool, tmp_path: Path) -> None:
    if inside:
        kept(tmp_path, Spec())
        changed = grown(seed=0, inner=Inner(width=2.0))
        told = field(default=Inner(width=2.0), metadata={"first_default": Inner()})
        cured, old = grown(seed=0, inner=told), {"inner": Inner()}
    else:
        kept(tmp_path, grown(seed=0, rate=0.5)())
        changed = grown(seed=0, rate=0.25)
        cured, old = grown(seed=0, rate=field(default=0.25, metadata={"first_default": 0.5})), {"rate": 0.5}
    with pytest.raises(InputError, match=r"its inner\.width is not this" if inside else "its rate is not this"):
        store.read_runs(tmp_path, [changed()])
    assert one(tmp_path, cured()).state == ABSENT
    assert one(tmp_path, cured(**old)).state == DONE


def test_a_cell_that_only_began_is_held_to_its_spec_too(tmp_path: Path) -> None:
    old, new = grown(seed=0, rate=0.5)(), grown(seed=0, rate=0.25)()
    store.begin(old, tmp_path / key(old))
    with pytest.raises(InputError, match="its rate is not this"):
        store.read_runs(tmp_path, [new])
