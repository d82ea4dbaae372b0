"""From a grid to what is missing, and a run made wherever it may be, by one process at a time.

Launchers (`launchers`) are functions of missing runs that call `run_one` for each of them, or have other processes
call it, and yield how each one ended.
"""

import ctypes
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from manifold_lab.core import provenance
from manifold_lab.core.errors import DiskError, InputError, SourceError, one_line
from manifold_lab.core.files import disk_fault, guarded, settle
from manifold_lab.sweeps import run_lock, store
from manifold_lab.sweeps.slurm import Slurm
from manifold_lab.sweeps.store import ABSENT, DAMAGED, DIVERGED, DONE, FAILED, Result, Run

Measure = Callable[[Any, Path], Result]
"""Runs one spec; its folder is its own, and holds what an attempt that was cut short left there. Where several
processes make one run, each of them calls it, and the first one's result counts (`train.ranks`)."""

ON_LOOPBACK = ("--standalone", "--local-addr=127.0.0.1")
"""Options of torchrun for processes of one machine, which meet whether or not the machine's name resolves."""
TOGETHER = {
    "OMP_NUM_THREADS": "1",  # torchrun's own default, of which it would tell
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # else it warns of every address without a name
    "RES_OPTIONS": "timeout:1 attempts:1",
}
"""Environment of processes of one machine that meet, where the user's says nothing else.

torchrun asks for the machine's name ten times, and a name server that is silent would be waited for ten seconds or more
each time.
"""
PARENT_DEATH_SIGNAL = 1
"""Linux's PR_SET_PDEATHSIG."""
STOP_SECONDS = 20.0
"""Seconds that torchrun and its processes have to release a run before they are killed."""


@dataclass(frozen=True)
class Program:
    """The command line with which another process makes runs of a grid: python START worker KEY GRID."""

    name: str
    start: tuple[str, ...]
    grid: tuple[str, ...] = ()

    def worker(self, *arguments: str, processes: int = 1, python: str = sys.executable) -> list[str]:
        """A command line that makes some runs, by several processes of this machine where asked."""
        torchrun = ("-m", "torch.distributed.run", *ON_LOOPBACK, f"--nproc-per-node={processes}")
        return [python, *(torchrun if processes > 1 else ()), *self.start, "worker", *arguments, *self.grid]


@dataclass(frozen=True)
class Work:
    """What a launcher does with a run, and how; `measure` is a function of a module, so that other processes find it.

    `workers`: processes of a pool. `program`: for launchers that start other programs. `processes`: that make one run
    together. `runs_per_job`: run one after another in one job. `wait`: for the end of what was handed to a queue.
    `folder`: of the runs.
    """

    measure: Measure
    workers: int = 1
    program: Program | None = None
    processes: int = 1
    runs_per_job: int = 1
    slurm: Slurm = field(default_factory=Slurm)
    wait: bool = False
    folder: Path = Path("runs")

    def commands(self) -> Program:
        """How another process makes a run.

        Raises:
            InputError: where this work knows no command line.
        """
        if self.program is None:
            raise InputError("launcher: this one starts other programs, and the work knows no command line for them")
        return self.program


Part = TypeVar("Part")


def batched(parts: Sequence[Part], size: int) -> list[tuple[Part, ...]]:
    """As many at a time, in order; the last may be fewer."""
    return [tuple(parts[start : start + size]) for start in range(0, len(parts), size)]


Launcher = Callable[[Work, Sequence[Run]], Generator[Run, None, None]]


def missing(runs: Sequence[Run], retry_failed: bool = False, retry_damaged: bool = False) -> list[Run]:
    """The runs that are to be made: absent ones, or where asked the failed or the damaged ones.

    A diverged run would diverge again.
    """
    asked = {FAILED} if retry_failed else set()
    asked |= {DAMAGED} if retry_damaged else set()
    return [run for run in runs if run.state in (asked or {ABSENT})]


def left_over(runs: Sequence[Run], wanted: Sequence[Run]) -> str:
    """A sentence on the failed and damaged runs that are not wanted this time; empty without any."""
    taken = {run.key for run in wanted}
    others = [run for run in runs if run.key not in taken]
    found = {state: [run for run in others if run.state == state] for state in (FAILED, DAMAGED)}
    return "; ".join(
        f"{len(some)} {state}, such as {some[0].key} ({some[0].note[:160]}): run with --retry-{state} to repeat"
        for state, some in found.items()
        if some
    )


Facts = frozenset[tuple[str, str]]
"""Fields of a spec by name, in words."""


def costs(specs: Sequence[Any], records: Iterable[store.Record], length: str = "") -> list[tuple[float, int] | None]:
    """For each spec the seconds that it may take, and in how many fields the runs that say so differ from it.

    The median of the finished runs that are nearest in fields, seed apart; None before any is finished. The field
    `length`, by its dotted name, is what a run's time is in proportion to; runs with and without one say nothing of
    each other. Runs of which only the last attempt is known count where there is nothing else.
    """
    finished: dict[bool, dict[Facts, list[tuple[bool, float]]]] = {True: {}, False: {}}
    for record in records:
        made, (size, known) = record["provenance"], _apart(record["spec"], length)
        times = finished[size is not None].setdefault(known, [])
        times.append((provenance.is_whole(made), made["seconds"] / (size or 1)))

    @cache
    def cost(size: float | None, mine: Facts) -> tuple[float, int] | None:
        alike = finished[size is not None]
        nearest = min(alike, key=lambda known: len(known ^ mine), default=None)
        return None if nearest is None else ((size or 1) * _typical(alike[nearest]), len(mine - nearest))

    return [cost(*_apart(dataclasses.asdict(spec), length)) for spec in specs]


