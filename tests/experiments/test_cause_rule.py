import itertools
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from experiments import ext_cause
from experiments.rules import ext_cause as rule
from manifold_lab.core import contrasts as stats
from manifold_lab.core.config import key

ROOT = Path(__file__).parent.parent.parent


def runs(means: dict[str, float], n: int = 8, spread: float = 1.0, seed: int = 0) -> dict[str, list[float]]:
    draws = np.random.default_rng(seed)
    return {arm: list(mean + spread * draws.normal(size=n)) for arm, mean in means.items()}


def test_a_contrast_of_two_groups_is_scipys_welch_test() -> None:
    draws = np.random.default_rng(0)
    a, b = draws.normal(1, 2, 7), draws.normal(0, 0.5, 5)
    ours, theirs = stats.contrast([(a, 1.0), (b, -1.0)]), scipy_stats.ttest_ind(a, b, equal_var=False)
    low, high = theirs.confidence_interval(0.95)
    assert (ours.p_value, ours.freedom) == pytest.approx((theirs.pvalue, theirs.df))
    assert (ours.estimate.low, ours.estimate.high) == pytest.approx((low, high))


def test_a_contrast_covers_a_midpoint_as_often_as_it_says() -> None:
    hits, many, draws = 0, 2000, np.random.default_rng(0)
    for _ in range(many):
        groups = [(draws.normal(0, s, n), w) for s, n, w in ((1.0, 5, 1.0), (2.5, 8, -0.5), (0.5, 8, -0.5))]
        hits += stats.contrast(groups).estimate.covers(0)
    assert abs(hits / many - 0.95) < 4 * (0.95 * 0.05 / many) ** 0.5


def test_equal_values_and_single_runs_decide_nothing() -> None:
    for groups in (
        [([1.0, 1.0], 1.0), ([0.0, 0.0], -1.0)],
        [([1.0], 1.0), ([0.0, 0.1], -1.0)],
        [([], 1.0), ([0.0], -1.0)],
    ):
        assert np.isnan(stats.contrast(groups).p_value) and stats.contrast(groups).exceeds(0) is None


def test_fiellers_interval_covers_the_ratio() -> None:
    hits, many, n, draws = 0, 1000, 8, np.random.default_rng(0)
    for _ in range(many):
        a, b = draws.normal(3, 1, n), draws.normal(6, 1, n)
        variances = stats.squared_error(a), stats.squared_error(b)
        hits += stats.ratio(float(a.mean()), float(b.mean()), [[variances[0], 0], [0, variances[1]]], 2 * n - 2).covers(
            0.5
        )
    assert abs(hits / many - 0.95) < 4 * (0.95 * 0.05 / many) ** 0.5
    assert np.isnan(stats.ratio(1.0, 0.1, [[1.0, 0.0], [0.0, 1.0]], 5).low)


@pytest.mark.slow
def test_holm_is_statsmodels_and_leaves_missing_ones_out() -> None:
    found = stats.holm({"a": 0.01, "b": float("nan"), "c": 0.03, "d": 0.04})
    assert [found[name] for name in "acd"] == pytest.approx(multipletests([0.01, 0.03, 0.04], method="holm")[1])
    assert np.isnan(found["b"]) and stats.holm({}) == {}
    draws = np.random.default_rng(0)
    for many in range(1, 9):  # with ties among them
        p_values = {str(place): round(float(p), 2) for place, p in enumerate(draws.uniform(size=many) ** 3)}
        expected = multipletests([*p_values.values()], method="holm")[1]
        assert [*stats.holm(p_values).values()] == pytest.approx(expected, abs=1e-12)


def test_every_arm_comes_out_where_it_was_put() -> None:
    found = rule.outcomes(
        runs({"linear": 58, "relu6": 45, "up": 57, "down": 45.2, "below": 38, "middle": 51.5}, seed=5)
    )
    assert {arm: one.verdict for arm, one in found.items()} == {
        "up": rule.WITH_LINEAR, "down": rule.WITH_RELU6, "below": rule.BELOW_RELU6, "middle": rule.UNDECIDED,
    }  # fmt: skip
    share = found["down"].share
    assert share is not None and share.covers(12.8 / 13) and not share.covers(0.5)


