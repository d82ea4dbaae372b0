"""What commands print: one JSON object, one quiet line, narrow terminals, and what to do where nothing has run."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from torchvision.models import ResNet18_Weights

from manifold_lab import compare, network
from manifold_lab.models.specs import DIGITS
from manifold_lab.sweeps import study_commands
from manifold_lab.sweeps.study import Study

Captured = pytest.CaptureFixture[str]


def mine() -> Study:
    arms = {name: replace(DIGITS, depthwise_activation=name) for name in ("relu6", "linear")}
    return compare(arms, better="relu6", worse="linear", name="mine")


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "mine.py", raising=False)  # pytest has its own
    return mine()


def test_a_network_of_torchvision_costs_what_torchvision_says(capsys: Captured) -> None:
    assert network.main(["torchvision:resnet18", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    operators, meta = json.loads(line)["operators"], ResNet18_Weights.DEFAULT.meta
    assert sum(one["MAdds"] for one in operators) / 1e9 == pytest.approx(meta["_ops"], abs=5e-4)
    assert f"{meta['num_params']:,} parameters" in json.loads(line)["sums"]


def test_quiet_is_one_line_and_json_has_every_operator(capsys: Captured) -> None:
    assert network.main(["digits", "--quiet"]) == 0
    (quiet,) = capsys.readouterr().out.splitlines()
    assert network.main(["digits", "--json"]) == 0
    message = json.loads(capsys.readouterr().out)
    assert message["sums"] == quiet and len(message["operators"]) == 2 + 3 * 5 - 1 + 1


def test_fifty_columns_are_enough(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    assert network.main(["digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 50 and "layer blocks.1.depthwise.conv: dwise 3x3" in lines


@pytest.mark.parametrize("name", ["timm:resnett18", "torchvision:resnett18"])
def test_a_misspelt_network_is_one_line(name: str, capsys: Captured) -> None:
    assert network.main([name]) == 2
    said = capsys.readouterr().err
    assert "resnet18" in said and len(said.splitlines()) == 1


def test_an_empty_status_says_what_to_run(study: Study, tmp_path: Path, capsys: Captured) -> None:
    assert study_commands.main(study, ["status", "--smoke", "--runs", str(tmp_path)]) == 0
    assert f"begin with: python mine.py run --smoke --runs {tmp_path}\n" in capsys.readouterr().out
    assert study_commands.main(study, ["status", "--smoke", "--runs", str(tmp_path), "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["state"] for run in runs] == ["absent"] * 4 and len({run["key"] for run in runs}) == 4


def test_an_empty_status_of_a_notebook_names_no_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    assert study_commands.main(mine(), ["status", "--smoke", "--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("nothing has run yet\n")
