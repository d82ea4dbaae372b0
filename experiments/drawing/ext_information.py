"""The panels of `experiments.ext_information`: bottlenecks over depth, and what ReLU6 costs there."""

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from manifold_lab.report import plots
from manifold_lab.report.tables import DataFrame, pick

SHORTCUTS = {"identity": (plots.MEASURED, "o", "with a shortcut"), "none": (plots.LOST_COLOUR, "^", "without")}


def draw_sizes(ax: Axes, table: DataFrame) -> None:
    """Channels, dimension and active channels over depth."""
    over_depth(ax, table, "channels", LineStyle("0.25", "channels n", ":", "s"))
    over_depth(ax, table, "active", LineStyle(plots.LOST_COLOUR, "active channels", "--", "o", "white"))
    over_depth(ax, table, "dimension", LineStyle(plots.MEASURED, "dimension k", "-", "o"))
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="block", ylabel="channels or dimensions", xticks=range(0, 17, 4))
    ax.legend(frameon=False, loc="upper left")


def draw_costs(ax: Axes, table: DataFrame, against: str, axis_label: str) -> None:
    """What ReLU6 costs at every block of every network, against the predicted loss or another column."""
    for shortcut, (colour, mark, label) in SHORTCUTS.items():
        some = pick(table, shortcut=shortcut)
        ax.plot(some[against], some["cost"], mark, color=colour, ms=2.8, mfc="none", mew=0.6,
                label=label)  # fmt: skip
    ax.set(xlabel=axis_label, ylabel="top-1 lost, points")


@dataclass(frozen=True)
class LineStyle:
    """How a column is drawn over depth: told apart by more than colour."""

    colour: str
    label: str
    dashes: str = "-"
    mark: str = "."
    face: str | None = None


def over_depth(ax: Axes, table: DataFrame, name: str, style: LineStyle) -> None:
    """Mean over networks, and every one of them."""
    size: dict[str, Any] = {"ms": 2.5, "mfc": style.face or style.colour, "mew": 0.6}
    ax.plot(table["block"], table[name], style.mark, color=style.colour, **size)
    means = table.groupby("block")[name].mean()
    ax.plot(means.index, means, style.dashes, marker=style.mark, color=style.colour, label=style.label, **size)
    ax.set_xticks(range(0, len(means), 4))
