"""What the fault injection tried: counts by kind of fault and outcome, printed at the end of the tests.

By default a sample that takes less than three minutes. `MANIFOLD_LAB_FAULTS=all python -m pytest tests/faults` tries
everything.
"""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from types import FrameType

import pytest

WHOLE = os.environ.get("MANIFOLD_LAB_FAULTS") == "all"
HANG = 60
"""Seconds after which a command counts as hanging; each takes less than one, and machines may be busy."""
TRIED: Counter[tuple[str, str]] = Counter()


class HangError(BaseException):
    """A command that does not come back."""


@pytest.fixture
def sample() -> "Sample":
    return Sample()


class Sample:
    """How many faults are tried of a kind, and the record of what came of each."""

    def size(self, some: int, whole: int) -> int:
        return whole if WHOLE else some

    def tried(self, fault: str, outcome: str) -> None:
        TRIED[fault, outcome] += 1

    @contextlib.contextmanager
    def without_hanging(self) -> Iterator[None]:
        """Within, a command that takes longer than HANG seconds raises HangError."""

        def late(_number: int, _frame: FrameType | None) -> None:
            raise HangError

        before = signal.signal(signal.SIGALRM, late)
        signal.alarm(HANG)
        try:
            yield
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not TRIED:
        return
    terminalreporter.section("faults tried")
    for (fault, outcome), count in sorted(TRIED.items()):
        terminalreporter.write_line(f"{count:6d}  {fault}: {outcome}")
    terminalreporter.write_line(f"{sum(TRIED.values()):6d}  in all" + ("" if WHOLE else ", a sample"))
