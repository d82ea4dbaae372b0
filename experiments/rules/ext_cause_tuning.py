"""What of the gap of `experiments.ext_cause` is left at each arm's best learning rate, on other seeds than chose it."""

from collections.abc import Iterable, Mapping

from experiments.rules.ext_cause import FEWEST, LINEAR, RELU6, Runs, tuning
from experiments.rules.ext_cause_neighbours import difference, seen
from experiments.rules.ext_cause_text import PLACE, WORDS, cost, costs_of
from manifold_lab.core import contrasts
from manifold_lab.report import deciding
from manifold_lab.report.arm_styles import label_of
from manifold_lab.report.tables import MISSING, ClaimResult, estimated_claim, markdown


def named(rates: Mapping[str, float], arms: Iterable[str]) -> str:
    """The best learning rates of some arms in words."""
    return "; ".join(f"{label_of(arm)}: {rates[arm]:g}" for arm in arms)


def table(at_best: Runs, at_relu6s: Runs, rates: Mapping[str, float]) -> str:
    """What ReLU6 and the other arms cost at the best learning rates, and all of them at the best one of ReLU6.

    Empty where linear or relu6 has too few runs for an interval.
    """
    best, relu6s = costs_of(at_best), costs_of(at_relu6s)
    rows = [[WORDS[arm], f"{rates[arm]:g}", best[arm], relu6s.get(arm, MISSING)] for arm in rates if arm in best]
    if not rows:
        return ""
    said = (
        "The learning rate of each arm that was best on validation, and the points that are lost there, on other seeds "
        f"than chose it; linear: {rates[LINEAR]:g}."
    )
    head = ("in place of a linear bottleneck", "best rate", "points lost, each at its best rate",
            f"points lost, all at ReLU6's best rate, {rates[RELU6]:g}")  # fmt: skip
    return f"{said}\n\n{markdown(head, rows)}"


def claim(at_best: Runs, at_first: Runs, rates: Mapping[str, float], where: str) -> ClaimResult:
    """Whether more than half of the gap is left, by the rule.

    Args:
        at_best: test accuracies in percent by arm, at the best learning rates.
        at_first: those at the learning rate of the other experiments.
        rates: the best ones, by arm.
        where: data set and length, as the end of the id.
    """
    tuned = tuning(at_best, at_first)
    half = [(values, -weight / 2) for values, weight in difference(at_first, LINEAR, RELU6)]
    groups, gap = [*difference(at_best, LINEAR, RELU6), *half], cost(at_best)
    found = contrasts.contrast(groups)
    measure = (
        f"points that the gap at the best learning rates ({named(rates, (LINEAR, RELU6))}; {gap.value:.2f}, "
        f"{gap.low:.2f} to {gap.high:.2f}) is above half of the gap at the first one, {seen(where)}"
    )
    return estimated_claim(f"more_than_tuning/{where}",
                           "the gap is more than tuning: at each arm's best learning rate over half of it is left",
                           measure, found.estimate, None if tuned is None else not tuned,
                           place=PLACE, p_value=found.p_value, needed=deciding.runs(groups, FEWEST))  # fmt: skip
