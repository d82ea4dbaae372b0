"""What every command line shares: options from a frozen dataclass, and bad input said in one line."""

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import tyro

from manifold_lab.core.errors import InputError

OptionsType = TypeVar("OptionsType")
NESTED = re.compile(r"^Error parsing \w+: (.*?)(?: For full helptext, see .*)?$")
"""What tyro says around the refusal of a dataclass that holds another."""
UNPRINTABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)
"""What a full disk, a file at its limit, a terminal that is gone or a closed pipe answers."""

FIGURES, TRIED = Path("figures"), Path("out")
"""Where results are published, and where those of a smoke run go, which must not replace them."""

Presets = dict[str, tuple[str, OptionsType]]


def destination(out: Path | None, smoke: bool) -> Path:
    """The folder for results where one was asked for, or none."""
    return out or (TRIED if smoke else FIGURES)


def parse(
    kind: type[OptionsType] | Presets[OptionsType], program: str, arguments: list[str] | None = None
) -> OptionsType:
    """Options of a frozen dataclass from the command line; of presets by name (with a description), what changes.

    Raises:
        InputError: with the parser's complaint, without its frame, for words that are no options or values.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            if isinstance(kind, dict):
                return tyro.extras.overridable_config_cli(kind, args=arguments, prog=f"python -m {program}")
            return tyro.cli(kind, args=arguments, prog=f"python -m {program}")
    except SystemExit as stop:
        if not stop.code:
            raise
        raise InputError(_unframed(complaint.getvalue())) from None


def _unframed(complaint: str) -> str:
    """The parser's boxed message as one line, without title and frame, which are drawn with or without Unicode."""
    lines = [line.strip("╭╮╰╯│─ ") for line in complaint.splitlines()]
    _title, *words = [line for line in lines if line.strip("-")] or [""]
    return NESTED.sub(r"\1", " ".join(words))


def run_cli(
    kind: type[OptionsType] | Presets[OptionsType],
    run: Callable[[OptionsType], int | None],
    program: str,
    arguments: list[str] | None = None,
) -> int:
    """Parse and run; the exit status: run's own or 0, 2 after one line about bad input, 130 when stopped by a key.

    What cannot be printed, as on a full disk, is one line too.
    """
    try:
        status = run(parse(kind, program, arguments)) or 0
        sys.stdout.flush()
        return status
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is not None or error.errno not in UNPRINTABLE:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again at the end
        print(f"error: output: cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"stopped; {stop or 'nothing was written'}", file=sys.stderr)
        return 130
