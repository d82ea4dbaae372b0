"""What every command line shares: options from a frozen dataclass, bad input in one line, an orderly stop."""

import contextlib
import errno
import importlib.metadata
import io
import math
import os
import re
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, TypeVar

import tyro

from manifold_lab.core.errors import InputError, causes, one_line
from manifold_lab.core.starting import LOADING, end, stop_signals

OptionsType = TypeVar("OptionsType")
NESTED = re.compile(r"^Error parsing \w+: (.*?)(?: For full helptext, see .*)?$")
"""What tyro says around the refusal of a dataclass that holds another."""
UNPRINTABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a full disk, a file at its limit or a terminal that is gone answers."""
NO_MEMORY = ("allocate memory", "enough memory", "out of memory")
"""What torch's RuntimeErrors say where the machine or a device has too little memory."""
OTHERS = r"(torch|torchvision|timm|numba)(\.|$)"
"""Libraries whose warnings are of no use to who uses a command; python -W shows them."""
PATIENCE = 30.0
"""Seconds that a command has for an orderly end before another signal raises StopError again."""
MOMENT = 0.1
"""Seconds after which a stop is tried again that a library has lost."""

FIGURES, TRIED = Path("figures"), Path("out")
"""Where results are published, and where those of a smoke run go, which must not replace them."""

Quiet = Annotated[bool, tyro.conf.arg(help="No table, no progress: one line says what came out.")]
Json = Annotated[bool, tyro.conf.arg(help="One JSON object on the standard output, instead of tables and sentences.")]
"""The options of every command that prints a table."""


def choice(allowed: Iterable[str], what: str = "One of", metavar: str = "NAME") -> Any:
    """What `--help` says of an option whose values are names: all of them."""
    return tyro.conf.arg(metavar=metavar, help=f"{what}: {', '.join(allowed)}.")


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
        preset: the name of the one that is taken where none is given.
    """

    what: str = ""
    examples: tuple[str, ...] = ()
    preset: str = ""


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
    typed, described = sys.argv[1:] if arguments is None else arguments, about or About()
    if typed[:1] == ["--version"]:
        print(importlib.metadata.version("manifold_lab"))
        raise SystemExit(0)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(**_typed(kind, described), args=typed, prog=f"python -m {program}")
    except SystemExit as stop:
        if stop.code:
            raise InputError(_unframed(complaint.getvalue())) from None
        if described.examples:
            print("\nexamples:\n" + "\n".join(f"  {line}" for line in described.examples))
        raise


def _typed(kind: type[OptionsType] | Presets[OptionsType], about: About) -> dict[str, Any]:
    """What tyro makes a parser of: presets as commands, one of them the default where that is named."""
    shared: dict[str, Any] = {"description": about.what or None}
    if not isinstance(kind, dict):
        return shared | {"f": kind}
    descriptions, presets = ({name: one[part] for name, one in kind.items()} for part in (0, 1))
    union = tyro.extras.subcommand_type_from_defaults(presets, descriptions)  # type: ignore[arg-type]
    return shared | {"f": union} | ({"default": presets[about.preset]} if about.preset else {})


def _unframed(complaint: str) -> str:
    """The parser's boxed message as one line, without title and frame, which are drawn with or without Unicode."""
    lines = [line.strip("╭╮╰╯│─ ") for line in complaint.splitlines()]
    _title, *lines = [line for line in lines if line.strip("-")] or [""]
    return NESTED.sub(r"\1", " ".join(lines))


def run_cli(
    kind: type[OptionsType] | Presets[OptionsType],
    run: Callable[[OptionsType], int | None],
    program: str,
    arguments: list[str] | None = None,
    about: About | None = None,
) -> int:
    """Parse and run a command; its exit status.

    That is the status of `run` or 0; 2 after one line about bad input or output that cannot be written, as on a full
    disk; 130, 129 or 143 after one line where the keyboard, a lost terminal or another process stopped it; 141 without
    a word where who reads the output has closed it.
    """
    with _stoppable() as stopper, warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.filterwarnings("ignore", module=OTHERS)
        try:
            stopper.listens = True
            status = _status(lambda: run(parse(kind, program, arguments, about)))
            stopper.listens = False
            return status
        except KeyboardInterrupt as stop:
            stopper.earliest = math.inf  # nothing disturbs the end
            return _stopped(stop)


