"""What would decide what is undecided: so many replicates do, in about four of five studies."""

import math

import numpy as np
import pytest
from scipy import stats

from manifold_lab.core import contrasts, statistics
from manifold_lab.core.errors import InputError
from manifold_lab.core.statistics import Estimate
from manifold_lab.report import deciding

MANY = 4000
ERROR = 3 * math.sqrt(0.16 / MANY)


def number(words: str, of: str) -> int:
    count, said = words.split(maxsplit=1)
    assert said == of
    return int(count.replace(",", ""))


@pytest.mark.parametrize("tests", [1, 17])
@pytest.mark.parametrize(("effect", "bound"), [(0.3, 0.0), (0.6, 0.9)])
def test_replicates_leave_out_the_bound_by_an_interval_of_their_own(effect: float, bound: float, tests: int) -> None:
    z, n = float(stats.norm.isf(0.025 / tests)), 20
    half = z / math.sqrt(n)
    found = Estimate(effect, effect - half, effect + half, n)
    count = number(deciding.replicates(found, bound, "images", tests), "images")
    means = np.random.default_rng(0).normal(effect, 1 / math.sqrt(count), MANY)
    assert abs((np.abs(means - bound) > z / math.sqrt(count)).mean() - 0.8) < ERROR + 0.01


def test_seeds_leave_out_the_bound_by_students_test() -> None:
    values = np.array([0.2, 1.9, -0.6, 1.4, 0.9])
    count = number(deciding.seeds(values, 0.0, "seeds"), "seeds")
    draws = np.random.default_rng(0).normal(values.mean(), values.std(ddof=1), (MANY, count))
    assert abs((stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05).mean() - 0.8) < ERROR + 0.02
    assert deciding.seeds(values, -100.0, "seeds", fewest=5) == "5 seeds"
    assert deciding.seeds([1.0] * 5, 0, "seeds") == "seeds that differ from each other"
    assert deciding.seeds([1.0], 0, "seeds", fewest=5) == "5 seeds"


def test_runs_of_a_sterner_level_are_more_and_decide_as_often() -> None:
    level = 1 - 0.05 / 17
    count = contrasts.runs_to_decide(1.0, 1.5, paired=True, level=level)
    assert count is not None and count > (contrasts.runs_to_decide(1.0, 1.5, paired=True) or 0)
    draws = np.random.default_rng(0).normal(1.0, 1.5, (MANY, count))
    assert abs((stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 1 - level).mean() - 0.8) < ERROR + 0.03


@pytest.mark.parametrize(("share", "bound"), [(0.875, 0.5), (0.625, 0.5), (0.3, 0.5), (0.85, 0.9)])
def test_so_many_trials_tell_a_share_from_a_bound(share: float, bound: float) -> None:
    count = contrasts.trials_to_decide(share, bound)
    assert count is not None
    edges = stats.binom.ppf([0.025, 0.975], count, bound)
    power = stats.binom.cdf(edges[0] - 1, count, share) + stats.binom.sf(edges[1], count, share)
    assert abs(power - 0.8) < 0.12  # shares come in steps of one trial
    assert contrasts.trials_to_decide(bound, bound) is None
    with pytest.raises(InputError, match="share"):
        contrasts.trials_to_decide(1.5, bound)


def test_without_a_number_it_says_why_not() -> None:
    assert deciding.replicates(statistics.NO_RUNS, 0, "images") == "more images"
    assert deciding.replicates(Estimate(0.5, 0.4, 0.6, 10), 0, "images") == "more images"
    assert deciding.replicates(Estimate(0.5, 0.4, 0.6, 10), 0.5, "images") == "more than 100,000 images"
    assert deciding.replicates(Estimate(0.5001, 0.4, 0.6, 10), 0.5, "images") == "more than 100,000 images"


def test_a_margin_is_decided_by_the_distance_to_it() -> None:
    draws = np.random.default_rng(0)
    ones, others = [1.0, 2.0, 3.0, 4.0, 5.0], [1.5, 2.5, 3.5, 4.5, 5.5]
    groups = [(ones, 1.0), (others, -1.0)]
    for margin, distance in ((0.0, 0.5), (2.0, 1.5)):
        count = number(deciding.runs(groups, 5, margin), "runs an arm")
        first, second = (draws.normal(mean, np.std(ones, ddof=1), (MANY, count)) for mean in (distance, 0.0))
        assert abs((stats.ttest_ind(first, second, axis=1).pvalue < 0.05).mean() - 0.8) < ERROR + 0.02
    assert deciding.runs([(ones, 1.0), ([1.0], -1.0)], 5) == "5 runs an arm"
    assert deciding.runs([([1.0] * 5, 1.0), ([3.0] * 5, -1.0)], 5) == "runs an arm that differ from each other"
    assert deciding.runs([(ones, 1.0), ([3.0 + 1e-9] * 5, -1.0)], 5) == "more than 10,000 runs an arm"
