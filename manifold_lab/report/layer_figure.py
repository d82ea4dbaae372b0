"""Drawing Figure 7 for any network, from csv lines: active channels over depth, as a count and as a fraction."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.report import plots
from manifold_lab.report.plots import LOST_COLOUR, MEASURED, THEORY, column
from manifold_lab.report.tables import Lines

NAMED = 40
"""Up to so many layers, each is named on the axis."""
OTHERS: dict[str, tuple[str, tuple[tuple[str, str, str], ...]]] = {
    "full_rank": ("share of positions", (("full_rank", "active rows have full rank", "o"),
                                         ("kept", "more than k rows active", "s"))),
    "kept": ("share of positions", (("kept", "more than k rows active", "s"),
                                    ("kept_predicted", "if channels were independent", "x"))),
    "ridge_r2": ("R² or imbalance", (("ridge_r2", "R² of the input from the output", "o"),
                                     ("imbalance_back", "imbalance, output to input", "x"))),
    "mle": ("dimension", (("mle", "MLE of 20 neighbours", "o"), ("two_nn", "TwoNN", "x"),
                          ("mle_pictures", "MLE, whole maps", "s"))),
    "participation_ratio": ("directions", (("participation_ratio", "participation ratio", "o"),
                                           ("effective_rank", "effective rank", "s"),
                                           ("directions_99", "99 % of variance", "x"))),
    "information": ("nats", (("information", "information along the curve", "o"),)),
}  # fmt: skip
"""Panels below Figure 7's, each for a table that has its column: the axis, and (column, label, marker)."""


@dataclass(frozen=True)
class Words:
    """What a figure says of itself: its title, and under it on what it rests and what its bands are."""

    title: str
    caption: str
    style: str = "cvpr2024"


def draw_active(ax: Axes, lines: Lines, fraction: bool) -> None:
    """Minimum to maximum and the 5 to 95 % band over positions, the mean, and Lemma 2's threshold if there is one."""
    x, width = np.arange(len(lines)), column(lines, "channels") if fraction else np.ones(len(lines))
    value = {name: column(lines, f"active_{name}") / width for name in ("min", "mean", "max", "q05", "q95")}
    ax.fill_between(x, value["min"], value["max"], color=MEASURED, alpha=0.15, lw=0, label="minimum to maximum")
    ax.fill_between(x, value["q05"], value["q95"], color=MEASURED, alpha=0.35, lw=0, label="5 % to 95 %")
    ax.plot(x, value["mean"], color=MEASURED, lw=1, label="mean")
    if not fraction:
        ax.plot(x, column(lines, "channels"), color="0.6", lw=0.6, ls=":", label="channels")
    threshold = column(lines, "threshold") / width
    ax.plot(x, threshold, "_", color=LOST_COLOUR, ms=5, mew=1.2, label="Lemma 2's threshold")
    below = value["min"] < threshold
    ax.plot(x[below], value["min"][below], "v", color=LOST_COLOUR, ms=3, mew=0, label="minimum below it")
    ax.set_ylabel("active, fraction" if fraction else "active channels")
    if fraction:
        ax.set_ylim(-0.02, 1.02)
    else:
        ax.set_ylim(bottom=0)


def draw_columns(ax: Axes, lines: Lines, axis: str, shown: Sequence[tuple[str, str, str]]) -> None:
    """Columns over depth, where they are not empty."""
    looks = (MEASURED, LOST_COLOUR, THEORY)
    for (name, label, mark), colour in zip(shown, looks, strict=False):
        if lines and name in lines[0]:
            value = column(lines, name)
            there = np.isfinite(value)
            ax.plot(np.arange(len(lines))[there], value[there], f"{mark}-", color=colour, ms=2.5, lw=0.5, label=label)
    ax.set_ylabel(axis)


def layer_panels(lines: Lines) -> list[str]:
    """Which panels there are numbers for: active as count and as fraction, then the columns of OTHERS."""
    there = {name for name in lines[0] if any(line[name] for line in lines)} if lines else set()
    found = ["count", "fraction"] if "active_mean" in there else []
    found += [name for name in OTHERS if name in there]
    return [name for name in found if not (name == "kept" and "full_rank" in found)]


def draw_layers(lines: Lines, words: Words) -> Figure:
    """All panels that the table has numbers for, two beside each other, layers in the order of execution."""
    shown = layer_panels(lines) or ["empty"]
    with plots.style(words.style):
        across = 2 if len(shown) > 1 else 1
        down = -(-len(shown) // across)
        size = (mpl.rcParams["figure.figsize"][0], 0.9 + 1.75 * down)
        figure = Figure(figsize=size, layout="constrained")
        axes = np.atleast_1d(figure.subplots(down, across, sharex=True, squeeze=False)).ravel()
        for ax, name in zip(axes, shown, strict=False):
            if name in ("count", "fraction"):
                draw_active(ax, lines, name == "fraction")
            elif name in OTHERS:
                draw_columns(ax, lines, *OTHERS[name])
            ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=5.5, borderpad=0,
                      handlelength=1.2, columnspacing=0.9)  # fmt: skip
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        for ax in axes[max(0, len(shown) - across) : len(shown)]:
            name_layers(ax, lines)
        figure.suptitle(words.title, size="medium")
        figure.supxlabel(words.caption, size="small")
        return plots.fixed_layout(figure)


def name_layers(ax: Axes, lines: Lines) -> None:
    """Names of the layers under the axis, or their places where they are too many."""
    ax.tick_params(labelbottom=True)
    if len(lines) > NAMED:
        ax.set_xlabel("layer, in the order of execution")
        return
    ax.set_xticks(range(len(lines)), [short(line["layer"]) for line in lines], rotation=90, fontsize=4.5)


def short(name: str) -> str:
    """A layer's name without the words that every network has."""
    parts = [part for part in name.split(".") if part not in ("features", "conv", "act", "blocks", "layers", "module")]
    return ".".join(parts) or name
