"""Claim: the tests take minutes on two cores, and a subset of them less than two.

Run      python -m benchmarks.suite
Work     the command of README that passes the tests, and that of CONTRIBUTING for while working
Differs  minutes by the clock, on a machine that does nothing else; tests that fail are an error
Columns  minutes: by the clock; test_minutes: the sum over tests, as if one ran after the other; costliest,
         costliest_minutes: the folder of tests (or the file beside them) that takes most of that sum
"""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from manifold_lab.core.cli import run_cli
from manifold_lab.core.errors import InputError, one_of
from manifold_lab.core.files import check_folder, publish, text
from manifold_lab.report import tables
from manifold_lab.report.speed_table import lines

WORK = {"all": (), "fast": ("-m", "not slow")}
TESTS = ("-m", "pytest", "-q", "-n", "2", "--dist", "worksteal")
COLUMNS = ("work", "minutes", "tests", "test_minutes", "costliest", "costliest_minutes")


@dataclass(frozen=True)
class Run:
    """Time the tests."""

    work: tuple[str, ...] = tuple(WORK)
    """Which: all, fast."""
    out: Path = Path("benchmarks")
    """Folder for suite.csv; what it has of other work stays."""


def timed(work: str) -> dict[str, str]:
    """How long the tests take, by the clock and by pytest's own report.

    Raises:
        InputError: where one fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        began = time.perf_counter()
        done = subprocess.run([sys.executable, *TESTS, *WORK[work], f"--junitxml={report}"], check=False)
        if done.returncode:
            raise InputError(f"{work}: pytest ended with status {done.returncode}")
        minutes = (time.perf_counter() - began) / 60
        return {"work": work, "minutes": f"{minutes:.3g}"} | costs(report.read_text())


def costs(report: str) -> dict[str, str]:
    """How many tests a JUnit report has, what they take one after the other, and which folder takes most."""
    cases = list(ElementTree.fromstring(report).iter("testcase"))
    seconds = Counter[str]()
    for case in cases:
        seconds[case.attrib["classname"].split(".")[1]] += float(case.attrib["time"])  # type: ignore[assignment]
    (costliest, most), *_ = seconds.most_common(1)
    numbers = {"test_minutes": sum(seconds.values()) / 60, "costliest_minutes": most / 60}
    return {"tests": f"{len(cases)}", "costliest": f"tests/{costliest}"} | {
        name: f"{value:.3g}" for name, value in numbers.items()
    }


def run(options: Run) -> None:
    """Time what was asked for and write the csv.

    Raises:
        InputError: for unknown work, or tests that fail.
    """
    check_folder(options.out)
    kept = {line["work"]: line for line in lines(options.out / "suite.csv")}
    found = {work: timed(one_of("work", work, WORK)) for work in options.work}
    message = [line for work in WORK if (line := (kept | found).get(work))]
    publish(options.out, {"suite.csv": text(tables.to_csv(message, COLUMNS))})


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, "benchmarks.suite"))
