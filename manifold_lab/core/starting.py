"""Signals that stop a command, from its first moment: while its libraries load, it ends at once and in one line."""

import contextlib
import os
import signal
from types import FrameType

STOPS = ("SIGINT", "SIGTERM", "SIGHUP")
"""What the keyboard, another process and a lost terminal send, as far as the system has it."""


def stop_signals() -> list[int]:
    """The signals of STOPS that this process hears: one that is ignored, as by nohup, stays ignored."""
    numbers = [number for name in STOPS if (number := getattr(signal, name, None)) is not None]
    unheeded = (signal.SIG_DFL, signal.default_int_handler, end)
    return [number for number in numbers if signal.getsignal(number) in unheeded]


def stop_at_once() -> None:
    """Until a command takes the signals over, each of them ends this process, which has done nothing yet."""
    for number in stop_signals():
        signal.signal(number, end)


class Loading(contextlib.AbstractContextManager["Loading"]):
    """Whether libraries are being loaded for a command that has done nothing yet: a stop ends it as `end` does.

    An exception among half-loaded libraries is lost in some of them, and is another one after others.
    """

    depth = 0

    def __enter__(self) -> "Loading":
        self.depth += 1
        return self

    def __exit__(self, *_error: object) -> None:
        self.depth -= 1


LOADING = Loading()


def end(number: int, _frame: FrameType | None) -> None:
    """Leave without the interpreter's own end: half-loaded libraries would complain."""
    with contextlib.suppress(OSError):
        os.write(2, b"stopped; nothing was written\n")
    os._exit(128 + number)
