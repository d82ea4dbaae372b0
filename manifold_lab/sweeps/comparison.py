"""Arms of an ablation side by side, from csv lines alone: curves, paired differences, verdicts."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.core import statistics
from manifold_lab.core.statistics import Contrast, Estimate
from manifold_lab.report import plots
from manifold_lab.report.plots import column, pick
from manifold_lab.report.tables import ClaimResult, Document, Lines
from manifold_lab.sweeps.store import DIVERGED
from manifold_lab.sweeps.training_run import CURVE, FINAL

POINTS = 100
"""Accuracies are shares; differences are told in percentage points."""
NUMBER = re.compile(r"\d+(\.\d+)?")
CAPTION = (
    f"Left: mean and {statistics.LEVEL:.0%} interval over runs, dashed: shorter trainings; right: dots are runs "
    "against the reference's mean, marks the difference and Welch's interval"
)
FEWEST = 5
"""Runs of an arm below which nothing is decided: with fewer, Student's interval covers too little where one run in five
is slow."""


@dataclass(frozen=True)
class Comparison:
    """What is compared: the arms in order, each with its style; the others are held against the first."""

    styles: Mapping[str, tuple[str, str]]
    group: str
    """What the groups are, for axes and sentences: width, data."""

    @property
    def reference(self) -> str:
        """The arm that the others are held against."""
        return next(iter(self.styles))

    @property
    def others(self) -> list[str]:
        """The arms that are held against it."""
        return list(self.styles)[1:]


def unique(lines: Lines, name: str) -> list[str]:
    """The values of a column in their order."""
    return list(dict.fromkeys(line[name] for line in lines))


def groups(lines: Lines) -> list[str]:
    """The groups: numbers by size, then the others as they come."""
    found = unique(lines, "group")
    return numbers(found) + [group for group in found if not NUMBER.fullmatch(group)]


def numbers(groups: Sequence[str]) -> list[str]:
    """Those that are numbers, by size."""
    return sorted((group for group in groups if NUMBER.fullmatch(group)), key=float)


def lengths(lines: Lines, group: str) -> list[str]:
    """The lengths of a group's trainings, the shortest first."""
    return sorted(unique(pick(lines, group=group), "length"), key=int)


def scores(lines: Lines, arm: str, group: str, length: str) -> dict[int, float]:
    """Test accuracy by seed, in percent, of the runs that finished."""
    found = pick(lines, kind=FINAL, arm=arm, group=group, length=length, state="done")
    return {int(line["seed"]): POINTS * float(line["test_accuracy"]) for line in found}


def gap(lines: Lines, pair: tuple[str, str], *places: tuple[str, str]) -> Contrast:
    """First minus second arm in points, by Welch's test over all runs; of two places (group and length), the change.

    Runs are not paired by seed: between trained arms a seed's runs are hardly correlated, so that pairs would only
    halve the degrees of freedom.
    """
    weights = (1.0, -1.0)[: len(places)]
    return statistics.contrast([
        (list(scores(lines, arm, *place).values()), sign * weight)
        for place, weight in zip(places, weights, strict=True)
        for arm, sign in zip(pair, (1.0, -1.0), strict=True)
    ])  # fmt: skip


def fewest(lines: Lines, pair: tuple[str, str], *places: tuple[str, str]) -> int:
    """The finished runs of the arm that has fewest of them."""
    return min(len(scores(lines, arm, *place)) for place in places for arm in pair)


def diverged(lines: Lines, pair: tuple[str, str], *places: tuple[str, str]) -> int:
    """Runs of a pair that left the finite numbers."""
    found = (pick(lines, kind=FINAL, arm=arm, group=group, length=length, state=DIVERGED)
             for group, length in places for arm in pair)  # fmt: skip
    return sum(map(len, found))


COMPARISON_HEAD = {
    "group": "group", "arm": "arm", "madds": "MAdds", "length": "images seen", "n": "runs",
    "accuracy": "test accuracy, %", "interval": "95 % interval", "difference": "difference, points",
    "difference_interval": "its 95 % interval", "p": "p",
}  # fmt: skip


def comparison_table(lines: Lines, contrast: Comparison, caption: str) -> Document:
    """Every arm that has runs, by group and length: accuracy, and the difference to the reference with Welch's test."""
    places = [(group, length) for group in groups(lines) for length in lengths(lines, group)]
    shown = [row(lines, contrast, arm, place) for place in places for arm in contrast.styles]
    missing = [f"{line['arm']} ({line['group']}, {int(line['length']):,})" for line in shown if line["n"] == "0"]
    head = {**COMPARISON_HEAD, "group": contrast.group}
    note = (
        f"Differences are to {contrast.reference}, over all runs; interval and two-sided p-value are Welch's, "
        "not corrected for the number of rows."
    )
    absent = f" Not run: {', '.join(missing)}." if missing else ""
    caption = f"{caption} Data: {', '.join(unique(lines, 'data'))}. {note}{absent}"
    return Document(caption, head, [line for line in shown if line["n"] != "0"])


