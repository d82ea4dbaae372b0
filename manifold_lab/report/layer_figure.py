"""Drawing Figure 7 for any network, from its table: active channels over depth, as a count and as a fraction."""

import itertools
import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.core.shown import DataFrame
from manifold_lab.report import plots
from manifold_lab.report.plots import LOST_COLOUR, MEASURED, THEORY

LABEL_ROOM = 56
"""Characters of a stage's name that have room under an axis of half the page's width."""
LABELLED = 0.75
"""Share of the layers that must belong to a stage whose name has room."""
SHARES = ("share of positions",)
"""Axes that go from 0 to 1."""
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


def draw_active(ax: Axes, layers: DataFrame, fraction: bool) -> None:
    """Minimum to maximum and the 5 to 95 % band over positions, the mean, and Lemma 2's threshold if there is one."""
    x, channels = np.arange(len(layers)), layers["channels"].to_numpy(float)
    width = channels if fraction else np.ones(len(layers))
    value = {name: layers[f"active_{name}"].to_numpy(float) / width for name in ("min", "mean", "max", "q05", "q95")}
    ax.fill_between(x, value["min"], value["max"], color=MEASURED, alpha=0.15, lw=0, label="minimum to maximum")
    ax.fill_between(x, value["q05"], value["q95"], color=MEASURED, alpha=0.35, lw=0, label="5 % to 95 %")
    ax.plot(x, value["mean"], color=MEASURED, lw=1, label="mean")
    if not fraction:
        ax.plot(x, channels, color="0.6", lw=0.6, ls=":", label="channels")
    threshold = layers["threshold"].to_numpy(float) / width
    below = value["min"] < threshold
    shown = threshold <= (1 if fraction else np.inf)  # one above all channels is off the scale of fractions
    if shown.any():
        size = marker(layers, 5)
        ax.plot(x[shown], threshold[shown], "_", color=LOST_COLOUR, ms=size, mew=1.2, label="Lemma 2's threshold")
    if below.any():
        ax.plot(x[below], value["min"][below], "v", color=LOST_COLOUR, ms=3, mew=0, label="minimum below")
    if fraction:
        ax.set(ylabel="active, fraction", ylim=(-0.02, 1.02))
    else:
        ax.set(ylabel="active channels", ylim=(0, None))


def draw_columns(ax: Axes, layers: DataFrame, axis: str, shown: Sequence[tuple[str, str, str]]) -> None:
    """Columns over depth, where they are not empty."""
    styles = (MEASURED, LOST_COLOUR, THEORY)
    for (name, label, mark), colour in zip(shown, styles, strict=False):
        if name in layers:
            value = layers[name].to_numpy(float)
            there = np.isfinite(value)
            if there.any():
                ax.plot(np.arange(len(layers))[there], value[there], f"{mark}-", color=colour, ms=marker(layers, 2.5),
                        lw=0.5, label=label)  # fmt: skip
    ax.set_ylabel(axis)
    low, high = ax.get_ylim()
    if axis in SHARES:
        ax.set_ylim(-0.02, 1.02)
    else:  # from zero, so that rounding does not fill the page
        ax.set_ylim(min(low, 0) if low < -0.02 else 0, max(high, 1.02))


def marker(layers: DataFrame, size: int | float) -> float:
    """A marker's size, smaller where layers are many."""
    return size * min(1.0, 40 / max(len(layers), 1)) ** 0.5


def layer_panels(layers: DataFrame) -> list[str]:
    """Which panels there are numbers for: active as count and as fraction, then the columns of OTHERS."""
    there = list(layers.dropna(axis="columns", how="all"))
    found = ["count", "fraction"] if "active_mean" in there else []
    found += [name for name in OTHERS if name in there]
    return [name for name in found if not (name == "kept" and "full_rank" in found)]


