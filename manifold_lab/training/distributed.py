"""Several processes that train one network: which of them this one is, and its part of what they share."""

import contextlib
import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from manifold_lab.core.errors import InputError

TIMEOUT = timedelta(hours=1)
"""How long processes wait for one another; one that died is noticed at once."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among so many."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that keeps the books: checkpoints, results, claims."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """As data takes it."""
        return self.rank, self.size


ALONE = Ranks()


def current() -> Ranks:
    """This process's place; alone where no others were joined."""
    if not distributed.is_available() or not distributed.is_initialized():
        return ALONE
    return Ranks(distributed.get_rank(), distributed.get_world_size())


@contextlib.contextmanager
def join_processes() -> Iterator[Ranks]:
    """Join the processes that were started together, by torchrun or as tasks of a job, as the environment says.

    Raises:
        InputError: for an environment that says something else than numbers, or of processes that are not there.
    """
    if _from_environment("WORLD_SIZE", 1) == 1:
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(_from_environment("LOCAL_RANK", 0) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        _meet(backend)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"WORLD_SIZE: the processes it tells of cannot meet ({reason}); start them together") from None
    try:
        yield current()
    finally:
        distributed.destroy_process_group()


def _meet(backend: str) -> None:
    """Wait for the other processes in a thread: within torch, where that may take an hour, no signal is heard."""
    ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def meet() -> None:
        try:
            distributed.init_process_group(backend, timeout=TIMEOUT)
            ended.put(None)
        except Exception as error:
            ended.put(error)

    threading.Thread(target=meet, daemon=True).start()
    error = ended.get()
    if error is not None:
        raise error


def _from_environment(name: str, default: int) -> int:
    given = os.environ.get(name) or str(default)
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise InputError(f"{name}: {given[:40]!r} is not allowed; it must be a whole number")
    return int(given)


def summed(values: Tensor) -> Tensor:
    """The sum over the processes, in each of them."""
    if current().size > 1:
        distributed.all_reduce(values)
    return values


def broadcast(value: Any) -> Any:
    """What the first process says, in every process."""
    if current().size == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]
