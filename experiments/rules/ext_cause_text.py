"""The answer of `experiments.ext_cause` in words: the paragraph, what each arm costs, and its claims."""

import math
from collections.abc import Callable

from experiments.rules import ext_cause as rule
from experiments.rules.ext_cause_neighbours import difference
from manifold_lab.core import contrasts, statistics
from manifold_lab.core.statistics import Estimate
from manifold_lab.report.tables import ClaimResult, estimated_claim
from manifold_lab.sweeps.comparison import Groups, runs_needed

PLACE = "Section 3.2 (cause)"
QUESTION = "Why does ReLU6 in a bottleneck cost accuracy?"
WORDS = {
    "leaky_0.5": "leaky_relu of slope .5, which loses no information",
    "leaky_0.1": "leaky_relu of slope .1, which loses no information",
    "noise_0.961": "a little noise in a linear bottleneck, which is no nonlinearity",
    "noise_0.804": "more noise in a linear bottleneck, which is no nonlinearity",
    "noise_0.734": "noise in a linear bottleneck that leaves as much readable as ReLU, which is no nonlinearity",
    "noise_0.734_shared": "the same noise drawn once per image and channel",
    "half_gain": "half of the channels times .1, which attenuates gradients and loses nothing",
    "renormed": "ReLU6 with a norm behind it, which restores mean and scale",
    "abs": "the absolute value, which blocks no gradient",
    "shift": "ReLU6 behind a norm whose bias starts at 2",
    "after_sum": "ReLU6 behind the addition",
}
"""What each arm is, so that its cost can be read."""

EXPECTED = {
    "leaky_0.1": ("a nonlinearity that loses no information costs little: leaky .1 is with linear", rule.WITH_LINEAR),
    "noise_0.734": (
        "information lost without a nonlinearity costs as ReLU6 does: noise is with relu6",
        rule.WITH_RELU6,
    ),
    "half_gain": (
        "attenuated gradients that lose nothing cost little: half of the channels times .1",
        rule.WITH_LINEAR,
    ),
    "renormed": ("a norm behind ReLU6 does not bring back what was lost: it stays with relu6", rule.WITH_RELU6),
}
"""What the argument that information loss is the cause expects of an arm, in words and as an outcome of the rule."""


def paragraph(runs: rule.Runs, answer: str, where: str) -> str:
    """The reading, the cost of every arm with runs enough for a verdict, and how far that carries.

    Args:
        runs: test accuracies in percent by arm.
        answer: the reading of all of them.
        where: data, width and length of the trainings.
    """
    head = f"**{QUESTION}** {answer[0].upper()}{answer[1:]}."
    costs = costs_of(runs)
    if not costs:
        return head
    return (
        f"{head} Points of test accuracy that it costs, against a linear bottleneck: {costs}. An arm is *with relu6* "
        "where it lies below the midpoint of linear and relu6, by Welch's test over "
        f"{rule.FEWEST} runs or more of each and Holm's correction; the rule was written before the runs. Limits: "
        f"{where}, one optimiser, short of convergence."
    )


def shorter(runs: rule.Runs, answer: str, length: int) -> str:
    """What trainings say that are shorter than those that decide.

    Args:
        runs: their test accuracies in percent by arm.
        answer: their reading, where it is another one; empty where it is the same.
        length: images that they see.
    """
    says = f"read otherwise: {answer}" if answer else "read the same"
    return f"Trainings of {length:,} images {says}. They cost: {costs_of(runs) or 'not known'}."


def costs_of(runs: rule.Runs, name: Callable[[str], str] = WORDS.__getitem__) -> str:
    """What ReLU6 and every arm with runs enough cost, in points, with verdicts; empty without an interval of ReLU6's.

    Args:
        runs: test accuracies in percent by arm.
        name: what an arm is called.
    """
    judged = {arm: one.verdict for arm, one in rule.outcomes(runs).items() if not math.isnan(one.p_value)}
    whole = cost(runs)
    arms = [f"{name(arm)}, {points(cost(runs, arm))} ({verdict})" for arm, verdict in judged.items()]
    return "" if math.isnan(whole.low) else "; ".join([f"ReLU6 {points(whole)}", *arms])


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
    (says, like), (data, length), found = EXPECTED[arm], where.split("/"), rule.outcomes(runs).get(arm)
    outcome = found.verdict if found else rule.UNDECIDED
    outcome = rule.WITH_RELU6 if outcome == rule.BELOW_RELU6 else outcome
    needed = runs_needed(midpoint(runs, arm)) if found and outcome == rule.UNDECIDED else None
    return estimated_claim(
        f"{prefix}/{arm}/{where}", says + at,
        f"points above the midpoint of linear and relu6{at}, {data}, {int(length):,} images seen",
        found.distance.estimate if found else statistics.NO_RUNS,
        None if outcome == rule.UNDECIDED else outcome == like,
        place=PLACE, p_value=found.p_value if found else None, needed=needed,
    )  # fmt: skip


def midpoint(runs: rule.Runs, arm: str) -> Groups:
    """An arm less the midpoint of linear and relu6."""
    return [(runs[arm], 1.0), (runs.get(rule.LINEAR, ()), -0.5), (runs.get(rule.RELU6, ()), -0.5)]
