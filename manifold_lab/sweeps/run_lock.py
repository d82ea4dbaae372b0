"""Who works in a folder: one process at a time, and a dead one's claim blocks nobody.

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

from manifold_lab.core.files import machine

BEAT = 15.0
"""Seconds between two touches of a claim by its holder."""
STALE_AFTER = 150.0
"""Seconds without a touch after which a holder on another machine counts as dead: many beats, and longer than network
file systems keep a file's time in their caches (60 s)."""
LOCK_NAME, RELEASED = "claim-", "released"
JOB = "MANIFOLD_LAB_JOB"
"""The environment's word for the batch job that a process is a part of."""


@dataclass(frozen=True)
class Owner:
    """A process, told so that another one can find out whether it lives."""

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
    """The last claim on a folder, or None where there was none."""
    try:
        told = [path.name.removeprefix(LOCK_NAME) for path in folder.iterdir() if path.name.startswith(LOCK_NAME)]
    except (FileNotFoundError, NotADirectoryError):
        return None
    numbers = [int(number) for number in told if number.isdigit()]
    return _read(folder, max(numbers)) if numbers else None


def is_held(claim: RunLock | None) -> bool:
    """Whether the claim's process still works: known at once on its own machine, by the last touch elsewhere."""
    if claim is None or claim.released:
        return False
    ended = _has_ended(claim.owner)
    return _is_fresh(claim.path) if ended is None else not ended


def acquire(folder: Path) -> RunLock | None:
    """Claim the folder for this process; None where another process holds it."""
    last = latest(folder)
    if is_held(last):
        return None
    number = last.number + 1 if last else 1
    path = folder / f"{LOCK_NAME}{number:04d}"
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return None
    with os.fdopen(file, "w", encoding="utf-8") as text:
        text.write(json.dumps(dataclasses.asdict(_this_process()) | {"began": time.time()}) + "\n")
        text.flush()
        os.fsync(text.fileno())
    return RunLock(path, number, _this_process(), False)


def holds(claim: RunLock) -> bool:
    """Whether this claim is still the last one: a holder taken for dead must not write."""
    last = latest(claim.path.parent)
    return last is not None and last.number == claim.number


def spent(folder: Path, before: int) -> float | None:
    """Seconds for which the claims before one were held, each to its last touch; None where one does not tell."""
    held = []
    for number in range(1, before):
        claim = _read(folder, number)
        if claim.owner is None or not claim.owner.began:
            return None
        held.append(max(0.0, claim.path.stat().st_mtime - claim.owner.began))
    return sum(held, 0.0)


def release(claim: RunLock) -> None:
    """Give the folder back; nothing happens where it is gone."""
    with contextlib.suppress(FileNotFoundError):
        file = os.open(claim.path, os.O_WRONLY | os.O_APPEND)
        os.write(file, f"{RELEASED}\n".encode())
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
    with contextlib.suppress(OSError, ValueError, TypeError):
        lines = path.read_text(encoding="utf-8").splitlines() or [""]
        owner = Owner(**json.loads(lines[0]))
    return RunLock(path, number, owner, RELEASED in lines)


def _this_process() -> Owner:
    process, told = psutil.Process(), os.environ
    restart = int(told.get("SLURM_RESTART_COUNT") or 0)
    return Owner(host(), machine(), process.pid, process.create_time(), told.get(JOB, ""), restart)


def host() -> str:
    """The machine's name, or its node's where a queue gave it one."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _has_ended(owner: Owner | None) -> bool | None:
    """Whether a process has ended; None where that cannot be known from here, or its pid has gone to another one."""
    ours = _this_process()
    if owner is not None and owner.job and owner.job == ours.job and owner.restart < ours.restart:
        return True
    if owner is None or owner.machine != ours.machine:
        return None
    try:
        process = psutil.Process(owner.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        return False if abs(process.create_time() - owner.started) < 1 else None
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return None


def _is_fresh(path: Path) -> bool:
    """Whether a claim was touched within LOST seconds, both times told by the file system that holds it."""
    try:
        with path.open("rb") as file:  # opened, so that a network file system asks its server
            touched = os.fstat(file.fileno()).st_mtime
        with tempfile.NamedTemporaryFile(prefix=".clock-", dir=path.parent) as clock:
            os.utime(clock.name)
            return Path(clock.name).stat().st_mtime - touched < STALE_AFTER
    except FileNotFoundError:
        return False
