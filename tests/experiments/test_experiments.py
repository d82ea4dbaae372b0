import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import (
    ext_split,
    fig1_spiral,
    fig6_wirings,
    tab2_network,
    tab3_memory,
    tab4_cost,
    thm1_preserved,
)
from manifold_lab.models.mobilenet import ConvNormAct, build
from manifold_lab.models.specs import V2
from manifold_lab.report.tables import ClaimResult, read_csv
from manifold_lab.sweeps.store import Cell
from manifold_lab.sweeps.study import main

FOLDER = Path(__file__).parent.parent.parent / "experiments"
CARD = ("Paper ", "Claims ", "Run ", "Differs ")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_every_experiment_has_a_card_and_a_smoke_run_that_publishes(path: Path, tmp_path: Path) -> None:
    module = importlib.import_module(f"experiments.{path.stem}")
    assert all(entry in module.__doc__ for entry in CARD)
    if hasattr(module, "STUDY"):
        assert main(module.STUDY, ["--smoke", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    else:
        module.run(module.Run(smoke=True, out=tmp_path))
    kinds = {"csv", "md", "tex"} if path.stem.startswith("tab") else {"csv", "png", "pdf", "svg"}
    assert {f"{path.stem}.{kind}" for kind in kinds} <= {made.name for made in tmp_path.iterdir()}
    assert json.loads((tmp_path / f"{path.stem}.json").read_text(encoding="utf-8"))["seconds"] > 0
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


def test_table_2_fails_on_a_row_that_is_not_met_as_printed() -> None:
    lines = tab2_network.rows()
    wrong = [lines[0], {**lines[1], "input": "112x112x31"}, *lines[2:]]
    assert [tab2_network.claims(one)[0].verdict for one in (lines, wrong)] == ["holds", "fails"]


def test_the_published_grid_fails_where_a_count_is_off_by_one_digit() -> None:
    cells = tab4_cost.grid()
    wrong = [{**cells[0], "madds": "12000000"}, *cells[1:]]  # 11.93 million, printed as 11
    lines = [{**line, "ratio": "1", "low": "", "high": "", "n": "1"} for line in tab4_cost.table_4(1)]
    verdicts = [{claim.place: claim.verdict for claim in tab4_cost.claims(lines, one)} for one in (cells, wrong)]
    assert [found["The authors' list"] for found in verdicts] == ["holds", "fails"]
    assert verdicts[0]["Table 4"] == "lacks runs"


def test_the_narrow_shortcut_saves_where_wide_tensors_must_outlive_their_block() -> None:
    blocks = tab3_memory.shortcuts()
    touched = {"8"}
    ratio = {
        rule: tab3_memory._peak(blocks, "expansion", rule, touched)
        / tab3_memory._peak(blocks, "bottleneck", rule, touched)
        for rule in tab3_memory.RULES
    }
    assert ratio["by_operator"] == 1 and ratio["as_one"] == (2 * 64 + 2 * 384) / (2 * 64)


def test_a_split_that_costs_more_work_is_seen() -> None:
    common = {"allocated": "10", "ratio": "1", "low": "1", "high": "1", "n": "3"}
    lines = [{"parts": str(parts), "madds": "5", **common} for parts in ext_split.PARTS]
    lines[0]["allocated"] = "20"
    assert [claim.verdict for claim in ext_split.claims(lines)] == ["holds"] * 3
    lines[2]["madds"] = "6"
    assert ext_split.claims(lines)[0].verdict == "fails"


def test_as_many_shortcuts_between_expansions_as_between_bottlenecks() -> None:
    claim = fig6_wirings.claims(fig6_wirings.wirings())[0]
    assert (claim.verdict, claim.estimate.value) == ("holds", 10)


@pytest.mark.parametrize("name", ["tab3_memory", "tab4_cost"])
def test_an_experiment_that_measures_says_nothing_on_stderr(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", f"experiments.{name}", "--smoke", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FOLDER.parent)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [("0.8", "0.9", "holds"), ("1.1", "1.2", "fails"), ("0.9", "1.1", "lacks runs"), ("", "", "lacks runs")],
)
def test_a_ratio_of_times_is_decided_only_away_from_one(low: str, high: str, verdict: str) -> None:
    value = str((float(low) + float(high)) / 2) if low else "0.8"
    line = {"network": "V2", "ratio": value, "low": low, "high": high, "n": "5", "paper_ratio": "0.66"}
    assert tab4_cost._time_claim([line], "V2").verdict == verdict


def test_the_papers_bound_is_judged_at_the_networks_own_expansions() -> None:
    network = build(V2)
    widths = {block.expand.conv.in_channels for block in network.blocks if isinstance(block.expand, ConvNormAct)}
    assert widths == thm1_preserved.EXPANDED

    def bound(verdict: str) -> ClaimResult:
        lines = [{**at_six(), "inputs": str(n), "bound": verdict} for n in sorted(widths)]
        return thm1_preserved.claims([{**at_six(), "bound": "fails"}, *lines, tested])[1]

    tested = {**line_of(thm1_preserved.Spec(2, 2.0, draws=100)), "bound": "fails"}
    assert [bound(verdict).verdict for verdict in ("holds", "fails")] == ["holds", "fails"]
    assert bound("holds").estimate.value == len(widths)