def row(lines: Lines, contrast: Comparison, arm: str, place: tuple[str, str]) -> dict[str, str]:
    """One line of the table; empty where there are no runs, or too few."""
    group, length = place
    mine = scores(lines, arm, *place)
    level = statistics.mean(np.array(list(mine.values())))
    other = None if arm == contrast.reference else gap(lines, (arm, contrast.reference), place)
    found = other.estimate if other else statistics.NO_RUNS
    prices = unique(pick(lines, arm=arm, group=group), "madds")
    known = {"group": group, "arm": arm, "madds": prices[0] if prices else "", "length": length, "n": str(len(mine))}
    known |= {"accuracy": _told(level.value), "interval": _ends(level)}
    known |= {"difference": _told(found.value, "+"), "difference_interval": _ends(found, "+")}
    return known | {"p": f"{other.p_value:.2g}" if other and not math.isnan(other.p_value) else ""}


def _told(value: float, sign: str = "") -> str:
    return "" if math.isnan(value) else f"{value:{sign}.2f}"


def _ends(found: Estimate, sign: str = "") -> str:
    return "" if math.isnan(found.low) else f"{found.low:{sign}.2f} to {found.high:{sign}.2f}"


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


def data_of(lines: Lines, group: str) -> str:
    """The data set that a group is trained on."""
    return unique(pick(lines, group=group), "data")[0]


def label(lines: Lines, group: str) -> str:
    """A group without the name of its data."""
    data = data_of(lines, group)
    return "" if group == data else group.removeprefix(f"{data}, ")


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
    with plots.style("cvpr2024"):
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


@dataclass(frozen=True)
class ExpectedOrder:
    """A claim of the paper about two arms: the first is better than the second, by so many points there."""

    id: str
    place: str
    says: str
    better: str
    worse: str

    @property
    def pair(self) -> tuple[str, str]:
        """Both arms."""
        return self.better, self.worse


def comparison_claims(
    lines: Lines, contrast: Comparison, expected: Sequence[ExpectedOrder], study: str
) -> list[ClaimResult]:
    """Every claim in every group and length."""
    return [
        judged(lines, claim, study, [(group, length)], where(lines, contrast, (group, length)))
        for claim in expected
        for group in groups(lines)
        for length in lengths(lines, group)
    ]


def gap_shrinks_with_training(
    lines: Lines, contrast: Comparison, expected: Sequence[ExpectedOrder], study: str
) -> list[ClaimResult]:
    """Whether a claim's gap is smaller after the longest training than after the shortest, by claim and group."""
    found = []
    for claim, group in itertools.product(expected, groups(lines)):
        shortest, *longer = lengths(lines, group)
        if longer:
            places = [(group, shortest), (group, longer[-1])]
            measure = f"{where(lines, contrast, places[0])}: gap there minus gap at {int(longer[-1]):,}"
            found.append(judged(lines, claim, study, places, measure))
    return found


def gap_grows_when_narrower(lines: Lines, contrast: Comparison, claim: ExpectedOrder, study: str) -> list[ClaimResult]:
    """Whether the gap is larger in the narrowest group than in the widest, of groups that are numbers, by length."""
    found, widths = [], numbers(groups(lines))
    for length in lengths(lines, widths[0]) if len(widths) > 1 else []:
        places = [(widths[0], length), (widths[-1], length)]
        measure = f"{where(lines, contrast, places[0])}: gap there minus gap at {widths[-1]}"
        found.append(judged(lines, claim, study, places, measure))
    return found


def judged(
    lines: Lines, claim: ExpectedOrder, study: str, places: Sequence[tuple[str, str]], measure: str
) -> ClaimResult:
    """A claim that holds where the gap of its pair, or its change between two places, is above zero.

    Below `FEWEST` runs of an arm it is undecided. Diverged runs are no part of the number, and are said.
    """
    found, (group, length) = gap(lines, claim.pair, *places), places[0]
    fewest_runs, lost = fewest(lines, claim.pair, *places), diverged(lines, claim.pair, *places)
    estimate = found.estimate if fewest_runs else statistics.NO_RUNS
    decided = found.exceeds(0) if fewest_runs >= FEWEST else None
    spreads = [np.std(list(scores(lines, arm, *place).values()), ddof=1)
               for place in places for arm in claim.pair if len(scores(lines, arm, *place)) > 1]  # fmt: skip
    spread = math.sqrt(np.mean(np.square(spreads)) * len(places)) if spreads else math.nan
    return ClaimResult(
        id="/".join([f"{study}.{claim.id}", data_of(lines, group), *filter(None, [label(lines, group)]), length]),
        place=claim.place,
        says=claim.says,
        measure=measure + (f"; {lost} diverged" if lost else ""),
        estimate=estimate,
        verdict=statistics.verdict(decided, estimate),
        command=f"python -m experiments.{study}",
        p_value=found.p_value if fewest_runs >= FEWEST else None,
        needed=_needed(estimate.value, spread) if decided is None and fewest_runs > 1 else None,
    )


def _needed(effect: float, spread: float) -> int | None:
    runs = statistics.runs_to_decide(effect, spread)
    return None if runs is None else max(runs, FEWEST)


def where(lines: Lines, contrast: Comparison, place: tuple[str, str]) -> str:
    """What is measured in a place, in words."""
    group, length = place
    named = label(lines, group)
    on = ", ".join(filter(None, (data_of(lines, group), named and f"{contrast.group} {named}")))
    return f"points of test accuracy, {on}, {int(length):,} images seen"
