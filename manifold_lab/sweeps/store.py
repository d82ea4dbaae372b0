"""Runs on disk: one run is one folder, named by the hash of its spec; its result is written whole or not at all.

A cell's folder `runs/<study>/<key>/` holds
    result.json   the spec, the numbers and where they came from: a cell that has it is done, for good
    history.csv   the rows of its history, where there are any; written just before
    failure.json  why the last attempt failed (with the tail of traceback or log), or at which step it diverged
    spec.json     what runs here, written before it starts
    progress.json how far it is, if the measure tells: step, steps, images_per_second, seconds_left
    claim-NNNN    who runs it (`claims`), one per attempt
and whatever the measure keeps there, such as the checkpoints from which the next attempt goes on.
"""

import contextlib
import csv
import dataclasses
import json
import os
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manifold_lab.core.config import disagreement, key, kind_name
from manifold_lab.core.errors import DivergedError, InputError
from manifold_lab.core.files import csv_text, publish, text
from manifold_lab.sweeps import index, run_lock

ABSENT, QUEUED, RUNNING, DONE, FAILED, DIVERGED = STATES = (
    "absent", "queued", "running", "done", "failed", "diverged",
)  # fmt: skip
RESULT, HISTORY, FAILURE, SPEC, PROGRESS = "result.json", "history.csv", "failure.json", "spec.json", "progress.json"
TAIL = 30
"""Lines of a traceback that are kept."""

Record = index.Record
"""A result.json as read: key, kind, spec, numbers, history_bytes, provenance."""


@dataclass(frozen=True)
class Result:
    """What a measure gives back: numbers by name (None where one is missing, never NaN), and rows over time."""

    numbers: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Cell:
    """One spec of a grid and how it stands; `numbers` is empty unless it is done."""

    spec: Any
    folder: Path
    state: str = ABSENT
    numbers: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    progress: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 0

    @property
    def key(self) -> str:
        """The name of its folder."""
        return self.folder.name


def stored(folder: Path) -> dict[str, Record]:
    """Every finished run of a study's folder by key, read through an index that is remade wherever it is stale."""
    known, found = index.read(folder), dict[str, index.Entry]()
    for name in _cells(folder):
        stamp = _stamp(f"{folder}/{name}")
        if stamp and name in known and known[name][0] == stamp:
            found[name] = known[name]
        elif stamp and (record := _read_result(folder / name)) is not None:
            found[name] = (stamp, record)
    if found.keys() != known.keys() or any(found[name] is not known[name] for name in found):
        with contextlib.suppress(InputError):  # a folder that only others may write is still read
            index.write(folder, found)
    return {name: record for name, (_, record) in found.items()}


def read_runs(folder: Path, specs: Iterable[Any]) -> list[Cell]:
    """How every spec of a grid stands, in the grid's order.

    Raises:
        InputError: where a key holds the run of another spec, which a changed default does (`spec.key`).
    """
    records = stored(folder)
    cells, agreed = [], dict[tuple[int, int], str | None]()
    for spec in specs:
        name = key(spec)
        there = name in records
        cells.append(_done(spec, folder / name, records[name], agreed) if there else state(spec, folder / name))
    return cells


def state(spec: Any, cell: Path) -> Cell:
    """How one spec stands, by its folder alone.

    Raises:
        InputError: as `look`.
    """
    record = _read_result(cell)
    if record is not None:
        return _done(spec, cell, record)
    claim = run_lock.latest(cell)
    attempts = claim.number if claim else 0
    _check(spec, cell, _read(cell / SPEC))
    if claim is not None and run_lock.is_held(claim):
        return Cell(spec, cell, RUNNING, note=claim.who, progress=_read(cell / PROGRESS), attempts=attempts)
    return dataclasses.replace(settled(spec, cell), attempts=attempts)


def settled(spec: Any, cell: Path) -> Cell:
    """How one spec stands, whoever may have claimed it."""
    record = _read_result(cell)
    if record is not None:
        return _done(spec, cell, record)
    failure = _read(cell / FAILURE)
    if failure.get("state") in STATES:
        return Cell(
            spec, cell, failure["state"], note=failure.get("reason", ""), provenance=failure.get("provenance", {})
        )
    return Cell(spec, cell, note=_why_absent(cell), progress=_read(cell / PROGRESS))


def _why_absent(cell: Path) -> str:
    if (cell / RESULT).exists():
        return f"{RESULT} is damaged and counts as absent"
    claim = run_lock.latest(cell)
    if claim is None:
        return ""
    return "stopped before its end" if claim.released else f"{claim.who} ended without a result"


