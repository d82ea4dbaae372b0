import itertools
import json
import math
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower

from experiments import ext_cause
from experiments.rules import ext_cause as rule
from experiments.rules import ext_cause_text as rule_text
from experiments.rules import ext_cause_tuning
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


def test_the_paragraph_gives_what_each_arm_costs_with_scipys_interval() -> None:
    found = runs({"linear": 60.0, "relu6": 47.0, "leaky_0.1": 48.0, "half_gain": 59.0, "abs": 50.0}, n=6)
    found["abs"] = found["abs"][:4]  # too few for a verdict
    message = rule_text.paragraph(found, "the answer", "somewhere")
    for arm in ("relu6", "leaky_0.1", "half_gain"):
        welch = scipy_stats.ttest_ind(found["linear"], found[arm], equal_var=False)
        low, high = welch.confidence_interval(0.95)
        assert f"{np.mean(found['linear']) - np.mean(found[arm]):.1f} [{low:.1f}, {high:.1f}]" in message
    assert message.startswith(f"**{rule_text.QUESTION}** The answer.") and rule_text.WORDS["abs"] not in message
    assert f"{rule.WITH_RELU6})" in message and f"{rule.WITH_LINEAR})" in message and "somewhere" in message


def trained(means: dict[str, dict[int, float]], group: str = ext_cause.GROUP) -> pd.DataFrame:
    """Five runs of every arm at every length, as they are published."""
    return pd.DataFrame([
        {"kind": "final", "arm": arm, "group": group, "data": "cifar10", "seed": seed, "length": length,
         "state": "done", "test_accuracy": accuracy / 100, "linear_r2": math.nan}
        for arm, by_length in means.items() for length, mean in by_length.items()
        for seed, accuracy in enumerate(runs({arm: mean}, 5, 0.1)[arm])
    ])  # fmt: skip


def test_long_trainings_decide_and_short_ones_are_told_beside_them() -> None:
    short, long = 120_000, 480_000
    means = {"linear": {short: 60.0, long: 80.0}, "relu6": {short: 40.0, long: 70.0},
             "leaky_0.1": {short: 41.0, long: 79.0}, "noise_0.734": {short: 40.0, long: 70.5}}  # fmt: skip
    without = {arm: {length: mean for length, mean in found.items() if (arm, length) != ("noise_0.734", long)}
               for arm, found in means.items()}  # fmt: skip
    message = ext_cause.paragraphs(trained(without))
    assert rule.BOTH_OPEN in message and "trainings of 120,000 images" in message and "Trainings of" not in message
    message = ext_cause.paragraphs(trained(means))
    assert f"{rule.COLLAPSE} (trainings of 480,000 images; doses and tuning: 120,000 images)" in message
    assert f"Trainings of 120,000 images read otherwise: {rule.TUNING[None]}; {rule.BOTH_OPEN}." in message
    found, dearer = trained(means), {"leaky_0.1": {short: 41.0, long: 70.5}}
    message = ext_cause.paragraphs(trained(means | dearer))
    assert f"{rule.BOTH_OPEN} (trainings of 480,000 images; doses and tuning: 120,000 images)" in message
    assert "Trainings of 120,000 images read the same." in message
    for at_best, tuned in ((41.0, False), (59.0, True)):
        best = trained({"linear": {short: 60.0}, "relu6": {short: at_best}}, ext_cause.BEST)
        message = ext_cause.paragraphs(pd.concat([found, best]))
        says = f"{rule.TUNING[tuned]}; {rule.COLLAPSE} (trainings of 480,000 images; doses and tuning: 120,000 images)"
        assert says[1:] in message
    short_runs = ext_cause.accuracies(found, ext_cause.GROUP, short)
    difference = scipy_stats.ttest_ind(short_runs["linear"], short_runs["relu6"], equal_var=False)
    low, high = difference.confidence_interval(0.95)
    gap = np.mean(short_runs["linear"]) - np.mean(short_runs["relu6"])
    assert f"They cost: ReLU6 {gap:.1f} [{low:.1f}, {high:.1f}]" in message


