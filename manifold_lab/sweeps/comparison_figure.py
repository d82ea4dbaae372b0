"""The figure of arms side by side, from published tables alone: curves, and differences to the reference."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from manifold_lab.core import statistics
from manifold_lab.core.shown import DataFrame
from manifold_lab.core.statistics import Estimate
from manifold_lab.report import plots
from manifold_lab.report.arm_styles import Style, label_of
from manifold_lab.report.tables import pick, unique
from manifold_lab.sweeps.comparison import POINTS, Comparison, fewest, gap, groups, label, lengths, places, scores
from manifold_lab.sweeps.training_run import CURVE

DASHES = ("-", "--", "-.", ":")
"""Of the curves, the reference's first."""
INTERVAL = f"{statistics.PERCENT} interval"
ROW, FRAME = 0.17, 1.15
"""Inches of a row of differences, and of title, axis and caption around the panels."""


Row = tuple[str, tuple[str, int]]
"""One difference to the reference: which arm, and where: in which group, after how many images."""


def curves_shown(runs: DataFrame) -> tuple[str, int, list[str]] | None:
    """Group, length and arms of the longest trainings of the first group in which arms can be compared."""
    curves = pick(runs, kind=CURVE)
    group = curves["group"].iloc[0] if len(curves) else ""
    for length in reversed(lengths(curves, group)):
        arms = unique(pick(curves, group=group, length=length), "arm")
        if len(arms) > 1:
            return group, length, arms
    return None


def draw_curves(ax: Axes, runs: DataFrame, contrast: Comparison) -> str:
    """Validation accuracy against images seen; what the panel shows."""
    group, length, arms = curves_shown(runs) or ("", 0, [])
    curves, seeds = pick(runs, kind=CURVE, group=group, length=length), set[int]()
    for place, arm in enumerate(arm for arm in contrast.styles if arm in arms):
        style = curve_style(contrast.styles[arm], place) | {"label": label_of(arm)}
        seeds |= draw_curve(ax, pick(curves, arm=arm), style)
    ax.set(xlabel="images seen, thousands", ylabel="validation accuracy, %", xlim=(0, None))
    bottom, top = map(float, ax.get_ylim())
    ax.set_ylim(max(bottom, 0), min(top, 100))
    ax.legend(frameon=False, loc="lower right")
    named, data = label(runs, group), unique(curves, "data")[0]
    return ", ".join(filter(None, (plots.data_name(data), named and f"{contrast.group} {named}", many(seeds))))


def curve_style(style: Style, place: int) -> dict[str, Any]:
    """How an arm's curve is drawn: its colour and marker, and dashes that tell it apart in grey."""
    colour, mark = style
    return {
        "color": colour,
        "ls": DASHES[place % len(DASHES)],
        "marker": mark,
        "ms": 2.8,
        "markevery": (0.02 + 0.07 * place, 0.25),
    }


def many(seeds: Collection[int]) -> str:
    """Over how many runs the means of a panel are, from the fewest to the most."""
    return f"n = {min(seeds)}" + f" to {max(seeds)}" * (len(seeds) > 1)


def draw_curve(ax: Axes, mine: DataFrame, style: Mapping[str, Any]) -> set[int]:
    """Mean over seeds, Student's interval behind; over how many seeds."""
    seen = mine.groupby("images")["validation_accuracy"]
    found = [statistics.mean(POINTS * values.to_numpy()) for _, values in seen]
    x = np.array(list(seen.groups)) / 1000
    ax.plot(x, [one.value for one in found], **style)
    low, high = ([getattr(one, end) for one in found] for end in ("low", "high"))
    ax.fill_between(x, low, high, color=style["color"], alpha=0.15, lw=0)
    return {one.n for one in found}


def differences(runs: DataFrame, contrast: Comparison) -> list[Row]:
    """Every difference that there is: arms in their order, within each the groups, the short trainings first."""
    return [
        (arm, place)
        for arm in contrast.others
        for place in places(runs)
        if fewest(runs, (arm, contrast.reference), place)
    ]


def not_run(runs: DataFrame, contrast: Comparison) -> str:
    """What is not drawn for want of runs, as a sentence: by data set its arms, and the groups without any."""
    found = []
    for data in unique(runs, "data"):
        mine = pick(runs, data=data)
        drawn = differences(mine, contrast)
        arms = [label_of(arm) for arm in contrast.others if arm not in dict(drawn)]
        alone = [group for group in groups(mine) if group not in {place[0] for _, place in drawn}] if drawn else []
        missing = arms + [f"{contrast.group} {label(mine, group)}" for group in alone]
        found += [f"{plots.data_name(data)}: {', '.join(missing)}"] if missing else []
    return f" Not run on {'; on '.join(found)}." if found else ""


