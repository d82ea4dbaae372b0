"""Arms of an ablation side by side, from csv lines alone: curves, paired differences, verdicts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab import plots, stats
from manifold_lab.plots import column, pick
from manifold_lab.stats import Estimate
from manifold_lab.tables import Claim, Lines
from manifold_lab.trial import CURVE, FINAL

POINTS = 100
"""Accuracies are shares; differences are told in percentage points."""


@dataclass(frozen=True)
class Contrast:
    """What is compared: the arms in order, each with its look; the others are held against the first."""

    looks: Mapping[str, tuple[str, str]]
    group: str
    """What the groups are, for axes and sentences: width, data."""

    @property
    def reference(self) -> str:
        """The arm that the others are held against."""
        return next(iter(self.looks))

    @property
    def others(self) -> list[str]:
        """The arms that are held against it."""
        return list(self.looks)[1:]


def unique(lines: Lines, name: str) -> list[str]:
    """The values of a column in their order."""
    return list(dict.fromkeys(line[name] for line in lines))


def scores(lines: Lines, arm: str, group: str, length: str) -> dict[int, float]:
    """Test accuracy by seed, in percent, of the runs that finished."""
    found = pick(lines, kind=FINAL, arm=arm, group=group, length=length, state="done")
    return {int(line["seed"]): POINTS * float(line["test_accuracy"]) for line in found}


def difference(lines: Lines, pair: tuple[str, str], group: str, length: str) -> stats.Paired | None:
    """First minus second arm over shared seeds, in points; None where they share no finished run."""
    first, second = (scores(lines, arm, group, length) for arm in pair)
    return stats.paired(first, second) if first.keys() & second.keys() else None


def draw_curves(ax: Axes, lines: Lines, contrast: Contrast, place: tuple[str, str]) -> None:
    """Validation accuracy against pictures seen: mean over seeds, Student's interval behind."""
    group, length = place
    for arm, (colour, _mark) in contrast.looks.items():
        mine = pick(lines, kind=CURVE, arm=arm, group=group, length=length)
        seen = sorted({int(line["images"]) for line in mine})
        found = [stats.mean(POINTS * column(pick(mine, images=str(images)), "validation_accuracy")) for images in seen]
        x = np.array(seen) / 1000
        ax.plot(x, [one.value for one in found], color=colour, label=f"{arm} ({_most(found)})")
        low, high = ([getattr(one, end) for one in found] for end in ("low", "high"))
        ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    ax.set(xlabel="pictures seen, thousands", ylabel="validation accuracy, %")
    ax.set_title(f"{contrast.group} {group}", loc="left")
    ax.legend(frameon=False, title="arm (runs)")


def _most(found: Sequence[Estimate]) -> int:
    return max((one.n for one in found), default=0)


def draw_differences(ax: Axes, lines: Lines, contrast: Contrast) -> None:
    """Every seed's difference of final test accuracy, and mean and interval; groups along x, lengths side by side."""
    groups, lengths = unique(lines, "group"), sorted(unique(lines, "length"), key=int)
    slots = len(contrast.others) * len(lengths)
    ax.axhline(0, color="0.5", lw=0.6)
    for place, group in enumerate(groups):
        for slot, (arm, length) in enumerate((arm, length) for arm in contrast.others for length in lengths):
            found = difference(lines, (arm, contrast.reference), group, length)
            if found is None:
                continue
            x = place + (slot - (slots - 1) / 2) * 0.8 / slots
            draw_difference(ax, x, found.difference, contrast.looks[arm], bool(lengths.index(length)))
            first, second = (scores(lines, one, group, length) for one in (arm, contrast.reference))
            each = [first[seed] - second[seed] for seed in first.keys() & second.keys()]
            ax.plot([x] * len(each), each, ".", color="0.6", ms=2.5, zorder=1)
    ax.set_xticks(range(len(groups)), groups)
    ax.set(xlabel=contrast.group, ylabel=f"test accuracy − {contrast.reference}, points")
    if len(lengths) > 1:
        ax.set_title("open: shortest training", loc="left")


def draw_difference(ax: Axes, x: float, found: Estimate, look: tuple[str, str], filled: bool) -> None:
    """One mean with its interval, where there is one."""
    colour, mark = look
    ends = None if math.isnan(found.low) else [[found.value - found.low], [found.high - found.value]]
    ax.errorbar(x, found.value, ends, fmt=mark, color=colour, mfc=colour if filled else "white", ms=4, elinewidth=0.8)


def draw(lines: Lines, contrast: Contrast, place: tuple[str, str]) -> Figure:
    """Curves of one group at one length, and the differences of all."""
    with plots.style("cvpr2024"):
        figure = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 2.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw_curves(left, lines, contrast, place)
        draw_differences(right, lines, contrast)
        return plots.laid_out(figure)


@dataclass(frozen=True)
class Expected:
    """A claim of the paper about two arms: the first is better than the second, by so many points there."""

    place: str
    says: str
    better: str
    worse: str


def claims(lines: Lines, expected: Sequence[Expected], command: str) -> list[Claim]:
    """Every claim in every group and length, by the paired difference over seeds."""
    found = []
    for claim in expected:
        for group in unique(lines, "group"):
            for length in sorted(unique(lines, "length"), key=int):
                paired = difference(lines, (claim.better, claim.worse), group, length)
                estimate = paired.difference if paired else Estimate(math.nan, math.nan, math.nan, 0)
                data = unique(pick(lines, group=group), "data")[0]
                measure = f"points of test accuracy, {data}, {group}, {int(length):,} pictures seen, paired by seed"
                verdict = stats.verdict(paired.exceeds(0) if paired else None)
                found.append(Claim(claim.place, claim.says, measure, estimate, verdict, command))
    return found
