"""Arms of an ablation side by side, from published tables alone: accuracies, differences, table, verdicts."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from manifold_lab.core import contrasts, statistics
from manifold_lab.core.contrasts import Contrast
from manifold_lab.core.shown import DataFrame, frame
from manifold_lab.core.statistics import Estimate
from manifold_lab.report import deciding
from manifold_lab.report.tables import ClaimResult, Document, estimated_claim, matches, pick, unique
from manifold_lab.sweeps.store import DIVERGED, DONE
from manifold_lab.sweeps.training_run import FINAL

POINTS, TEST_POINTS = 100, "points of test accuracy"
"""Accuracies are shares; differences are reported in percentage points."""
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


Place = tuple[str, int]
"""A group, and the length of its trainings in images seen."""


def groups(runs: DataFrame) -> list[str]:
    """The groups: numbers by size, then the others as they come."""
    found = unique(runs, "group")
    return numbers(found) + [group for group in found if not NUMBER.fullmatch(group)]


def numbers(groups: Sequence[str]) -> list[str]:
    """Those that are numbers, by size."""
    return sorted((group for group in groups if NUMBER.fullmatch(group)), key=float)


def lengths(runs: DataFrame, group: str) -> list[int]:
    """The lengths of a group's trainings, the shortest first."""
    return sorted(unique(pick(runs, group=group), "length"))


def places(runs: DataFrame) -> list[Place]:
    """Every group with each of its lengths."""
    return [(group, length) for group in groups(runs) for length in lengths(runs, group)]


def scores(runs: DataFrame, arm: str, group: str, length: int) -> dict[int, float]:
    """Test accuracy by seed, in percent, of the runs that finished."""
    found = matches(runs, kind=FINAL, arm=arm, group=group, length=length, state=DONE)
    seeds, accuracies = (runs[name].to_numpy()[found] for name in ("seed", "test_accuracy"))
    return dict(zip(seeds.tolist(), (POINTS * accuracies).tolist(), strict=True))


def gap(runs: DataFrame, pair: tuple[str, str], *places: Place) -> Contrast:
    """First minus second arm in points, by Welch's test over all runs; of two places (group and length), the change.

    Runs are not paired by seed: between trained arms a seed's runs are hardly correlated, so that pairs would only
    halve the degrees of freedom.
    """
    tested = change_of_gap(pair, *places)
    return contrasts.contrast([([*scores(runs, one.arm, one.group, one.length).values()], one.weight)
                               for one in tested])  # fmt: skip


def fewest(runs: DataFrame, pair: tuple[str, str], *places: Place) -> int:
    """The finished runs of the arm that has fewest of them."""
    return min(len(scores(runs, arm, *place)) for place in places for arm in pair)


COMPARISON_HEAD = {
    "group": "group", "arm": "arm", "madds": "MAdds", "length": "images seen", "n": "runs",
    "accuracy": "test accuracy, %", "interval": "95 % interval", "difference": "difference, points",
    "difference_interval": "its 95 % interval", "p": "p",
}  # fmt: skip


def comparison_table(runs: DataFrame, contrast: Comparison, caption: str) -> Document:
    """Every arm that has runs, by group and length: accuracy, and the difference to the reference with Welch's test."""
    every = frame(row(runs, contrast, arm, place) for place in places(runs) for arm in contrast.styles)
    missing = [f"{one.arm} ({one.group}, {one.length:,})" for one in every[every["n"] == 0].itertuples()]
    head = {**COMPARISON_HEAD, "group": contrast.group}
    note = (
        f"Runs (n) of an arm differ in their seed. Intervals are at {statistics.PERCENT}: Student's of an accuracy, "
        f"Welch's of its difference to {contrast.reference} over all runs; the two-sided p-value is Welch's, not "
        "corrected for the number of rows."
    )
    absent = f" Not run: {', '.join(missing)}." if missing else ""
    caption = f"{caption} Data: {', '.join(unique(runs, 'data'))}. {note}{absent}"
    return Document(caption, head, every[every["n"] > 0])


def row(runs: DataFrame, contrast: Comparison, arm: str, place: Place) -> dict[str, Any]:
    """One row of the table; empty where there are no runs, or too few."""
    group, length = place
    mine = scores(runs, arm, *place)
    level = statistics.mean(np.array(list(mine.values())))
    level = dataclasses.replace(level, low=max(level.low, 0.0), high=min(level.high, float(POINTS)))  # NaN stays
    other = None if arm == contrast.reference else gap(runs, (arm, contrast.reference), place)
    found = other.estimate if other else statistics.NO_RUNS
    price = pick(runs, arm=arm, group=group)["madds"].max()
    known = {"group": group, "arm": arm, "madds": price, "length": length, "n": len(mine)}
    known |= {"accuracy": _decimals(level.value), "interval": _ends(level)}
    known |= {"difference": _decimals(found.value, "+"), "difference_interval": _ends(found, "+")}
    return known | {"p": f"{other.p_value:.2g}" if other and not math.isnan(other.p_value) else ""}


def _decimals(value: float, sign: str = "") -> str:
    return "" if math.isnan(value) else f"{value:{sign}.2f}"


