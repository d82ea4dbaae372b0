"""What of a study was handed to Slurm: submissions on disk, the queue, and the cells that a job took with it.

A submission is one array of jobs. Before it is handed over, its cells are written down under its name, which is its
own and is the array's name in the queue too: whoever looks later finds by that name alone which cells are queued, so
that no job number has to be written, and a driver may be killed at any moment. A submission that is not in the queue is
over: it is closed, and a job of it that is handed over after all finds nothing to do.

    runs/<study>/.slurm/<name>/submission.json   the tasks, each a list of cells; ended.json once it is closed
    runs/<study>/.slurm/<name>/*.log             what the jobs say
"""

import contextlib
import dataclasses
import json
import os
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifold_lab.core.errors import InputError
from manifold_lab.core.files import publish, read_file, text
from manifold_lab.sweeps import run_lock, slurm, store
from manifold_lab.sweeps.records import RESULT
from manifold_lab.sweeps.slurm import Queued
from manifold_lab.sweeps.store import ABSENT, DAMAGED, FAILED, FAILURE, QUEUED, RUNNING, TAIL, Cell

FOLDER, OPEN, ENDED, BEGAN = ".slurm", "submission.json", "ended.json", "began"
MEMORY = ("oom-kill", "oom_kill", "out of memory", "out_of_memory", "exceeded memory limit")
"""What the log of a job says that took more memory than it may."""

Task = tuple[tuple[str, int], ...]
"""Cells by key that one job runs, each with its attempts so far, so that a restart does not repeat one that failed."""


@dataclass(frozen=True)
class Submission:
    """An array of jobs under its name."""

    folder: Path
    tasks: tuple[Task, ...]
    requeues: int
    """How often each of its jobs may start again."""
    since: float
    """When it was written down, in seconds since 1970."""

    @property
    def name(self) -> str:
        """Of its folder and in the queue."""
        return self.folder.name


def announce(runs: Path, study: str, tasks: Sequence[Task], requeues: int) -> Submission:
    """Write down what is about to be handed to the queue, under a new name."""
    folder = runs / FOLDER / f"{study}-{uuid.uuid4().hex[:8]}"
    publish(folder, {OPEN: text(json.dumps({"requeues": requeues, "tasks": tasks}))})
    return Submission(folder, tuple(tasks), requeues, time.time())


def load_submission(folder: Path) -> Submission | None:
    """The submission of a folder; None where it is closed, or is none.

    Raises:
        InputError: for a damaged one, of which nothing is known but that its jobs may be in the queue.
    """
    path = folder / OPEN
    try:
        found = json.loads(read_file(path))
        tasks = tuple(tuple((_text(key), int(attempts)) for key, attempts in task) for task in found["tasks"])
        return Submission(folder, tasks, int(found["requeues"]), path.stat().st_mtime)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise InputError(
            f"slurm: {path} is damaged; cancel its jobs with scancel --name={folder.name} and remove the file"
        ) from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def submissions(runs: Path) -> list[Submission]:
    """All that are not closed.

    Raises:
        InputError: as `load_submission`.
    """
    return [found for folder in _folders(runs) if (found := load_submission(folder)) is not None]


def _folders(runs: Path) -> list[Path]:
    try:
        return sorted((runs / FOLDER).iterdir())
    except OSError:
        return []


def _readable(runs: Path) -> tuple[list[Submission], str]:
    """The submissions that are not closed, and a note on the first damaged one."""
    found, note = [], ""
    for folder in _folders(runs):
        try:
            one = load_submission(folder)
        except InputError as error:
            note = note or f"whether it is queued is not known: {error}"
            continue
        found += [one] if one is not None else []
    return found, note


@contextlib.contextmanager
def only_submitter(runs: Path) -> Iterator[None]:
    """One process at a time hands cells of a folder to the queue.

    Raises:
        InputError: where another one does.
    """
    (runs / FOLDER).mkdir(parents=True, exist_ok=True)
    claim = run_lock.acquire(runs / FOLDER)
    if claim is None:
        raise InputError(f"slurm: another process submits cells of {runs}; try again in a minute")
    try:
        with run_lock.heartbeat(claim):
            yield
    finally:
        run_lock.release(claim)


def view(runs: Path, cells: Sequence[Cell]) -> list[Cell]:
    """How cells stand with the queue taken into account: queued ones, and failed ones whose job ended without a word.

    Raises:
        InputError: where there are submissions, and Slurm does not answer.
    """
    found, damaged = _readable(runs)
    if damaged:
        cells = [
            dataclasses.replace(cell, note=cell.note or damaged) if cell.state == ABSENT else cell for cell in cells
        ]
    if not found:
        return list(cells)
    live = {(job.name, job.task): job for job in slurm.queue(submission.name for submission in found)}
    places = {
        key: (submission, number, attempts)
        for submission, number, task in sorted(_tasks(found), key=lambda one: (one[0].name, one[1]) in live)
        for key, attempts in task
    }
    return [_seen(cell, *places[cell.key], live) if cell.key in places else cell for cell in cells]


