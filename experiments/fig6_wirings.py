"""The wirings of the shortcut that Figure 6b compares, drawn from the networks that are built.

Paper    Sandler et al. 2018, arXiv:1801.04381, Figures 3, 4 and 6b
Claims   none: the paper names the shortcut between expansions without defining it; this is the definition used here
Run      python -m experiments.fig6_wirings publish
Differs  between expansions: from a block's depthwise output, after its activation, to the next block's expanded tensor,
         after its activation, wherever channels and resolution agree; as many as between bottlenecks
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from manifold_lab.models.specs import V2, stages
from manifold_lab.report import plots
from manifold_lab.report.arm_styles import ARM_STYLES
from manifold_lab.report.printed import counted_claims
from manifold_lab.report.tables import ClaimResult, DataFrame, Record, pick
from manifold_lab.sweeps.study import MAIN, Headline, captioned_figure, computed_study

WIRINGS = ("bottleneck", "expansion", "none", "projected")
TITLES = {
    "bottleneck": "bottleneck, the paper's: block input + projection",
    "expansion": "expansion: depthwise output + next expansion",
    "none": "none: neither",
    "projected": "projected: also where channels or resolution change, by a 1×1 convolution",
}
SHOWN = range(6, 9)
"""The blocks that are drawn: the last of 28 x 28 and the first of 14 x 14, whose first one has no plain shortcut."""
SIZE = 1 / 384
"""Height of a tensor of one channel; 384 channels have height 1."""


def wirings(names: Sequence[str]) -> list[Record]:
    """One line per wiring and block: its channels, and the shortcuts that end in it."""
    lines = []
    for wiring in names:
        wide = False
        for block, stage in enumerate(stages(dataclasses.replace(V2, shortcut=wiring))):
            channels = {name: getattr(stage, name) for name in ("inputs", "hidden", "outputs", "stride")}
            ends = {"shortcut": stage.shortcut, "wide": "identity" if wide else "none"}
            lines.append({"wiring": wiring, "block": block} | channels | ends)
            wide = stage.gives_wide
    return lines


@dataclass(frozen=True)
class Bar:
    """A tensor as drawn: where, and how many channels."""

    x: float
    channels: int

    @property
    def top(self) -> tuple[float, float]:
        """The middle of its upper end."""
        return self.x, self.channels * SIZE / 2


def bars(table: DataFrame) -> dict[tuple[int, str], Bar]:
    """The tensors of the shown blocks, left to right: expanded, depthwise output, projected; and the first input."""
    first = table.iloc[0]
    found = {(first["block"] - 1, "outputs"): Bar(0, first["inputs"])}
    for row in table.itertuples():
        tensors = (("expanded", row.hidden), ("depthwise", row.hidden), ("outputs", row.outputs))
        for step, (name, channels) in enumerate(tensors, start=1):
            found[row.block, name] = Bar(3 * (row.block - first["block"]) + step, channels)
    return found


def draw_bars(ax: Axes, found: dict[tuple[int, str], Bar]) -> None:
    """Tensors as bars, operators as arrows between them."""
    ordered = sorted(found.values(), key=lambda bar: bar.x)
    for bar in ordered:
        height = bar.channels * SIZE
        ax.add_patch(Rectangle((bar.x - 0.09, -height / 2), 0.18, height, facecolor="0.85", edgecolor="0.3", lw=0.5))
        ax.text(bar.x, -height / 2 - 0.04, str(bar.channels), ha="center", va="top", fontsize=6, color="0.3")
    for left, right in itertools.pairwise(ordered):
        ax.annotate("", (right.x - 0.12, 0), (left.x + 0.12, 0), arrowprops={"arrowstyle": "->", "lw": 0.5})


def draw_shortcut(ax: Axes, begin: Bar, end: Bar, style: tuple[str, str]) -> None:
    """An arc over the bars, with the sum at its end; dashed where a convolution is on the way."""
    colour, dashes = style
    bend = -0.38 if end.x - begin.x > 2 else -0.3
    arc = FancyArrowPatch(
        begin.top, end.top, connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", mutation_scale=6,
        color=colour, lw=1.1, linestyle=dashes, shrinkA=1, shrinkB=5,
    )  # fmt: skip
    ax.add_patch(arc)
    ax.text(
        end.x, end.channels * SIZE / 2 + 0.015, "+", ha="center", va="bottom", fontsize=7, color=colour, weight="bold"
    )


def draw_wiring(ax: Axes, table: DataFrame) -> None:
    """One wiring over the shown blocks."""
    found, colour = bars(table), ARM_STYLES[table["wiring"].iloc[0]][0]
    draw_bars(ax, found)
    for block, shortcut, wide in zip(table["block"], table["shortcut"], table["wide"], strict=True):
        if shortcut != "none":
            dashes = "-" if shortcut == "identity" else (0, (3, 1.5))
            draw_shortcut(ax, found[block - 1, "outputs"], found[block, "outputs"], (colour, dashes))  # type: ignore[arg-type]
        if wide != "none" and (block - 1, "depthwise") in found:
            draw_shortcut(ax, found[block - 1, "depthwise"], found[block, "expanded"], (colour, "-"))
    ax.set(xlim=(-0.4, 3 * len(SHOWN) + 0.4), ylim=(-0.76, 0.95))
    ax.set_axis_off()


HEADLINE = Headline(
    "equally_many", "Figure 6b compares equally many shortcuts of either kind",
    "Figure 6b compares unequally many shortcuts of either kind",
)  # fmt: skip


def draw(figure: Figure, table: DataFrame) -> str:
    """One row per wiring; the operators are named once, at the bottom."""
    axes, shown = figure.subplots(len(WIRINGS), 1), table[table["block"].isin(SHOWN)]
    for ax, wiring in zip(axes, WIRINGS, strict=True):
        draw_wiring(ax, pick(shown, wiring=wiring))
    many = counts(table)
    plots.letter(axes, (f"{title} ({many[wiring]} in the whole network)" for wiring, title in TITLES.items()))
    names = ("1×1, ReLU6", "3×3 depthwise, ReLU6", "1×1, linear")
    for place in range(3 * len(SHOWN)):
        axes[-1].text(place + 0.5, -0.76, names[place % 3], ha="center", va="top", color="0.3",
                      fontsize=mpl.rcParams["legend.fontsize"])  # fmt: skip
    first, last = SHOWN[0], SHOWN[-1]
    return f"Shown: blocks {first} to {last} of MobileNetV2 1.0; bars are tensors, as high as they have channels."


def counts(table: DataFrame) -> dict[str, int]:
    """The shortcuts of every wiring in the whole network."""
    return (table[["shortcut", "wide"]] != "none").sum(axis=1).groupby(table["wiring"]).sum().to_dict()


def claims(table: DataFrame) -> list[ClaimResult]:
    """As many shortcuts between expansions as between bottlenecks."""
    count = counts(table)
    says = "Figure 6b compares equally many shortcuts, between expansions and between bottlenecks"
    measured = f"between expansions, beside {count['bottleneck']} between bottlenecks"
    equal = count["expansion"] == count["bottleneck"]
    return counted_claims([("equally_many", "Figure 6b", says, measured, count["expansion"], equal)])


STUDY = computed_study(
    name="fig6_wirings",
    card=__doc__,
    tables=lambda _smoke: {MAIN: wirings(WIRINGS)},
    figure=captioned_figure(draw, claims, HEADLINE, 4.9),
    claims=claims,
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
