"""Arms side by side: paired by seed, judged by the interval, and only where runs are finished."""

import dataclasses
from typing import Any

import pytest
from matplotlib.figure import Figure

from experiments import fig6a_nonlinearity as fig6a
from experiments import fig6b_shortcut as fig6b
from manifold_lab.core import config
from manifold_lab.models.specs import DIGITS
from manifold_lab.report import plots
from manifold_lab.report.tables import Lines
from manifold_lab.sweeps import comparison
from manifold_lab.sweeps.comparison import ExpectedOrder
from manifold_lab.sweeps.training_run import FINAL, TRAINING_COLUMNS, TrainingRun
from manifold_lab.training import RECIPES

EXPECTED = [ExpectedOrder("Figure 6a", "linear is better", "linear", "relu6")]
PAIR = comparison.Comparison({arm: plots.ACTIVATION_STYLES[arm] for arm in ("linear", "relu6")}, "width")


def final(arm: str, seed: int, accuracy: float, state: str = "done") -> dict[str, str]:
    known = {"arm": arm, "group": "0.35", "length": "1000", "data": "digits", "seed": str(seed), "state": state}
    known |= {"kind": FINAL, "images": "1000", "test_accuracy": str(accuracy) if state == "done" else ""}
    return {name: known.get(name, "") for name in TRAINING_COLUMNS}


def arms(*pairs: tuple[float, float]) -> Lines:
    return [final(arm, seed, value) for seed, pair in enumerate(pairs)
            for arm, value in zip(("linear", "relu6"), pair, strict=True)]  # fmt: skip


def test_a_difference_is_paired_by_seed_in_points() -> None:
    lines = arms((0.9, 0.88), (0.5, 0.47), (0.7, 0.66))
    found = comparison.difference(lines[::-1], ("linear", "relu6"), "0.35", "1000")
    assert found is not None
    assert found.difference.value == pytest.approx(3.0) and found.difference.n == 3


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        (arms((0.9, 0.88), (0.5, 0.47), (0.7, 0.66)), "holds"),
        (arms((0.88, 0.9), (0.47, 0.5), (0.66, 0.7)), "fails"),
        (arms((0.9, 0.88), (0.5, 0.55), (0.7, 0.66)), "lacks runs"),
        (arms((0.9, 0.1)), "lacks runs"),
        ([final("linear", 0, 0.9), final("relu6", 1, 0.1)], "lacks runs"),
    ],
)
def test_a_claim_holds_fails_or_lacks_runs(lines: Lines, verdict: str) -> None:
    assert [claim.verdict for claim in comparison.comparison_claims(lines, PAIR, EXPECTED, "command")] == [verdict]


def test_a_run_that_diverged_is_not_averaged_in() -> None:
    lines = [*arms((0.9, 0.88), (0.5, 0.47), (0.7, 0.66)), final("linear", 3, 0.0, "diverged"), final("relu6", 3, 0.9)]
    found = comparison.difference(lines, ("linear", "relu6"), "0.35", "1000")
    assert found is not None and found.difference.n == 3
    assert plots.pick(lines, state="diverged")


def placed(gap: float, group: str, length: str) -> Lines:
    """Three seeds in which linear is better by about that many points, not always by as many."""
    pairs = [(level + (gap + jitter) / 100, level) for level, jitter in ((0.5, 0.0), (0.6, 0.2), (0.7, -0.1))]
    return [{**line, "group": group, "length": length} for line in arms(*pairs)]


@pytest.mark.parametrize(("later", "verdict"), [(2.0, "holds"), (9.0, "fails"), (5.0, "lacks runs")])
def test_a_gap_closes_where_the_longest_training_has_less_of_it(later: float, verdict: str) -> None:
    lines = [*placed(later, "0.35", "9000"), *placed(1.0, "0.35", "3000"), *placed(5.0, "0.35", "1000")]
    lines += placed(3.0, "digits", "1000")
    jittered = [{**line, "test_accuracy": str(float(line["test_accuracy"]) + 0.001 * (line["seed"] == "1"))}
                if (line["length"], line["arm"]) == ("9000", "linear") else line for line in lines]  # fmt: skip
    (claim,) = comparison.gap_shrinks_with_training(jittered, PAIR, EXPECTED[:1], "command")
    assert claim.verdict == verdict
    assert claim.estimate.value == pytest.approx(5.0 - later - 0.1 / 3) and claim.estimate.n == 3


def test_figure_6b_asks_of_both_leads_whether_they_close() -> None:
    wired = {"linear": "bottleneck", "relu6": "none"}
    lines = [*placed(2.0, "0.35", "9000"), *placed(5.0, "0.35", "1000")]
    expansion, none = fig6b.claims([{**line, "arm": wired[line["arm"]]} for line in lines])[-2:]
    assert none.says.startswith("the lead over no shortcut") and none.estimate.value == pytest.approx(3.0)
    assert expansion.verdict == "lacks runs" and expansion.estimate.n == 0


@pytest.mark.parametrize(("wide", "verdict"), [(2.0, "holds"), (9.0, "fails")])
def test_narrower_costs_more_where_the_narrowest_has_the_larger_gap(wide: float, verdict: str) -> None:
    lines = [*placed(wide, "1", "1000"), *placed(3.0, "0.35", "1000"), *placed(99.0, "digits", "1000")]
    lines += placed(5.0, "0.25", "1000")
    (claim,) = comparison.gap_grows_when_narrower(lines, PAIR, EXPECTED[0], "command")
    assert claim.verdict == verdict and claim.estimate.value == pytest.approx(5.0 - wide)
    assert not comparison.gap_grows_when_narrower(placed(3.0, "0.35", "1000"), PAIR, EXPECTED[0], "command")


def test_names_for_figures_are_no_part_of_a_trial() -> None:
    trial = TrainingRun(DIGITS, RECIPES["smoke"], seed=1, arm="linear", group="0.35")
    assert config.key(trial) == config.key(dataclasses.replace(trial, arm="other", group=""))
    assert config.key(trial) != config.key(dataclasses.replace(trial, seed=2))


STUDIES = [(fig6a, "bottleneck_activation"), (fig6b, "shortcut")]


@pytest.mark.parametrize("smoke", [True, False])
@pytest.mark.parametrize(("study", "word"), STUDIES, ids=["fig6a", "fig6b"])
def test_every_arm_has_the_same_seeds_and_one_changed_word(study: Any, word: str, smoke: bool) -> None:
    trials = study.STUDY.grid(smoke)
    reference, *others = [arm for arm in study.CONTRAST.looks if arm in {trial.arm for trial in trials}]
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
    assert first == second and first


def curve(arm: str, seed: int, length: str) -> Lines:
    known = {"kind": comparison.CURVE, "length": length, "test_accuracy": ""}
    points = [(str(part * int(length) // 4), str(0.1 * part + 0.01 * seed)) for part in (1, 2, 4)]
    return [final(arm, seed, 0) | known | {"images": images, "validation_accuracy": value} for images, value in points]


def test_a_first_long_run_hides_no_short_one() -> None:
    short = [line for arm in ("linear", "relu6") for seed in range(3) for line in curve(arm, seed, "1000")]
    ax = Figure().subplots()
    comparison.draw_curves(ax, short + curve("linear", 0, "4000"), PAIR, "0.35")
    drawn = [(line.get_label(), line.get_linestyle(), float(line.get_xdata()[-1])) for line in ax.lines]
    assert drawn == [("linear", "--", 1.0), ("relu6", "--", 1.0), ("linear", "-", 4.0)]
    assert ax.get_title(loc="left") == "digits, width 0.35, 1 to 3 runs"
