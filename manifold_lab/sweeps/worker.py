"""Runs made by the processes that were started for them: by hand, by torchrun, or in a job of a queue.

The first of these processes writes the results and sends the others what to measure. A run that fails leaves them out
of step, so that they all end, with the status `OUT_OF_STEP`, and the process that started them may do so again.
"""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from manifold_lab.core.errors import InputError
from manifold_lab.sweeps import run_lock, slurm, store, submissions
from manifold_lab.sweeps.runner import Measure, Work, run_one
from manifold_lab.sweeps.store import ABSENT, DONE, RUNNING, Result, Run
from manifold_lab.training import distributed

OUT_OF_STEP, SOME_FAILED = 3, 10
"""Statuses with which a process ends, besides those of every command line."""
STOP_GRACE = 10.0
"""Seconds that a process leaves the first one to say itself why a run failed."""


def named_runs(folder: Path, specs: Mapping[str, Any], keys: Sequence[str]) -> list[Run]:
    """The runs of these keys, however they stand.

    Raises:
        InputError: for a key that is not of the grid.
    """
    unknown = [key for key in keys if key not in specs]
    if unknown or not keys:
        problem = f"{unknown[0]!r} is no key of this grid" if keys else "name one at least"
        raise InputError(f"keys: {problem}; plan and status tell the keys")
    return [store.state(specs[key], folder / key) for key in keys]


def of_this_job(folder: Path, specs: Mapping[str, Any]) -> list[Run]:
    """The runs of the task that this process's job is; none where its submission was closed."""
    of = submissions.this_task(folder)
    if of is None:
        return []
    number = submissions.this_number(of)
    if distributed.current().first:
        submissions.mark_dead_runs(folder, of, number)
    return [Run(specs[key], folder / key, attempts=attempts) for key, attempts in of.tasks[number] if key in specs]


def work_through(work: Work, runs: Sequence[Run], patient: bool = False) -> Generator[Run, None, None]:
    """Make runs one after another, and say in the first process how each ended.

    A patient one comes back to runs that another process seems to hold, until a dead one's claim has grown old.

    Raises:
        SystemExit: where several processes make a run and it fails.
        KeyboardInterrupt: when told to stop; a job that is about to be stopped by Slurm is in the queue again then.
    """
    with _stoppable():
        if not distributed.current().first:
            _follow(work.measure, runs)
            return
        held = []
        for place, run in enumerate(runs):
            ended = yield from _lead(work, run, place)
            held += [(place, run)] if ended.state == RUNNING else []
        if patient:
            yield from _return_to(work, held)
        distributed.broadcast(None)


def _return_to(work: Work, held: list[tuple[int, Run]]) -> Generator[Run, None, None]:
    """Try the runs that others hold again and again, as long as a dead one's claim may need to grow old."""
    deadline = time.monotonic() + run_lock.STALE_AFTER + 2 * run_lock.BEAT
    while held and time.monotonic() < deadline:
        time.sleep(run_lock.BEAT)
        for place, run in list(held):
            ended = yield from _lead(work, run, place)
            held = [one for one in held if one[0] != place or ended.state == RUNNING]


def _lead(work: Work, run: Run, place: int) -> Generator[Run, None, Run]:
    """Make a run; the other processes hear of it when it is claimed and begins."""
    begun = []

    def measure(spec: Any, folder: Path) -> Result:
        begun.append(distributed.broadcast(place))
        return work.measure(spec, folder)

    try:
        ended = run_one(dataclasses.replace(work, measure=measure), run)
    except KeyboardInterrupt as stop:
        stop.args = (f"{run.key} was running and is released; run it again to go on",)
        raise
    yield ended
    if distributed.current().size > 1 and begun and ended.state != DONE:
        raise SystemExit(OUT_OF_STEP)
    return ended


def _follow(measure: Measure, runs: Sequence[Run]) -> None:
    """Measure what the first process says until it says that all is done."""
    while (place := distributed.broadcast(None)) is not None:
        run = runs[place]
        try:
            measure(run.spec, run.folder)
        except Exception as error:  # whatever it is, the first process would wait for this one
            time.sleep(STOP_GRACE)
            if store.settled(run.spec, run.folder).state == ABSENT:
                store.fail(run.folder, error, {"rank": distributed.current().rank})
            raise SystemExit(OUT_OF_STEP) from error


class NoticeError(KeyboardInterrupt):
    """Slurm is about to stop this job, for its time or for another job."""


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Signals give the run back; Slurm's notice puts the job into the queue again besides."""
    before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        yield
    except NoticeError:
        if distributed.current().first and "SLURM_JOB_ID" in os.environ:
            slurm.ask(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]])
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    for other in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(other, signal.SIG_IGN)
    raise NoticeError if number == signal.SIGUSR2 else KeyboardInterrupt