def begin(spec: Any, cell: Path) -> None:
    """Say in the folder what runs there, and take away the failure of an earlier attempt.

    Raises:
        InputError: as `look`.
    """
    _check(spec, cell, _read(cell / SPEC))
    publish(cell, {SPEC: text(_json({"kind": kind_name(spec), "spec": dataclasses.asdict(spec)}))})
    (cell / FAILURE).unlink(missing_ok=True)


def finish(spec: Any, cell: Path, result: Result, provenance: Mapping[str, Any]) -> None:
    """Write a result: from then on the cell is done.

    Raises:
        InputError: for numbers that are not finite, or a disk that refuses.
    """
    columns = list(dict.fromkeys(name for row in result.history for name in row))
    history = csv_text(result.history, columns) if columns else ""
    record = {
        "key": cell.name,
        "kind": kind_name(spec),
        "spec": dataclasses.asdict(spec),
        "numbers": dict(result.numbers),
        "history_bytes": len(history.encode()),
        "provenance": dict(provenance),
    }
    publish(cell, ({HISTORY: text(history)} if history else {}) | {RESULT: text(_json(record))})


def fail(cell: Path, error: BaseException, provenance: Mapping[str, Any]) -> None:
    """Write why an attempt failed: one line, and the tail of the traceback."""
    reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    step = error.step if isinstance(error, DivergedError) else None
    record = {
        "state": FAILED if step is None else DIVERGED,
        "reason": reason if step is None else f"at step {step}: {error}",
        "step": step,
        "traceback": "".join(traceback.format_exception(error)).splitlines()[-TAIL:],
        "provenance": dict(provenance),
    }
    publish(cell, {FAILURE: text(_json(record))})


def mark_failed(cell: Path, reason: str, log: Sequence[str]) -> None:
    """Write why an attempt failed whose process could not say so, one line and the tail of its log; free the cell.

    Its claim, touched not long ago, would else keep others from the cell for a while.
    """
    publish(cell, {FAILURE: text(_json({"state": FAILED, "reason": reason, "log": list(log[-TAIL:])}))})
    claim = run_lock.latest(cell)
    if claim is not None:
        run_lock.release(claim)


def history(cell: Cell) -> list[dict[str, str]]:
    """The rows of a finished cell's history, as texts; none where it has none."""
    path = cell.folder / HISTORY
    if cell.state != DONE or not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _json(record: Record) -> str:
    """One line per entry of the record.

    Raises:
        InputError: for a number that is not finite, or a value that JSON does not have.
    """
    try:
        parts = (
            f"{json.dumps(name)}: {json.dumps(part, allow_nan=False, default=_scalar)}" for name, part in record.items()
        )
        return "{" + ",\n ".join(parts) + "}\n"
    except (ValueError, TypeError) as error:
        raise InputError(f"record: {error}; numbers must be finite, and None where one is missing") from None


def _scalar(value: Any) -> Any:
    """The number within a numpy or torch scalar."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"a {type(value).__name__} is no number or text")


def _read(path: Path) -> Record:
    """A JSON object; empty where there is none or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_result(cell: Path) -> Record | None:
    record, stamp = _read(cell / RESULT), _stamp(str(cell))
    whole = stamp and {"spec", "numbers", "provenance"} <= record.keys() and record.get("history_bytes") == stamp[2]
    return record if whole else None


def _stamp(cell: str) -> tuple[int, int, int] | None:
    """What changes when a result does: its size and time, and the size of the history beside it; None without one."""
    try:
        result = os.stat(f"{cell}/{RESULT}")  # noqa: PTH116  (ten times as fast as through Path, 100,000 times)
        return result.st_size, result.st_mtime_ns, os.stat(f"{cell}/{HISTORY}").st_size  # noqa: PTH116
    except FileNotFoundError as error:
        return None if str(error.filename).endswith(RESULT) else (result.st_size, result.st_mtime_ns, 0)


def _cells(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise InputError(f"runs: {folder} cannot be a folder, as there is a file; name another") from None


def _done(spec: Any, cell: Path, record: Record, agreed: dict[tuple[int, int], str | None] | None = None) -> Cell:
    _check(spec, cell, record, agreed)
    return Cell(spec, cell, DONE, numbers=record["numbers"], provenance=record["provenance"])


def _check(spec: Any, cell: Path, record: Record, agreed: dict[tuple[int, int], str | None] | None = None) -> None:
    name = disagreement(spec, record.get("spec", {}), {} if agreed is None else agreed)
    if name is not None:
        raise InputError(
            f"{cell} holds the run of another spec: its {name} is not this one's; a default that changed keeps its "
            'first value as metadata={"first_default": ...}'
        )
