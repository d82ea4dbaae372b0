"""Sweeps on a real Slurm: the line of README, runs that fail, many small runs, a driver that dies anywhere."""

import importlib
import re
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest
import tiny_study
from conftest import ROOT, User, ran

from manifold_lab.sweeps import submissions
from manifold_lab.sweeps.store import DONE, FAILED

pytestmark = pytest.mark.slow

BOTH = pytest.mark.parametrize("machine", ["plain", "accounting"], indirect=True)


def readmes_line() -> list[str]:
    """What README says about a cluster, without the python in front."""
    line = re.search(r"^python (-m experiments\S+ run .*--launcher slurm.*)$", (ROOT / "README.md").read_text(), re.M)
    assert line
    return shlex.split(line[1])


def test_readmes_line_then_status_then_publish_give_the_figure(user: User) -> None:
    words = [*readmes_line(), "--smoke"]
    runs = len(importlib.import_module(words[1]).STUDY.grid(True))
    begun = user.starts(*words)
    assert (begun.returncode, begun.stderr) == (0, "")
    assert f"{runs} queued" in begun.stdout
    user.until_over()
    asked = user.starts(*words[:2], "status", "--smoke")
    assert f"{runs} done" in asked.stdout
    published = user.starts(*words[:2], "publish", "--smoke")
    assert (published.returncode, published.stderr) == (0, "")
    name = words[1].removeprefix("experiments.")
    assert {f"{name}.{kind}" for kind in ("csv", "png", "pdf")} <= {path.name for path in Path("out").iterdir()}


@BOTH
def test_runs_that_raise_or_are_killed_are_said_and_run_again_alone(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRID", "mixed")
    user.types("run", "--launcher", "slurm", "--runs-per-job", "4")  # the others of a job go on past a dead one
    user.until_over()
    wanted = {"error": FAILED, "death": FAILED, "well": DONE, "well too": DONE}
    assert {run.spec: run.state for run in user.runs("mixed")} == {
        run.spec: wanted[run.spec.ends] for run in user.runs("mixed")
    }
    message = user.types("status")
    assert "4 done, 4 failed" in message
    assert message.count("ValueError: this run fails") == 2 and message.count("its process was killed") == 2
    assert (
        "Killed" in (next(c for c in user.runs("mixed") if c.spec.ends == "death").folder / "failure.json").read_text()
    )
    assert "0 to run" in user.types("run", "--launcher", "slurm")
    user.types("run", "--launcher", "slurm", "--retry-failed")
    user.until_over()
    assert Counter(len(ran(run)) for run in user.runs("mixed") if run.state == FAILED) == {2: 4}
    assert Counter(len(ran(run)) for run in user.runs("mixed") if run.state == DONE) == {1: 4}


def sbatch(folder: Path, before: str = "", after: str = "") -> str:
    """A folder whose sbatch does something before and after the real one; its parent is the driver."""
    folder.mkdir()
    (folder / "sbatch").write_text(f'#!/bin/bash\n{before}\n{shutil.which("sbatch")} "$@"\n{after}\n')
    (folder / "sbatch").chmod(0o755)
    return str(folder)


KILL = "kill -9 $PPID"
PLACES = {
    "before it is handed over": (f"{KILL}; exit 1", ""),
    "before its number is told": ("", KILL),
    "while sbatch lives on": (f"{KILL}; while [ ! -e go ]; do sleep 0.1; done", "touch late"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_driver_killed_around_sbatch_loses_nothing_and_nothing_runs_twice(
    user: User, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRID", "good")
    before, after = PLACES[place]
    words = ("run", "--launcher", "slurm", "--runs-per-job", "2")
    killed = user.starts(*tiny_study.PROGRAM, *words, path=sbatch(user.folder / "bin", before, after))
    assert killed.returncode == -9
    message = user.types(*words)
    assert ("0 to run" in message) == (place == "before its number is told")
    (user.folder / "go").touch()
    if place == "while sbatch lives on":
        user.until((user.folder / "late").exists)
    user.until_over()
    found = user.runs("good")
    assert [(run.state, len(ran(run))) for run in found] == [(DONE, 1)] * 4
    assert "0 to run; 4 done" in user.types("run", "--launcher", "slurm")


def test_many_small_runs_are_packed_split_and_begun_by_two_drivers(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRID", "many")
    words = ("run", "--launcher", "slurm", "--runs-per-job", "100")
    second = f"if [ -e first ]; then {KILL}; exit 1; fi; touch first"  # the driver dies between two arrays
    assert user.starts(*tiny_study.PROGRAM, *words, path=sbatch(user.folder / "bin", second)).returncode == -9
    message = user.types(*words)
    submitted = {path.parent.name for path in user.folder.rglob("*_submission.sh")}
    assert len(submitted) == 2 and "300 to run" in message
    user.until_over()
    found = user.runs("many")
    assert Counter((run.state, len(ran(run))) for run in found) == {(DONE, 1): 1200}
    assert len(list(user.folder.rglob("*_log.out"))) == 12
    assert "0 to run; 1200 done" in user.types(*words)
    assert submissions.submissions(user.folder / "runs" / "tiny") == []
