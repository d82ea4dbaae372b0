"""Files appear whole or not at all."""

import contextlib
import csv
import errno
import functools
import hashlib
import io
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from manifold_lab.core.errors import InputError

Writer = Callable[[Path], None]
WRITING, READY = ".writing-", ".ready-"
"""How the folders of a publication under way begin: while its files are written, and while they take their names."""
DAY = 86_400.0
"""Seconds after which what a process on another machine left counts as left: longer than clocks disagree."""


def check_folder(folder: Path) -> None:
    """Make sure, before any work is done, that `folder` is there and takes files, or that it could be made.

    Raises:
        InputError: if not.
    """
    try:
        there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise refused(folder, error) from None


def refused(folder: Path, error: OSError) -> InputError:
    """What a folder's or a disk's refusal means to the user."""
    reason = error.strerror or type(error).__name__
    return InputError(f"out: cannot write into {folder} ({reason}); nothing was changed, name another folder")


def publish(folder: Path, writers: Mapping[str, Writer]) -> list[Path]:
    """Write every file under its own name in a hidden folder beside, then move all of them, in the order given.

    A failure or a kill while writing leaves every earlier file of the folder as it was. A kill between two moves leaves
    files of two publications, each of them whole; the next publication into the folder first makes the rest of the
    moves. It also removes what killed processes left half-written, as soon as it knows that they have ended: at once on
    their own machine, elsewhere after a DAY.

    Raises:
        InputError: if the folder or the disk refuses; nothing is left half-written, and no folder is made.
    """
    made = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        settle(folder)
        _written(folder, writers)
    except BaseException as error:
        for one in made:
            with contextlib.suppress(OSError):
                one.rmdir()
        if isinstance(error, OSError):
            raise refused(folder, error) from None
        raise
    return [folder / name for name in writers]


def _written(folder: Path, writers: Mapping[str, Writer]) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f"{WRITING}{machine()}-{os.getpid()}-", dir=folder))
    try:
        for name, write in writers.items():
            write(scratch / name)
            _sync(scratch / name)
            if (folder / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        scratch = scratch.rename(folder / scratch.name.replace(WRITING, READY, 1))
        _move(scratch, folder, list(writers))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def settle(folder: Path) -> None:
    """End what killed publications left in a folder: moves that were begun are made, half-written files removed."""
    for left in [*folder.glob(f"{WRITING}*"), *folder.glob(f"{READY}*")]:
        mark, _, rest = left.name.partition("-")[2].partition("-")
        pid = rest.partition("-")[0]
        here = mark == machine() and pid.isdigit()
        with contextlib.suppress(OSError):  # another process may be at it
            ended = not psutil.pid_exists(int(pid)) if here else time.time() - left.stat().st_mtime > DAY
            if ended and here and left.name.startswith(READY):
                _move(left, folder, sorted(path.name for path in left.iterdir()))
            if ended:
                shutil.rmtree(left, ignore_errors=True)


def _move(scratch: Path, folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (scratch / name).replace(folder / name)


@functools.cache
def machine() -> str:
    """Eight letters, equal for two processes where a pid means the same to both.

    Made of one start of one kernel and one namespace of pids; where there is no /proc, of the host's name.
    """
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        told = f"{start} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        told = socket.gethostname()
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def text(content: str) -> Writer:
    """A writer of a text file, with the same bytes on every system."""

    def write(path: Path) -> None:
        path.write_text(content, encoding="utf-8", newline="\n")

    return write


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The text of a csv file, with the same bytes on every system."""
    made = io.StringIO()
    writer = csv.DictWriter(made, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return made.getvalue()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
