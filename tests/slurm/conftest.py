"""A real Slurm for the tests of this folder, which run when they are asked for by name: it may install packages."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import machine as slurm
import pytest
import tiny_study

from manifold_lab.sweeps import store
from manifold_lab.sweeps.store import Run
from manifold_lab.sweeps.study_commands import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> Iterator[slurm.Machine]:
    """A Slurm of one kind: plain, or with accounting and, where the machine can, with limits of memory."""
    if not any("slurm" in str(word) for word in request.config.invocation_params.args):
        pytest.skip("a real Slurm is started, and installed, only when asked for: python -m pytest tests/slurm")
    reason = slurm.why_not()
    if reason:
        pytest.skip(reason)
    full = getattr(request, "param", "plain") == "accounting"
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        started = slurm.Machine(Path(folder), accounting=full, memory=full and slurm.memory_is_limited())
        try:
            yield started.start()
        finally:
            started.stop()


@dataclass
class User:
    """Someone who types commands in a folder of their own; what is done to their grid, and what they are told."""

    machine: slurm.Machine
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def types(self, *words: str) -> str:
        """A command of the study of runs in this process; what it says."""
        self.status = main(tiny_study.STUDY, list(words))
        message = self.capsys.readouterr()
        return message.out + message.err

    def starts(self, *words: str, path: str = "") -> subprocess.CompletedProcess[str]:
        """A command in a process of its own, with a folder before all others on its path."""
        environment = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)

    def runs(self, name: str) -> list[Run]:
        return store.read_runs(self.folder / "runs" / "tiny", tiny_study.GRIDS[name])

    def until(self, condition: Callable[[], object], seconds: float = 240) -> None:
        """Wait for what jobs do."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"it did not happen:\n{self.types('status', '--every')}{self.queue()}{self.logs()}")
            time.sleep(0.2)

    def until_over(self) -> None:
        """Wait until the queue is empty."""
        self.until(lambda: not self.queue())

    def queue(self) -> str:
        return self.machine.ask("squeue", "-h", "-r", "-o", "%i %j %T %N %r")

    def logs(self) -> str:
        return "".join(path.read_text()[-2000:] for path in self.folder.rglob("*_log.out"))


@pytest.fixture
def user(
    machine: slurm.Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[User]:
    monkeypatch.chdir(tmp_path)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    message = {
        "SLURM_CONF": machine.environment["SLURM_CONF"],
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": path,
    }
    for name, value in message.items():
        monkeypatch.setenv(name, value)
    yield User(machine, tmp_path, capsys)
    with contextlib.suppress(TimeoutError):
        machine.ask("scancel", "--user=root")
        machine.wait(lambda: not machine.ask("squeue", "-h").strip(), 30)


def ran(run: Run) -> list[str]:
    """Node and step of each time that a run was begun."""
    path = run.folder / "ran"
    return path.read_text().splitlines() if path.exists() else []
