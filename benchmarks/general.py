"""Claim: every manifold and activation takes at most three times the CPU time of the default spiral.

Run      python -m benchmarks.general
Peer     the default command, python -m manifold_lab.spiral: a plane curve through ReLU, which has an exact shortcut
Ours     the same command with another manifold or activation, which is summed point by point
Differs  CPU seconds of the whole process, start-up and figures included, since wall time depends on what else runs

The default and all cases take turns; the ratio is the median over rounds. What is compiled is on disk before the first
round.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from manifold_lab.core.cli import run_cli
from manifold_lab.core.errors import at_least, one_of
from manifold_lab.core.files import publish, text
from manifold_lab.report import tables

COLUMNS = ("case", "options", "draws", "rounds", "default_seconds", "case_seconds", "ratio", "low", "high", "limit")
LIMIT = 3.0
CASES = {
    "sphere": "--manifold sphere",
    "swiss_roll": "--manifold swiss_roll",
    "torus": "--manifold torus",
    "blob": "--manifold blob --inputs 8",
    "gelu": "--activation gelu",
    "silu": "--activation silu",
    "tanh": "--activation tanh",
    "relu6": "--activation relu6 --bias 0.5",
}


@dataclass(frozen=True)
class Run:
    """Time the spiral's command on other manifolds and activations against its default."""

    cases: tuple[str, ...] = tuple(CASES)
    """Which of them."""
    draws: int = 1000
    """Random matrices per dim."""
    rounds: int = 3
    out: Path = Path("benchmarks")
    """Folder for general.csv."""


def seconds(options: str, draws: int) -> float:
    """CPU time of one command in a process of its own."""
    before = os.times()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "manifold_lab.spiral", *options.split(), "--draws", str(draws)]
        subprocess.run([*command, "--out", folder], check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def line(case: str, options: Run, default: list[float], slower: list[float]) -> dict[str, str]:
    """One line: a case against the default in the same rounds."""
    ratios = [slow / fast for fast, slow in zip(default, slower, strict=True)]
    return {
        "case": case,
        "options": CASES[case],
        "draws": str(options.draws),
        "rounds": str(options.rounds),
        "default_seconds": f"{statistics.median(default):.4g}",
        "case_seconds": f"{statistics.median(slower):.4g}",
        "ratio": f"{statistics.median(ratios):.3g}",
        "low": f"{min(ratios):.3g}",
        "high": f"{max(ratios):.3g}",
        "limit": f"{LIMIT:g}",
    }


def run(options: Run) -> None:
    """Time the default and every case in turns, round after round; print the lines and write the csv.

    Raises:
        InputError: for an unknown case, or less than one round.
    """
    at_least("rounds", options.rounds, 1)
    turns = {"": "", **{one_of("cases", name, CASES): CASES[name] for name in options.cases}}
    for given in turns.values():
        seconds(given, 16)
    times: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(options.rounds):
        for name, given in turns.items():
            times[name].append(seconds(given, options.draws))
            print(f"{name or 'default'} {times[name][-1]:.4g} s", flush=True)
    lines = [line(name, options, times[""], times[name]) for name in options.cases]
    publish(options.out, {"general.csv": text(tables.to_csv(lines, COLUMNS))})


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, "benchmarks.general"))
