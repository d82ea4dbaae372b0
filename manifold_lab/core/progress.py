"""How far a command is, on the standard error: a bar that moves by the second on a terminal, else a line every 30 s."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

LINE_EVERY = 30.0
"""Seconds between two lines where the standard error is no terminal."""
Advance = Callable[[int], None]
"""Counts so many more as done."""


def progress(total: int, what: str, quiet: bool = False) -> contextlib.AbstractContextManager[Advance]:
    """Show how many of `total` are done, and the time since the beginning.

    Args:
        total: how many there are.
        what: they are, in the plural.
        quiet: say nothing.
    """
    if quiet or sys.stderr is None:
        return contextlib.nullcontext(lambda _: None)
    return _bar(total, what) if sys.stderr.isatty() else spoken(f"of {total} {what}")


@contextlib.contextmanager
def _bar(total: int, what: str) -> Iterator[Advance]:
    from rich.console import Console  # noqa: PLC0415  (only a terminal has a bar)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


@contextlib.contextmanager
def spoken(what: str) -> Iterator[Advance]:
    """A line every 30 seconds from a thread of its own: `40 of 60 batches, 90 s`.

    Args:
        what: follows the number.
    """
    start, ended, done = time.monotonic(), threading.Event(), [0]

    def speak() -> None:
        while not ended.wait(LINE_EVERY):
            print(f"{done[0]} {what}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)

    def advance(more: int) -> None:
        done[0] += more

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield advance
    finally:
        ended.set()
        thread.join()
