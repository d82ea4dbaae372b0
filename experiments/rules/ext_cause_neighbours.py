"""What other papers claim of the arms of `experiments.ext_cause`: He et al. 2016 and Lin, Memisevic and Konda 2015."""

import numpy as np

from experiments.rules.ext_cause import FEWEST, LINEAR, RELU6, Runs
from manifold_lab.core import contrasts, statistics
from manifold_lab.report.tables import ClaimResult, DataFrame, estimated_claim, pick

STUDY = "ext_cause"
AFTER_SUM = "after_sum"
FIRST_BLOCK = 0


def claims(accuracies: Runs, gradients: Runs, where: str) -> list[ClaimResult]:
    """Both, each by Welch's interval over runs; undecided below five runs of an arm.

    Args:
        accuracies: test accuracies in percent by arm.
        gradients: log10 of the first block's gradient norm in the middle of the training, by arm.
        where: data set and length, as the end of the ids.
    """
    data, length = where.split("/")
    seen = f"{data}, {int(length):,} images seen"
    return [
        difference((f"before_the_sum_is_worse/{where}", "He et al. 2016",
                    "ReLU6 before the shortcut's addition is worse than behind it"),
                   f"points of test accuracy, behind − before, {seen}", (accuracies, AFTER_SUM, RELU6)),
        difference((f"linear_lets_gradients_through/{where}", "Lin et al. 2015",
                    "the first block's gradient is larger with linear bottlenecks than with ReLU6 in them"),
                   f"log10 of the gradient's norm in the middle of the training, linear − relu6, {seen}",
                   (gradients, LINEAR, RELU6)),
    ]  # fmt: skip


def difference(words: tuple[str, str, str], measure: str, between: tuple[Runs, str, str]) -> ClaimResult:
    """The first arm above the second."""
    (name, place, says), (runs, first, second) = words, between
    values = [runs.get(arm, ()) for arm in (first, second)]
    if all(values):
        found = contrasts.contrast([(values[0], 1.0), (values[1], -1.0)])
        estimate, p_value = found.estimate, found.p_value
    else:
        estimate, p_value = statistics.NO_RUNS, np.nan
    holds = estimate.exceeds(0) if min(map(len, values)) >= FEWEST else None
    tested = {} if holds is None else {"p_value": p_value}
    return estimated_claim(STUDY, name, place, says, measure, estimate, holds, **tested)


def first_gradients(table: DataFrame) -> dict[str, list[float]]:
    """Log10 of the first block's gradient norm in the middle of every run, by arm."""
    runs = pick(table, block=FIRST_BLOCK).sort_values("images").groupby(["arm", "seed"], sort=False)["gradient_norm"]
    middle = runs.agg(lambda norms: norms.iloc[len(norms) // 2])
    return np.log10(middle[middle > 0]).groupby("arm").agg(list).to_dict()