def draw_layers(layers: DataFrame, title: str, caption: str, style: str = "") -> Figure:
    """All panels that the table has numbers for, two beside each other, layers in the order of execution.

    Args:
        layers: the probe's table.
        title: what was looked at.
        caption: on what the numbers rest, and what the bands are.
        style: a venue, by default that of `plots.style`.
    """
    shown = layer_panels(layers) or ["empty"]
    with plots.style(style), mpl.rc_context({"axes.formatter.useoffset": False}):
        across = 2 if len(shown) > 1 else 1
        down = -(-len(shown) // across)
        figure = plots.shaped(0.9 + 1.75 * down)
        grid = figure.add_gridspec(down, across)
        for place, name in enumerate(shown):
            alone = place == len(shown) - 1 and place % across == 0
            ax = figure.add_subplot(grid[place // across, slice(None) if alone else place % across])
            draw_panel(ax, layers, name)
            name_layers(ax, list(layers["layer"]), room=LABEL_ROOM * (2 if alone else 1))
        figure.suptitle(textwrap.fill(literal(title), 110), size="medium")
        figure.supxlabel(textwrap.fill(literal(caption), 150), size="small")
        return plots.fixed_layout(figure)


def draw_panel(ax: Axes, layers: DataFrame, name: str) -> None:
    """One panel with the legend of what is drawn in it."""
    if name in ("count", "fraction"):
        draw_active(ax, layers, name == "fraction")
    elif name in OTHERS:
        draw_columns(ax, layers, *OTHERS[name])
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0,
                  handlelength=1.1, columnspacing=0.6)  # fmt: skip


def name_layers(ax: Axes, layers: Sequence[str], room: int = LABEL_ROOM) -> None:
    """Stages of the network under the axis, every other one shaded; those without room for their name have none."""
    found = stage_spans(layers, room)
    for place, (_, start, stop) in enumerate(found):
        if place % 2:
            ax.axvspan(start - 0.5, stop - 0.5, color="0.95", lw=0, zorder=0)
    named = [
        (literal(label), (start + stop - 1) / 2)
        for name, start, stop in found
        for label in [one for one in (name, numbered(name)) if fits(one, start, stop, len(layers), room)][:1]
    ]
    ax.set_xticks(
        [centre for _, centre in named], [name for name, _ in named], fontsize=mpl.rcParams["legend.fontsize"]
    )
    ax.tick_params(axis="x", length=0, labelbottom=True)
    ax.set_xlim(-0.5, max(len(layers), 1) - 0.5)
    ax.set_xlabel("layers in the order of execution, by stage")


Stage = tuple[str, int, int]
"""A name, the first layer's place, and that after the last one's."""


def numbered(name: str) -> str:
    """The number that a name ends with, for stages without room for the whole of it.

    >>> numbered("features.denseblock2")
    '…2'
    """
    return "…" + name[len(name.rstrip("0123456789")) :]


def fits(name: str, start: int, stop: int, layers: int, room: int) -> bool:
    """Whether a stage is wide enough for its name."""
    return (len(name) + 1) * layers <= (stop - start) * room


def stage_spans(names: Sequence[str], room: int = LABEL_ROOM) -> list[Stage]:
    """Runs of layers whose names begin alike, as finely as their names have room under the axis."""
    parts = [short(name).split(".") for name in names]
    best: list[Stage] = []
    for depth in range(1, max(map(len, parts), default=0) + 1):
        runs = itertools.groupby(range(len(parts)), key=lambda place: ".".join(parts[place][:depth]))
        places = [(name, list(run)) for name, run in runs]
        found = [(name, run[0], run[-1] + 1) for name, run in places]
        named = sum(stop - start for name, start, stop in found if fits(name, start, stop, len(names), room))
        if best and named < LABELLED * len(names):
            break
        best = found
    return best


def literal(text: str) -> str:
    """A user's text as it is: no formulas between dollars, and a mark for what is no character."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("$", r"\$")


def short(name: str) -> str:
    """A layer's name without the words that every network has."""
    parts = [part for part in name.split(".") if part not in ("features", "conv", "act", "blocks", "layers", "module")]
    return ".".join(parts) or name
