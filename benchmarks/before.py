"""What the aims of docs/speed.md were before: values of the csv files of an earlier commit, into before.csv.

Run      python -m benchmarks.before --commit COMMIT
         python -m benchmarks.before --commit COMMIT --folder FOLDER
Folder   of csv files that today's benchmarks wrote in a checkout of that commit, for those that it has not itself

Aims of which nothing is found keep the line that they have.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from manifold_lab.core.cli import run_cli
from manifold_lab.core.errors import InputError
from manifold_lab.core.files import check_folder, csv_rows, publish, text
from manifold_lab.report import speed_table, tables
from manifold_lab.report.speed_table import AIMS, BEFORE, BEFORE_COLUMNS, Aim, Timings, lines

OLDER = {"network": speed_table.MOBILENET}
"""What files from before there was such a column are about."""


@dataclass(frozen=True)
class Run:
    """Write down what the benchmarks of an earlier commit measured."""

    commit: str
    """Of the values."""
    folder: Path | None = None
    """Of csv files that were measured at that commit; without it, those that it holds."""
    out: Path = Path("benchmarks")
    """Folder for before.csv."""


def git(*words: str) -> str | None:
    """What git says; None where it refuses."""
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def earlier(aim: Aim, options: Run) -> Timings:
    """The lines of its benchmark at that commit; none where it had not been run."""
    name = f"{aim.file}.csv"
    if options.folder is not None:
        found = lines(options.folder / name)
    else:
        found = csv_rows(git("show", f"{options.commit}:benchmarks/{name}") or "")
    return [OLDER | one for one in found]


def line(aim: Aim, commit: str, found: dict[str, str]) -> dict[str, str]:
    """A line of before.csv."""
    numbers = (found.get(column, "") for column in aim.value)
    return dict(zip(BEFORE_COLUMNS, (aim.name, *numbers, commit), strict=True))


def run(options: Run) -> None:
    """Look every aim up and write the csv.

    Raises:
        InputError: for a commit that git does not know.
    """
    commit = git("rev-parse", "--short", "--verify", f"{options.commit}^{{commit}}")
    if commit is None:
        raise InputError(f"commit: {options.commit!r} is none of this checkout")
    check_folder(options.out)
    kept = {one["aim"]: one for one in lines(options.out / f"{BEFORE}.csv")}
    found = {aim.name: line(aim, commit.strip(), one) for aim in AIMS if (one := aim.line(earlier(aim, options)))}
    every = [known for aim in AIMS if (known := (kept | found).get(aim.name))]
    for known in every:
        print("  ".join(f"{name} {value}" for name, value in known.items() if value))
    publish(options.out, {f"{BEFORE}.csv": text(tables.to_csv(every, BEFORE_COLUMNS))})


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, "benchmarks.before"))
