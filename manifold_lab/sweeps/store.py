"""Runs on disk: one run is one folder, named by the hash of its spec; its result is written whole or not at all.

The folder `runs/<study>/<key>/` of a run holds
    result.json   the spec, the numbers and their provenance, with a digest (`records`): a run that has it is done
    history.csv   the rows of its history, where there are any; written just before
    failure.json  why the last attempt failed (with the tail of traceback or log), or at which step it diverged
    spec.json     what runs here, written before it starts
    progress.json how far it is, where the measure reports it: step, steps, images_per_second, seconds_left
    claim-NNNN    the process that runs it (`run_lock`), one per attempt
    damaged-NNNN-*  damaged files that an attempt put aside before it wrote new ones
and whatever the measure keeps there, such as the checkpoints from which the next attempt goes on.

Every run is read on its own: damage in one folder makes that run *damaged*, with the file and the reason, and no other.
"""

import contextlib
import dataclasses
import math
import os
import stat
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manifold_lab.core.config import key, kind_name
from manifold_lab.core.errors import DivergedError, InputError
from manifold_lab.core.files import csv_rows, publish, read_file, text
from manifold_lab.sweeps import records, run_lock
from manifold_lab.sweeps.records import HISTORY, RESULT, DamagedError, Record

ABSENT, QUEUED, RUNNING, DONE, FAILED, DIVERGED, DAMAGED = STATES = (
    "absent", "queued", "running", "done", "failed", "diverged", "damaged",
)  # fmt: skip
FAILURE, SPEC, PROGRESS = "failure.json", "spec.json", "progress.json"
ASIDE = "damaged-"
TAIL = 30
"""Lines of a traceback that are kept."""


@dataclass(frozen=True)
class Result:
    """What a measure gives back: numbers by name (None where one is missing, never NaN), and rows over time.

    A number named accuracy, or with a name that ends in _accuracy, is a share from 0 to 1.
    """

    numbers: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Run:
    """One spec of a grid and the state of its run; `numbers` is empty unless it is done."""

    spec: Any
    folder: Path
    state: str = ABSENT
    numbers: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    progress: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 0
    verified: bool = False
    """Whether a digest vouches for the numbers; runs of older releases have none."""

    @property
    def key(self) -> str:
        """The name of its folder."""
        return self.folder.name


def stored(folder: Path) -> dict[str, Record]:
    """The record of every finished run of a study's folder by key, whichever spec it is of; damaged ones are left out.

    Raises:
        InputError: for a folder that cannot be read.
    """
    found = {}
    for name in _names(folder):
        with contextlib.suppress(DamagedError):
            one = records.read_record(folder / name)
            if one is not None:
                found[name] = one.record
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder; a link that leads round in circles is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _names(folder: Path) -> list[str]:
    _check_folder(folder)
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry)]
    return []


