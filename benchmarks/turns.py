"""What the benchmarks that take turns share: contestants in processes of their own, rounds, and ratios with intervals.

Every contestant lives in a process of its own, as the allocator is a process's. All take turns, round after round; a
ratio is the median over the rounds of ours / peer in the same round, with its exact interval.
"""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from manifold_lab.core import statistics
from manifold_lab.core.errors import InputError, at_least

Turn = Callable[[int | float], float]
"""From the length of a turn (seconds, or images) to what it measured, such as images per second."""
Contestant = Callable[[], Turn]
"""Makes a turn, in the contestant's own process: a function of a module, or a partial of one."""
RATIO = ("ratio", "low", "high", "n", "threads", "torch")
"""The columns of `ratio`."""


def _serve(pipe: "Connection[Any, Any]", contestant: Contestant) -> None:
    """A contestant's life: for every length that comes in, a measurement goes out, until the pipe is closed."""
    with contextlib.suppress(EOFError, OSError):
        try:
            turn = contestant()
            while True:
                pipe.send(turn(pipe.recv()))
        except InputError as error:
            pipe.send(error)


@contextmanager
def started(contestant: Contestant) -> Iterator[Turn]:
    """A contestant's turn, taken in a new process that lives as long as the context.

    The turn raises an InputError where making or taking it did there.
    """
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, contestant))  # no daemon, which may have no children
    process.start()
    theirs.close()  # so that a contestant that dies ends the wait for it

    def turn(length: int | float) -> float:
        with contextlib.suppress(BrokenPipeError):  # what it said before it ended can still be heard
            pipe.send(length)
        message = pipe.recv()
        if isinstance(message, InputError):
            raise message
        return float(message)

    try:
        yield turn
    finally:
        pipe.close()
        process.join()


def rates(contestants: Mapping[str, Contestant], length: int | float, rounds: int) -> dict[str, list[float]]:
    """What each contestant measured in every round, after a turn that compiles, packs and warms.

    Raises:
        InputError: for less than one round, or as a contestant does.
    """
    at_least("rounds", rounds, 1)
    found: dict[str, list[float]] = {name: [] for name in contestants}
    with ExitStack() as stack:
        turns = {name: stack.enter_context(started(make)) for name, make in contestants.items()}
        for turn in turns.values():
            turn(length)
        for _ in range(rounds):
            for name, turn in turns.items():
                found[name].append(turn(length))
    return found


def ratio(ours: Sequence[float], peer: Sequence[float]) -> dict[str, str]:
    """Ours over the peer, round by round, and under which torch on how many threads."""
    found = statistics.median(np.array(ours) / np.array(peer))
    numbers = (f"{value:.3g}" for value in (found.value, found.low, found.high))
    return dict(zip(RATIO, (*numbers, str(found.n), str(torch.get_num_threads()), torch.__version__), strict=True))