def test_short_trainings_give_the_long_ones_the_doses_and_controls_that_they_lack() -> None:
    short, long = 120_000, 480_000
    ends = {"linear": {short: 60.0, long: 80.0}, "relu6": {short: 40.0, long: 70.0}}
    doses = {arm: {short: 50.0} for pair in rule.DOSES for arm in pair}
    costly = doses | {"leaky_0.1": {short: 50.0, long: 70.0}, "noise_0.734": {short: 40.0, long: 70.0}}
    message = ext_cause.paragraphs(trained(ends | costly))
    of = "by nominal doses; trainings of 480,000 images; doses and tuning: 120,000 images"
    assert f"{rule.READABILITY} ({of})" in message
    apart = costly | {"noise_0.961": {short: 59.0}}
    assert f"{rule.BOTH} (trainings of 480,000 images" in ext_cause.paragraphs(trained(ends | apart))
    harmless = {"leaky_0.1": {short: 40.0, long: 70.0}, "noise_0.734": {short: 60.0, long: 80.0}}
    message = ext_cause.paragraphs(trained(ends | harmless | {"half_gain": {short: 40.0}, "renormed": {short: 40.0}}))
    assert f"{rule.NOT_INFORMATION}: attenuated gradients (trainings of 480,000 images" in message


def test_arms_are_compared_at_their_best_rates_and_at_the_one_of_relu6_on_seeds_that_chose_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ext_cause, "BEST_RATES", {"linear": 0.2, "relu6": 0.4, "leaky_0.1": 0.2})
    short, at_relu6s = 120_000, "0.4"
    first = trained({"linear": {short: 60.0}, "relu6": {short: 40.0}, "leaky_0.1": {short: 42.0}})
    best = trained({"linear": {short: 70.0}, "relu6": {short: 50.0}, "leaky_0.1": {short: 51.0}}, ext_cause.BEST)
    same = trained({"linear": {short: 66.0}, "leaky_0.1": {short: 65.0}}, ext_cause.BEST_OF_RELU6)
    chose = trained({"linear": {short: 0.0}, "relu6": {short: 0.0}, "leaky_0.1": {short: 0.0}}, at_relu6s)
    table = pd.concat([first, best, same, chose]).assign(block=math.nan, gradient_norm=math.nan, images=0)
    found = {claim.id: claim for claim in ext_cause.claims(table)}
    for prefix, mine, verdict in (("at_the_best_rates", best, "fails"), ("at_the_best_rate_of_relu6", same, "holds")):
        arms = mine if mine is best else pd.concat([mine, best[best["arm"] == "relu6"]])
        mean = (100 * arms["test_accuracy"]).groupby(arms["arm"]).mean()
        claim = found[f"{prefix}/leaky_0.1/cifar10/{short}"]
        assert claim.estimate.value == pytest.approx(mean["leaky_0.1"] - (mean["linear"] + mean["relu6"]) / 2)
        assert claim.verdict == verdict and claim.estimate.n == 15
    assert found[f"linear_lets_gradients_through/cifar10/{short}"].verdict == "not run"
    looks = best.iloc[:10].assign(kind="gradient", block=0, images=60_000, gradient_norm=10.0)  # linear and relu6
    looks = pd.concat([looks[looks["arm"] == "relu6"], looks.assign(group=ext_cause.BEST_OF_RELU6, gradient_norm=1.0)])
    looks = looks[~((looks["group"] == ext_cause.BEST_OF_RELU6) & (looks["arm"] == "relu6"))]
    found = {claim.id: claim for claim in ext_cause.claims(pd.concat([table, looks]))}
    through = found[f"linear_lets_gradients_through/at_the_best_learning_rate_of_ReLU6/cifar10/{short}"]
    assert through.estimate.value == -1.0 and through.estimate.n == 10
    message = ext_cause.paragraphs(table)
    assert "at the best learning rate of ReLU6" in claim.says and "for all arms: ReLU6 16." in message
    assert f"with the best one of relu6 ({at_relu6s})" in message.lower()


def test_the_title_says_that_one_curve_is_by_nominal_doses() -> None:
    short, long = 120_000, 480_000
    means = {"linear": {short: 60.0, long: 80.0}, "relu6": {short: 40.0, long: 70.0}}
    means |= {arm: {short: 50.0} for pair in rule.DOSES for arm in pair}
    means |= {"leaky_0.1": {short: 50.0, long: 70.0}, "noise_0.734": {short: 40.0, long: 70.0}}
    assert ext_cause.headings(trained(means))[0].endswith(f"{rule.READABILITY[1:]} (by nominal doses)")
    apart = ext_cause.headings(trained(means | {"noise_0.961": {short: 59.0}}))[0]
    assert apart.endswith(rule.BOTH[1:])


