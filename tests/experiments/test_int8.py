"""What int8 costs, judged over runs."""

import itertools
import re

import numpy as np
import pytest

from experiments import ext_int8
from manifold_lab.core.shown import DataFrame
from manifold_lab.report.tables import pick
from tests.tabled import tabled


def lines(relu6: float, relu: float, spread: float = 0.002, runs: int = 5) -> DataFrame:
    """Runs that lose these shares in int8."""
    rng = np.random.default_rng(0)
    return tabled([
        {"arm": arm, "seed": str(seed), "test_accuracy": "0.6", "data": "cifar10", "length": "1000",
         "int8_accuracy": str(0.6 - lost + spread * rng.normal())}
        for arm, lost in (("relu6", relu6), ("relu", relu)) for seed in range(runs)
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("found", "verdicts"),
    [
        (lines(0.001, 0.05), ["holds", "fails", "holds"]),
        (lines(0.05, 0.001), ["fails", "holds", "fails"]),
        (lines(0.01, 0.01, spread=0.02), ["undecided"] * 3),
        (lines(0.001, 0.05, runs=4), ["undecided"] * 3),
    ],
)
def test_each_claim_has_its_three_values(found: DataFrame, verdicts: list[str]) -> None:
    assert [claim.verdict for claim in ext_int8.claims(found)] == verdicts


def test_a_table_shows_an_arm_without_runs_as_missing() -> None:
    alone = pick(lines(0.001, 0.05), arm="relu6")
    relu6, relu = ext_int8.table(alone).rows.to_dict("records")
    assert relu6["n"] == 5 and relu == {"arm": "relu", "n": 0, "float": "", "int8": "", "lost": ""}
    assert ext_int8.claims(alone)[1].verdict == "not run"


def test_permuted_runs_stand_beside_students_test() -> None:
    one, other = np.array([0.3, 0.3, 0.4, 0.6, 2.1]), np.array([0.1, 0.1, 0.2, 0.2, 0.2])
    every, apart = np.concatenate([one, other]), one.mean() - other.mean()
    parts = [every[list(chosen)].mean() * 2 - every.sum() / 5 for chosen in itertools.combinations(range(10), 5)]
    expected = np.mean(np.abs(parts) >= apart - 1e-12)
    message = re.search(r"p = ([0-9.]+)", ext_int8.beside_student(one, other))
    assert message is not None and float(message[1]) == pytest.approx(expected, rel=0.05)
