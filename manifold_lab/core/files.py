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
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from manifold_lab.core.errors import DiskError, InputError, causes

Writer = Callable[[Path], object]
WRITING, READY = ".writing-", ".ready-"
"""How the folders of a publication under way begin: while its files are written, and while they take their names."""
DAY = 86_400.0
"""Seconds after which what a process on another machine left counts as left: longer than clocks disagree."""
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.ESTALE, errno.ENOLCK)
"""What the system answers where the disk is full, over quota, read-only or gone, or a file is at its limit."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a cell that spreadsheets take for a formula."""


def read_file(path: str | Path) -> bytes:
    """The bytes of a regular file; a pipe or a device is refused at once, where reading could wait for ever.

    Raises:
        OSError: if there is no such file, it is of another kind, or it cannot be read.
    """
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        mode = os.fstat(file).st_mode
        if not stat.S_ISREG(mode):
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(code, "it is a folder" if stat.S_ISDIR(mode) else "it is no regular file", str(path))
        return io.FileIO(file, closefd=False).readall()
    finally:
        os.close(file)


def read_text(path: Path, remedy: str = "run the command that publishes it") -> str:
    """The text of a file.

    Raises:
        InputError: if there is none, or it is no text; with what mends it.
    """
    try:
        return read_file(path).decode()
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {remedy}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"{path} cannot be read ({reason}): {remedy}") from None


@contextlib.contextmanager
def as_published(name: str) -> Iterator[None]:
    """What is read from published files within has the columns that were published.

    Raises:
        InputError: naming the column that is missing.
    """
    try:
        yield
    except KeyError as error:
        raise InputError(f"{name}: its csv files lack {error}, which is published in them: publish it anew") from error


def check_folder(folder: Path) -> None:
    """Make sure, before any work is done, that `folder` is there and takes files, or that it could be made.

    Raises:
        InputError: if not.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if _is_there(path))
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise refused(folder, error) from None


def _is_there(path: Path) -> bool:
    """Whether a path exists.

    Raises:
        OSError: for one that cannot: a loop of links, or a name that is too long.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def refused(folder: Path, error: OSError) -> InputError:
    """The error for the user where a folder or a disk refuses a file: a DiskError where it is the disk's fault."""
    what = f"out: cannot write into {folder} ({error.strerror or type(error).__name__}); nothing was changed"
    if error.errno in DISK:
        return DiskError(f"{what}, run again when there is room")
    return InputError(f"{what}, name another folder")


def disk_fault(error: BaseException) -> OSError | None:
    """The fault of a disk that an error comes from, also through other errors; None where it comes from none."""
    return next((one for one in causes(error) if isinstance(one, OSError) and one.errno in DISK), None)


class LostError(Exception):
    """A folder that this process no longer may write into."""


_guards: dict[Path, Callable[[], bool]] = {}


@contextlib.contextmanager
def guarded(folder: Path, may_write: Callable[[], bool]) -> Iterator[None]:
    """Within, publications into `folder` raise LostError as soon as `may_write` says no."""
    _guards[folder] = may_write
    try:
        yield
    finally:
        del _guards[folder]


def publish(folder: Path, writers: Mapping[str, Writer]) -> list[Path]:
    """Write every file under its own name in a hidden folder beside, then move all of them, in the order given.

    A failure or a kill while writing leaves every earlier file of the folder as it was. A kill between two moves leaves
    files of two publications, each of them whole; the next publication into the folder first makes the rest of the
    moves. It also removes what killed processes left half-written, as soon as it knows that they have ended: at once on
    their own machine, elsewhere after a DAY.

    Raises:
        InputError: if the folder or the disk refuses; nothing is left half-written, and no folder is made.
        LostError: within `guarded`, where the folder is no longer this process's.
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
            with (scratch / name).open("r+b") as file:  # some systems sync only what may be written
                os.fsync(file.fileno())
            if (folder / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if folder in _guards and not _guards[folder]():
            raise LostError(f"another process has taken over {folder}")
        scratch = scratch.rename(folder / scratch.name.replace(WRITING, READY, 1))
        _move(scratch, folder, list(writers))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def settle(folder: Path) -> None:
    """End what killed publications left in a folder: moves that were begun are made, half-written files removed."""
    for left in [*folder.glob(f"{WRITING}*"), *folder.glob(f"{READY}*")]:
        mark, _, rest = left.name.partition("-")[2].partition("-")
        pid = rest.partition("-")[0]
        here = mark == machine() and pid.isascii() and pid.isdigit() and len(pid) < 19
        with contextlib.suppress(OSError):  # another process may be at it
            ended = not psutil.pid_exists(int(pid)) if here else time.time() - left.stat().st_mtime > DAY
            if ended and here and left.name.startswith(READY):
                _move(left, folder, sorted(path.name for path in left.iterdir()))
            if ended:
                shutil.rmtree(left, ignore_errors=True)


def _move(scratch: Path, folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (scratch / name).replace(folder / name)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make renames within a folder last through a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@functools.cache
def machine() -> str:
    """Eight letters, equal for two processes where a pid means the same to both.

    Made of one start of one kernel and one namespace of pids; where there is no /proc, of the host's name.
    """
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        identity = f"{start} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        identity = socket.gethostname()
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def text(content: str) -> Writer:
    """A writer of a text file, with the same bytes on every system."""
    return lambda path: path.write_text(content, encoding="utf-8", newline="\n")


def binary(*parts: bytes | memoryview) -> Writer:
    """A writer of a file of these bytes, one after the other."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.writelines(parts)

    return write


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The text of a csv file, with the same bytes on every system; `csv_rows` reads it back.

    A cell that a spreadsheet would take for a formula gets an apostrophe before it, as spreadsheets have it.
    """
    made = io.StringIO()
    writer = csv.DictWriter(made, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return made.getvalue()


def csv_rows(text: str) -> list[dict[str, str]]:
    """The rows of a csv text: one mapping from column to text per line, as they were before `csv_text`."""
    rows = csv.DictReader(io.StringIO(text))
    return [{name: without_apostrophe(cell) for name, cell in row.items()} for row in rows]


def _harmless(value: Any) -> Any:
    formula = isinstance(value, str) and value.lstrip("'").startswith(FORMULA) and not _is_number(value)
    return f"'{value}" if formula else value


def without_apostrophe(value: Any) -> Any:
    """A cell as it was before `csv_text` made it harmless."""
    return value[1:] if isinstance(value, str) and value[:1] == "'" and value.lstrip("'").startswith(FORMULA) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
