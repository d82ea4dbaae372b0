"""What of the gap of `experiments.ext_cause` is left at each arm's best learning rate, on other seeds than chose it."""

import math
from collections.abc import Mapping

from experiments.rules.ext_cause import LINEAR, RELU6, Runs, tuning
from experiments.rules.ext_cause_neighbours import difference
from experiments.rules.ext_cause_text import cost, points
from manifold_lab.core import contrasts
from manifold_lab.report.tables import ClaimResult, estimated_claim


def named(rates: Mapping[str, float]) -> str:
    """The best learning rates in words."""
    return ", ".join(f"{arm} {rate:g}" for arm, rate in rates.items())


def sentence(at_best: Runs, rates: Mapping[str, float]) -> str:
    """What ReLU6 costs at the best learning rates; nothing where an arm has too few runs for an interval."""
    gap = cost(at_best)
    if math.isnan(gap.low):
        return ""
    best = f"At the learning rates that were best on validation ({named(rates)}), on other seeds"
    return f" {best}, ReLU6 costs {points(gap)}."


def claim(at_best: Runs, at_first: Runs, rates: Mapping[str, float], where: str) -> ClaimResult:
    """Whether more than half of the gap is left, by the rule.

    Args:
        at_best: test accuracies in percent by arm, at the best learning rates.
        at_first: those at the learning rate of the other experiments.
        rates: the best ones, by arm.
        where: data set and length, as the end of the id.
    """
    data, length = where.split("/")
    tuned = tuning(at_best, at_first)
    half = [(values, -weight / 2) for values, weight in difference(at_first, LINEAR, RELU6)]
    found, gap = contrasts.contrast([*difference(at_best, LINEAR, RELU6), *half]), cost(at_best)
    measure = (
        f"points that the gap at the best learning rates ({named(rates)}; {gap.value:.2f}, {gap.low:.2f} to "
        f"{gap.high:.2f}) is above half of the gap at the first one, {data}, {int(length):,} images seen"
    )
    return estimated_claim(f"more_than_tuning/{where}",
                           "the gap is more than tuning: at each arm's best learning rate over half of it is left",
                           measure, found.estimate, None if tuned is None else not tuned,
                           place="Section 3.2 (cause)", p_value=found.p_value)  # fmt: skip
