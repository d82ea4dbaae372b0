"""What of the gap of `experiments.ext_cause` is left at each arm's best learning rate, on other seeds than chose it."""

import math
from collections.abc import Mapping

from experiments.rules.ext_cause import LINEAR, RELU6, Runs, tuning
from manifold_lab.core import contrasts
from manifold_lab.core.contrasts import Contrast
from manifold_lab.report.tables import ClaimResult, estimated_claim


def difference(at_best: Runs, at_first: Runs, share: float) -> Contrast:
    """The gap of linear and relu6 at their best rates, less a share of the gap at the first one; by Welch's test."""
    groups = [(found.get(arm, ()), weight * sign) for found, weight in ((at_best, 1.0), (at_first, -share))
              for arm, sign in ((LINEAR, 1.0), (RELU6, -1.0)) if weight]  # fmt: skip
    return contrasts.contrast(groups)


def named(rates: Mapping[str, float]) -> str:
    """The best learning rates in words."""
    return ", ".join(f"{arm} {rate:g}" for arm, rate in rates.items())


def sentence(at_best: Runs, rates: Mapping[str, float]) -> str:
    """What ReLU6 costs at the best learning rates; nothing where an arm has too few runs for an interval."""
    gap = difference(at_best, {}, 0.0).estimate
    if math.isnan(gap.low):
        return ""
    return (
        f" At the learning rates that were best on validation ({named(rates)}), on other seeds, ReLU6 costs "
        f"{gap.value:.1f} [{gap.low:.1f}, {gap.high:.1f}]."
    )


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
    found, gap = difference(at_best, at_first, 0.5), difference(at_best, {}, 0.0).estimate
    measure = (
        f"points that the gap at the best learning rates ({named(rates)}; {gap.value:.2f}, {gap.low:.2f} to "
        f"{gap.high:.2f}) is above half of the gap at the first one, {data}, {int(length):,} images seen"
    )
    return estimated_claim(f"more_than_tuning/{where}",
                           "the gap is more than tuning: at each arm's best learning rate over half of it is left",
                           measure, found.estimate, None if tuned is None else not tuned,
                           place="Section 3.2 (cause)", p_value=found.p_value)  # fmt: skip