def _typical(seconds: list[tuple[bool, float]]) -> float:
    return statistics.median([time for whole, time in seconds if whole] or [time for _, time in seconds])


def _apart(spec: dict[str, Any], length: str) -> tuple[float | None, Facts]:
    """A spec's length, where it has one, and its other facts but for the seed."""
    fields = facts(spec)
    size = float(fields.pop(length)) if length in fields else None
    return size, frozenset((name, value) for name, value in fields.items() if name != "seed")


def facts(spec: dict[str, Any], within: str = "") -> dict[str, str]:
    """A spec as its plain fields by dotted name, each in words."""
    found: dict[str, str] = {}
    for name, value in spec.items():
        found |= facts(value, f"{within}{name}.") if isinstance(value, dict) else {within + name: _words(value)}
    return found


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def run_one(work: Work, run: Run) -> Run:
    """Make a run, unless another process makes it or has just ended it; its state then.

    Whatever the measure raises is written into the run's folder, but for a file of data or weights that cannot be had:
    the run is absent then, and its note says so. Only an interruption and a disk's fault go on upwards. Where several
    processes are to run it, they are started here.

    Raises:
        DiskError: for a disk that is full or read-only; the run is absent again.
    """
    if work.processes > 1:
        return _together(work, run)
    try:
        claim = _claim(run.folder)
        if claim is None:
            return store.state(run.spec, run.folder)
        try:
            return _held(work, run, claim)
        finally:
            run_lock.release(claim)
    except SourceError as error:
        return dataclasses.replace(run, state=ABSENT, note=one_line(str(error)))
    except OSError as error:  # of this folder alone: a file, a loop of links or another user's folder in its place
        note = f"{error.filename or run.folder}: {error.strerror}"
        return dataclasses.replace(run, state=DAMAGED, note=note)


def _held(work: Work, run: Run, claim: run_lock.RunLock) -> Run:
    """What `run_one` does once the run is this process's."""
    settle(run.folder)  # a kill between two moves may have left a whole result
    now = store.settled(run.spec, run.folder)
    others = claim.number > run.attempts + 1
    if now.state == DONE or (others and now.state in (FAILED, DIVERGED)):
        return now
    with run_lock.heartbeat(claim), guarded(run.folder, lambda: run_lock.holds(claim)):
        _attempt(work, run, claim)
    return store.settled(run.spec, run.folder)


def _together(work: Work, run: Run) -> Run:
    """Let torchrun start the processes that make a run, the first of which claims it."""
    command = work.commands().worker(run.key, processes=work.processes)
    started: dict[str, Any] = {"env": {**TOGETHER, **os.environ}, "stdout": subprocess.DEVNULL}
    with subprocess.Popen(command, preexec_fn=end_with_driver, **started) as torchrun:  # noqa: PLW1509  (one call)
        try:
            ended = torchrun.wait()
        except BaseException:  # an interruption: its processes release the run, and do not outlive it
            _stop(torchrun)
            raise
    now = store.state(run.spec, run.folder)
    return now if now.state != ABSENT else dataclasses.replace(now, note=f"torchrun ended with {ended}")


def end_with_driver() -> None:
    """In a process that was just forked: be told to stop when the one that forked it is gone, killed or not.

    Linux alone can tell; elsewhere what a killed driver leaves runs to its end.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _claim(folder: Path) -> run_lock.RunLock | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return run_lock.acquire(folder)
    except OSError as error:
        if disk_fault(error):
            raise _disk_error(folder, error) from None
        raise


def _disk_error(folder: Path, error: OSError) -> DiskError:
    return DiskError(
        f"runs: cannot write into {folder} ({error.strerror}); the run is absent, run again when there is room"
    )


def _attempt(work: Work, run: Run, claim: run_lock.RunLock) -> None:
    """One attempt: its result or its failure is in the folder afterwards, if the claim has held."""
    made = {**_origin(), "attempt": claim.number}
    began, earlier = time.monotonic(), run_lock.spent(run.folder, claim.number)
    if claim.number > 1 and earlier is not None:
        made["earlier"] = round(earlier, 3)

    def ended() -> dict[str, Any]:
        seconds = round(time.monotonic() - began + (earlier or 0.0), 3)
        return {**made, "device": provenance.device(), "seconds": seconds, "finished": _now()}

    try:
        store.begin(run.spec, run.folder, claim.number)
        result = work.measure(run.spec, run.folder)
        if run_lock.holds(claim):
            store.finish(run.spec, run.folder, result, ended())
    except (Exception, SystemExit) as error:  # whatever it is, the other runs go on
        fault = disk_fault(error)
        if fault is not None:
            raise _disk_error(run.folder, fault) from None
        if isinstance(error, SourceError):
            raise
        if run_lock.holds(claim):
            store.fail(run.folder, error, ended())


def _origin() -> dict[str, Any]:
    versions = provenance.versions("numpy", "scipy")
    return {"versions": versions, "commit": provenance.commit(), "host": run_lock.host(), "started": _now()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
