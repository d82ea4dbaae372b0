"""What would decide what is undecided."""

import math

import numpy as np
import pytest
from scipy import stats

from manifold_lab.core import contrasts, statistics
from manifold_lab.core.statistics import Estimate
from manifold_lab.report import deciding


@pytest.mark.parametrize("bound", [0.0, 0.9])
def test_so_many_replicates_as_it_says_leave_out_the_bound_four_times_in_five(bound: float) -> None:
    effect, spread, n, many = 0.3 * (1 - 2 * (bound > 0)) + bound, 1.0, 20, 2000
    half = stats.norm.ppf(0.975) * spread / math.sqrt(n)
    words = deciding.replicates(Estimate(effect, effect - half, effect + half, n), bound, "images")
    count, of = words.split()
    means = np.random.default_rng(0).normal(effect, spread / math.sqrt(int(count)), many)
    decided = np.abs(means - bound) > stats.norm.ppf(0.975) * spread / math.sqrt(int(count))
    assert of == "images" and abs(decided.mean() - 0.8) < 3 * math.sqrt(0.16 / many)


def test_nothing_is_said_without_an_interval_and_no_number_where_the_value_lies_on_the_bound() -> None:
    assert deciding.replicates(statistics.NO_RUNS, 0, "images") == ""
    assert deciding.replicates(statistics.counted(3), 0, "images") == ""
    assert deciding.replicates(Estimate(0.5, 0.4, 0.6, 10), 0.5, "images") == "more than 100,000 images"
    assert deciding.replicates(Estimate(0.5001, 0.4, 0.6, 10), 0.5, "images") == "more than 100,000 images"
    assert contrasts.replicates_to_decide(Estimate(0.5, 0.4, 0.6, 10), 0.5) is None


def test_a_margin_is_decided_by_the_distance_to_it() -> None:
    ones, others = [1.0, 2.0, 3.0, 4.0, 5.0], [1.5, 2.5, 3.5, 4.5, 5.5]
    groups = [(ones, 1.0), (others, -1.0)]
    spread = float(np.std(ones, ddof=1))
    for margin, effect in ((0.0, 0.5), (2.0, 1.5)):
        needed = contrasts.runs_to_decide(effect, spread)
        assert deciding.runs(groups, 5, margin) == f"{needed} runs an arm"
    assert deciding.runs([(ones, 1.0), ([1.0], -1.0)], 5) == ""
    assert deciding.runs([(ones, 1.0), ([3.0 + 1e-9] * 5, -1.0)], 5) == "more than 10,000 runs an arm"
