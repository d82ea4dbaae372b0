"""Accuracy against the expansion factor at matched multiply-adds.

Paper    Sandler et al. 2018, arXiv:1801.04381, section 4
Claims   expansion factors between 5 and 10 give nearly the same accuracy
Run      python -m experiments.ext_expansion run
Differs  CIFAR-10 at width 0.35 and short trainings instead of ImageNet. Every factor but the paper's 6 has its channels
         scaled until its counted multiply-adds come nearest. "Nearly the same" is read as: within three points of
         t = 6. The paper finds smaller factors better for smaller networks, and this one is small. `--smoke` runs the
         digits
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.core import statistics
from manifold_lab.models import matching
from manifold_lab.models.specs import NetworkSpec
from manifold_lab.report import deciding, plots
from manifold_lab.report.arm_styles import PAPER as PAPER_STYLE
from manifold_lab.report.tables import ClaimResult, DataFrame
from manifold_lab.sweeps import ablation, comparison, comparison_figure, training_run
from manifold_lab.sweeps.trained_study import Arms, Headline, headline, trained_study

PAPER = 6
FACTORS = (PAPER, 1, 2, 3, 4, 5, 8, 10)
NEAR = 3.0
"""Points of test accuracy that are nearly the same."""


def expanded(base: NetworkSpec, factor: int) -> NetworkSpec:
    """The base with this expansion in every row that expands, at the base's multiply-adds."""
    if factor == PAPER:
        return base
    rows = tuple((t if t == 1 else factor, c, n, s) for t, c, n, s in base.rows)
    return matching.at_madds(dataclasses.replace(base, rows=rows, round_to=1), matching.madds(base))


ARMS = {str(factor): functools.partial(expanded, factor=factor) for factor in FACTORS}
SETTINGS = {"0.35": ablation.cifar_setting(0.35), "digits": ablation.digits_setting()}
CONTRAST = comparison.Comparison(dict.fromkeys(ARMS, PAPER_STYLE), "width")


HEADLINE = Headline(
    "near_6", f"Expansion factors 5 to 10 give the same accuracy, to {NEAR:g} points",
    f"Some expansion factor from 5 to 10 is more than {NEAR:g} points apart from 6",
    "Whether expansion factors 5 to 10 give nearly the same accuracy is undecided",
)  # fmt: skip
CAPTION = (
    f"Means and {statistics.PERCENT} intervals over runs (n), differences to t = {PAPER} by Welch, at matched "
    f"multiply-adds. Open: t = {PAPER} itself. Grey: nearly the same, within {NEAR:g} points."
)


def figure(runs: DataFrame) -> Figure:
    """Test accuracy, and its difference to the paper's factor, against the factor; a row per data set and length."""
    shown = [
        (mine, (group, length))
        for _, mine in runs.groupby("data", sort=False)
        for group in mine["group"].head(1)
        for length in comparison.lengths(mine, group)
        if len(with_runs(mine, (group, length))) > 1
    ]
    with plots.style():
        found = plots.shaped(0.9 + 1.5 * max(1, len(shown)))
        axes = found.subplots(max(1, len(shown)), 2, squeeze=False)
        names: list[str] = []
        for (left, right), (mine, place) in zip(axes, shown, strict=False):
            draw(left, right, mine, place)
            counts = {len(comparison.scores(mine, arm, *place)) for arm in with_runs(mine, place)}
            on = f"{plots.data_name(mine['data'].iloc[0])}, {place[1]:,} images, {comparison_figure.many(counts)}"
            names += [on, "the same, against t = 6"]
        if shown:
            plots.letter(axes.flat, names)
        return plots.captioned(found, headline(claims(runs), HEADLINE), CAPTION + all_near(shown))


