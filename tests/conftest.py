"""Helpers that the tests share: named normal samples, agreement of a mean with its law, and what each file costs."""

import os
import resource
from collections import Counter
from collections.abc import Callable, Generator

import numpy as np
import pytest
import torch
from call_checks import install

install()

from manifold_lab import stream  # noqa: E402 -- what is imported before is not checked

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
BEGAN = pytest.StashKey[float]()
COSTS: Counter[str] = Counter()
"""CPU seconds by test file, which do not depend on what else the machine does, as wall time does."""
TOLD, SLOW = 12, 2.0
UNMARKED: list[str] = []


def cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.stash[BEGAN] = cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Each of a test's reports tells what was spent since the last one; so it comes home from other processes too."""
    report, now = (yield), cpu_seconds()
    report.cpu_seconds, item.stash[BEGAN] = now - item.stash[BEGAN], now
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    spent = getattr(report, "cpu_seconds", 0.0)  # a process that died tells none
    COSTS[report.nodeid.partition("::")[0]] += spent
    if spent > SLOW and "slow" not in report.keywords:
        UNMARKED.append(f"{spent:7.1f}  {report.when} of {report.nodeid}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if len(COSTS) < 2:
        return
    terminalreporter.section("the costliest files, in CPU seconds")
    for name, seconds in COSTS.most_common(TOLD):
        terminalreporter.write_line(f"{seconds:7.1f}  {name}")
    terminalreporter.write_line(f"{COSTS.total():7.1f}  in all, besides loading")
    for line in UNMARKED:
        terminalreporter.write_line(f"{line}: not marked slow")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors are faster on one thread, and the test runner may have a process for every core."""
    torch.set_num_threads(1)


@pytest.fixture
def normal() -> Callable[..., torch.Tensor]:
    def sample(name: str, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=stream(0, name), dtype=torch.float64)

    return sample


@pytest.fixture
def agrees() -> Callable[..., None]:
    """Mean of independent values within `errors` standard errors of a law that zero would not satisfy."""

    def check(values, expected: float, errors: float = 4.0) -> None:
        values = np.asarray(values, dtype=float)
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert errors * error < abs(expected), "too few values: a zero would pass"
        assert abs(values.mean() - expected) <= errors * error, f"{values.mean()} +- {error} against {expected}"

    return check