def test_runs_that_would_decide_a_midpoint_are_those_of_statsmodels() -> None:
    values = runs({"linear": 60.0, "relu6": 40.0, "leaky_0.1": 50.4}, 5, 3.0)
    claim = rule_text.claim("leaky_0.1", values, "cifar10/120000")
    assert claim.verdict == "undecided"
    deviation = math.sqrt(sum(weight**2 * np.var(values[arm], ddof=1) / 2 for arm, weight in
                              (("leaky_0.1", 1), ("linear", -0.5), ("relu6", -0.5))))  # fmt: skip
    needed = TTestIndPower().solve_power(abs(claim.estimate.value) / deviation, power=0.8, alpha=0.05)
    assert claim.needed == math.ceil(needed)
    assert rule_text.claim("leaky_0.1", {"leaky_0.1": [50.0]}, "cifar10/120000").needed is None
    assert rule_text.claim("noise_0.734", values, "cifar10/120000").needed is None


def test_the_best_rates_are_those_of_the_highest_validation_accuracy() -> None:
    table = pd.read_csv(ROOT / "figures" / "ext_cause.csv", dtype={"group": str})
    ended = table[(table["kind"] == "final") & (table["length"] == 120_000) & (table["group"] != ext_cause.BEST)]
    ended = ended[ended["seed"] < ext_cause.RATE_SEEDS]
    for arm, best in ext_cause.BEST_RATES.items():
        planned = 1 + len(ext_cause.OTHER_RATES) + len(ext_cause.EXTENDED.get(arm, ()))
        rates = ended[ended["arm"] == arm].groupby("group")["validation_accuracy"].agg(["mean", "size"])
        assert (rates["size"] == ext_cause.RATE_SEEDS).all() and len(rates) == planned
        assert float(rates["mean"].idxmax()) == best
        assert min(map(float, rates.index)) < best < max(map(float, rates.index)), "extended where it lies at the edge"


def test_more_than_tuning_is_scipys_difference_of_gaps() -> None:
    values = {
        "best": runs({"linear": 60.0, "relu6": 50.0}, seed=1),
        "0.1": runs({"linear": 58.0, "relu6": 46.0}, seed=2),
    }
    rates, where = {"linear": 0.2, "relu6": 0.4}, "cifar10/120000"
    claim = ext_cause_tuning.claim(values["best"], values["0.1"], rates, where)
    means = {group: {arm: np.mean(found) for arm, found in arms.items()} for group, arms in values.items()}
    best, first = (means[group]["linear"] - means[group]["relu6"] for group in ("best", "0.1"))
    assert claim.estimate.value == pytest.approx(best - first / 2) and claim.verdict == "holds"
    welch = scipy_stats.ttest_ind(values["best"]["linear"], values["best"]["relu6"], equal_var=False)
    low, high = welch.confidence_interval()
    assert f"({best:.2f}".removeprefix("(") in claim.measure and f"{low:.2f} to {high:.2f}" in claim.measure
    few = {arm: found[:4] for arm, found in values["best"].items()}
    assert ext_cause_tuning.claim(few, values["0.1"], rates, where).verdict == "undecided"
    assert f"{best:.1f} [{low:.1f}, {high:.1f}]" in ext_cause_tuning.sentence(values["best"], {}, {})
    assert ext_cause_tuning.sentence({"linear": [1.0, 2.0]}, {}, {}) == ""
    between = values["best"] | runs({"leaky_0.1": 55.0}, seed=3)
    assert "; leaky 0.1, " in ext_cause_tuning.sentence(between, {}, rates) and "(undecided)" in (
        ext_cause_tuning.sentence(between, {}, rates)
    )
    few = between | {"leaky_0.1": between["leaky_0.1"][:4]}
    assert "; leaky 0.1, " not in ext_cause_tuning.sentence(few, {}, rates)


def test_every_arm_has_words() -> None:
    assert set(rule_text.WORDS) == set(ext_cause.ARMS) - {"linear", "relu6"}