def _tasks(found: Sequence[Submission]) -> Iterator[tuple[Submission, int, Task]]:
    """Every task, those that were handed over first first."""
    for submission in sorted(found, key=lambda one: one.since):
        for number, task in enumerate(submission.tasks):
            yield submission, number, task


def _seen(cell: Cell, of: Submission, number: int, attempts: int, live: Mapping[tuple[str, int], Queued]) -> Cell:
    job = live.get((of.name, number))
    if cell.state not in (ABSENT, RUNNING, FAILED, DAMAGED):
        return cell
    if job is None:
        return _left(cell, of, number)
    if cell.state == RUNNING:
        return dataclasses.replace(cell, note=f"{cell.note}, {job.where}")
    if cell.state == FAILED and cell.attempts > attempts:
        return cell
    return dataclasses.replace(cell, state=QUEUED, note=job.where)


def _left(cell: Cell, of: Submission, number: int) -> Cell:
    """A cell whose job is no more in the queue."""
    if _is_wordless(cell.folder, of, number):
        return dataclasses.replace(cell, state=FAILED, note=why(log(of, number)), progress={})
    if cell.state == ABSENT and not cell.note:
        last = [line for line in log(of, number) if line.strip()][-1:]
        return dataclasses.replace(cell, note=": ".join(["its job ended before it began", *last]))
    return cell


def _is_wordless(cell: Path, of: Submission, number: int) -> bool:
    """Whether a process of this task began a cell and left neither result nor failure, nor gave the cell back."""
    claim = run_lock.latest(cell)
    if claim is None or claim.released or claim.owner is None or claim.owner.job != job_name(of, number):
        return False
    return not (cell / RESULT).exists() and not (cell / FAILURE).exists()


def close_ended(runs: Path) -> None:
    """Write down the failures that ended jobs left without a word, and close what is no more in the queue.

    For who is the only submitter.

    Raises:
        InputError: as `view`.
    """
    found = submissions(runs)
    live = {job.name for job in slurm.queue(submission.name for submission in found)}
    for submission in found:
        if submission.name in live:
            continue
        for number, task in enumerate(submission.tasks):
            for key, _ in task:
                if _is_wordless(runs / key, submission, number):
                    lines = log(submission, number)
                    store.mark_failed(runs / key, why(lines), lines)
        (submission.folder / OPEN).replace(submission.folder / ENDED)


def job_name(of: Submission, number: int) -> str:
    """What a task's processes find in their environment."""
    return f"{of.name}/{number}"


def log(of: Submission, number: int) -> list[str]:
    """The last lines that a task's job wrote."""
    paths = sorted(of.folder.glob(f"*_{number}_0_log.out"), key=lambda path: path.stat().st_mtime)
    if not paths:
        return []
    with paths[-1].open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, TAIL)]


def why(lines: Sequence[str]) -> str:
    """The reason why a job ended without a word, from the tail of its log."""
    if any(sign in line.lower() for line in lines for sign in MEMORY):
        return "out of memory: its job was killed for taking more than it may"
    last = [line.strip() for line in lines if line.strip()][-1:]
    return ": ".join(["its process was killed", *last])


def this_task(runs: Path) -> Submission | None:
    """The submission that this process's job belongs to, if it is not closed; its place is `this_number`.

    Raises:
        InputError: where no job started this process.
    """
    name = os.environ.get(run_lock.JOB, "").partition("/")[0]
    if not name:
        raise InputError("job: no job of Slurm started this process; name cells by key instead")
    return load_submission(runs / FOLDER / name)


def this_number(of: Submission) -> int:
    """The place of this process's job in its array.

    Raises:
        InputError: where the environment names no task of this submission.
    """
    given = os.environ.get(run_lock.JOB, "").partition("/")[2]
    if not (given.isascii() and given.isdigit() and len(given) < 10 and int(given) < len(of.tasks)):
        raise InputError(f"{run_lock.JOB}: {given[:40]!r} is no task of {of.name}, which has {len(of.tasks)}")
    return int(given)


def mark_dead_runs(runs: Path, of: Submission, number: int) -> None:
    """At the start of a task, say of each cell that an earlier process of it began whether it is to go on.

    One whose process died while its job lived on has failed, and so has one whose job was started too often. The file
    `began` tells the job's script that its process came so far.
    """
    (of.folder / f"{BEGAN}-{number}").touch()
    restart = run_lock.restarts()
    for key, attempts in of.tasks[number]:
        claim = run_lock.latest(runs / key)
        if claim is None or claim.number <= attempts or (runs / key / RESULT).exists():
            continue
        lines = log(of, number)
        if _is_wordless(runs / key, of, number) and claim.owner and claim.owner.restart == restart:
            store.mark_failed(runs / key, why(lines), lines)
        elif restart > of.requeues and not (runs / key / FAILURE).exists():
            store.mark_failed(runs / key, f"its job was started {restart + 1} times, and it did not end", lines)
