"""What of a study was handed to Slurm: submissions on disk, the queue, and the runs that a job took with it.

A submission is one array of jobs. Before it is handed over, its runs are written down under its name, which is its
own and is the array's name in the queue too: whoever looks later finds by that name alone which runs are queued, so
that no job number has to be written, and a driver may be killed at any moment. A submission that is not in the queue is
over: it is closed, and a job of it that is handed over after all finds nothing to do.

    runs/<study>/.slurm/<name>/submission.json   the tasks, each a list of runs; ended.json once it is closed
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
from manifold_lab.sweeps.store import ABSENT, DAMAGED, FAILED, FAILURE, QUEUED, RUNNING, TAIL, Run

FOLDER, OPEN, ENDED, BEGAN = ".slurm", "submission.json", "ended.json", "began"
MEMORY = ("oom-kill", "oom_kill", "out of memory", "out_of_memory", "exceeded memory limit")
"""What the log of a job says that took more memory than it may."""

Task = tuple[tuple[str, int], ...]
"""Runs by key that one job runs, each with its attempts so far, so that a restart does not repeat one that failed."""


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


def announce(study_folder: Path, study: str, tasks: Sequence[Task], requeues: int) -> Submission:
    """Write down what is about to be handed to the queue, under a new name."""
    folder = study_folder / FOLDER / f"{study}-{uuid.uuid4().hex[:8]}"
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


def submissions(study_folder: Path) -> list[Submission]:
    """All that are not closed.

    Raises:
        InputError: as `load_submission`.
    """
    return [found for folder in _folders(study_folder) if (found := load_submission(folder)) is not None]


def _folders(study_folder: Path) -> list[Path]:
    try:
        return sorted((study_folder / FOLDER).iterdir())
    except OSError:
        return []


def _readable(study_folder: Path) -> tuple[list[Submission], str]:
    """The submissions that are not closed, and a note on the first damaged one."""
    found, note = [], ""
    for folder in _folders(study_folder):
        try:
            one = load_submission(folder)
        except InputError as error:
            note = note or f"whether it is queued is not known: {error}"
            continue
        found += [one] if one is not None else []
    return found, note


@contextlib.contextmanager
def only_submitter(study_folder: Path) -> Iterator[None]:
    """One process at a time hands runs of a folder to the queue.

    Raises:
        InputError: where another one does.
    """
    (study_folder / FOLDER).mkdir(parents=True, exist_ok=True)
    claim = run_lock.acquire(study_folder / FOLDER)
    if claim is None:
        raise InputError(f"slurm: another process submits runs of {study_folder}; try again in a minute")
    try:
        with run_lock.heartbeat(claim):
            yield
    finally:
        run_lock.release(claim)


def view(study_folder: Path, runs: Sequence[Run]) -> list[Run]:
    """How runs stand with the queue taken into account: queued ones, and failed ones whose job ended without a word.

    Raises:
        InputError: where there are submissions, and Slurm does not answer.
    """
    found, damaged = _readable(study_folder)
    if damaged:
        runs = [dataclasses.replace(run, note=run.note or damaged) if run.state == ABSENT else run for run in runs]
    if not found:
        return list(runs)
    live = {(job.name, job.task): job for job in slurm.queue(submission.name for submission in found)}
    places = {
        key: (submission, number, attempts)
        for submission, number, task in sorted(_tasks(found), key=lambda one: (one[0].name, one[1]) in live)
        for key, attempts in task
    }
    return [_seen(run, *places[run.key], live) if run.key in places else run for run in runs]


def _tasks(found: Sequence[Submission]) -> Iterator[tuple[Submission, int, Task]]:
    """Every task, those that were handed over first first."""
    for submission in sorted(found, key=lambda one: one.since):
        for number, task in enumerate(submission.tasks):
            yield submission, number, task


def _seen(run: Run, of: Submission, number: int, attempts: int, live: Mapping[tuple[str, int], Queued]) -> Run:
    job = live.get((of.name, number))
    if run.state not in (ABSENT, RUNNING, FAILED, DAMAGED):
        return run
    if job is None:
        return _left(run, of, number)
    if run.state == RUNNING:
        return dataclasses.replace(run, note=f"{run.note}, {job.where}")
    if run.state == FAILED and run.attempts > attempts:
        return run
    return dataclasses.replace(run, state=QUEUED, note=job.where)


def _left(run: Run, of: Submission, number: int) -> Run:
    """A run whose job is no more in the queue."""
    if _is_wordless(run.folder, of, number):
        return dataclasses.replace(run, state=FAILED, note=why(log(of, number)), progress={})
    if run.state == ABSENT and not run.note:
        last = [line for line in log(of, number) if line.strip()][-1:]
        return dataclasses.replace(run, note=": ".join(["its job ended before it began", *last]))
    return run


def _is_wordless(run: Path, of: Submission, number: int) -> bool:
    """Whether a process of this task began a run and left neither result nor failure, nor gave the run back."""
    claim = run_lock.latest(run)
    if claim is None or claim.released or claim.owner is None or claim.owner.job != job_name(of, number):
        return False
    return not (run / RESULT).exists() and not (run / FAILURE).exists()


def close_ended(study_folder: Path) -> None:
    """Write down the failures that ended jobs left without a word, and close what is no more in the queue.

    For who is the only submitter.

    Raises:
        InputError: as `view`.
    """
    found = submissions(study_folder)
    live = {job.name for job in slurm.queue(submission.name for submission in found)}
    for submission in found:
        if submission.name in live:
            continue
        for number, task in enumerate(submission.tasks):
            for key, _ in task:
                if _is_wordless(study_folder / key, submission, number):
                    lines = log(submission, number)
                    store.mark_failed(study_folder / key, why(lines), lines)
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


def this_task(study_folder: Path) -> Submission | None:
    """The submission that this process's job belongs to, if it is not closed; its place is `this_number`.

    Raises:
        InputError: where no job started this process.
    """
    name = os.environ.get(run_lock.JOB, "").partition("/")[0]
    if not name:
        raise InputError("job: no job of Slurm started this process; name runs by key instead")
    return load_submission(study_folder / FOLDER / name)


def this_number(of: Submission) -> int:
    """The place of this process's job in its array.

    Raises:
        InputError: where the environment names no task of this submission.
    """
    given = os.environ.get(run_lock.JOB, "").partition("/")[2]
    if not (given.isascii() and given.isdigit() and len(given) < 10 and int(given) < len(of.tasks)):
        raise InputError(f"{run_lock.JOB}: {given[:40]!r} is no task of {of.name}, which has {len(of.tasks)}")
    return int(given)


def mark_dead_runs(study_folder: Path, of: Submission, number: int) -> None:
    """At the start of a task, say of each run that an earlier process of it began whether it is to go on.

    One whose process died while its job lived on has failed, and so has one whose job was started too often. The file
    `began` tells the job's script that its process came so far.
    """
    (of.folder / f"{BEGAN}-{number}").touch()
    restart = run_lock.restarts()
    for key, attempts in of.tasks[number]:
        claim = run_lock.latest(study_folder / key)
        if claim is None or claim.number <= attempts or (study_folder / key / RESULT).exists():
            continue
        lines = log(of, number)
        if _is_wordless(study_folder / key, of, number) and claim.owner and claim.owner.restart == restart:
            store.mark_failed(study_folder / key, why(lines), lines)
        elif restart > of.requeues and not (study_folder / key / FAILURE).exists():
            store.mark_failed(study_folder / key, f"its job was started {restart + 1} times, and it did not end", lines)
