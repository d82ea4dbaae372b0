"""The answer of `experiments.ext_cause` in one paragraph: what each arm costs, how it comes out, and the limits."""

from experiments.rules import ext_cause as rule
from experiments.rules.ext_cause_neighbours import difference
from manifold_lab.core import contrasts
from manifold_lab.core.statistics import Estimate

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
    return f" Trainings of {length:,} images {says}. They cost: {costs_of(runs) or 'not known'}."


def costs_of(runs: rule.Runs) -> str:
    """What ReLU6 costs, and every arm with runs enough for a verdict, in points; empty where there is none."""
    judged = {arm: one.verdict for arm, one in rule.outcomes(runs).items() if one.verdict != rule.UNDECIDED}
    arms = [f"{WORDS[arm]}, {points(cost(runs, arm))} ({verdict})" for arm, verdict in judged.items()]
    return "; ".join([f"ReLU6 {points(cost(runs))}", *arms]) if arms else ""


def cost(runs: rule.Runs, arm: str = rule.RELU6) -> Estimate:
    """Points that an arm loses against linear, with Welch's interval."""
    return contrasts.contrast(difference(runs, rule.LINEAR, arm)).estimate


def points(found: Estimate) -> str:
    """A number of points and its interval."""
    return f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]"
