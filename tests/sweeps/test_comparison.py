"""Arms side by side: paired by seed, judged by the interval, and only where runs are finished."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats as scipy_stats

from experiments import fig6a_nonlinearity as fig6a
from experiments import fig6b_shortcut as fig6b
from manifold_lab.core import config
from manifold_lab.models.specs import DIGITS
from manifold_lab.report.arm_styles import styles_of
from manifold_lab.report.tables import Record
from manifold_lab.sweeps import comparison, comparison_figure, gap_over_training
from manifold_lab.sweeps.comparison import ExpectedOrder
from manifold_lab.sweeps.training_run import CURVE, FINAL, TRAINING_COLUMNS, TrainingRun
from manifold_lab.training import RECIPES
from tests.tabled import tabled

EXPECTED = [ExpectedOrder("linear_better", "Figure 6a", "linear is better", "linear", "relu6")]
PAIR = comparison.Comparison(styles_of(dict.fromkeys(("linear", "relu6"))), "width")


def final(arm: str, seed: int, accuracy: float, state: str = "done") -> dict[str, str]:
    known = {"arm": arm, "group": "0.35", "length": "1000", "data": "digits", "seed": str(seed), "state": state}
    known |= {"kind": FINAL, "images": "1000", "test_accuracy": str(accuracy) if state == "done" else ""}
    return {name: known.get(name, "") for name in TRAINING_COLUMNS}


JITTER = (0.0, 0.02, -0.01, 0.01, -0.02)
"""What sets five seeds apart."""


def runs(arm: str, accuracy: float, group: str = "0.35", length: str = "1000", seeds: int = 5) -> list[Record]:
    made = [final(arm, seed, accuracy + JITTER[seed]) for seed in range(seeds)]
    return [{**line, "group": group, "length": length} for line in made]


def test_a_gap_is_welchs_over_all_runs_in_points() -> None:
    lines = runs("linear", 0.6) + runs("relu6", 0.5, seeds=3)
    found = comparison.gap(tabled(lines[::-1]), ("linear", "relu6"), ("0.35", 1000))
    first, second = (100 * np.array([0.6, 0.5][place] + np.array(JITTER[: [5, 3][place]])) for place in range(2))
    theirs = scipy_stats.ttest_ind(first, second, equal_var=False)
    assert found.p_value == pytest.approx(theirs.pvalue) and found.estimate.n == 8
    assert found.estimate.low == pytest.approx(theirs.confidence_interval().low)


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        (runs("linear", 0.6) + runs("relu6", 0.5), "holds"),
        (runs("linear", 0.5) + runs("relu6", 0.6), "fails"),
        (runs("linear", 0.505) + runs("relu6", 0.5), "undecided"),
        (runs("linear", 0.6) + runs("relu6", 0.5, seeds=4), "undecided"),
        (runs("linear", 0.6), "not run"),
    ],
)
def test_a_claim_holds_fails_is_undecided_or_not_run(lines: list[Record], verdict: str) -> None:
    (claim,) = comparison.comparison_claims(tabled(lines), PAIR, EXPECTED)
    assert claim.verdict == verdict and claim.id == "linear_better/digits/0.35/1000"
    assert bool(claim.needed) == (verdict == "undecided")
    assert (claim.p_value is not None) == (verdict in ("holds", "fails") or claim.estimate.n == 10)


def test_so_many_runs_as_it_says_decide_the_effect_that_was_seen() -> None:
    (claim,) = comparison.comparison_claims(tabled(runs("linear", 0.52) + runs("relu6", 0.5)), PAIR, EXPECTED)
    count, of = claim.needed.split(maxsplit=1)
    assert of == "runs an arm" and claim.verdict == "undecided"
    draws, spread = np.random.default_rng(0), 100 * float(np.std(JITTER, ddof=1))
    many, decided = 400, 0
    for _ in range(many):
        first, second = draws.normal(2.0, spread, int(count)), draws.normal(0.0, spread, int(count))
        decided += scipy_stats.ttest_ind(first, second).pvalue < 0.05
    assert decided / many > 0.8 - 3 * (0.16 / many) ** 0.5


def test_a_run_that_diverged_is_not_averaged_in_and_is_said() -> None:
    lines = [*runs("linear", 0.6), *runs("relu6", 0.5), final("linear", 5, 0.0, "diverged")]
    (claim,) = comparison.comparison_claims(tabled(lines), PAIR, EXPECTED)
    assert claim.estimate.value == pytest.approx(10) and claim.measure.endswith("1 diverged")


def placed(gap: float, group: str, length: str) -> list[Record]:
    return runs("linear", 0.5 + gap / 100, group, length) + runs("relu6", 0.5, group, length)


@pytest.mark.parametrize(("later", "verdict"), [(2.0, "holds"), (29.0, "fails"), (14.0, "undecided")])
def test_a_gap_shrinks_where_the_longest_training_has_less_of_it(later: float, verdict: str) -> None:
    lines = [*placed(later, "0.35", "9000"), *placed(1.0, "0.35", "3000"), *placed(15.0, "0.35", "1000")]
    lines += placed(3.0, "digits", "1000")
    claim, odds, errors = gap_over_training.gap_shrinks_with_training(tabled(lines), PAIR, EXPECTED[:1])
    assert claim.verdict == verdict and claim.estimate.value == pytest.approx(15.0 - later)
    shares = {(row["arm"], row["length"]): [] for row in lines}
    for row in lines:
        if row["group"] == "0.35":
            shares[row["arm"], row["length"]].append(float(row["test_accuracy"]))
    for found, scale in ((odds, lambda p: np.log(p / (1 - p))), (errors, lambda p: -np.log(1 - p))):
        means = {place: np.mean(scale(np.array(values))) for place, values in shares.items() if values}
        gaps = [means[EXPECTED[0].better, length] - means[EXPECTED[0].worse, length] for length in ("1000", "9000")]
        assert found.estimate.value == pytest.approx(gaps[0] - gaps[1])


def test_within_the_longest_training_each_run_is_its_own_control() -> None:
    """Gaps of 20 points early and 5 at the end, beside levels of runs that differ by far more than that."""
    lines = [*placed(1.0, "0.35", "1000"), *placed(1.0, "0.35", "9000")]
    arms = (EXPECTED[0].better, EXPECTED[0].worse)
    for (arm, early, late), seed in itertools.product(zip(arms, (0.4, 0.2), (0.7, 0.65), strict=True), range(6)):
        facts = {"kind": "curve", "arm": arm, "seed": str(seed), "group": "0.35", "length": "9000"}
        level = 0.05 * seed * (seed % 2)
        noise = 0.001 * seed
        for images, value in ((500, 0.1), (1010, early + level + noise), (9000, late + level)):
            lines.append(
                {**lines[0], **facts, "images": str(images), "test_accuracy": "", "validation_accuracy": value}
            )
    found = gap_over_training.gap_shrinks_with_training(tabled(lines), PAIR, EXPECTED[:1])[-1]
    assert found.id.startswith(f"{EXPECTED[0].id}_within/") and found.verdict == "holds"
    assert found.estimate.value == pytest.approx(15.0) and found.estimate.n == 12


@pytest.mark.parametrize(("wide", "verdict"), [(1.0, "holds"), (29.0, "fails"), (14.0, "undecided")])
def test_narrower_costs_more_where_the_gap_falls_with_the_logarithm_of_the_width(wide: float, verdict: str) -> None:
    gaps = {"0.25": 15.0, "0.5": (15.0 + wide) / 2, "1": wide}
    lines = [line for group, gap in gaps.items() for line in placed(gap, group, "1000")] + placed(
        99.0, "digits", "1000"
    )
    (claim,) = comparison.gap_grows_when_narrower(tabled(lines), PAIR, EXPECTED[0])
    slope = -np.polyfit([-2, -1, 0], list(gaps.values()), 1)[0]
    assert claim.verdict == verdict and claim.estimate.value == pytest.approx(slope)
    assert not comparison.gap_grows_when_narrower(tabled(placed(3.0, "0.35", "1000")), PAIR, EXPECTED[0])


@pytest.mark.slow
def test_true_nulls_are_decided_in_at_most_five_per_cent_whatever_the_spreads() -> None:
    """With the spread of real arms: five runs each, one of them three times as spread."""
    draws, many, decided = np.random.default_rng(1), 600, 0
    for _ in range(many):
        spreads = {"linear": 0.025, "relu6": 0.009}
        lines = [final(arm, seed, 0.5 + spreads[arm] * draws.normal()) for arm in spreads for seed in range(5)]
        decided += comparison.comparison_claims(tabled(lines), PAIR, EXPECTED)[0].verdict in ("holds", "fails")
    assert decided / many < 0.05 + 3 * (0.05 * 0.95 / many) ** 0.5


def test_figure_6b_asks_of_both_leads_whether_they_close() -> None:
    wired = {"linear": "bottleneck", "relu6": "none"}
    lines = [*placed(2.0, "0.35", "9000"), *placed(15.0, "0.35", "1000")]
    found = fig6b.claims(tabled([{**line, "arm": wired[line["arm"]]} for line in lines]))
    expansion, none = (one for one in found if "_shrinks/" in one.id)
    assert none.says.startswith("the lead over no shortcut") and none.estimate.value == pytest.approx(13.0)
    assert expansion.verdict == "not run" and expansion.estimate.n == 0


def test_names_for_figures_are_no_part_of_a_trial() -> None:
    trial = TrainingRun(DIGITS, RECIPES["smoke"], seed=1, arm="linear", group="0.35")
    assert config.key(trial) == config.key(dataclasses.replace(trial, arm="other", group=""))
    assert config.key(trial) != config.key(dataclasses.replace(trial, seed=2))


STUDIES = [(fig6a, "bottleneck_activation"), (fig6b, "shortcut")]


@pytest.mark.parametrize("smoke", [True, False])
@pytest.mark.parametrize(("study", "word"), STUDIES, ids=["fig6a", "fig6b"])
def test_every_arm_has_the_same_seeds_and_one_changed_word(study: Any, word: str, smoke: bool) -> None:
    trials = study.STUDY.grid(smoke)
    reference, *others = [arm for arm in study.CONTRAST.styles if arm in {trial.arm for trial in trials}]
    shared = {
        arm: [(t.group, t.data, t.recipe, t.seed, dataclasses.replace(t.network, **{word: reference}))
              for t in trials if t.arm == arm]
        for arm in (reference, *others)
    }  # fmt: skip
    assert len({config.key(trial) for trial in trials}) == len(trials) == sum(map(len, shared.values()))
    places = shared[reference]
    assert others and places and shared[others[0]] == places
    assert all(shared[arm] == [place for place in places if place in shared[arm]] for arm in others)
    assert all(getattr(trial.network, word) == trial.arm for trial in trials)


@pytest.mark.parametrize("smoke", [True, False])
def test_figures_6a_and_6b_share_the_runs_of_the_papers_network(smoke: bool) -> None:
    groups = {trial.group for trial in fig6b.STUDY.grid(smoke)}
    first = {config.key(trial) for trial in fig6a.STUDY.grid(smoke) if trial.arm == "linear" and trial.group in groups}
    second = {config.key(trial) for trial in fig6b.STUDY.grid(smoke) if trial.arm == "bottleneck"}
    assert second <= first and second


def curve(arm: str, seed: int, length: str) -> list[Record]:
    known = {"kind": CURVE, "length": length, "test_accuracy": ""}
    points = [(str(part * int(length) // 4), str(0.1 * part + 0.01 * seed)) for part in (1, 2, 4)]
    return [final(arm, seed, 0) | known | {"images": images, "validation_accuracy": value} for images, value in points]


def test_a_first_long_run_hides_no_short_one() -> None:
    short = [line for arm in ("linear", "relu6") for seed in range(3) for line in curve(arm, seed, "1000")]
    ax = Figure().subplots()
    said = comparison_figure.draw_curves(ax, tabled(short + curve("linear", 0, "4000")), PAIR)
    drawn = [(line.get_label(), float(line.get_xdata()[-1])) for line in ax.lines]
    assert drawn == [("linear", 1.0), ("relu6", 1.0)], "of the longest trainings there is nothing to compare"
    assert said == "digits, width 0.35, n = 3"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["linear", "relu6"]


def drawn_caption(figure: Figure) -> str:
    return figure.get_supxlabel().replace("\n", " ")


def test_arms_without_runs_are_said_to_be_not_run_and_not_drawn() -> None:
    lines = [final(arm, seed, 0.5 + 0.01 * seed) for arm in ("linear", "relu6") for seed in range(5)]
    three = comparison.Comparison(styles_of(dict.fromkeys(("linear", "relu6", "gelu"))), "width")
    assert [arm for arm, _ in comparison_figure.differences(tabled(lines), three)] == ["relu6"]
    figure = comparison_figure.draw_comparison(tabled(lines), three, "a title")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["relu6 (5)"]
    assert drawn_caption(figure).endswith(" Not run on digits: gelu.")
    alone = comparison_figure.draw_comparison(tabled([line for line in lines if line["arm"] == "linear"]), three)
    assert [text.get_text() for text in alone.axes[0].texts] == ["no two arms have runs yet"]
    assert drawn_caption(alone).endswith(" Not run on digits: relu6, gelu.")


def test_a_group_beside_whose_reference_nothing_is_run_is_said() -> None:
    lines = [final(arm, seed, 0.5 + 0.01 * seed) for arm in ("linear", "relu6") for seed in range(5)]
    assert comparison_figure.not_run(tabled(lines), PAIR) == ""
    lines += [final("linear", seed, 0.5) | {"group": "0.9"} for seed in range(5)]
    assert comparison_figure.not_run(tabled(lines), PAIR) == " Not run on digits: width 0.9."
    assert {group for _, (group, _) in comparison_figure.differences(tabled(lines), PAIR)} == {lines[0]["group"]}


def test_a_data_set_without_two_arms_has_no_panel() -> None:
    lines = [final(arm, seed, 0.5 + 0.01 * seed) for arm in ("linear", "relu6") for seed in range(5)]
    lines += [final("linear", seed, 0.5) | {"group": "0.9", "data": "cifar10"} for seed in range(5)]
    figure = comparison_figure.draw_comparison(tabled(lines), PAIR)
    assert len(figure.axes) == 1 and "Not run on CIFAR-10: relu6." in drawn_caption(figure)


def test_every_run_is_a_tick_of_its_own() -> None:
    ax = Figure().subplots()
    comparison_figure.draw_runs(ax, 0, np.array([0.5, 0.5, 0.25, 0.5]))
    ticks = {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in ax.lines}
    assert len(ticks) == 4 and len({x for x, _ in ticks}) == 2
