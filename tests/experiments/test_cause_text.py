"""What `experiments.ext_cause` says of its runs: its text, claims and title."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestIndPower

from experiments import ext_cause
from experiments.rules import ext_cause as rule
from experiments.rules import ext_cause_text as rule_text
from experiments.rules import ext_cause_tuning
from manifold_lab.report.markdown import table_cells
from tests.experiments.test_cause_rule import ROOT, runs

LONG_DECIDES = "The answer reads trainings of 480,000 images, and trainings of 120,000 where these lack an arm"


def test_the_table_gives_what_each_arm_costs_with_scipys_interval() -> None:
    found = runs({"linear": 60.0, "relu6": 47.0, "leaky_0.1": 48.0, "half_gain": 59.0, "abs": 50.0}, n=6)
    found["abs"] = found["abs"][:4]  # too few for a verdict
    r2 = {"linear": [1.0], "relu6": [0.75, 0.85], "leaky_0.1": []}
    head, *rows = table_cells(rule_text.costs_table({120_000: (found, r2), 480_000: ({"abs": [1.0]}, {})}))
    assert len(head) == 5 and "120,000" in head[1] and "480,000" in head[4]
    costs = {row[0]: row[1:] for row in rows}
    verdicts = {"relu6": "", "leaky_0.1": f" {rule.WITH_RELU6}", "half_gain": f" {rule.WITH_LINEAR}"}
    assert list(costs) == [rule_text.WORDS[arm] for arm in verdicts]
    for arm, verdict in verdicts.items():
        welch = scipy_stats.ttest_ind(found["linear"], found[arm], equal_var=False)
        low, high = welch.confidence_interval(0.95)
        cost = f"{np.mean(found['linear']) - np.mean(found[arm]):.1f} [{low:.1f}, {high:.1f}]{verdict}"
        assert costs[rule_text.WORDS[arm]] == ["0.80" if arm == "relu6" else "–", cost, "–", "–"]
    assert rule_text.costs_table({120_000: (found | {"relu6": [47.0]}, r2)}) == ""


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
    assert (
        rule.BOTH_OPEN in message
        and "reads trainings of 120,000 images." in message
        and "where these lack" not in message
    )
    message = ext_cause.paragraphs(trained(means))
    assert f"{rule.COLLAPSE}.\n\n" in message and LONG_DECIDES in message
    assert f"Trainings of 120,000 images read otherwise: {rule.TUNING[None]}; {rule.BOTH_OPEN}." in message
    found, dearer = trained(means), {"leaky_0.1": {short: 41.0, long: 70.5}}
    message = ext_cause.paragraphs(trained(means | dearer))
    assert f"{rule.BOTH_OPEN}.\n\n" in message and LONG_DECIDES in message
    assert "Trainings of 120,000 images put leaky .1 and noise on the same sides" in message
    for at_best, tuned in ((41.0, False), (59.0, True)):
        best = trained({"linear": {short: 60.0}, "relu6": {short: at_best}}, ext_cause.BEST)
        message = ext_cause.paragraphs(pd.concat([found, best]))
        assert f"{rule.TUNING[tuned]}; {rule.COLLAPSE}."[1:] in message
    short_runs = ext_cause.accuracies(found, ext_cause.GROUP, short)
    difference = scipy_stats.ttest_ind(short_runs["linear"], short_runs["relu6"], equal_var=False)
    low, high = difference.confidence_interval(0.95)
    gap = np.mean(short_runs["linear"]) - np.mean(short_runs["relu6"])
    assert f"| {gap:.1f} [{low:.1f}, {high:.1f}] |\n" in message


def test_short_trainings_give_the_long_ones_the_doses_and_controls_that_they_lack() -> None:
    short, long = 120_000, 480_000
    ends = {"linear": {short: 60.0, long: 80.0}, "relu6": {short: 40.0, long: 70.0}}
    doses = {arm: {short: 50.0} for pair in rule.DOSES for arm in pair}
    costly = doses | {"leaky_0.1": {short: 50.0, long: 70.0}, "noise_0.734": {short: 40.0, long: 70.0}}
    message = ext_cause.paragraphs(trained(ends | costly))
    assert f"{rule.READABILITY}, {ext_cause.BY_PLAN}.\n\n" in message and LONG_DECIDES in message
    apart = costly | {"noise_0.961": {short: 59.0}}
    assert f"{rule.BOTH}.\n\n" in ext_cause.paragraphs(trained(ends | apart))
    harmless = {"leaky_0.1": {short: 40.0, long: 70.0}, "noise_0.734": {short: 60.0, long: 80.0}}
    message = ext_cause.paragraphs(trained(ends | harmless | {"half_gain": {short: 40.0}, "renormed": {short: 40.0}}))
    assert f"{rule.NOT_INFORMATION}: attenuated gradients.\n\n" in message


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
    assert "at the best learning rate of ReLU6" in claim.says and f"all at ReLU6's best rate, {at_relu6s}" in message
    assert f"| {rule_text.WORDS['relu6']} | 0.4 | " in message


def test_the_title_says_that_one_curve_is_by_planned_r2() -> None:
    short, long = 120_000, 480_000
    means = {"linear": {short: 60.0, long: 80.0}, "relu6": {short: 40.0, long: 70.0}}
    means |= {arm: {short: 50.0} for pair in rule.DOSES for arm in pair}
    means |= {"leaky_0.1": {short: 50.0, long: 70.0}, "noise_0.734": {short: 40.0, long: 70.0}}
    assert ext_cause.headings(trained(means))[0].endswith(f"{rule.READABILITY[1:]}, {ext_cause.BY_PLAN}")
    apart = ext_cause.headings(trained(means | {"noise_0.961": {short: 59.0}}))[0]
    assert apart.endswith(rule.BOTH[1:])


def test_runs_that_would_decide_a_midpoint_are_those_of_statsmodels() -> None:
    values = runs({"linear": 60.0, "relu6": 40.0, "leaky_0.1": 50.4}, 5, 3.0)
    claim = rule_text.claim("leaky_0.1", values, "cifar10/120000")
    assert claim.verdict == "undecided"
    deviation = math.sqrt(sum(weight**2 * np.var(values[arm], ddof=1) / 2 for arm, weight in
                              (("leaky_0.1", 1), ("linear", -0.5), ("relu6", -0.5))))  # fmt: skip
    needed = TTestIndPower().solve_power(abs(claim.estimate.value) / deviation, power=0.8, alpha=0.05)
    assert claim.needed == f"{math.ceil(needed):,} runs an arm"
    assert rule_text.claim("leaky_0.1", {"leaky_0.1": [50.0]}, "cifar10/120000").needed == "5 runs an arm"
    assert rule_text.claim("noise_0.734", values, "cifar10/120000").needed == ""


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
    lost = f"{best:.1f} [{low:.1f}, {high:.1f}]"
    assert f"| {rule_text.WORDS['relu6']} | 0.4 | {lost} | – |" in ext_cause_tuning.table(values["best"], {}, rates)
    assert ext_cause_tuning.table({"linear": [1.0, 2.0]}, {}, rates) == ""
    rates, between = rates | {"leaky_0.1": 0.1}, values["best"] | runs({"leaky_0.1": 55.0}, seed=3)
    row = ext_cause_tuning.table(between, between, rates).splitlines()[-1]
    assert row.startswith(f"| {rule_text.WORDS['leaky_0.1']} | 0.1 | ") and row.count("] undecided |") == 2
    few = between | {"leaky_0.1": between["leaky_0.1"][:4]}
    assert rule_text.WORDS["leaky_0.1"] not in ext_cause_tuning.table(few, {}, rates)


def test_planned_r2_are_those_of_a_normal_channel() -> None:
    z = np.random.default_rng(0).normal(size=1_000_000)
    for arm, slope in (("leaky_0.5", 0.5), ("leaky_0.1", 0.1), ("noise_0.734", 0.0), ("relu6", 0.0)):
        said = float(rule_text.WORDS[arm].partition("planned R² ")[2].partition(")")[0])
        assert said == pytest.approx(np.corrcoef(z, np.where(z > 0, z, slope * z))[0, 1] ** 2, abs=0.0015)


def test_every_arm_has_words() -> None:
    assert set(rule_text.WORDS) == set(ext_cause.ARMS) - {"linear"}
