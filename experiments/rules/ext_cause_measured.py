"""What arms of `experiments.ext_cause` lose beyond noise that leaves as much linearly readable, by the measured R².

Not part of the rule, which compares arms of equal planned R²: written on 2026-11-27, after its short and long runs.
The noise arms and linear, by their mean measured R², make a curve of accuracy, straight between two of them; every
other arm is compared with the curve at its own R². The R² enter as known.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from experiments.rules.ext_cause import FEWEST, LEVEL, LINEAR, RELU6, Runs
from experiments.rules.ext_cause_arms import NOISE
from experiments.rules.ext_cause_neighbours import seen
from experiments.rules.ext_cause_text import PLACE, WORDS, points
from manifold_lab.core import contrasts
from manifold_lab.report.arm_styles import label_of
from manifold_lab.report.deciding import Groups
from manifold_lab.report.tables import MISSING, ClaimResult, markdown
from manifold_lab.sweeps.comparison import above_zero

Dose = tuple[float, str]
"""An arm's mean measured R², and the arm."""


def curve(runs: Runs, linear_r2: Runs) -> list[Dose]:
    """Linear and the noise arms with runs enough for a verdict, the least readable first."""
    arms = [arm for arm in (LINEAR, *NOISE) if len(runs.get(arm, ())) >= FEWEST and linear_r2.get(arm)]
    return sorted((float(np.mean(linear_r2[arm])), arm) for arm in arms)


def equal_noise(doses: Sequence[Dose], r2: float) -> list[tuple[str, float]]:
    """The arms of the curve between which a measured R² lies, with weights that sum to 1; empty outside of it."""
    for (low, first), (high, second) in itertools.pairwise(doses):
        if low <= r2 <= high and low < high:
            share = (r2 - low) / (high - low)
            return [(arm, weight) for arm, weight in ((first, 1 - share), (second, share)) if weight > 0]
    return []


def comparisons(runs: Runs, linear_r2: Runs) -> Iterator[tuple[str, Groups]]:
    """Every arm within the curve with runs enough for a verdict, as points that it loses beyond equal noise."""
    doses = curve(runs, linear_r2)
    on_it = {arm for _, arm in doses}
    for arm, values in runs.items():
        if arm not in on_it and len(values) >= FEWEST and linear_r2.get(arm):
            equal = equal_noise(doses, float(np.mean(linear_r2[arm])))
            if equal:
                yield arm, [*((runs[one], weight) for one, weight in equal), (values, -1.0)]


def claims(runs: Runs, linear_r2: Runs, where: str) -> list[ClaimResult]:
    """Whether each arm loses more than noise that leaves as much readable, by Welch's test.

    Args:
        runs: test accuracies in percent by arm.
        linear_r2: measured, of the runs that have it, by arm.
        where: data set and length, as the end of the ids.
    """
    return [
        above_zero(
            f"beyond_equal_noise/{arm}/{where}",
            f"{label_of(arm)} costs more than noise that leaves as much linearly readable (not part of the rule)",
            f"points of test accuracy below noise of the same measured R², {seen(where)}",
            groups, place=PLACE,
        )
        for arm, groups in comparisons(runs, linear_r2)
    ]  # fmt: skip


INTRODUCTION = (
    "Trained norms move their shifts, so that the measured R² are not the planned ones. By the measured R², which is "
    "not part of the rule and was looked at after its runs: the points that an arm loses beyond noise that leaves as "
    "much readable, on straight lines between linear and the noise arms. *More* is surely above zero, by Welch's test "
    "and Holm's correction over the arms of one length."
)


def table(by_length: Mapping[int, tuple[Runs, Runs]]) -> str:
    """What every arm loses beyond equal noise, by length of training; empty without a comparison.

    Args:
        by_length: test accuracies in percent and measured linear R², both by arm, by images seen.
    """
    columns = {f"points beyond equal noise, {length:,} images": cells(*found) for length, found in by_length.items()}
    shown = [arm for arm in WORDS if any(arm in column for column in columns.values())]
    rows = [[WORDS[arm], *(column.get(arm, MISSING) for column in columns.values())] for arm in shown]
    return f"{INTRODUCTION}\n\n{markdown(['arm', *columns], rows)}" if rows else ""


def lost(runs: Runs, linear_r2: Runs) -> dict[str, tuple[str, bool]]:
    """The points that every arm loses beyond equal noise, and whether they are surely above zero."""
    found = {arm: contrasts.contrast(groups) for arm, groups in comparisons(runs, linear_r2)}
    p_values = contrasts.holm({arm: one.p_value for arm, one in found.items()})
    return {arm: (points(one.estimate), p_values[arm] < LEVEL and one.estimate.value > 0) for arm, one in found.items()}


def cells(runs: Runs, linear_r2: Runs) -> dict[str, str]:
    """The same as a table has it."""
    return {arm: said + " more" * surely for arm, (said, surely) in lost(runs, linear_r2).items()}


def against(by_length: Mapping[int, tuple[Runs, Runs]]) -> str:
    """What ReLU6 loses beyond equal noise at every length, where it surely is more at one; else empty."""
    found = {length: mine[RELU6] for length, given in sorted(by_length.items()) if RELU6 in (mine := lost(*given))}
    costs = [f"{said} points more after {length:,} images" for length, (said, _) in found.items()]
    sentence = f"Against noise of equal measured R², ReLU6 costs {', and '.join(costs)}."
    return sentence if any(surely for _, surely in found.values()) else ""
