"""Accuracy against multiply-adds over width and resolution multipliers: the trade-off of Figure 5, small.

Paper    Sandler et al. 2018, arXiv:1801.04381, section 6.1.2 and Figure 5
Claims   accuracy rises with multiply-adds, over widths and over resolutions
Run      python -m experiments.ext_width_resolution run
Differs  CIFAR-10 and short trainings instead of ImageNet; images are averaged down to the lower resolutions, and
         random crops still move them by four pixels. `--smoke` runs the digits
"""

import dataclasses

import numpy as np
from matplotlib.figure import Figure

from manifold_lab.core import statistics
from manifold_lab.report import plots
from manifold_lab.report.arm_styles import OTHER_STYLES, styles_of
from manifold_lab.report.tables import ClaimResult, DataFrame, pick, unique
from manifold_lab.sweeps import ablation, comparison, training_run
from manifold_lab.sweeps.study import captioned_figure
from manifold_lab.sweeps.trained_study import Arms, Headline, trained_study

ARM = "linear"
WIDTHS, RESOLUTIONS = (0.35, 0.25, 0.5), (32, 24, 16)
SMALL = (4, 6, 8)
"""Resolutions of the digits."""
EXPECTED = comparison.ExpectedOrder("accuracy_rises", "Figure 5", "accuracy rises with multiply-adds", ARM, ARM)
CONTRAST = comparison.Comparison(styles_of({ARM: None}), "width @ resolution")
HEADLINE = Headline(
    "accuracy_rises", "Accuracy rises with multiply-adds", "Accuracy does not rise with multiply-adds",
    "Whether accuracy rises with every step of multiply-adds is undecided",
)  # fmt: skip


def grid(smoke: bool) -> tuple[training_run.TrainingRun, ...]:
    """Every width at every resolution."""
    base = ablation.SMOKE_SETTING if smoke else ablation.cifar_setting(1)
    sizes, widths = (SMALL, (base.network.width,)) if smoke else (RESOLUTIONS, WIDTHS)
    settings = {f"{width:g} @ {size}": base.change(width=width, resolution=size) for size in sizes for width in widths}
    return ablation.training_runs({ARM: lambda base: base}, settings)


def points(table: DataFrame, length: int) -> list[tuple[str, int, statistics.Estimate]]:
    """Group, multiply-adds and mean test accuracy, the cheapest first."""
    found = []
    for group in comparison.groups(table):
        mine = comparison.scores(table, ARM, group, length)
        if mine:
            price = int(pick(table, group=group)["madds"].iloc[0])
            found.append((group, price, statistics.mean(np.array(list(mine.values())))))
    return sorted(found, key=lambda point: point[1])


def draw(figure: Figure, table: DataFrame) -> str:
    """Accuracy against multiply-adds, at the length of which most is there; a line joins the widths of a resolution."""
    ax = figure.subplots()
    most = max((points(table, length) for length in unique(table, "length")), key=len)
    sizes = sorted({int(group.split("@")[1]) for group, _, _ in most}, reverse=True)
    for place, size in enumerate(sizes):
        mine = [(price / 1e6, score) for group, price, score in most if int(group.split("@")[1]) == size]
        style = OTHER_STYLES[place % len(OTHER_STYLES)]
        ax.plot([price for price, _ in mine], [score.value for _, score in mine], color=style[0], lw=0.6)
        for number, (price, score) in enumerate(mine):
            plots.draw_point(ax, (price, score), style, label=None if number else f"{size} pixels")
    ax.set(xscale="log", xlabel="multiply-adds of one image, millions", ylabel="test accuracy, %")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("{x:g}")
    ax.legend(frameon=False, loc="lower right")
    return f"{', '.join(unique(table, 'data'))}; means and {statistics.PERCENT} intervals over runs"


def claims(table: DataFrame) -> list[ClaimResult]:
    """Every dearer network of the same width or the same resolution is better; steps of the plan may not be run."""
    found = not_run(table)
    for length in comparison.lengths(table, table["group"].iloc[0]):
        there = points(table, length)
        for cheap, dear in [(a, b) for a, _, _ in there for b, _, _ in there if steps(a, b)]:
            tested = [comparison.WeightedArm(ARM, dear, length, 1.0), comparison.WeightedArm(ARM, cheap, length, -1.0)]
            found.append(comparison.judged(table, rises(cheap, dear), tested, measured(cheap, dear, length)))
    return found


def not_run(table: DataFrame) -> list[ClaimResult]:
    """The steps of the plan of which a network has no runs, at the shortest length; none where no network has."""
    plan = [f"{width:g} @ {size}" for size in RESOLUTIONS for width in WIDTHS]
    there = [group for group in comparison.groups(table) if group in plan]
    data, length = table["data"].iloc[0], comparison.lengths(table, table["group"].iloc[0])[0]
    return [
        comparison.planned(rises(cheap, dear), measured(cheap, dear, length), data, dear, length)
        for cheap in plan for dear in plan if there and steps(cheap, dear) and not {cheap, dear} <= set(there)
    ]  # fmt: skip


def rises(cheap: str, dear: str) -> comparison.ExpectedOrder:
    """The claim of one step."""
    return dataclasses.replace(EXPECTED, id=f"{EXPECTED.id}/{dear} over {cheap}".replace(" @ ", "@"))


def measured(cheap: str, dear: str, length: int) -> str:
    """What is measured of one step."""
    return f"points of test accuracy, {dear} minus {cheap}, {length:,} images seen"


def steps(cheap: str, dear: str) -> bool:
    """Whether one group is the next above another along one multiplier."""
    (width, size), (more_width, more_size) = (map(float, group.split("@")) for group in (cheap, dear))
    if size == more_size:
        return more_width == min((one for one in WIDTHS if one > width), default=None)
    return width == more_width and more_size == min((one for one in (*RESOLUTIONS, *SMALL) if one > size), default=None)


STUDY = trained_study(
    name="ext_width_resolution",
    card=__doc__,
    grid=grid,
    arms=Arms(comparison=CONTRAST),
    caption="Width and resolution multipliers.",
    figure=captioned_figure(draw, claims, HEADLINE, 2.6, 0.6),
    claims=claims,
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
