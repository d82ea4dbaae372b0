"""In a bounded number of processes of this machine."""

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType

import torch
from threadpoolctl import threadpool_limits

from manifold_lab.core.errors import InputError
from manifold_lab.sweeps.runner import Work, run_one
from manifold_lab.sweeps.store import ABSENT, Run

GRACE = 20.0
"""Seconds that a worker which was told to stop has for it before it is killed."""


def launch(work: Work, runs: Sequence[Run]) -> Generator[Run, None, None]:
    """In `work.workers` processes of this machine, each with its share of the cores; a dead one is replaced.

    The executors of concurrent.futures and loky give up every waiting task when one worker is killed, so that neither
    serves here: a run that runs out of memory must not stop the others.

    Raises:
        InputError: for a folder that a worker cannot write into.
    """
    waiting, crew = deque(runs), list[_Worker]()
    try:
        while waiting or any(worker.run for worker in crew):
            while waiting and (idle := _idle(crew, work)):
                idle.give(waiting.popleft())
            busy = [worker.pipe for worker in crew if worker.run]
            ready = connection.wait(busy)
            for worker in [worker for worker in crew if worker.pipe in ready]:
                ended = worker.take()
                if not worker.process.is_alive():
                    crew.remove(worker)
                yield ended
    finally:
        _dismiss(crew)


class _Worker:
    """A process of a pool, and the run that it makes."""

    def __init__(self, work: Work) -> None:
        spawn = get_context("spawn")  # a fork would inherit torch's threads, and CUDA not at all
        self.run: Run | None = None
        self.pipe, theirs = spawn.Pipe()
        threads = max(1, cores() // work.workers)
        self.process = spawn.Process(target=_serve, args=(theirs, work, threads))
        with _deaf():
            self.process.start()
        theirs.close()

    def give(self, run: Run) -> None:
        """Hand out a run; that a process is dead is found out by `take`."""
        self.run = run
        with contextlib.suppress(OSError):
            self.pipe.send(run)

    def take(self) -> Run:
        """How the run ended, or that its process did."""
        run, self.run = self.run, None
        assert run is not None
        try:
            ended = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return dataclasses.replace(run, state=ABSENT, note=f"its process ended with {_status(self.process)}")
        if isinstance(ended, InputError):
            raise ended
        return ended


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _idle(crew: list[_Worker], work: Work) -> _Worker | None:
    """A worker without a run, a new one if there may be more."""
    if len(crew) < work.workers:
        crew.append(_Worker(work))
        return crew[-1]
    return next((worker for worker in crew if worker.run is None), None)


def _status(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"status {code}"


def _dismiss(crew: list[_Worker]) -> None:
    """End every worker: idle ones by closing their pipe, busy ones by a signal, which gives their run back."""
    for worker in crew:
        worker.pipe.close()
        if worker.run is not None:
            worker.process.terminate()
    deadline = time.monotonic() + GRACE
    for worker in crew:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Processes started within ignore the keyboard and a lost terminal: the driver stops them."""
    resource_tracker.ensure_running()  # which would end the silence if it were started within
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, work: Work, threads: int) -> None:
    """A worker's life: make runs until the pipe closes or the driver ends."""
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_follow_driver, daemon=True).start()
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            pipe.send(_outcome(work, pipe.recv()))


def _outcome(work: Work, run: Run) -> Run | InputError:
    try:
        return run_one(work, run)
    except InputError as error:
        return error


def _stop(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _follow_driver() -> None:
    """Stop when the driver was killed, so that nothing runs on unseen; without mercy where that takes too long."""
    driver = parent_process()
    if driver is not None:
        driver.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(128 + signal.SIGTERM)
