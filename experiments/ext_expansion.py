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
import sys

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.core import statistics
from manifold_lab.models import matching
from manifold_lab.models.specs import NetworkSpec
from manifold_lab.report import plots
from manifold_lab.report.tables import ClaimResult, Lines
from manifold_lab.sweeps import ablation, comparison, training_run
from manifold_lab.sweeps.comparison import Comparison
from manifold_lab.sweeps.study import Arms, trained_study
from manifold_lab.sweeps.study_commands import main

NAME = "ext_expansion"
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
CONTRAST = Comparison({arm: (plots.MEASURED, "o") for arm in ARMS}, "width")


def figure(lines: Lines) -> Figure:
    """Test accuracy, and its difference to the paper's factor, against the factor; a column per data set."""
    sets = [plots.pick(lines, data=data) for data in comparison.unique(lines, "data")]
    with plots.style():
        shape = (mpl.rcParams["figure.figsize"][0], 3.4)
        found = Figure(figsize=shape, layout="constrained")
        axes = found.subplots(2, len(sets), squeeze=False, sharex=True)
        for (above, below), mine in zip(axes.T, sets, strict=True):
            group, data = mine[0]["group"], mine[0]["data"]
            lengths = comparison.lengths(mine, group)
            for place, length in enumerate(lengths):
                draw(above, below, mine, (group, length), f"C{place}")
            below.axhspan(-NEAR, NEAR, color=plots.GHOST, alpha=0.4, lw=0)
            below.set(xlabel="expansion factor t", xlim=(0, max(FACTORS) + 1))
            above.set_title(f"{data}; {', '.join(f'{int(one):,}' for one in lengths)} images seen", loc="left")
            if len(lengths) > 1:
                above.legend(frameon=False, title="images seen", loc="best")
            if not below.containers:
                below.text(0.5, 0.5, "no runs", ha="center", color="0.5", transform=below.transAxes)
        axes[0, 0].set(ylabel="test accuracy, %")
        axes[1, 0].set(ylabel=f"difference to t = {PAPER}, points")
        return plots.fixed_layout(found)


def draw(left: Axes, right: Axes, lines: Lines, place: tuple[str, str], colour: str) -> None:
    """The points of one length."""
    for arm in sorted(ARMS, key=int):
        mine = comparison.scores(lines, arm, *place)
        if mine:
            label = f"{int(place[1]):,}" if arm == str(PAPER) else None
            level = statistics.mean(np.array(list(mine.values())))
            plots.draw_point(left, (int(arm), level), (colour, "o"), label=label)
        pair = (arm, str(PAPER))
        if mine and arm != str(PAPER) and comparison.fewest(lines, pair, place):
            plots.draw_point(right, (int(arm), comparison.gap(lines, pair, place).estimate), (colour, "o"))


def claims(lines: Lines) -> list[ClaimResult]:
    """Every factor from 5 to 10 within a point of the paper's."""
    return [
        near(lines, (group, length), arm)
        for group in comparison.groups(lines)
        for length in comparison.lengths(lines, group)
        for arm in sorted(ARMS, key=int)
        if PAPER != int(arm) >= 5
    ]


def near(lines: Lines, place: tuple[str, str], arm: str) -> ClaimResult:
    """Whether one factor is nearly as good as the paper's: decided where the interval lies inside, or outside."""
    pair = (arm, str(PAPER))
    claim = comparison.ExpectedOrder("near_6", "Section 4", SAYS, *pair)
    on = f"{comparison.data_of(lines, place[0])}, {int(place[1]):,} images seen"
    found = comparison.judged(
        lines, claim, NAME, comparison.pair_of(claim, place), f"points of test accuracy at t = {arm} minus t = 6, {on}"
    )
    enough = comparison.fewest(lines, pair, place) >= comparison.FEWEST
    verdict = statistics.verdict(found.estimate.within(NEAR) if enough else None, found.estimate)
    return dataclasses.replace(found, id=f"{found.id}/{arm}", verdict=verdict, p_value=None, needed=None)


SAYS = f"expansion factors between 5 and 10 give nearly the same accuracy (within {NEAR:g} points)"


def document(lines: Lines) -> comparison.Document:
    """Every factor beside the paper's."""
    return comparison.comparison_table(lines, CONTRAST, "Expansion factors t at matched multiply-adds; the arm is t.")


def grid(smoke: bool) -> tuple[training_run.TrainingRun, ...]:
    """Every factor; for smoke a few."""
    arms = {arm: of for arm, of in ARMS.items() if not smoke or arm in ("6", "1", "8")}
    return ablation.grid(arms, SETTINGS, smoke)


STUDY = trained_study(
    name=NAME,
    card=__doc__,
    grid=grid,
    arms=Arms(comparison=CONTRAST),
    caption="Expansion factors t at matched multiply-adds; the arm is t.",
    figure=figure,
    claims=claims,
    table=document,
)


if __name__ == "__main__":
    sys.exit(main(STUDY))
