"""The figure of arms side by side, from csv lines alone: curves, and differences to the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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

DASHES = ("-", "--", "-.", ":")
"""Of the curves, the reference's first."""
INTERVAL = f"{statistics.LEVEL:.0%} interval"
ROW, FRAME = 0.17, 1.15
"""Inches of a row of differences, and of title, axis and caption around the panels."""


@dataclass(frozen=True)
class Row:
    """One difference to the reference: which arm, where, after how many images."""

    arm: str
    group: str
    length: str


def curves_shown(lines: Lines) -> tuple[str, str, list[str]] | None:
    """Group, length and arms of the longest trainings of the first group in which arms can be compared."""
    curves = pick(lines, kind=CURVE)
    group = curves[0]["group"] if curves else ""
    for length in reversed(lengths(curves, group)):
        arms = unique(pick(curves, group=group, length=length), "arm")
        if len(arms) > 1:
            return group, length, arms
    return None


def draw_curves(ax: Axes, lines: Lines, contrast: Comparison) -> str:
    """Validation accuracy against images seen; what the panel shows."""
    group, length, arms = curves_shown(lines) or ("", "", [])
    curves, runs = pick(lines, kind=CURVE, group=group, length=length), set[int]()
    for place, arm in enumerate(arm for arm in contrast.styles if arm in arms):
        look = {"color": contrast.styles[arm][0], "ls": DASHES[place % len(DASHES)], "label": arm}
        runs |= draw_curve(ax, pick(curves, arm=arm), look)
    ax.set(xlabel="images seen, thousands", ylabel="validation accuracy, %", xlim=(0, None))
    bottom, top = map(float, ax.get_ylim())
    ax.set_ylim(max(bottom, 0), min(top, 100))
    ax.legend(frameon=False, loc="lower right")
    named, data = label(lines, group), unique(curves, "data")[0]
    return ", ".join(filter(None, (name_of(data), named and f"{contrast.group} {named}", _many(runs))))


def _many(runs: set[int]) -> str:
    return f"n = {min(runs)}" + f" to {max(runs)}" * (len(runs) > 1)


def name_of(data: str) -> str:
    """A data set as a figure names it."""
    return plots.DATA_NAMES.get(data, data)


def draw_curve(ax: Axes, mine: Lines, look: Mapping[str, Any]) -> set[int]:
    """Mean over seeds, Student's interval behind; over how many seeds."""
    seen = sorted({int(line["images"]) for line in mine})
    found = [statistics.mean(POINTS * column(pick(mine, images=str(images)), "validation_accuracy")) for images in seen]
    x = np.array(seen) / 1000
    ax.plot(x, [one.value for one in found], **look)
    low, high = ([getattr(one, end) for one in found] for end in ("low", "high"))
    ax.fill_between(x, low, high, color=look["color"], alpha=0.15, lw=0)
    return {one.n for one in found}


def differences(lines: Lines, contrast: Comparison) -> list[Row]:
    """Every difference that there is: arms in their order, within each the groups, the short trainings first."""
    return [
        Row(arm, group, length)
        for arm in contrast.others
        for group in groups(lines)
        for length in lengths(lines, group)
        if fewest(lines, (arm, contrast.reference), (group, length))
    ]


def draw_differences(ax: Axes, lines: Lines, contrast: Comparison) -> None:
    """Final test accuracy against the reference's, a row each: the runs, their difference and its interval."""
    rows = differences(lines, contrast)
    ax.axvline(0, color="0.5", lw=0.6)
    for place, row in enumerate(rows):
        where, (colour, mark) = (row.group, row.length), contrast.styles[row.arm]
        level = np.mean(list(scores(lines, contrast.reference, *where).values()))
        each = np.array(list(scores(lines, row.arm, *where).values())) - level
        found = gap(lines, (row.arm, contrast.reference), where).estimate
        ax.plot(each, [place + 0.28] * len(each), "|", color="0.6", ms=3, mew=0.6)
        ends = None if np.isnan(found.low) else [[found.value - found.low], [found.high - found.value]]
        ax.errorbar(found.value, place, xerr=ends, fmt=mark, color=colour, ms=4, elinewidth=0.9)
    ax.set_yticks(range(len(rows)), _row_labels(lines, contrast, rows))
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel(f"test accuracy − {contrast.reference}, points")
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(5))


def _row_labels(lines: Lines, contrast: Comparison, rows: Sequence[Row]) -> list[str]:
    """What sets the rows apart, and over how many runs each is."""
    several = {name: len({getattr(row, name) for row in rows}) > 1 for name in ("arm", "group", "length")}
    found = []
    for row in rows:
        parts = [row.arm] * (several["arm"] or not several["group"])
        parts += [f"{contrast.group} {label(lines, row.group)}"] * (several["group"] and bool(label(lines, row.group)))
        parts += [f"{int(row.length) / 1000:g}k images"] * several["length"]
        runs = fewest(lines, (row.arm, contrast.reference), (row.group, row.length))
        found.append(f"{', '.join(parts)} ({runs})")
    return found


def caption(with_curves: bool) -> str:
    """What the marks and the numbers in brackets are."""
    curves = f"Curves: mean and {INTERVAL} over n runs. " if with_curves else ""
    return (
        f"{curves}Differences: the mark and its bar are the difference of means and Welch's {INTERVAL}, in brackets "
        "the runs of the arm that has fewer; ticks below are single runs minus the reference's mean."
    )


def draw_comparison(lines: Lines, contrast: Comparison, title: str = "") -> Figure:
    """Curves of the grid's first group, and the differences, a panel per data; what has no runs is not drawn."""
    sets = [one for data in unique(lines, "data") if differences(one := pick(lines, data=data), contrast)]
    curves = curves_shown(lines) is not None
    with plots.style():
        tallest = max((len(differences(one, contrast)) for one in sets), default=1)
        height = max(1.35 if curves else 0.5, ROW * tallest + 0.35)
        figure = plots.shaped(FRAME + height, 1.0 if curves + len(sets) > 1 else 0.6)
        axes = figure.subplots(1, max(1, curves + len(sets)), squeeze=False)[0]
        names = [draw_curves(axes[0], lines, contrast)] if curves else []
        for ax, one in zip(axes[curves:], sets, strict=False):
            draw_differences(ax, one, contrast)
            seen = {row.length for row in differences(one, contrast)}
            length = f", {int(max(seen)):,} images" if len(seen) == 1 else ""
            names.append(name_of(one[0]["data"]) + length)
        if not names:
            axes[0].set_axis_off()
            axes[0].text(0.5, 0.5, "no two arms have runs yet", ha="center", color="0.4")
        else:
            plots.letter(axes, names)
        return plots.told(figure, title, caption(curves))