def _status(work: Callable[[], int | None]) -> int:
    try:
        if sys.stdout is None:  # closed by who started this: the next file opened would take its place
            raise InputError("output: it is closed; send it to a file or to /dev/null")
        status = work() or 0
        sys.stdout.flush()
        return status
    except InputError as error:
        return _complain(str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _unread():  # who read it has had enough, as head has
            _drop_output()
            return 128 + signal.SIGPIPE
        return _complain(_refusal(error))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in NO_MEMORY):
            raise
        reason = str(error) or type(error).__name__
        return _complain(f"memory: there is too little for what was asked ({reason}); ask for less")


def _refusal(error: OSError) -> str:
    """What the system refused, in words: a file by its name, or the output."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: the system refuses it ({reason})"
    if error.errno not in UNPRINTABLE:
        return f"the system refuses: {reason}"
    _drop_output()
    return f"output: cannot be written ({reason})"


def _unread() -> bool:
    """Whether nobody reads the output any more: another pipe that broke is a fault to tell of."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    return bool(output.poll(0))


def _drop_output() -> None:
    """What is left to say is not tried again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(what: str) -> int:
    _say(f"error: {what}")
    return 2


def _stopped(stop: KeyboardInterrupt) -> int:
    number = next((one.number for one in causes(stop) if isinstance(one, StopError)), signal.SIGINT)
    _say(f"stopped; {str(stop) or 'nothing was written'}")
    return 128 + number


def _say(line: str) -> None:
    """One line on the standard error, where it is open."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(one_line(line), file=sys.stderr, flush=True)


class StopError(KeyboardInterrupt):
    """A signal that stops a command."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _Stopper:
    """The handler of the signals that stop a command: the first raises StopError, others do not disturb the end.

    While it does not listen, a signal does what it did before there was a command: nobody would catch the error.
    """

    def __init__(self) -> None:
        self.earliest, self.other_hook = -math.inf, sys.unraisablehook
        self.before = {number: signal.getsignal(number) for number in stop_signals()}
        self.listens = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if LOADING.depth:
            end(number, None)
        if not self.listens:
            self.as_before(number, frame)
        elif time.monotonic() >= self.earliest:
            self.earliest = time.monotonic() + PATIENCE
            raise StopError(number)

    def as_before(self, number: int, frame: FrameType | None) -> None:
        """What the signal did before this was its handler."""
        handler = self.before[number]
        if callable(handler):
            handler(number, frame)
        else:
            signal.signal(number, handler)
            os.kill(os.getpid(), number)

    def unheard(self, lost: Any) -> None:
        """Stop again, in a moment, where the exception was raised in a callback of a library and went no further."""
        if not isinstance(lost.exc_value, StopError):
            self.other_hook(lost)
            return
        self.earliest = -math.inf
        again = threading.Timer(MOMENT, os.kill, (os.getpid(), lost.exc_value.number))
        again.daemon = True
        again.start()


@contextlib.contextmanager
def _stoppable() -> Iterator[_Stopper]:
    """Signals that stop a command raise StopError within, as soon as the handler listens.

    A signal that is ignored, as by nohup or in the background, stays ignored.
    """
    stopper = _Stopper()
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return
    try:
        for number in stopper.before:
            signal.signal(number, stopper)
        sys.unraisablehook = stopper.unheard
        yield stopper
    finally:
        sys.unraisablehook = stopper.other_hook
        for number, handler in stopper.before.items():  # of a process that does nothing else nothing is left to end
            signal.signal(number, signal.SIG_IGN if handler is end else handler)