def _ends(found: Estimate, sign: str = "") -> str:
    return "" if math.isnan(found.low) else f"{found.low:{sign}.2f} to {found.high:{sign}.2f}"


def data_of(runs: DataFrame, group: str) -> str:
    """The data set that a group is trained on."""
    return str(runs["data"].to_numpy()[matches(runs, group=group)][0])


def label(runs: DataFrame, group: str) -> str:
    """A group without the name of its data."""
    data = data_of(runs, group)
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


def comparison_claims(runs: DataFrame, contrast: Comparison, expected: Sequence[ExpectedOrder]) -> list[ClaimResult]:
    """Every claim in every group and length."""
    return [
        judged(runs, claim, change_of_gap(claim.pair, place), where(runs, contrast, place))
        for claim in expected
        for place in places(runs)
    ]


def gap_grows_when_narrower(runs: DataFrame, contrast: Comparison, claim: ExpectedOrder) -> list[ClaimResult]:
    """Whether a claim's gap falls with the logarithm of the group's number, over all groups that are numbers.

    The slope of the least-squares line through the gaps is a weighted sum of them, and is tested as such.
    """
    widths, found = numbers(groups(runs)), []
    for length in lengths(runs, widths[0]) if len(widths) > 1 else []:
        there = [width for width in widths if fewest(runs, claim.pair, (width, length))]
        if len(there) > 1:
            x = np.log2([float(width) for width in there])
            slopes = -(x - x.mean()) / np.sum((x - x.mean()) ** 2)
            on = f"{data_of(runs, widths[0])}, {contrast.group} {', '.join(there)}, {length:,} images seen"
            measure = f"points of the gap in test accuracy for each halving of the width, {on}"
            weighted = [((width, length), float(weight)) for width, weight in zip(there, slopes, strict=True)]
            found.append(judged(runs, claim, weighted_gaps(claim.pair, weighted), measure))
    return found


@dataclass(frozen=True)
class WeightedArm:
    """One arm in one place, and the weight of its mean accuracy in what is tested."""

    arm: str
    group: str
    length: int
    weight: int | float


def weighted_gaps(pair: tuple[str, str], weighted: Iterable[tuple[Place, float]]) -> list[WeightedArm]:
    """The gaps of two arms, first minus second, in some places, each with its weight."""
    return [WeightedArm(arm, group, length, sign * weight) for (group, length), weight in weighted
            for arm, sign in zip(pair, (1.0, -1.0), strict=True)]  # fmt: skip


def change_of_gap(pair: tuple[str, str], *places: Place) -> list[WeightedArm]:
    """The gap of two arms; of two places, the change of it."""
    return weighted_gaps(pair, zip(places, (1.0, -1.0), strict=False))


def judged(runs: DataFrame, claim: ExpectedOrder, tested: Sequence[WeightedArm], measure: str) -> ClaimResult:
    """`above_zero` of a weighted sum of arms' accuracies; diverged runs are no part of the number, and are said."""
    groups = [(list(scores(runs, one.arm, one.group, one.length).values()), one.weight) for one in tested]
    lost = sum(matches(runs, kind=FINAL, arm=one.arm, group=one.group, length=one.length, state=DIVERGED).sum()
               for one in tested)  # fmt: skip
    group = tested[0].group
    setting = [data_of(runs, group), *filter(None, [label(runs, group)]), str(tested[0].length)]
    measure += f"; {lost} diverged" if lost else ""
    return above_zero("/".join([claim.id, *setting]), claim.says, measure, groups, place=claim.place)


def above_zero(name: str, says: str, measure: str, groups: deciding.Groups, *, place: str) -> ClaimResult:
    """A claim that holds where a weighted sum of means is above zero, by Welch's test over all runs.

    Below `FEWEST` runs of an arm it is undecided. The arguments but `groups` are those of `estimated_claim`.
    """
    found, least = contrasts.contrast(groups), min(len(values) for values, _ in groups)
    holds, p_value = (found.exceeds(0), found.p_value) if least >= FEWEST else (None, None)
    needed = deciding.runs(groups, FEWEST) if holds is None else ""
    estimate = found.estimate if least else statistics.NO_RUNS
    return estimated_claim(name, says, measure, estimate, holds, place=place, p_value=p_value, needed=needed)


def planned(claim: ExpectedOrder, measure: str, *setting: str | int) -> ClaimResult:
    """A claim in a setting of which no run is there: `judged` cannot name it, for its group has no lines.

    Args:
        claim: what is claimed.
        measure: what is measured, in words.
        setting: data set, group and length, as the end of the id.
    """
    name = "/".join(map(str, (claim.id, *setting)))
    return estimated_claim(name, claim.says, measure, statistics.NO_RUNS, None, place=claim.place)


def where(runs: DataFrame, contrast: Comparison, place: Place, unit: str = TEST_POINTS) -> str:
    """What is measured in a place, in words."""
    group, length = place
    named = label(runs, group)
    on = ", ".join(filter(None, (data_of(runs, group), named and f"{contrast.group} {named}")))
    return f"{unit}, {on}, {length:,} images seen"
