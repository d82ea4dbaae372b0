"""The figure of arms side by side, from csv lines alone: curves, and differences to the reference."""

import itertools
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.core import statistics
from manifold_lab.report import plots
from manifold_lab.report.plots import column, pick
from manifold_lab.report.tables import Lines
from manifold_lab.sweeps.comparison import (
    POINTS,
    Comparison,
    fewest,
    gap,
    groups,
    label,
    lengths,
    scores,
    unique,
)  # fmt: skip
from manifold_lab.sweeps.training_run import CURVE

CAPTION = (
    f"Left: mean and {statistics.LEVEL:.0%} interval over runs, dashed: shorter trainings; right: dots are runs "
    "against the reference's mean, marks the difference and Welch's interval"
)


def draw_curves(ax: Axes, lines: Lines, contrast: Comparison, group: str) -> None:
    """Validation accuracy against pictures seen, of trainings of every length; arms without runs not."""
    curves, runs = pick(lines, kind=CURVE, group=group), set[int]()
    *shorter, longest = lengths(curves, group)
    for length in (*shorter, longest):
        for arm in unique(pick(curves, length=length), "arm"):
            look = {"color": contrast.styles[arm][0], "ls": "-" if length == longest else "--"}
            runs |= draw_curve(ax, pick(curves, arm=arm, length=length), {**look, "label": arm})
    ax.set(xlabel="images seen, thousands", ylabel="validation accuracy, %")
    bottom, top = map(float, ax.get_ylim())
    ax.set_ylim(max(bottom, 0), min(top, 100))
    many = f"{min(runs)} runs" if len(runs) == 1 else f"{min(runs)} to {max(runs)} runs"
    named = label(lines, group)
    told = (*unique(curves, "data"), named and f"{contrast.group} {named}", many)
    ax.set_title(", ".join(filter(None, told)), loc="left")


def draw_curve(ax: Axes, mine: Lines, look: Mapping[str, Any]) -> set[int]:
    """Mean over seeds, Student's interval behind; over how many seeds."""
    seen = sorted({int(line["images"]) for line in mine})
    found = [statistics.mean(POINTS * column(pick(mine, images=str(images)), "validation_accuracy")) for images in seen]
    x = np.array(seen) / 1000
    ax.plot(x, [one.value for one in found], **look)
    low, high = ([getattr(one, end) for one in found] for end in ("low", "high"))
    ax.fill_between(x, low, high, color=look["color"], alpha=0.15, lw=0)
    return {one.n for one in found}


def draw_differences(ax: Axes, lines: Lines, contrast: Comparison) -> None:
    """Final test accuracy against the reference's, runs and difference; groups along x, lengths side by side."""
    along = groups(lines)
    shown = {group: _shown(lines, contrast, group) for group in along}
    slots = max(1, *map(len, shown.values()))
    ax.axhline(0, color="0.5", lw=0.6)
    for place, (group, drawn) in enumerate(shown.items()):
        shortest, *longer = lengths(lines, group)
        for slot, (arm, length) in enumerate(drawn):
            level = np.mean(list(scores(lines, contrast.reference, group, length).values()))
            each = np.array(list(scores(lines, arm, group, length).values())) - level
            x = place + (slot - (len(drawn) - 1) / 2) * 0.8 / slots
            whole = length != shortest or not longer
            found = gap(lines, (arm, contrast.reference), (group, length)).estimate
            plots.draw_point(ax, (x, found), contrast.styles[arm], label=arm, filled=whole)
            ax.plot([x] * len(each), each, ".", color="0.6", ms=2.5, zorder=1)
        if not drawn:
            ax.text(place, 0, "no runs ", rotation=90, ha="center", va="top", color="0.5")
    if not any(shown.values()):
        ax.set(ylim=(-1, 1), yticks=[])
    named = [label(lines, group) for group in along]
    named = named if any(named) else []
    ax.set_xticks(range(len(named)), named)
    ax.set_xlim(-0.6, len(along) - 0.4)
    ax.set(xlabel=contrast.group if named else "", ylabel=f"test accuracy − {contrast.reference}, points")
    several = any(len(lengths(lines, group)) > 1 for group in along)
    ax.set_title(unique(lines, "data")[0] + several * "; open: shortest training", loc="left")


def _shown(lines: Lines, contrast: Comparison, group: str) -> list[tuple[str, str]]:
    """Arm and length of every difference of a group that there is."""
    told = itertools.product(contrast.others, lengths(lines, group))
    return [(arm, length) for arm, length in told if fewest(lines, (arm, contrast.reference), (group, length))]


def draw_comparison(lines: Lines, contrast: Comparison) -> Figure:
    """Curves of the grid's first group, and the differences, a panel per data."""
    curves = pick(lines, kind=CURVE)
    sets = [pick(lines, data=data) for data in unique(lines, "data")]
    with plots.style():
        figure = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 2.5), layout="constrained")
        left, *right = figure.subplots(
            1, 1 + len(sets), width_ratios=(1.2, *(0.5 + len(groups(one)) / 4 for one in sets))
        )
        if curves:
            draw_curves(left, lines, contrast, curves[0]["group"])
        for ax, one in zip(right, sets, strict=True):
            draw_differences(ax, one, contrast)
        handles: dict[str, Artist] = {}
        for ax in (*right[::-1], left):  # a curve's colour where there is one, else the point's
            handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
        arms = [arm for arm in contrast.styles if arm in handles]
        figure.legend([handles[arm] for arm in arms], arms, loc="outside upper center", ncols=6, frameon=False)
        figure.supxlabel(CAPTION, size="small")
        return plots.fixed_layout(figure)
