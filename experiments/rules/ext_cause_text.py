"""The answer of `experiments.ext_cause` in words: how it was found, what each arm costs, and its claims."""

import math
from collections.abc import Mapping

import numpy as np

from experiments.rules import ext_cause as rule
from experiments.rules.ext_cause_neighbours import difference, seen
from manifold_lab import theory
from manifold_lab.core import contrasts, statistics
from manifold_lab.core.statistics import Estimate
from manifold_lab.report import deciding
from manifold_lab.report.tables import MISSING, ClaimResult, estimated_claim, markdown

PLACE = "Section 3.2 (cause)"
QUESTION = "Why does ReLU6 in a bottleneck cost accuracy?"
HALF, TENTH, RELU = (f"(planned R² {theory.channel_r2(slope):.3f})" for slope in (0.5, 0.1, 0))
"""Of a centred normal channel behind leaky_relu of these slopes, ReLU last, and with noise in its place."""
WORDS = {
    "relu6": f"ReLU6 {RELU}",
    "leaky_0.5": f"leaky_relu, slope .5 {HALF}: loses no information",
    "leaky_0.1": f"leaky_relu, slope .1 {TENTH}: loses no information",
    "noise_0.961": f"linear with noise {HALF}: no nonlinearity",
    "noise_0.804": f"linear with noise {TENTH}: no nonlinearity",
    "noise_0.734": f"linear with noise {RELU}: no nonlinearity",
    "noise_0.734_shared": "the same noise, drawn once per image and channel",
    "half_gain": "linear, half of the channels times .1: attenuates gradients, loses nothing",
    "renormed": "ReLU6, then a norm: restores mean and scale",
    "abs": "absolute value: blocks no gradient",
    "shift": "ReLU6 behind a norm whose bias starts at 2",
    "after_sum": "ReLU6 behind the addition",
}
"""What each arm is, so that its cost can be read."""

EXPECTED = {
    "leaky_0.1": (
        "a nonlinearity that loses no information costs little: leaky .1 is above the midpoint of linear and ReLU6",
        rule.WITH_LINEAR,
    ),
    "noise_0.734": (
        "information lost without a nonlinearity costs as much as ReLU6 or more: noise is below the midpoint",
        rule.WITH_RELU6,
    ),
    "half_gain": (
        "attenuated gradients that lose nothing cost little: half of the channels times .1",
        rule.WITH_LINEAR,
    ),
    "renormed": ("a norm behind ReLU6 does not bring back what was lost: it stays with relu6", rule.WITH_RELU6),
}
"""What the argument that information loss is the cause expects of an arm, in words and as an outcome of the rule."""


METHOD = (
    "Networks were trained with something else in place of ReLU6. Some of it loses no information, but a linear map "
    "reads less of it; some, noise, loses information and is linear. R² says how much: that of the best affine map "
    "from what comes out of the activation or the noise to what went in, planned for a centred normal channel, and "
    "measured at the end of each training. The table gives the points of test accuracy that each arm costs against a "
    f"linear bottleneck, with Welch's {statistics.PERCENT} interval, and its verdict by a rule that was written before "
    "the runs: *with linear* is surely above the midpoint of linear and ReLU6, *with relu6* surely below it, *below "
    f"relu6* also surely below ReLU6 itself, each by Welch's test over {rule.FEWEST} runs or more and Holm's "
    "correction; else it is *undecided*. Linear and ReLU6 have more seeds here than in Figure 6a."
)


def decided_by(length: int, shorter: int, otherwise: str) -> str:
    """Which trainings the answer reads, and what shorter ones say.

    Args:
        length: images of those that decide.
        shorter: images of those that every arm has.
        otherwise: their reading, where it is another one; else empty.
    """
    if length == shorter:
        return f"The answer reads trainings of {length:,} images."
    says = f"read otherwise: {otherwise}" if otherwise else "put leaky .1 and noise on the same sides of the midpoint"
    return (
        f"The answer reads trainings of {length:,} images, and trainings of {shorter:,} where these lack an arm, for "
        f"equal planned R² and for learning rates. Trainings of {shorter:,} images {says}."
    )


