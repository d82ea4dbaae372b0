import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from manifold_lab.core import resampling
from manifold_lab.core.statistics import VERDICTS
from manifold_lab.report.tables import read_claims
from manifold_lab.sweeps.study_commands import main

pytestmark = pytest.mark.slow

FEW = 50
"""Resamples of an interval that is not looked at."""
FOLDER = Path(__file__).parent.parent.parent / "experiments"
CARD = ("Paper ", "Claims ", "Run ", "Differs ")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_every_experiment_has_a_card_and_a_smoke_run_that_publishes(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", FEW)
    module = importlib.import_module(f"experiments.{path.stem}")
    assert all(entry in module.__doc__ for entry in CARD)
    assert main(module.STUDY, ["--smoke", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    kinds = {"csv", "md", "tex"} if path.stem.startswith("tab") else {"csv", "png", "pdf", "svg"}
    assert {f"{path.stem}.{kind}" for kind in kinds} <= {made.name for made in tmp_path.iterdir()}
    assert json.loads((tmp_path / f"{path.stem}.json").read_text(encoding="utf-8"))["seconds"] >= 0
    claims = read_claims((tmp_path / f"{path.stem}_claims.csv").read_text(encoding="utf-8"))
    assert claims and {claim.verdict for claim in claims} <= set(VERDICTS)


@pytest.mark.parametrize("name", ["tab3_memory", "tab4_cost"])
def test_an_experiment_that_measures_says_nothing_on_stderr(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", f"experiments.{name}", "publish", "--smoke", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FOLDER.parent)
    assert (done.returncode, done.stderr) == (0, "")
