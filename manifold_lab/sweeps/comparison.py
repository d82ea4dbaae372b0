"""Arms of an ablation side by side, from csv lines alone: accuracies, differences, table, verdicts."""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from manifold_lab.core import contrasts, statistics
from manifold_lab.core.contrasts import Contrast
from manifold_lab.core.statistics import Estimate
from manifold_lab.report.plots import pick
from manifold_lab.report.tables import ClaimResult, Document, Lines
from manifold_lab.sweeps.store import DIVERGED
from manifold_lab.sweeps.training_run import FINAL

POINTS = 100
"""Accuracies are shares; differences are told in percentage points."""
NUMBER = re.compile(r"\d+(\.\d+)?")
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
    return contrasts.contrast([
        (list(scores(lines, arm, *place).values()), sign * weight)
        for place, weight in zip(places, weights, strict=True)
        for arm, sign in zip(pair, (1.0, -1.0), strict=True)
    ])  # fmt: skip


def fewest(lines: Lines, pair: tuple[str, str], *places: tuple[str, str]) -> int:
    """The finished runs of the arm that has fewest of them."""
    return min(len(scores(lines, arm, *place)) for place in places for arm in pair)


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
        f"Runs (n) of an arm differ in their seed. Intervals are at {statistics.PERCENT}: Student's of an accuracy, "
        f"Welch's of its difference to {contrast.reference} over all runs; the two-sided p-value is Welch's, not "
        "corrected for the number of rows."
    )
    absent = f" Not run: {', '.join(missing)}." if missing else ""
    caption = f"{caption} Data: {', '.join(unique(lines, 'data'))}. {note}{absent}"
    return Document(caption, head, [line for line in shown if line["n"] != "0"])


def row(lines: Lines, contrast: Comparison, arm: str, place: tuple[str, str]) -> dict[str, str]:
    """One line of the table; empty where there are no runs, or too few."""
    group, length = place
    mine = scores(lines, arm, *place)
    level = statistics.mean(np.array(list(mine.values())))
    level = dataclasses.replace(level, low=max(level.low, 0.0), high=min(level.high, float(POINTS)))  # NaN stays
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


def data_of(lines: Lines, group: str) -> str:
    """The data set that a group is trained on."""
    return unique(pick(lines, group=group), "data")[0]


def label(lines: Lines, group: str) -> str:
    """A group without the name of its data."""
    data = data_of(lines, group)
    return "" if group == data else group.removeprefix(f"{data}, ")


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
        judged(lines, claim, study, pair_of(claim, (group, length)), where(lines, contrast, (group, length)))
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
            found.append(judged(lines, claim, study, pair_of(claim, *places), measure))
    return found


def gap_grows_when_narrower(lines: Lines, contrast: Comparison, claim: ExpectedOrder, study: str) -> list[ClaimResult]:
    """Whether a claim's gap falls with the logarithm of the group's number, over all groups that are numbers.

    The slope of the least-squares line through the gaps is a weighted sum of them, and is tested as such.
    """
    widths, found = numbers(groups(lines)), []
    for length in lengths(lines, widths[0]) if len(widths) > 1 else []:
        there = [width for width in widths if fewest(lines, claim.pair, (width, length))]
        if len(there) > 1:
            x = np.log2([float(width) for width in there])
            slopes = -(x - x.mean()) / np.sum((x - x.mean()) ** 2)
            on = f"{data_of(lines, widths[0])}, {contrast.group} {', '.join(there)}, {int(length):,} images seen"
            measure = f"points of the gap in test accuracy for each halving of the width, {on}"
            weighted = [(width, float(weight)) for width, weight in zip(there, slopes, strict=True)]
            found.append(judged(lines, claim, study, _trend(claim, weighted, length), measure))
    return found


@dataclass(frozen=True)
class WeightedArm:
    """One arm in one place, and the weight of its mean accuracy in what is tested."""

    arm: str
    group: str
    length: str
    weight: int | float


def pair_of(claim: ExpectedOrder, *places: tuple[str, str]) -> list[WeightedArm]:
    """The gap of a claim's arms; of two places, the change of it."""
    return [
        WeightedArm(arm, group, length, sign * weight)
        for (group, length), weight in zip(places, (1.0, -1.0), strict=False)
        for arm, sign in zip(claim.pair, (1.0, -1.0), strict=True)
    ]


def _trend(claim: ExpectedOrder, weighted: Sequence[tuple[str, float]], length: str) -> list[WeightedArm]:
    return [WeightedArm(arm, group, length, sign * weight) for group, weight in weighted
            for arm, sign in zip(claim.pair, (1.0, -1.0), strict=True)]  # fmt: skip


def judged(lines: Lines, claim: ExpectedOrder, study: str, tested: Sequence[WeightedArm], measure: str) -> ClaimResult:
    """A claim that holds where a weighted sum of arms' mean accuracies is above zero, by Welch's test over all runs.

    Below `FEWEST` runs of an arm it is undecided. Diverged runs are no part of the number, and are said.
    """
    runs = [list(scores(lines, one.arm, one.group, one.length).values()) for one in tested]
    lost = sum(len(pick(lines, kind=FINAL, arm=one.arm, group=one.group, length=one.length, state=DIVERGED))
               for one in tested)  # fmt: skip
    found = contrasts.contrast([(values, one.weight) for values, one in zip(runs, tested, strict=True)])
    least, group = min(map(len, runs)), tested[0].group
    estimate = found.estimate if least else statistics.NO_RUNS
    decided = found.exceeds(0) if least >= FEWEST else None
    spread = [one.weight**2 * np.var(run, ddof=1) for run, one in zip(runs, tested, strict=True) if len(run) > 1]
    setting = [data_of(lines, group), *filter(None, [label(lines, group)]), tested[0].length]
    return ClaimResult(
        id="/".join([f"{study}.{claim.id}", *setting]),
        place=claim.place,
        says=claim.says,
        measure=measure + (f"; {lost} diverged" if lost else ""),
        estimate=estimate,
        verdict=statistics.verdict(decided, estimate),
        command=f"python -m experiments.{study}",
        p_value=found.p_value if least >= FEWEST else None,
        needed=_needed(estimate.value, math.sqrt(sum(spread) / 2)) if decided is None and least > 1 else None,
    )


def _needed(effect: float, spread: float) -> int | None:
    runs = contrasts.runs_to_decide(effect, spread)
    return None if runs is None else max(runs, FEWEST)


def where(lines: Lines, contrast: Comparison, place: tuple[str, str]) -> str:
    """What is measured in a place, in words."""
    group, length = place
    named = label(lines, group)
    on = ", ".join(filter(None, (data_of(lines, group), named and f"{contrast.group} {named}")))
    return f"points of test accuracy, {on}, {int(length):,} images seen"
