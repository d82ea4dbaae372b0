"""From a grid to what is missing to runs: launchers that run missing cells, each of them at most once at a time.

A launcher is a function of missing cells that calls `run_cell` for each of them, wherever it likes, and yields how each
one ended. To add one, write it here and name it in `LAUNCHERS`.
"""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from manifold_lab import claims, provenance, store
from manifold_lab.errors import InputError
from manifold_lab.files import refused
from manifold_lab.store import ABSENT, DIVERGED, DONE, FAILED, Cell, Result

Measure = Callable[[Any, Path], Result]
"""Runs one spec; its folder is its own, and holds what an attempt that was cut short left there."""
GRACE = 20.0
"""Seconds that a worker which was told to stop has for it before it is killed."""


@dataclass(frozen=True)
class Work:
    """What a launcher does with a cell; `measure` is a function of a module, so that other processes find it."""

    measure: Measure
    workers: int = 1


Launcher = Callable[[Work, Sequence[Cell]], Generator[Cell, None, None]]


def missing(cells: Sequence[Cell], retry_failed: bool = False) -> list[Cell]:
    """The cells that are to be run: absent ones, and failed ones where asked; a diverged one would diverge again."""
    wanted = {ABSENT, FAILED} if retry_failed else {ABSENT}
    return [cell for cell in cells if cell.state in wanted]


def costs(specs: Sequence[Any], records: Iterable[store.Record]) -> list[tuple[float, int] | None]:
    """For each spec the seconds that it may take, and in how many fields the runs that say so differ from it.

    The median of the finished runs that are nearest in fields, seed apart; None before any is finished. Runs that went
    on from an earlier attempt tell only their last part and count where there is nothing else.
    """
    finished: dict[frozenset[tuple[str, str]], list[tuple[int, float]]] = {}
    for record in records:
        told = record["provenance"]
        finished.setdefault(_facts(record["spec"]), []).append((told["attempt"], told["seconds"]))
    if not finished:
        return [None] * len(specs)
    wanted = [_facts(dataclasses.asdict(spec)) for spec in specs]
    nearest = {facts: min(finished, key=lambda known: len(known ^ facts)) for facts in set(wanted)}
    return [(_typical(finished[nearest[facts]]), len(facts - nearest[facts])) for facts in wanted]


def _typical(seconds: list[tuple[int, float]]) -> float:
    return statistics.median([time for attempt, time in seconds if attempt == 1] or [time for _, time in seconds])


def _facts(spec: dict[str, Any]) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in facts(spec).items() if name != "seed")


def facts(spec: dict[str, Any], within: str = "") -> dict[str, str]:
    """A spec as its plain fields by dotted name, each in words."""
    found: dict[str, str] = {}
    for name, value in spec.items():
        found |= facts(value, f"{within}{name}.") if isinstance(value, dict) else {within + name: _words(value)}
    return found


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def run_cell(work: Work, cell: Cell) -> Cell:
    """Run one cell, unless another process runs it or has just ended it; how it stands then.

    Whatever the measure raises is written into the cell's folder; only an interruption goes on upwards.

    Raises:
        InputError: for a folder that cannot be written into.
    """
    claim = _claim(cell.folder)
    if claim is None:
        return store.state(cell.spec, cell.folder)
    try:
        now = store.settled(cell.spec, cell.folder)
        others = claim.number > cell.attempts + 1
        if now.state == DONE or (others and now.state in (FAILED, DIVERGED)):
            return now
        with claims.beating(claim):
            _attempt(work, cell, claim)
        return store.settled(cell.spec, cell.folder)
    finally:
        claims.release(claim)


def _claim(folder: Path) -> claims.Claim | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return claims.take(folder)
    except OSError as error:
        raise refused(folder, error) from None


def _attempt(work: Work, cell: Cell, claim: claims.Claim) -> None:
    """One attempt: its result or its failure is in the folder afterwards, if the claim has held."""
    made = {**_origin(), "attempt": claim.number}
    began = time.monotonic()

    def told() -> dict[str, Any]:
        seconds = round(time.monotonic() - began, 3)
        return {**made, "device": provenance.device(), "seconds": seconds, "finished": _now()}

    try:
        store.begin(cell.spec, cell.folder)
        result = work.measure(cell.spec, cell.folder)
        if claims.holds(claim):
            store.finish(cell.spec, cell.folder, result, told())
    except (Exception, SystemExit) as error:  # whatever it is, the other cells go on
        if claims.holds(claim):
            store.fail(cell.folder, error, told())


