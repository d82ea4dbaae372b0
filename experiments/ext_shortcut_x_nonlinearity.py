"""What ReLU6 in the bottleneck costs under each wiring of the shortcut: the grid that footnote 3 asks for.

Paper    Sandler et al. 2018, arXiv:1801.04381, footnote 3 and Figure 6
Claims   footnote 3: with shortcuts the loss by the nonlinearity is smaller. Nobody has shown it
Run      python -m experiments.ext_shortcut_x_nonlinearity run
Differs  CIFAR-10 at width 0.35 and short trainings instead of ImageNet. The claim is a difference of differences, seed
         by seed. Shares its runs with fig6a_nonlinearity and fig6b_shortcut. `--smoke` runs the digits
"""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.core import statistics
from manifold_lab.report import plots
from manifold_lab.report.arm_styles import ARM_STYLES, styles_of
from manifold_lab.report.tables import ClaimResult, DataFrame
from manifold_lab.sweeps import ablation, comparison, comparison_figure, training_run
from manifold_lab.sweeps.trained_study import Arms, Headline, headline, trained_study

NAME = "ext_shortcut_x_nonlinearity"
ARMS = {name: ablation.variant(bottleneck_activation=name) for name in ("linear", "relu6")}
DIGITS = "digits, "
SHORTCUTS = ("bottleneck", "none", "expansion")
CONTRAST = comparison.Comparison(styles_of(ARMS), "shortcut")
HEADLINE = Headline(
    f"{NAME}.shortcut_", "A shortcut softens what ReLU6 in the bottleneck costs",
    "A shortcut does not soften what ReLU6 in the bottleneck costs",
)  # fmt: skip


def grid(smoke: bool) -> tuple[training_run.TrainingRun, ...]:
    """Both arms under every wiring."""
    bases = (
        {"": ablation.SMOKE_SETTING} if smoke else {"": ablation.cifar_setting(0.35), DIGITS: ablation.digits_setting()}
    )
    wired = {data + name: base.change(shortcut=name) for data, base in bases.items() for name in SHORTCUTS}
    return ablation.training_runs(ARMS, wired)


EVERYWHERE = comparison.ExpectedOrder(
    "linear_beats_relu6", "Figure 6 (ours)", "a linear bottleneck is better than one with ReLU6, whatever the shortcut",
    "linear", "relu6",
)  # fmt: skip


def claims(table: DataFrame) -> list[ClaimResult]:
    """The loss under each wiring, and whether a shortcut makes it smaller."""
    return comparison.comparison_claims(table, CONTRAST, [EVERYWHERE], NAME) + list(interactions(table).values())


def interactions(table: DataFrame) -> dict[comparison.Place, ClaimResult]:
    """Whether a shortcut makes the loss smaller, by the group that has one and the length."""
    present = comparison.groups(table)
    return {
        (data + wiring, length): softened(table, (data + wiring, data + "none"), length)
        for data in ("", DIGITS)
        for wiring in ("bottleneck", "expansion")
        if {data + wiring, data + "none"} <= set(present)
        for length in comparison.lengths(table, data + wiring)
    }


def softened(table: DataFrame, groups: tuple[str, str], length: int) -> ClaimResult:
    """What ReLU6 costs without a shortcut, the second group, minus what it costs with one, the first."""
    with_one, with_none = (comparison.label(table, group) for group in groups)
    says = f"a shortcut (between {with_one}s) makes the loss by ReLU6 smaller than without one"
    claim = comparison.ExpectedOrder(f"shortcut_{with_one}_softens", "Footnote 3", says, "linear", "relu6")
    on = f"{comparison.data_of(table, groups[0])}, {with_none} minus {with_one}, {length:,} images seen"
    tested = comparison.change_of_gap(claim.pair, (groups[1], length), (groups[0], length))
    return comparison.judged(table, claim, NAME, tested, f"points of test accuracy lost, {on}")


def figure(table: DataFrame) -> Figure:
    """How much a shortcut softens the loss, and the loss under each wiring, a panel per data."""
    sets = comparison_figure.compared(table, CONTRAST)
    found = {place: claim for place, claim in interactions(table).items() if claim.estimate.n}
    with plots.style():
        tallest = max((len(comparison_figure.differences(one, CONTRAST)) for one in sets), default=0)
        heights = [len(found) + 1, tallest + 1]
        made = plots.shaped(2 * comparison_figure.FRAME + comparison_figure.ROW * sum(heights))
        grid = made.add_gridspec(2, max(len(sets), 1), height_ratios=heights)
        first = made.add_subplot(grid[0, :])
        others = [made.add_subplot(grid[1, place]) for place in range(len(sets))]
        draw_interactions(first, table, found)
        for ax, one in zip(others, sets, strict=True):
            comparison_figure.draw_differences(ax, one, CONTRAST)
        losses = [f"what ReLU6 does, {comparison_figure.set_name(one, CONTRAST)}" for one in sets]
        plots.letter([first, *others], ["how much of the loss a shortcut takes away", *losses])
        note = (
            f"(a): what ReLU6 costs without a shortcut minus what it costs with one, Welch's {statistics.PERCENT} "
            f"interval, in brackets the runs of all four arms. {comparison_figure.caption(False)}"
            f"{comparison_figure.not_run(table, CONTRAST)}"
        )
        return plots.captioned(made, headline(claims(table), HEADLINE), note)


def draw_interactions(ax: Axes, table: DataFrame, found: Mapping[comparison.Place, ClaimResult]) -> None:
    """Every difference of differences as a row; above zero where a shortcut softens the loss."""
    ax.axvline(0, color="0.5", lw=0.6)
    names = []
    for place, ((group, length), claim) in enumerate(found.items()):
        wiring, n = comparison.label(table, group), claim.estimate.n
        data = plots.data_name(comparison.data_of(table, group))
        names.append(f"{wiring}, {data}, {length // 1000}k ({n})")
        comparison_figure.draw_difference(ax, place, claim.estimate, ARM_STYLES[wiring])
    ax.set_yticks(range(len(names)), names)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlabel="loss without − loss with, points")
    ax.tick_params(axis="y", length=0)


STUDY = trained_study(
    name=NAME,
    card=__doc__,
    grid=grid,
    arms=Arms(comparison=CONTRAST, expected=[EVERYWHERE]),
    caption="What ReLU6 behind the bottleneck costs under each wiring.",
    claims=claims,
    figure=figure,
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
