"""The lock of a run's folder: one process at a time holds it, and the claim of a dead process blocks nobody.

The claims of a folder are the files claim-0001, claim-0002, …: each is made once (O_EXCL) and never removed, and the
next one is made only when the last was released or its process has ended. So there is at most one holder, whoever dies
when, without locks, which network file systems lack, and without comparing the clocks of machines.
"""

import contextlib
import dataclasses
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from manifold_lab.core.config import check_types
from manifold_lab.core.errors import InputError
from manifold_lab.core.files import machine, read_file

BEAT = 15.0
"""Seconds between two touches of a claim by its holder."""
STALE_AFTER = 150.0
"""Seconds without a touch after which a holder on another machine counts as dead: many beats, and longer than network
file systems keep a file's time in their caches (60 s)."""
LOCK_NAME, RELEASED = "claim-", "released"
JOB = "MANIFOLD_LAB_JOB"
"""The environment variable that names the batch job that a process is a part of."""
RESTARTS = "SLURM_RESTART_COUNT"


@dataclass(frozen=True)
class Owner:
    """A process, described so that another one can find out whether it lives.

    Raises:
        InputError: for a field of another kind, as a damaged claim has it.
    """

    host: str
    machine: str
    pid: int
    started: float
    job: str = ""
    """The batch job that it is a part of, as the job's script says in the environment."""
    restart: int = 0
    """How often the queue had started that job before: never are two starts of one job alive together."""
    began: float = 0.0
    """When it made the claim, by its own clock; 0 where an older release did not say."""

    def __post_init__(self) -> None:
        """Refuse what no process has."""
        check_types(self)


@dataclass(frozen=True)
class RunLock:
    """One claim as read: its number, who made it (None while it is being written), whether it was given back."""

    path: Path
    number: int
    owner: Owner | None
    released: bool

    @property
    def who(self) -> str:
        """The holder in words."""
        return f"process {self.owner.pid} on {self.owner.host}" if self.owner else "a process that left no name"


def latest(folder: Path) -> RunLock | None:
    """The last claim on a folder, or None where there is none."""
    numbers = _numbers(folder)
    return _read(folder, numbers[-1]) if numbers else None


def _numbers(folder: Path) -> list[int]:
    """The numbers of a folder's claims, in order."""
    try:
        named = [name.removeprefix(LOCK_NAME) for name in os.listdir(folder) if name.startswith(LOCK_NAME)]  # noqa: PTH208
    except OSError:
        return []
    return sorted(int(number) for number in named if number.isascii() and number.isdigit())


def is_held(claim: RunLock | None) -> bool:
    """Whether the claim's process still works: known at once on its own machine, by the last touch elsewhere."""
    if claim is None or claim.released:
        return False
    ended = _has_ended(claim.owner)
    return _is_fresh(claim.path) if ended is None else not ended


def acquire(folder: Path) -> RunLock | None:
    """Claim the folder for this process; None where another process holds it.

    Raises:
        OSError: if the folder or the disk refuses; no claim is left then.
    """
    last = latest(folder)
    if is_held(last):
        return None
    number = last.number + 1 if last else 1
    path = folder / f"{LOCK_NAME}{number:04d}"
    owner = _this_process()
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return None
    try:
        with os.fdopen(file, "w", encoding="utf-8") as text:
            text.write(json.dumps(dataclasses.asdict(owner)) + "\n")
            text.flush()
            os.fsync(text.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return RunLock(path, number, owner, False)


def holds(claim: RunLock) -> bool:
    """Whether this claim is still the last one: a holder taken for dead must not write."""
    last = latest(claim.path.parent)
    return last is not None and last.number == claim.number


def spent(folder: Path, before: int) -> float | None:
    """Seconds for which the claims before one were held, each to its last touch; None where one does not say."""
    held = []
    for number in _numbers(folder):
        claim = _read(folder, number)
        if number >= before:
            break
        if claim.owner is None or not claim.owner.began:
            return None
        held.append(max(0.0, claim.path.stat().st_mtime - claim.owner.began))
    return sum(held, 0.0)


def release(claim: RunLock) -> None:
    """Give the folder back.

    Nothing happens where it is gone. On a disk that takes not even a word, the claim ends with this process.
    """
    with contextlib.suppress(OSError):
        file = os.open(claim.path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0))
        try:
            os.write(file, f"{RELEASED}\n".encode())
        finally:
            os.close(file)


@contextlib.contextmanager
def heartbeat(claim: RunLock) -> Iterator[None]:
    """Touch the claim every BEAT seconds, by the file system's own clock, for as long as the work lasts."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(claim.path)

    heart = threading.Thread(target=beat, daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()


def _read(folder: Path, number: int) -> RunLock:
    path, owner, lines = folder / f"{LOCK_NAME}{number:04d}", None, [""]
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError, InputError):
        lines = read_file(path).decode().splitlines() or [""]
        owner = Owner(**json.loads(lines[0]))
    return RunLock(path, number, owner, RELEASED in lines)


def _this_process() -> Owner:
    process = psutil.Process()
    job = os.environ.get(JOB, "")
    return Owner(host(), machine(), process.pid, process.create_time(), job, restarts(), began=time.time())


def restarts() -> int:
    """How often the queue has started this process's job again.

    Raises:
        InputError: where the environment says something else than a number.
    """
    given = os.environ.get(RESTARTS) or "0"
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise InputError(f"{RESTARTS}: {given[:40]!r} is not allowed; it must be a whole number")
    return int(given)


def host() -> str:
    """The machine's name, or its node's where a queue gave it one."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _has_ended(owner: Owner | None) -> bool | None:
    """Whether a process has ended; None where that cannot be known from here, or its pid has gone to another one."""
    if owner is not None and owner.job and owner.job == os.environ.get(JOB) and owner.restart < restarts():
        return True
    if owner is None or owner.machine != machine():
        return None
    try:
        process = psutil.Process(owner.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return False if abs(process.create_time() - owner.started) < 1 else None
    except (psutil.NoSuchProcess, ValueError, OverflowError):  # the latter two for a number that is no pid
        return True
    except psutil.AccessDenied:
        return None


def _is_fresh(path: Path) -> bool:
    """Whether a claim was touched within STALE_AFTER seconds by the clock of the file system that holds it.

    A time further in the future than that is no touch of a living process, whose next one would set it right.
    """
    try:
        file = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
        )  # opened: a network file system asks its server
        try:
            touched = os.fstat(file).st_mtime
        finally:
            os.close(file)
    except OSError:
        return False
    return abs(_clock(path.parent) - touched) < STALE_AFTER


def _clock(folder: Path) -> float:
    """The time by the file system of a folder; by this machine where nothing can be written there."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".clock-", dir=folder) as clock:
            os.utime(clock.name)
            return Path(clock.name).stat().st_mtime
    except OSError:
        return time.time()