@pytest.mark.parametrize("few", ["linear", "relu6", "up"])
def test_below_five_runs_nothing_is_decided(few: str) -> None:
    made = runs({"linear": 58, "relu6": 45, "up": 57})
    assert (
        rule.outcomes({arm: values[:4] if arm == few else values for arm, values in made.items()})["up"].verdict
        == "undecided"
    )


def test_a_share_of_a_gap_that_may_be_small_is_not_told() -> None:
    assert rule.outcomes(runs({"linear": 48, "relu6": 46.5, "up": 47}, spread=2.0, seed=1))["up"].share is None


@pytest.mark.slow
def test_true_nulls_are_decided_in_at_most_five_per_cent_of_studies() -> None:
    many, wrong = 400, 0
    for study in range(many):
        found = rule.outcomes(
            runs({"linear": 58, "relu6": 45} | {f"arm{i}": 51.5 for i in range(6)}, n=5, spread=2.0, seed=study)
        )
        wrong += any(one.verdict != rule.UNDECIDED for one in found.values())
    assert wrong / many < 0.05 + 3 * (0.05 * 0.95 / many) ** 0.5


def test_one_curve_needs_equivalence_and_apart_needs_a_difference() -> None:
    ends = {"linear": 58.0, "relu6": 45.0}
    same = runs(ends | {"leaky_0.5": 56, "noise_0.961": 56, "leaky_0.1": 50, "noise_0.804": 50})
    apart = runs(ends | {"leaky_0.5": 56, "noise_0.961": 56, "leaky_0.1": 57, "noise_0.804": 47})
    loose = runs(ends | {"leaky_0.5": 56, "noise_0.961": 56, "leaky_0.1": 50, "noise_0.804": 50}, n=5, spread=6.0)
    assert [rule.one_curve(one) for one in (same, apart, loose)] == [True, False, None]
    assert rule.one_curve({arm: values[:4] for arm, values in same.items()}) is None


def test_tuning_is_less_than_half_of_the_gap() -> None:
    first, small, large = (runs({"linear": 45 + gap, "relu6": 45}) for gap in (13, 2, 12))
    assert (rule.tuning(small, first), rule.tuning(large, first), rule.tuning({}, first)) == (True, False, None)


def test_the_reading_is_total_and_says_what_the_issue_of_causes_is() -> None:
    answers = (True, False, None)
    said = set()
    for leaky, noise, half, norm in itertools.product(rule.OUTCOMES, repeat=4):
        for curve, tuning in itertools.product(answers, repeat=2):
            message = rule.reading(rule.Findings(leaky, noise, half, norm, curve, tuning))
            first, rest = message.split("; ", 1)
            assert first == rule.TUNING[tuning] and rest
            assert rest.startswith(rule.OPEN) == (rule.UNDECIDED in (leaky, noise))
            said.add(rest)
    assert {rule.COLLAPSE, rule.READABILITY, rule.BOTH, rule.BOTH_OPEN, rule.NEITHER, rule.NOT_INFORMATION} <= said
    assert f"{rule.NOT_INFORMATION}: attenuated gradients and mean and scale" in said
    low, high = rule.WITH_RELU6, rule.WITH_LINEAR
    assert rule.COLLAPSE in rule.reading(rule.Findings(high, rule.BELOW_RELU6))
    assert rule.NOT_INFORMATION in rule.reading(rule.Findings(low, high))


def test_every_run_of_a_new_arm_was_made_after_the_rule() -> None:
    seen = {key(spec) for arms in (ext_cause.ENDS,) for spec in ext_cause.grid(smoke=False) if spec.arm in arms}
    new = {key(spec) for spec in ext_cause.grid(smoke=False)} - seen
    records = [
        json.loads(path.read_text()) for path in ROOT.glob("runs/trials/*/result.json") if path.parent.name in new
    ]
    for commit in {record["provenance"]["commit"] for record in records}:
        command = ["git", "merge-base", "--is-ancestor", ext_cause.RULE_COMMIT, commit]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0, commit


def test_the_rule_has_not_changed_since() -> None:
    command = ["git", "show", f"{ext_cause.RULE_COMMIT}:experiments/rules/ext_cause.py"]
    then = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert without_imports(then) == without_imports(Path(rule.__file__).read_text())


def without_imports(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not re.match(r"(from|import) ", line))