def all_near(shown: Sequence[tuple[DataFrame, comparison.Place]]) -> str:
    """The largest difference of any factor, on data where all are as near as those that the claim is about."""
    found = ""
    for mine, place in shown:
        arms = [arm for arm in with_runs(mine, place) if int(arm) != PAPER]
        apart = [comparison.gap(mine, (arm, str(PAPER)), place).estimate for arm in arms]
        if apart and all(one.within(NEAR) for one in apart):
            data, most = plots.data_name(mine["data"].iloc[0]), max(abs(one.value) for one in apart)
            sentence = f"all factors, t = {arms[0]} too, lie within {most:.2f} points of t = {PAPER}"
            found += f" {data[0].upper()}{data[1:]}: {sentence}."
    return found


def with_runs(runs: DataFrame, place: comparison.Place) -> list[str]:
    """The factors that have runs, by size."""
    return [arm for arm in sorted(ARMS, key=int) if comparison.scores(runs, arm, *place)]


def draw(left: Axes, right: Axes, runs: DataFrame, place: comparison.Place) -> None:
    """Accuracy and difference of one data set at one length."""
    right.axhspan(-NEAR, NEAR, color=plots.GHOST, alpha=0.4, lw=0)
    right.axhline(0, color="0.5", lw=0.6)
    for arm in with_runs(runs, place):
        mine = comparison.scores(runs, arm, *place)
        plots.draw_point(left, (int(arm), statistics.mean(np.array(list(mine.values())))), PAPER_STYLE)
        if arm == str(PAPER):
            right.plot(PAPER, 0, PAPER_STYLE[1], color=PAPER_STYLE[0], mfc="white", ms=4, zorder=3)
        elif comparison.fewest(runs, (arm, str(PAPER)), place):
            found = comparison.gap(runs, (arm, str(PAPER)), place).estimate
            plots.draw_point(right, (int(arm), found), PAPER_STYLE)
    factors = sorted(FACTORS)
    left.set(xlabel="expansion factor t", ylabel="test accuracy, %", xticks=factors)
    right.set(xlabel="expansion factor t", ylabel="difference, points", xticks=factors)


def claims(runs: DataFrame) -> list[ClaimResult]:
    """Every factor from 5 to 10 within the margin of the paper's."""
    return [
        near(runs, place, arm)
        for place in comparison.places(runs)
        for arm in sorted(ARMS, key=int)
        if PAPER != int(arm) >= 5
    ]


def near(runs: DataFrame, place: comparison.Place, arm: str) -> ClaimResult:
    """Whether one factor is nearly as good as the paper's: decided where the interval lies inside, or outside."""
    pair = (arm, str(PAPER))
    claim = comparison.ExpectedOrder("near_6", "Section 4", SAYS, *pair)
    on = f"{comparison.data_of(runs, place[0])}, {place[1]:,} images seen"
    measure = f"points of test accuracy at t = {arm} minus t = 6, {on}"
    found = comparison.judged(runs, claim, comparison.change_of_gap(pair, place), measure)
    enough = comparison.fewest(runs, pair, place) >= comparison.FEWEST
    verdict = statistics.verdict(found.estimate.within(NEAR) if enough else None, found.estimate)
    first, second = (list(comparison.scores(runs, one, *place).values()) for one in pair)
    groups = [(first, 1), (second, -1)]
    undecided = verdict == statistics.UNDECIDED
    needed = deciding.runs(groups, comparison.FEWEST, NEAR) if undecided else ""
    return dataclasses.replace(found, id=f"{found.id}/{arm}", verdict=verdict, p_value=None, needed=needed)


SAYS = f"expansion factors between 5 and 10 give nearly the same accuracy (within {NEAR:g} points)"


def grid(smoke: bool) -> tuple[training_run.TrainingRun, ...]:
    """Every factor; for smoke a few."""
    arms = {arm: of for arm, of in ARMS.items() if not smoke or arm in ("6", "1", "8")}
    return ablation.grid(arms, SETTINGS, smoke)


STUDY = trained_study(
    name="ext_expansion",
    card=__doc__,
    grid=grid,
    arms=Arms(comparison=CONTRAST),
    caption="Expansion factors t at matched multiply-adds; the arm is t.",
    figure=figure,
    claims=claims,
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
