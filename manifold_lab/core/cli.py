"""What every command line shares: options from a frozen dataclass, bad input in one line, an orderly stop."""

import contextlib
import errno
import importlib.metadata
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, TypeVar

import tyro

from manifold_lab.core.errors import InputError

OptionsType = TypeVar("OptionsType")
NESTED = re.compile(r"^Error parsing \w+: (.*?)(?: For full helptext, see .*)?$")
"""What tyro says around the refusal of a dataclass that holds another."""
UNPRINTABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)
"""What a full disk, a file at its limit, a terminal that is gone or a closed pipe answers."""
LONGEST = 300
"""Characters of a message at most, however many faults it lists."""
STOPS = ("SIGINT", "SIGTERM", "SIGHUP")

FIGURES, TRIED = Path("figures"), Path("out")
"""Where results are published, and where those of a smoke run go, which must not replace them."""

Quiet = Annotated[bool, tyro.conf.arg(help="No table, no progress: one line says what came out.")]
Json = Annotated[bool, tyro.conf.arg(help="One JSON object on the standard output, instead of tables and sentences.")]
"""The options of every command that prints a table."""

Presets = dict[str, tuple[str, OptionsType]]


def destination(out: Path | None, smoke: bool) -> Path:
    """The folder for results where one was asked for, or none."""
    return out or (TRIED if smoke else FIGURES)


@dataclass(frozen=True)
class About:
    """What `--help` says besides the options.

    Args:
        what: the command does or tests, before the options; of a dataclass by default its docstring.
        examples: command lines as a user types them, below the options.
    """

    what: str = ""
    examples: tuple[str, ...] = ()


def parse(
    kind: type[OptionsType] | Presets[OptionsType],
    program: str,
    arguments: list[str] | None = None,
    about: About | None = None,
) -> OptionsType:
    """Options of a frozen dataclass from the command line; of presets by name (with a description), what changes.

    Raises:
        InputError: with the parser's complaint, without its frame, for words that are no options or values.
        SystemExit: with status 0, after help or the version.
    """
    words, told = sys.argv[1:] if arguments is None else arguments, about or About()
    if words[:1] == ["--version"]:
        print(importlib.metadata.version("manifold_lab"))
        raise SystemExit(0)
    make = tyro.extras.overridable_config_cli if isinstance(kind, dict) else tyro.cli
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return make(kind, args=words, prog=f"python -m {program}", description=told.what or None)  # type: ignore[operator,arg-type,return-value]
    except SystemExit as stop:
        if stop.code:
            raise InputError(_unframed(complaint.getvalue())) from None
        if told.examples:
            print("\nexamples:\n" + "\n".join(f"  {line}" for line in told.examples))
        raise


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
    about: About | None = None,
) -> int:
    """Parse and run a command; its exit status.

    That is the status of `run` or 0; 2 after one line about bad input or output that cannot be written, as on a full
    disk; 130, 129 or 143 after one line where the keyboard, a lost terminal or another process stopped it.
    """
    with _stoppable():
        try:
            if sys.stdout is None:  # closed by who started this: the next file opened would take its place
                raise InputError("output: it is closed; send it to a file or to /dev/null")
            status = run(parse(kind, program, arguments, about)) or 0
            sys.stdout.flush()
            return status
        except InputError as error:
            return _complain(str(error))
        except OSError as error:
            if error.filename is not None or error.errno not in UNPRINTABLE:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again at the end
            return _complain(f"output: cannot be written ({error.strerror})")
        except KeyboardInterrupt as stop:
            return _stopped(stop)


def _complain(what: str) -> int:
    line = " ".join(what.split())
    _say(f"error: {line if len(line) <= LONGEST else line[: LONGEST - 1] + '…'}")
    return 2


def _stopped(stop: KeyboardInterrupt) -> int:
    number = next((one.number for one in _causes(stop) if isinstance(one, StopError)), signal.SIGINT)
    _say(f"stopped; {str(stop) or 'nothing was written'}")
    return 128 + number


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised in the handling of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _say(line: str) -> None:
    """One line on the standard error, where it is open."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)


class StopError(KeyboardInterrupt):
    """A signal that stops a command."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """The first signal that stops a command raises StopError; those after it do not disturb the end.

    A signal that is ignored, as by nohup or in the background, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    numbers = [number for name in STOPS if (number := getattr(signal, name, None)) is not None]
    before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) in defaults}

    def stop(number: int, _frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise StopError(number)

    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
