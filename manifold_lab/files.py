"""Files appear whole or not at all."""

import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from manifold_lab.errors import InputError

Writer = Callable[[Path], None]


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
    """Write every file under a temporary name beside its own, then rename all of them.

    A failure or a kill while writing leaves every earlier file of the folder as it was.

    Raises:
        InputError: if the folder or the disk refuses; nothing is left half-written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as scratch:
            for name, write in writers.items():
                write(Path(scratch) / name)
                _sync(Path(scratch) / name)
            for name in writers:
                (Path(scratch) / name).replace(folder / name)
    except OSError as error:
        raise refused(folder, error) from None
    return [folder / name for name in writers]


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