LABEL = 32
"""Characters that fit below a panel, which wide row labels leave narrow."""


def draw_differences(ax: Axes, runs: DataFrame, contrast: Comparison) -> None:
    """Final test accuracy against the reference's, a row each: the runs, their difference and its interval."""
    rows = differences(runs, contrast)
    ax.axvline(0, color="0.5", lw=0.6)
    for place, (arm, where) in enumerate(rows):
        level = np.mean(list(scores(runs, contrast.reference, *where).values()))
        each = np.array(list(scores(runs, arm, *where).values()))
        draw_difference(ax, place, gap(runs, (arm, contrast.reference), where).estimate, contrast.styles[arm])
        draw_runs(ax, place, each - level)
    ax.set_yticks(range(len(rows)), _row_labels(runs, contrast, rows))
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel(plots.evenly_wrapped(f"test accuracy − {contrast.reference}, points", LABEL))
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(5))


def draw_difference(ax: Axes, place: int, found: Estimate, style: Style) -> None:
    """A difference and its interval, where there is one, as a row."""
    ends = None if np.isnan(found.low) else [[found.value - found.low], [found.high - found.value]]
    ax.errorbar(found.value, place, xerr=ends, fmt=style[1], color=style[0], ms=4, elinewidth=0.9)


def draw_runs(ax: Axes, place: int, values: np.ndarray) -> None:
    """Every run as a tick below its row; equal ones below each other, so that all can be counted."""
    seen = Counter[float]()
    for value in np.round(values, 6).tolist():
        ax.plot(value, place + 0.26 + 0.1 * seen[value], "|", color="0.55", ms=2.2, mew=0.6)
        seen[value] += 1


def _row_labels(runs: DataFrame, contrast: Comparison, rows: Sequence[Row]) -> list[str]:
    """What sets the rows apart, and over how many runs each is."""
    several_groups, several_lengths = (len({place[part] for _, place in rows}) > 1 for part in (0, 1))
    found = []
    for arm, (group, length) in rows:
        count = fewest(runs, (arm, contrast.reference), (group, length))
        named = label(runs, group)
        parts = [label_of(arm)] * (len(contrast.others) > 1 or not several_groups)
        parts += [f"{contrast.group} {named}"] * (several_groups and bool(named))
        parts += [f"{length / 1000:g}k images"] * several_lengths
        found.append(f"{', '.join(parts) or label_of(arm)} ({count})")
    return found


def caption(with_curves: bool) -> str:
    """What the marks and the numbers in brackets are."""
    curves = f"Curves: mean and {INTERVAL} over n runs. " if with_curves else ""
    return (
        f"{curves}Differences: the mark and its bar are the difference of means and Welch's {INTERVAL}, in brackets "
        "the runs of the arm that has fewer; ticks below are single runs minus the reference's mean, equal "
        "ones stacked."
    )


def compared(runs: DataFrame, contrast: Comparison) -> list[DataFrame]:
    """The rows of each data set on which an arm has runs beside the reference's."""
    sets = [pick(runs, data=data) for data in unique(runs, "data")]
    return [one for one in sets if differences(one, contrast)]


def set_name(runs: DataFrame, contrast: Comparison) -> str:
    """The data set of a panel of differences, and its length where that is one."""
    seen = {length for _, (_, length) in differences(runs, contrast)}
    return plots.data_name(runs["data"].iloc[0]) + (f", {max(seen):,} images" if len(seen) == 1 else "")


def draw_comparison(runs: DataFrame, contrast: Comparison, title: str = "", note: str = "") -> Figure:
    """Curves of the grid's first group, and the differences, a panel per data."""
    sets = compared(runs, contrast)
    curves = curves_shown(runs) is not None
    with plots.style():
        tallest = max((len(differences(one, contrast)) for one in sets), default=1)
        height = max(1.35 if curves else 0.9, ROW * tallest + 0.35)
        figure = plots.shaped(FRAME + height, 1.0 if curves + len(sets) > 1 else 0.6)
        axes = figure.subplots(1, max(1, curves + len(sets)), squeeze=False)[0]
        names = [draw_curves(axes[0], runs, contrast)] if curves else []
        for ax, one in zip(axes[curves:], sets, strict=False):
            draw_differences(ax, one, contrast)
            names.append(set_name(one, contrast))
        if not names:
            axes[0].set_axis_off()
            axes[0].text(0.5, 0.5, "no two arms have runs yet", ha="center", color="0.4")
        else:
            plots.letter(axes, names)
        return plots.captioned(figure, title, caption(curves) + note + not_run(runs, contrast))
