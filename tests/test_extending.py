"""What CONTRIBUTING.md says of adding things, tried in a copy of the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import manifold_lab

pytestmark = pytest.mark.slow

PACKAGE = Path(manifold_lab.__file__).parent


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "manifold_lab", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(folder: Path, code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_activation_is_one_entry(copied: Path) -> None:
    path = copied / "manifold_lab" / "activations.py"
    entry = 'Activation("softsign", lazy_function("torch.nn.functional.softsign"), EVERYWHERE),\n        '
    path.write_text(path.read_text().replace('Activation("relu", ', entry + 'Activation("relu", ', 1))
    message = run(
        copied,
        """
import dataclasses, torch
from manifold_lab.core.random_streams import stream
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import DIGITS
from manifold_lab.probe import Probe
from manifold_lab.spiral.command import main
assert main(["--activation", "softsign", "--dims", "2", "--draws", "20", "--out", "out"]) == 0
network = build(dataclasses.replace(DIGITS, bottleneck_activation="softsign"), stream(0, "weights"))
with Probe(network) as probe:
    network(torch.randn(2, 1, 8, 8))
print(sorted({row["layer"] for row in probe.table() if "project.act" in row["layer"]}))
""",
    )
    assert "blocks.0.project.act" in message.splitlines()[-1] and (copied / "out" / "spiral.csv").stat().st_size


def test_a_launcher_is_one_file(copied: Path) -> None:
    launchers = copied / "manifold_lab" / "sweeps" / "launchers"
    shutil.copy(launchers / "here.py", launchers / "backwards.py")
    assert "backwards" in run(copied, "from manifold_lab.sweeps import launchers; print(launchers.names())")
