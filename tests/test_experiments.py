import importlib
from pathlib import Path

import numpy as np
import pytest

from experiments import fig1_spiral, thm1_preserved
from manifold_lab.store import Cell
from manifold_lab.study import main
from manifold_lab.tables import read_csv

FOLDER = Path(__file__).parent.parent / "experiments"
CARD = ("Paper ", "Claims ", "Run ", "Differs ")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_every_experiment_has_a_card_and_a_smoke_run_that_publishes(path: Path, tmp_path: Path) -> None:
    module = importlib.import_module(f"experiments.{path.stem}")
    assert all(entry in module.__doc__ for entry in CARD)
    assert main(module.STUDY, ["--smoke", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    assert {f"{path.stem}.csv", f"{path.stem}.png", f"{path.stem}.pdf"} <= {made.name for made in tmp_path.iterdir()}
    claims = read_csv((tmp_path / f"{path.stem}_claims.csv").read_text(encoding="utf-8"))
    assert claims and {line["verdict"] for line in claims} <= {"holds", "fails", "lacks runs"}


def test_the_theorem_fails_on_numbers_that_do_not_follow_it() -> None:
    line = line_of(thm1_preserved.Spec(2, 2.0, draws=200))
    wrong = [{**line, "theory": "0.1"}] * 20
    sound = [{**line, "theory": line["estimate"]}] * 20
    assert [thm1_preserved.claims([*lines, at_six()])[0].verdict for lines in (wrong, sound)] == ["fails", "holds"]


def line_of(spec: thm1_preserved.Spec) -> dict[str, str]:
    numbers = thm1_preserved.measure(spec, Path()).numbers
    return thm1_preserved.rows([Cell(spec, Path(), numbers=numbers)])[0]


def at_six() -> dict[str, str]:
    return {**line_of(thm1_preserved.Spec(2, 6.0, draws=100)), "estimate": ""}


def test_distribution_of_a_constant_is_a_step() -> None:
    levels = fig1_spiral.distribution(3, np.full(10, 0.5))
    assert {line["estimate"] for line in levels} == {"0.5"}
    assert [levels[0]["level"], levels[-1]["level"]] == ["0.0", "1.0"]
