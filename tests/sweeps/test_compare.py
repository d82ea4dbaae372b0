from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError
from manifold_lab.models.specs import DIGITS
from manifold_lab.report.tables import pick, read_claims, read_csv
from manifold_lab.sweeps import comparison, trained_study
from manifold_lab.sweeps.compare import compare
from manifold_lab.sweeps.study_commands import main
from manifold_lab.sweeps.training_run import network_of

pytestmark = pytest.mark.slow

ARMS = {name: replace(DIGITS, depthwise_activation=name) for name in ("relu6", "linear")}


def test_one_call_trains_compares_and_publishes(tmp_path: Path) -> None:
    made = compare(ARMS, better="relu6", worse="linear", name="mine")
    assert main(made, ["--smoke", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    (claim,) = read_claims((tmp_path / "mine_claims.csv").read_text(encoding="utf-8"))
    assert claim.id == "mine.relu6_beats_linear/digits/2500" and claim.verdict == "undecided"
    assert {f"mine.{kind}" for kind in ("csv", "png", "md", "tex")} <= {path.name for path in tmp_path.iterdir()}
    assert "experiments" not in claim.command
    saved = made.result(smoke=True, runs=tmp_path / "runs").save(tmp_path / "saved")
    assert {path.name for path in saved} >= {"mine.json", "mine.csv", "mine_claims.csv"}
    (row,) = [line for line in made.result(smoke=True, runs=tmp_path / "runs").table().to_dict("records")
              if line["arm"] == "relu6"]  # fmt: skip
    assert float(row["difference, points"]) == pytest.approx(claim.estimate.value, abs=0.005)  # of one sign
    low, high = map(float, row["95 % interval"].split(" to "))
    assert 0 <= low <= high <= 100
    first = pick(read_csv((tmp_path / "mine.csv").read_text()), kind="final", seed=0)
    assert (
        set(first["arm"]) == set(ARMS)
        and first["test_accuracy"].notna().all()
        and len(list((tmp_path / "runs" / "mine").glob("*/result.json"))) == 4
    )


@pytest.mark.parametrize(("better", "worse"), [("relu", "linear"), ("relu6", "lineer")])
def test_a_misspelt_arm_is_refused_before_anything_is_trained(better: str, worse: str) -> None:
    with pytest.raises(InputError, match="did you mean"):
        compare(ARMS, better=better, worse=worse)
    styles = dict.fromkeys(ARMS, ("C0", "o"))
    with pytest.raises(InputError, match="did you mean"):
        trained_study.Arms(
            comparison=comparison.Comparison(styles, "data"),
            expected=[comparison.ExpectedOrder("id", "here", "says", better, worse)],
        )


def test_one_network_is_no_comparison() -> None:
    with pytest.raises(InputError, match="two or more"):
        compare({"one": DIGITS}, better="one", worse="one")
    same = {"linear": DIGITS, "relu6": replace(DIGITS)}  # an activation that was forgotten
    with pytest.raises(InputError, match="'linear' and 'relu6' are the same network"):
        compare(same, better="linear", worse="relu6")


class Little(nn.Sequential):
    """Somebody's own network, for the digits."""

    def __init__(self, width: int) -> None:
        pool = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)
        super().__init__(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), *pool)


def wide() -> nn.Module:
    return Little(16)


def test_a_network_from_elsewhere_can_be_an_arm(tmp_path: Path) -> None:
    arms = {"mine": f"{__name__}:wide", "ours": DIGITS}
    made = compare(arms, better="ours", worse="mine", name="elsewhere")
    assert main(made, ["--smoke", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    lines = read_csv((tmp_path / "elsewhere.csv").read_text(encoding="utf-8"))
    parameters = lines.groupby("arm")["parameters"].first()
    assert parameters["mine"] == sum(weight.numel() for weight in wide().parameters())
    runs = [run for run in made.grid(True) if run.model]
    assert len({key(run) for run in runs}) == 2 and runs[0].model == arms["mine"]
    first, again = (network_of(runs[0]).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_torchvision_network_has_the_classes_of_the_data() -> None:
    run = replace(compare({"a": "torchvision:resnet18", "b": DIGITS}, better="a", worse="b").grid(True)[0], seed=3)
    assert network_of(run).fc.out_features == 10
