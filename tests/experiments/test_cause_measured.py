"""What an arm of the cause loses beyond noise of the same measured R²."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from experiments.rules import ext_cause_measured as measured
from experiments.rules.ext_cause_text import WORDS
from manifold_lab.report.markdown import table_cells
from tests.experiments.test_cause_rule import runs

R2 = {"linear": [1.0], "noise_0.961": [0.97, 0.95], "noise_0.804": [0.86], "noise_0.734": [0.8], "relu6": [0.9],
      "leaky_0.1": [0.86], "abs": [0.7], "half_gain": [1.0], "shift": []}  # fmt: skip


def test_costs_beyond_equal_noise_are_numpys_interpolation_and_scipys_welch_test() -> None:
    means = {"linear": 60.0, "noise_0.961": 59.0, "noise_0.804": 50.0, "noise_0.734": 45.0, "relu6": 44.0,
             "leaky_0.1": 46.0, "abs": 30.0, "half_gain": 57.0, "shift": 60.0}  # fmt: skip
    values = {arm: runs({arm: mean}, 6, 1.0, seed)[arm] for seed, (arm, mean) in enumerate(means.items())}
    found = {claim.id: claim for claim in measured.claims(values, R2, "cifar10/120000")}
    assert set(found) == {f"beyond_equal_noise/{arm}/cifar10/120000" for arm in ("relu6", "leaky_0.1", "half_gain")}
    at, on = [0.8, 0.86, 0.96, 1.0], ["noise_0.734", "noise_0.804", "noise_0.961", "linear"]
    expected = np.interp(0.9, at, [np.mean(values[arm]) for arm in on]) - np.mean(values["relu6"])
    claim = found["beyond_equal_noise/relu6/cifar10/120000"]
    assert claim.estimate.value == pytest.approx(expected) and claim.verdict == "holds"
    for arm, same in (("leaky_0.1", "noise_0.804"), ("half_gain", "linear")):
        test = scipy_stats.ttest_ind(values[same], values[arm], equal_var=False)
        claim = found[f"beyond_equal_noise/{arm}/cifar10/120000"]
        assert claim.p_value == pytest.approx(test.pvalue)
        low, high = test.confidence_interval()
        assert (claim.estimate.low, claim.estimate.high) == (pytest.approx(low), pytest.approx(high))
        assert f"{low:.1f}, {high:.1f}]" in measured.cells(values, R2)[arm]
    head, *rows = table_cells(measured.table({480_000: ({}, {}), 120_000: (values, R2)}).split("\n\n")[1])
    assert head[1:] == ["points beyond equal noise, 480,000 images", "points beyond equal noise, 120,000 images"]
    assert [row[0] for row in rows] == [WORDS[arm] for arm in ("relu6", "leaky_0.1", "half_gain")]
    assert all(row[1] == "–" and row[2].endswith("] more") for row in rows)
    message = measured.against({480_000: ({}, {}), 120_000: (values, R2)})
    assert (
        f"ReLU6 costs {measured.cells(values, R2)['relu6'].removesuffix(' more')} points more after 120,000" in message
    )


def test_an_arm_is_compared_with_noise_from_five_runs_on_and_where_noise_reaches() -> None:
    values = runs({"linear": 60.0, "noise_0.804": 50.0, "leaky_0.1": 46.0}, 5)
    assert [arm for arm, _ in measured.comparisons(values, R2)] == ["leaky_0.1"]
    for few in values:
        assert not measured.claims(values | {few: values[few][:4]}, R2, "cifar10/120000")
    for lacking in ("noise_0.804", "leaky_0.1"):
        assert measured.cells(values, R2 | {lacking: []}) == {}
    equal = values | {"leaky_0.1": [value + 0.01 for value in values["noise_0.804"]]}
    assert measured.cells(equal, R2)["leaky_0.1"].startswith("0.0 [") and "more" not in str(measured.cells(equal, R2))
    assert measured.table({120_000: ({}, {})}) == measured.against({120_000: (equal, R2)}) == ""
