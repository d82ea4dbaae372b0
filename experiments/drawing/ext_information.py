"""The panels of `experiments.ext_information`: bottlenecks over depth, and what ReLU6 costs there."""

import numpy as np
from matplotlib.axes import Axes

from manifold_lab.report import plots
from manifold_lab.report.plots import column, pick
from manifold_lab.report.tables import Lines

SHORTCUTS = {"identity": (plots.MEASURED, "o", "with a shortcut"), "none": (plots.LOST_COLOUR, "^", "without")}


def draw_sizes(ax: Axes, lines: Lines) -> None:
    """Channels, dimension and active channels over depth."""
    over_depth(ax, lines, "channels", "0.25", "channels n")
    over_depth(ax, lines, "active", plots.LOST_COLOUR, "active channels")
    over_depth(ax, lines, "dimension", plots.MEASURED, "dimension k")
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="block", ylabel="channels or dimensions", xticks=range(0, 17, 4))
    ax.legend(frameon=False, loc="upper left")


def draw_costs(ax: Axes, lines: Lines) -> None:
    """What ReLU6 costs against the loss that is predicted there, and the trend of either kind of block."""
    for shortcut, (colour, mark, label) in SHORTCUTS.items():
        some = pick(lines, shortcut=shortcut)
        x, y = column(some, "predicted_lost"), column(some, "cost")
        ax.plot(x, y, mark, color=colour, ms=2.5, mfc="none", mew=0.6, label=label)
        if len(set(x)) > 1:
            slope, start = np.polyfit(x, y, 1)
            ends = np.array([x.min(), x.max()])
            ax.plot(ends, start + slope * ends, color=colour, lw=1)
    ax.set(xlabel="predicted share lost", ylabel="top-1 lost, points")
    ax.legend(frameon=False, loc="upper left")


def over_depth(ax: Axes, lines: Lines, name: str, colour: str, label: str) -> None:
    """Mean over networks, and every one of them."""
    blocks = sorted({int(line["block"]) for line in lines})
    each = [column(pick(lines, block=str(block)), name) for block in blocks]
    ax.plot(blocks, [values.mean() for values in each], color=colour, label=label)
    for block, values in zip(blocks, each, strict=True):
        ax.plot([block] * len(values), values, ".", color=colour, ms=2)
    ax.set_xticks(range(0, len(blocks), 4))
