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
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from manifold_lab.core.cli import run_cli
from manifold_lab.core.errors import InputError, error_line, one_of
from manifold_lab.core.files import check_folder, publish, read_text, text
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
    report: Path | None = None
    """Of tests that have run, as pytest's --junitxml writes it; with one work."""
    out: Path = Path("benchmarks")
    """Folder for suite.csv; what it has of other work stays."""


def junit(work: str) -> str:
    """Run the tests; pytest's report.

    Raises:
        InputError: where one fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run([sys.executable, *TESTS, *WORK[work], f"--junitxml={report}"], check=False)
        if done.returncode:
            raise InputError(f"{work}: pytest ended with status {done.returncode}")
        return report.read_text(encoding="utf-8")


def costs(report: str) -> dict[str, str]:
    """From a JUnit report how many tests there are, what they take together, one after the other, and where most.

    Raises:
        InputError: for another text, and for a report of tests that failed.
    """
    seconds = Counter[str]()
    try:
        root = ElementTree.fromstring(report)
        failed = sum(int(suite.attrib[kind]) for suite in root.iter("testsuite") for kind in ("errors", "failures"))
        minutes = sum(float(suite.attrib["time"]) for suite in root.iter("testsuite")) / 60
        cases = list(root.iter("testcase"))
        for case in cases:
            seconds[case.attrib["classname"].split(".")[1]] += float(case.attrib["time"])  # type: ignore[assignment]
        ((costliest, most),) = seconds.most_common(1)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise InputError(f"report: it is no JUnit report of tests/ ({error_line(error)})") from None
    if failed:
        raise InputError(f"report: {failed} tests failed")
    numbers = {"minutes": minutes, "test_minutes": sum(seconds.values()) / 60, "costliest_minutes": most / 60}
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
    if options.report is not None and len(options.work) != 1:
        raise InputError("report: it is of one work; name it with --work")
    reports = {one_of("work", work, WORK): options.report for work in options.work}
    found = {work: {"work": work} | costs(read_text(one) if one else junit(work)) for work, one in reports.items()}
    message = [line for work in WORK if (line := (kept | found).get(work))]
    publish(options.out, {"suite.csv": text(tables.to_csv(message, COLUMNS))})


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, "benchmarks.suite"))
