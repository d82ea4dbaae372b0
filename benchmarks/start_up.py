"""Claim: loading the package and answering for its options cost little beside torch, and so does the default command.

Run      python -m benchmarks.start_up
Peer     a process that imports torch and ends
Work     a process that imports the package, or every public name of it; help, version and a refused option of the
         spiral's command; that command itself, figures and all; of it, the libraries that it loads, and these with its
         two figures, drawn and written from its csv files
Differs  CPU seconds of the whole process, since wall time depends on what else runs

All take turns; numbers are medians over the rounds with their exact intervals. What is compiled is on disk before the
first round. `--checkout` names another state of the code, which is then the one that runs.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import turns
from manifold_lab.core import statistics
from manifold_lab.core.cli import run_cli
from manifold_lab.core.errors import InputError, at_least
from manifold_lab.core.files import check_folder, publish, text
from manifold_lab.report import tables

PEER = "import torch"
SPIRAL = ("-m", "manifold_lab.spiral")
EVERY = "import manifold_lab; [getattr(manifold_lab, name) for name in manifold_lab.__all__]"
LIBRARIES = """import fontTools.subset, matplotlib.backends.backend_pdf, matplotlib.pyplot, numba, pandas, rich.console
import scipy.special, torch, tyro"""
FIGURES = f"""{LIBRARIES}
from pathlib import Path
from manifold_lab.core.files import publish
from manifold_lab.report import tables
from manifold_lab.spiral import pipeline
from manifold_lab.spiral.command import SpiralOptions
points, numbers = (tables.read_csv(Path(f"figures/{{name}}.csv").read_text()) for name in ("spiral_points", "spiral"))
publish(Path(FOLDER), pipeline.figures(SpiralOptions(), points, numbers))"""
WORK: Mapping[str, tuple[str, ...]] = {
    PEER: ("-c", "import torch"),
    "import manifold_lab": ("-c", "import manifold_lab"),
    "every public name": ("-c", EVERY),
    "--help": (*SPIRAL, "--help"),
    "--version": (*SPIRAL, "--version"),
    "refused option": (*SPIRAL, "--dimz", "5"),
    "default command": (*SPIRAL, "--dims", "2", "3", "5", "15", "30"),
    "its libraries": ("-c", LIBRARIES),
    "its libraries and figures": ("-c", FIGURES),
}
"""What python is told, by what is timed."""
REFUSED = {"refused option": 2}
"""Exit statuses that are not 0."""
SECONDS = ("seconds", "seconds_low", "seconds_high", "peer_seconds", "beyond", "beyond_low", "beyond_high")
COLUMNS = ("work", "peer", *SECONDS, *turns.RATIO)


@dataclass(frozen=True)
class StartUpOptions:
    """Time the start of the package and of its commands beside torch's import."""

    rounds: int = 9
    """Rounds in which everything has its turn; from six on there are intervals."""
    checkout: Path = Path()
    """Folder of the checkout that is timed."""
    out: Path = Path("benchmarks")
    """Folder for start_up.csv."""


def seconds(name: str, checkout: Path) -> float:
    """CPU time of a process that does it.

    Raises:
        InputError: where it ends otherwise than it should.
    """
    before = os.times()
    with tempfile.TemporaryDirectory() as folder:
        out = ("--out", folder) if name == "default command" else ()
        command = [part.replace("FOLDER", repr(folder)) for part in (sys.executable, *WORK[name], *out)]
        done = subprocess.run(command, check=False, capture_output=True, cwd=checkout)
    if done.returncode != REFUSED.get(name, 0):
        raise InputError(f"{name} ended with status {done.returncode}")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def line(name: str, ours: list[float], peer: list[float]) -> dict[str, str]:
    """One line: seconds, those beyond torch's import in the same rounds, and the ratio."""
    whole, beyond = statistics.median(np.array(ours)), statistics.median(np.array(ours) - np.array(peer))
    numbers = (whole.value, whole.low, whole.high, float(np.median(peer)), beyond.value, beyond.low, beyond.high)
    columns = dict(zip(SECONDS, (f"{number:.3g}" for number in numbers), strict=True))
    return {"work": name, "peer": PEER, **columns, **turns.ratio(ours, peer)}


def run(options: StartUpOptions) -> None:
    """Time everything in turns; print the lines and write the csv.

    Raises:
        InputError: for less than one round, or work that ends otherwise than it should.
    """
    at_least("rounds", options.rounds, 1)
    check_folder(options.out)
    times: dict[str, list[float]] = {name: [] for name in WORK}
    for number in range(options.rounds + 1):  # the first warms
        for name, found in times.items():
            spent = seconds(name, options.checkout)
            if number:
                found.append(spent)
    lines = [line(name, times[name], times[PEER]) for name in WORK if name != PEER]
    for one in lines:
        print("  ".join(f"{name} {value}" for name, value in one.items()))
    publish(options.out, {"start_up.csv": text(tables.to_csv(lines, COLUMNS))})


if __name__ == "__main__":
    sys.exit(run_cli(StartUpOptions, run, "benchmarks.start_up"))
