"""The panels of `experiments.ext_information`: bottlenecks over depth, and what ReLU6 costs there."""

from typing import Any

from matplotlib.axes import Axes

from manifold_lab.report import plots
from manifold_lab.report.tables import DataFrame, pick

SHORTCUTS = {"identity": (plots.MEASURED, "o", "with a shortcut"), "none": (plots.LOST_COLOUR, "^", "without")}


def draw_sizes(ax: Axes, table: DataFrame) -> None:
    """Channels, dimension and active channels over depth."""
    over_depth(ax, table, "channels", "0.25", ":", label="channels n", marker="s")
    over_depth(ax, table, "active", plots.LOST_COLOUR, "--", label="active channels", marker="o", mfc="white")
    over_depth(ax, table, "dimension", plots.MEASURED, "-", label="dimension k", marker="o")
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="block", ylabel="channels or dimensions", xticks=range(0, 17, 4))
    ax.legend(frameon=False, loc="upper left")


def draw_costs(ax: Axes, table: DataFrame, against: str, axis_label: str) -> None:
    """What ReLU6 costs at every block of every network, against the predicted loss or another column."""
    for shortcut, (colour, mark, label) in SHORTCUTS.items():
        some = pick(table, shortcut=shortcut)
        ax.plot(some[against], some["cost"], mark, color=colour, ms=2.8, mfc="none", mew=0.6, label=label)
    ax.set(xlabel=axis_label, ylabel="top-1 lost, points")


def over_depth(ax: Axes, table: DataFrame, name: str, colour: str, dashes: str, **style: Any) -> None:
    """Mean over networks, and every one of them; told apart by more than colour.

    Args:
        ax: what is drawn into.
        table: of the study.
        name: of the column.
        colour: of all of it.
        dashes: of the means.
        style: of its label and of all marks, as of `Axes.plot`.
    """
    label = style.pop("label")
    marks: dict[str, Any] = {"color": colour, "ms": 2.5, "mfc": colour, "mew": 0.6} | style
    ax.plot(table["block"], table[name], ls="", **marks)
    means = table.groupby("block")[name].mean()
    ax.plot(means.index, means, ls=dashes, label=label, **marks)
    ax.set_xticks(range(0, len(means), 4))