def _origin() -> dict[str, Any]:
    versions = provenance.versions("numpy", "scipy")
    return {"versions": versions, "commit": provenance.commit(), "host": socket.gethostname(), "started": _now()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def here(work: Work, cells: Sequence[Cell]) -> Generator[Cell, None, None]:
    """One after another in this process."""
    for cell in cells:
        yield run_cell(work, cell)


def pool(work: Work, cells: Sequence[Cell]) -> Generator[Cell, None, None]:
    """In `work.workers` processes of this machine, each with its share of the cores; a dead one is replaced.

    The executors of concurrent.futures and loky give up every waiting task when one worker is killed, so that neither
    serves here: a cell that runs out of memory must not stop the others.

    Raises:
        InputError: for a folder that a worker cannot write into.
    """
    waiting, crew = deque(cells), list[_Worker]()
    try:
        while waiting or any(worker.cell for worker in crew):
            while waiting and (idle := _idle(crew, work)):
                idle.give(waiting.popleft())
            busy = [worker.pipe for worker in crew if worker.cell]
            ready = connection.wait(busy)
            for worker in [worker for worker in crew if worker.pipe in ready]:
                ended = worker.take()
                if not worker.process.is_alive():
                    crew.remove(worker)
                yield ended
    finally:
        _dismiss(crew)


LAUNCHERS: dict[str, Launcher] = {"here": here, "pool": pool}


class _Worker:
    """A process of a pool, and the cell that it runs."""

    def __init__(self, work: Work) -> None:
        spawn = get_context("spawn")  # a fork would inherit torch's threads, and CUDA not at all
        self.cell: Cell | None = None
        self.pipe, theirs = spawn.Pipe()
        threads = max(1, cores() // work.workers)
        self.process = spawn.Process(target=_serve, args=(theirs, work, threads))
        with _deaf():
            self.process.start()
        theirs.close()

    def give(self, cell: Cell) -> None:
        """Hand out a cell; that a process is dead is found out by `take`."""
        self.cell = cell
        with contextlib.suppress(OSError):
            self.pipe.send(cell)

    def take(self) -> Cell:
        """How the cell ended, or that its process did."""
        cell, self.cell = self.cell, None
        assert cell is not None
        try:
            ended = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return dataclasses.replace(cell, state=ABSENT, note=f"its process ended with {_status(self.process)}")
        if isinstance(ended, InputError):
            raise ended
        return ended


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _idle(crew: list[_Worker], work: Work) -> _Worker | None:
    """A worker without a cell, a new one if there may be more."""
    if len(crew) < work.workers:
        crew.append(_Worker(work))
        return crew[-1]
    return next((worker for worker in crew if worker.cell is None), None)


def _status(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"status {code}"


def _dismiss(crew: list[_Worker]) -> None:
    """End every worker: idle ones by closing their pipe, busy ones by a signal, which gives their cell back."""
    for worker in crew:
        worker.pipe.close()
        if worker.cell is not None:
            worker.process.terminate()
    deadline = time.monotonic() + GRACE
    for worker in crew:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Processes started within never hear the keyboard: it is the driver that stops them. It hears all that comes."""
    resource_tracker.ensure_running()  # which would end the silence if it were started within
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, work: Work, threads: int) -> None:
    """A worker's life: run cells until the pipe closes or the driver ends."""
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_follow_driver, daemon=True).start()
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            pipe.send(_outcome(work, pipe.recv()))


def _outcome(work: Work, cell: Cell) -> Cell | InputError:
    try:
        return run_cell(work, cell)
    except InputError as error:
        return error


def _stop(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _follow_driver() -> None:
    """Stop when the driver was killed, so that nothing runs on unseen."""
    driver = parent_process()
    if driver is not None:
        driver.join()
        os.kill(os.getpid(), signal.SIGTERM)
