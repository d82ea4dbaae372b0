"""What other papers claim of the arms of `experiments.ext_cause`: He et al. 2016 and Lin, Memisevic and Konda 2015."""

import numpy as np

from experiments.rules.ext_cause import LINEAR, RELU6, Runs
from manifold_lab.report.deciding import Groups
from manifold_lab.report.tables import ClaimResult, DataFrame, pick
from manifold_lab.sweeps.comparison import above_zero

THROUGH = "linear_lets_gradients_through"
AFTER_SUM = "after_sum"
FIRST_BLOCK = 0


def before_the_sum(accuracies: Runs, where: str) -> ClaimResult:
    """What He et al. find, by Welch's interval over runs; undecided below five runs of an arm.

    Args:
        accuracies: test accuracies in percent by arm.
        where: data set and length, as the end of the id.
    """
    return above_zero(
        f"before_the_sum_is_worse/{where}", "ReLU6 before the shortcut's addition is worse than behind it",
        f"points of test accuracy, behind − before, {seen(where)}", difference(accuracies, AFTER_SUM, RELU6),
        place="He et al. 2016",
    )  # fmt: skip


def gradients(norms: Runs, where: str, at: str = "") -> ClaimResult:
    """What Lin et al. argue, by Welch's interval over runs; undecided below five runs of an arm.

    Args:
        norms: log10 of the first block's gradient norm in the middle of the training, by arm.
        where: data set and length, as the end of the id.
        at: the learning rate in words.
    """
    return above_zero(
        f"{'/'.join(filter(None, (THROUGH, at.strip(', ').replace(' ', '_'))))}/{where}",
        "the first block's gradient is larger with linear bottlenecks than with ReLU6 in them",
        f"log10 of the gradient's norm in the middle of the training, linear − relu6{at}, {seen(where)}",
        difference(norms, LINEAR, RELU6), place="Lin et al. 2015",
    )  # fmt: skip


def seen(where: str) -> str:
    """Data set and length in words."""
    data, length = where.split("/")
    return f"{data}, {int(length):,} images seen"


def difference(runs: Runs, first: str, second: str) -> Groups:
    """The runs of two arms, the first less the second."""
    return [(runs.get(first, ()), 1.0), (runs.get(second, ()), -1.0)]


def first_gradients(table: DataFrame) -> dict[str, list[float]]:
    """Log10 of the first block's gradient norm in the middle of every run, by arm."""
    runs = pick(table, block=FIRST_BLOCK).sort_values("images").groupby(["arm", "seed"], sort=False)["gradient_norm"]
    middle = runs.agg(lambda norms: norms.iloc[len(norms) // 2])
    return np.log10(middle[middle > 0]).groupby("arm").agg(list).to_dict()
