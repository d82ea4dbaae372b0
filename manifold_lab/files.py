"""Files appear whole or not at all."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from manifold_lab.errors import InputError

Writer = Callable[[Path], None]


def check_folder(folder: Path) -> None:
    """Make sure, before any work is done, that files can be written into `folder`.

    Raises:
        InputError: if it is no folder, cannot be made, or does not accept a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"out: cannot write into {folder} ({_reason(error)}); name a folder that can be written"
        ) from None


def publish(folder: Path, writers: Mapping[str, Writer]) -> list[Path]:
    """Write every file under a temporary name beside its own, then rename all of them.

    A failure or a kill while writing leaves every earlier file of the folder as it was.

    Raises:
        InputError: if the folder or the disk refuses; nothing is left half-written.
    """
    check_folder(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as scratch:
            for name, write in writers.items():
                write(Path(scratch) / name)
                _sync(Path(scratch) / name)
            for name in writers:
                (Path(scratch) / name).replace(folder / name)
    except OSError as error:
        raise InputError(f"out: could not write into {folder} ({_reason(error)}); nothing was changed there") from None
    return [folder / name for name in writers]


def text(content: str) -> Writer:
    """A writer of a text file, with the same bytes on every system."""
    return lambda path: path.write_text(content, encoding="utf-8", newline="\n") and None


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
