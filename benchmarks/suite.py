"""Claim: the tests take minutes on two cores, and a subset of them less than two.

Run      python -m benchmarks.suite
Work     the command of README that passes the tests, and that of CONTRIBUTING for while working
Differs  minutes by the clock, on a machine that does nothing else; tests that fail are an error
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from manifold_lab.core.cli import run_cli
from manifold_lab.core.errors import InputError, one_of
from manifold_lab.core.files import check_folder, publish, text
from manifold_lab.report import tables
from manifold_lab.report.speed_table import lines

WORK = {"all": (), "fast": ("-m", "not slow")}
TESTS = ("-m", "pytest", "-q", "-n", "2", "--dist", "worksteal")
COLUMNS = ("work", "minutes")


@dataclass(frozen=True)
class Run:
    """Time the tests."""

    work: tuple[str, ...] = tuple(WORK)
    """Which: all, fast."""
    out: Path = Path("benchmarks")
    """Folder for suite.csv; what it has of other work stays."""


def minutes(work: str) -> float:
    """How long the tests take.

    Raises:
        InputError: where one fails.
    """
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *TESTS, *WORK[work]], check=False)
    if done.returncode:
        raise InputError(f"{work}: pytest ended with status {done.returncode}")
    return (time.perf_counter() - began) / 60


def run(options: Run) -> None:
    """Time what was asked for and write the csv.

    Raises:
        InputError: for unknown work, or tests that fail.
    """
    check_folder(options.out)
    kept = {line["work"]: line for line in lines(options.out / "suite.csv")}
    found = {work: {"work": work, "minutes": f"{minutes(one_of('work', work, WORK)):.3g}"} for work in options.work}
    message = [line for work in WORK if (line := (kept | found).get(work))]
    publish(options.out, {"suite.csv": text(tables.to_csv(message, COLUMNS))})


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, "benchmarks.suite"))