def costs_table(by_length: Mapping[int, tuple[rule.Runs, rule.Runs]]) -> str:
    """What ReLU6 and every arm cost at every length, and how much of them stays readable; empty without any number.

    Args:
        by_length: test accuracies in percent and measured linear R², both by arm, by images seen.
    """
    head, columns = ["in place of a linear bottleneck"], []
    for length, (runs, linear_r2) in by_length.items():
        head += [f"linear R², {length:,} images", f"points lost, {length:,} images"]
        columns += [{arm: f"{np.mean(values):.2f}" for arm, values in linear_r2.items() if values}, costs_of(runs)]
    shown = {arm: [column.get(arm, MISSING) for column in columns] for arm in WORDS}
    rows = [[WORDS[arm], *cells] for arm, cells in shown.items() if set(cells[1::2]) != {MISSING}]
    return markdown(head, rows) if rows else ""


def costs_of(runs: rule.Runs) -> dict[str, str]:
    """What ReLU6 and every arm with runs enough cost, in points, with verdicts; empty without an interval for ReLU6."""
    whole = cost(runs)
    if math.isnan(whole.low):
        return {}
    judged = {arm: one.verdict for arm, one in rule.outcomes(runs).items() if not math.isnan(one.p_value)}
    return {rule.RELU6: points(whole)} | {
        arm: f"{points(cost(runs, arm))} {verdict}" for arm, verdict in judged.items()
    }


def capitalised(said: str) -> str:
    """Words as a sentence begins with them."""
    return said[0].upper() + said[1:]


def cost(runs: rule.Runs, arm: str = rule.RELU6) -> Estimate:
    """Points that an arm loses against linear, with Welch's interval."""
    return contrasts.contrast(difference(runs, rule.LINEAR, arm)).estimate


def points(found: Estimate) -> str:
    """A number of points and its interval."""
    return f"{found.value:z.1f} [{found.low:z.1f}, {found.high:z.1f}]"


def claim(arm: str, runs: rule.Runs, where: str, prefix: str = "as_the_argument_expects", at: str = "") -> ClaimResult:
    """One arm's verdict as a claim: below ReLU6 costs as much as ReLU6, and more.

    Args:
        arm: one of `EXPECTED`.
        runs: test accuracies in percent by arm.
        where: data set and length, as the end of the id.
        prefix: the beginning of the id.
        at: what is particular to these runs, in words.
    """
    (says, like), found = EXPECTED[arm], rule.outcomes(runs).get(arm)
    outcome = found.verdict if found else rule.UNDECIDED
    outcome = rule.WITH_RELU6 if outcome == rule.BELOW_RELU6 else outcome
    undecided = found and outcome == rule.UNDECIDED
    needed = deciding.runs(midpoint(runs, arm), max(rule.FEWEST, len(runs[arm]) + 1)) if undecided else ""
    return estimated_claim(
        f"{prefix}/{arm}/{where}", says + at,
        f"points above the midpoint of linear and relu6{at}, {seen(where)}",
        found.distance.estimate if found else statistics.NO_RUNS,
        None if outcome == rule.UNDECIDED else outcome == like,
        place=PLACE, p_value=found.p_value if found else None, needed=needed,
    )  # fmt: skip


def equal_planned_r2(runs: rule.Runs, where: str) -> ClaimResult:
    """Whether equal planned R² cost equally, by the rule: the pair of arms that differs most.

    Args:
        runs: test accuracies in percent by arm.
        where: data set and length, as the end of the id.
    """
    pairs = [difference(runs, *pair) for pair in rule.DOSES]
    groups = max(pairs, key=lambda groups: abs(contrasts.contrast(groups).estimate.value))
    return estimated_claim(
        f"equal_planned_r2_costs_equally/{where}",
        "equal planned R² costs equally, whether information is lost or not",
        f"points of test accuracy, leaky − noise, the pair that differs most, {seen(where)}; "
        f"equal within {rule.SAME:.0%} of the gap",
        contrasts.contrast(groups).estimate, rule.one_curve(runs), place=PLACE,
        needed=deciding.runs(groups, rule.FEWEST, rule.SAME * abs(cost(runs).value)),
    )  # fmt: skip


def midpoint(runs: rule.Runs, arm: str) -> deciding.Groups:
    """An arm less the midpoint of linear and relu6."""
    return [(runs[arm], 1.0), (runs.get(rule.LINEAR, ()), -0.5), (runs.get(rule.RELU6, ()), -0.5)]
