"""What other papers claim of the arms of `experiments.ext_cause`: He et al. 2016 and Lin, Memisevic and Konda 2015."""

import dataclasses

import numpy as np

from experiments.rules.ext_cause import LINEAR, RELU6, Runs
from manifold_lab.report.tables import ClaimResult, DataFrame, pick
from manifold_lab.sweeps.comparison import Groups, above_zero

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
    found = [
        above_zero(f"before_the_sum_is_worse/{where}", "ReLU6 before the shortcut's addition is worse than behind it",
                   f"points of test accuracy, behind − before, {seen}", difference(accuracies, AFTER_SUM, RELU6),
                   place="He et al. 2016"),
        above_zero(f"linear_lets_gradients_through/{where}",
                   "the first block's gradient is larger with linear bottlenecks than with ReLU6 in them",
                   f"log10 of the gradient's norm in the middle of the training, linear − relu6, {seen}",
                   difference(gradients, LINEAR, RELU6), place="Lin et al. 2015"),
    ]  # fmt: skip
    return [dataclasses.replace(one, needed=None) for one in found]  # more runs are for the arms that decide the cause


def difference(runs: Runs, first: str, second: str) -> Groups:
    """The runs of two arms, the first less the second."""
    return [(runs.get(first, ()), 1.0), (runs.get(second, ()), -1.0)]


def first_gradients(table: DataFrame) -> dict[str, list[float]]:
    """Log10 of the first block's gradient norm in the middle of every run, by arm."""
    runs = pick(table, block=FIRST_BLOCK).sort_values("images").groupby(["arm", "seed"], sort=False)["gradient_norm"]
    middle = runs.agg(lambda norms: norms.iloc[len(norms) // 2])
    return np.log10(middle[middle > 0]).groupby("arm").agg(list).to_dict()