def _check_folder(folder: Path) -> None:
    """Refuse what can be no folder of runs."""
    try:
        os.close(os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NONBLOCK", 0)))
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        raise InputError(f"runs: {folder} cannot be a folder, as there is a file; name another") from None
    except OSError as error:
        raise InputError(f"runs: {folder} cannot be read ({error.strerror}); name another") from None


def read_runs(folder: Path, specs: Iterable[Any]) -> list[Run]:
    """The runs of a grid with their states, in the grid's order.

    Raises:
        InputError: for a folder that cannot be read.
    """
    _check_folder(folder)
    return [state(spec, folder / key(spec)) for spec in specs]


def state(spec: Any, run_dir: Path) -> Run:
    """The run of one spec with its state, by its folder alone."""
    found = settled(spec, run_dir)
    if found.state == DONE:
        return found
    claim = run_lock.latest(run_dir)
    if claim is None:
        return found
    if run_lock.is_held(claim):
        return Run(spec, run_dir, RUNNING, note=claim.who, progress=_progress(run_dir), attempts=claim.number)
    return dataclasses.replace(found, attempts=claim.number)


def settled(spec: Any, run_dir: Path) -> Run:
    """The run of one spec with its state, whoever may hold it."""
    try:
        found = records.read_record(run_dir, spec)
        if found is not None:
            numbers, provenance = found.record["numbers"], found.record["provenance"]
            return Run(spec, run_dir, DONE, numbers=numbers, provenance=provenance, verified=found.verified)
        return _failed(spec, run_dir) or _absent(spec, run_dir)
    except DamagedError as error:
        return Run(spec, run_dir, DAMAGED, note=str(error))


def _failed(spec: Any, run_dir: Path) -> Run | None:
    failure = records.read_json(run_dir, FAILURE)
    if failure is None:
        return None
    reason, provenance = failure.get("reason", ""), failure.get("provenance", {})
    known = failure.get("state") in (FAILED, DIVERGED) and isinstance(reason, str) and isinstance(provenance, dict)
    if not known:
        raise DamagedError(FAILURE, "it does not say how the run failed")
    return Run(spec, run_dir, failure["state"], note=reason, provenance=provenance)


def _absent(spec: Any, run_dir: Path) -> Run:
    began = _known(run_dir, SPEC)
    if began is not None:
        records.check_spec(SPEC, spec, began.get("spec", {}))
    claim = run_lock.latest(run_dir)
    if claim is None:
        return Run(spec, run_dir, progress=_progress(run_dir))
    note = "stopped before its end" if claim.released else f"{claim.who} ended without a result"
    return Run(spec, run_dir, note=note, progress=_progress(run_dir))


def _known(run_dir: Path, file: str) -> Record | None:
    """What is in a file whose loss costs nothing, as the next attempt writes it anew; None where it is damaged."""
    try:
        return records.read_json(run_dir, file)
    except DamagedError:
        return None


def _progress(run_dir: Path) -> Record:
    """What is known of a run's progress: its finite numbers."""
    known = _known(run_dir, PROGRESS) or {}
    numbers = {name: value for name, value in known.items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if math.isfinite(value) and 0 <= value < 1e15}


def begin(spec: Any, run_dir: Path, attempt: int = 1) -> None:
    """Write into the folder what runs there, put damaged files aside, and remove the failure of an earlier attempt.

    Raises:
        InputError: for a folder that cannot be written into.
    """
    for name in (RESULT, HISTORY, FAILURE, SPEC, PROGRESS):
        if name in (RESULT, HISTORY) or not _is_file(run_dir / name):
            with contextlib.suppress(FileNotFoundError):
                (run_dir / name).rename(run_dir / f"{ASIDE}{attempt:04d}-{name}")
    publish(run_dir, {SPEC: text(records.as_json({"kind": kind_name(spec), "spec": dataclasses.asdict(spec)}))})
    (run_dir / FAILURE).unlink(missing_ok=True)


def _is_file(path: Path) -> bool:
    """Whether there is a regular file, and no link or anything else."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def finish(spec: Any, run_dir: Path, result: Result, provenance: Mapping[str, Any]) -> None:
    """Write a result: from then on the run is done.

    Raises:
        InputError: for numbers that are not finite or outside of their range, or a disk that refuses.
    """
    record = {
        "key": run_dir.name,
        "kind": kind_name(spec),
        "spec": dataclasses.asdict(spec),
        "numbers": dict(result.numbers),
        "provenance": dict(provenance),
    }
    content, history = records.finished(record, result.history)
    publish(run_dir, ({HISTORY: text(history)} if history else {}) | {RESULT: text(content)})


def fail(run_dir: Path, error: BaseException, provenance: Mapping[str, Any]) -> None:
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
    publish(run_dir, {FAILURE: text(records.as_json(record))})


def mark_failed(run_dir: Path, reason: str, log: Sequence[str]) -> None:
    """Write why an attempt failed whose process could not do so, one line and the tail of its log; release the run.

    Its claim, touched not long ago, would else keep others from the run for a while.
    """
    publish(run_dir, {FAILURE: text(records.as_json({"state": FAILED, "reason": reason, "log": list(log[-TAIL:])}))})
    claim = run_lock.latest(run_dir)
    if claim is not None:
        run_lock.release(claim)


def history(run: Run) -> list[dict[str, str]]:
    """The rows of a finished run's history, as texts; none where it has none.

    Raises:
        InputError: for a history that has been damaged since the run was read.
    """
    if run.state != DONE:
        return []
    try:
        return csv_rows(read_file(run.folder / HISTORY).decode())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InputError(f"runs: {run.folder / HISTORY} cannot be read ({error})") from None
