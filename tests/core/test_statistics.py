import math

import numpy as np
import pytest
import scipy.stats

from manifold_lab import draw_embedding, stream
from manifold_lab.core import contrasts, statistics
from manifold_lab.core.errors import InputError
from manifold_lab.core.statistics import Estimate

rng = np.random.default_rng


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (998, 1000), (1000, 1000)])
def test_proportion_has_the_exact_binomial_interval(successes, n):
    found = statistics.proportion(successes, n)
    exact = scipy.stats.binomtest(successes, n).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-12)
    assert (found.value, found.n) == (successes / n, n)


@pytest.mark.parametrize("n", [2, 7, 400])
def test_mean_has_students_interval(n):
    values = rng(0).exponential(size=n)
    found = statistics.mean(values)
    exact = scipy.stats.t.interval(0.95, n - 1, values.mean(), scipy.stats.sem(values))
    assert (found.low, found.high) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("n", [6, 9, 10, 101, 1000])
def test_median_has_the_interval_of_the_exact_quantile_test(n):
    values = rng(1).standard_cauchy(n)
    found = statistics.median(values)
    exact = scipy.stats.quantile_test(values, q=float(np.median(values)), p=0.5).confidence_interval(0.95)
    assert (found.low, found.high) == (exact.low, exact.high)
    assert found.value == np.median(values)


def test_median_covers_the_truth_of_a_law_without_a_mean():
    covered = sum(statistics.median(sample).covers(0.0) for sample in rng(2).standard_cauchy((1000, 25)))
    level = 1 - 2 * scipy.stats.binom.cdf(7, 25, 0.5)
    assert scipy.stats.binomtest(covered, 1000, level).pvalue > 1e-4


@pytest.mark.parametrize(("estimate", "too_few"), [(statistics.mean, 1), (statistics.median, 5)])
def test_too_few_values_have_no_interval(estimate, too_few):
    found = estimate(np.arange(float(too_few)))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert not math.isnan(estimate(np.arange(float(too_few + 1))).low)


@pytest.mark.parametrize(("ones", "n"), [(0, 50), (3, 50), (25, 50), (50, 50), (990, 1000)])
def test_interval_of_bounded_means_is_clopper_and_pearsons_on_zeros_and_ones(ones, n):
    values = np.repeat([0.0, 1.0], [n - ones, ones])
    found = [statistics.bounded_means(values[None], rng(seed))[0] for seed in range(20)]
    exact = scipy.stats.binomtest(ones, n).proportion_ci(0.95, "exact")
    for ends, end in (([e.low for e in found], exact.low), ([e.high for e in found], exact.high)):
        error = np.std(ends, ddof=1) / math.sqrt(20)  # of a quantile of the resampled means
        assert error < 0.01
        assert abs(np.mean(ends) - end) <= 4 * error + 1e-12


@pytest.mark.parametrize("n", [10, 300])
def test_all_ones_leave_room_for_what_was_not_seen(n):
    found = [statistics.bounded_means(np.ones((1, n)), rng(seed))[0] for seed in range(20)]
    lows = np.array([e.low for e in found])
    assert abs(lows.mean() - 0.025 ** (1 / n)) <= 4 * lows.std(ddof=1) / math.sqrt(20)
    assert (lows < 1).all()
    assert max(e.high for e in found) == pytest.approx(1, abs=1e-12)


LAWS = {
    "spread": (lambda rng: rng.beta(2, 5, (200, 60)), 2 / 7),
    "rare": (lambda rng: 1.0 * (rng.random((200, 60)) < 0.02), 0.02),
    "nearly all one": (lambda rng: 1 - 0.5 * (rng.random((200, 60)) < 0.03), 0.985),
}


@pytest.mark.parametrize("law", sorted(LAWS))
def test_interval_of_bounded_means_covers_the_truth(law):
    sample, truth = LAWS[law]
    covered = sum(found.covers(truth) for found in statistics.bounded_means(sample(rng(3)), rng(4)))
    assert scipy.stats.binomtest(covered, 200, 0.95, alternative="less").pvalue > 1e-4


def test_interval_of_bounded_means_is_not_wasteful_on_spread_values():
    sample, _ = LAWS["spread"]
    values = sample(rng(3))
    width = np.mean([e.high - e.low for e in statistics.bounded_means(values, rng(4))])
    student = np.mean([e.high - e.low for e in map(statistics.mean, values)])
    assert student * 0.9 < width < student * 1.35


def test_interval_of_many_bounded_values_in_groups_is_students():
    values = rng(5).beta(2, 5, 50_000)
    found, student = statistics.bounded_means(values[None], rng(6))[0], statistics.mean(values)
    half = student.high - student.value
    assert (found.low, found.high) == pytest.approx((student.low, student.high), abs=0.25 * half)
    assert found.value == pytest.approx(values.mean(), rel=1e-12)


def test_quantiles_are_numpys():
    values = rng(7).normal(size=37)
    found = statistics.quantiles(values)
    assert list(found.values()) == pytest.approx(np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))


def pinv_errors(m: int, draws: int) -> np.ndarray:
    drawn = draw_embedding("gaussian", (draws, m, 2), stream(0, "heavy", m))
    y = drawn.matrix[:, :, 0].clamp_min(0)
    x_hat = (drawn.inverse @ y[..., None]).squeeze(-1)
    return (x_hat.square().sum(1) - 2 * x_hat[:, 0] + 1).numpy()


def tail_index(values: np.ndarray, largest: int = 1000) -> float:
    """Hill's estimate."""
    top = np.sort(values)[-largest - 1 :]
    return 1 / np.log(top[1:] / top[0]).mean()


def test_the_error_of_pinv_has_a_mean_only_where_there_are_two_more_rows_than_inputs():
    # the tail index is (m - n + 1) / 2: no mean at 1 or below
    error = 4 / math.sqrt(1000)
    for m, index in ((2, 0.5), (3, 1.0), (5, 2.0)):
        found = tail_index(pinv_errors(m, 400_000))
        assert found == pytest.approx(index, rel=error + 0.1)  # and Hill's bias at this depth


def test_the_mean_error_of_pinv_at_three_rows_does_not_settle_while_its_median_does():
    values = pinv_errors(3, 409_600)

    def spread(estimate, size: int) -> float:
        low, high = np.quantile([estimate(part) for part in values.reshape(-1, size)], [0.1, 0.9])
        return high - low

    # sixteen times the draws: a mean with a variance would be four times as sharp
    assert spread(np.mean, 256) / spread(np.mean, 4096) < 2
    assert spread(np.median, 256) / spread(np.median, 4096) == pytest.approx(4, rel=0.3)


def test_paired_differences_have_students_interval_and_test():
    first, second = (dict(enumerate(rng(seed).normal(0.3 * seed, 1, 9))) for seed in (8, 9))
    found = statistics.paired(first, second)
    exact = scipy.stats.ttest_rel(list(first.values()), list(second.values()))
    interval = exact.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((interval.low, interval.high), rel=1e-10)
    assert found.p_value == pytest.approx(exact.pvalue, rel=1e-10)
    back = statistics.paired(second, first)
    assert back.difference.value == pytest.approx(-found.difference.value)
    assert back.p_value == pytest.approx(found.p_value)


def test_pairs_are_made_by_seed_whatever_the_order_and_only_of_shared_ones():
    found = statistics.paired({3: 30.0, 1: 11.0, 2: 22.5}, {1: 10.0, 2: 20.0, 4: 0.0})
    assert (found.difference.value, found.difference.n) == (1.75, 2)
    with pytest.raises(InputError, match="share none"):
        statistics.paired({1: 0.0}, {2: 0.0})


def test_pairing_takes_away_what_the_arms_share():
    shared = rng(10).normal(0, 10, 8)
    first = dict(enumerate(shared + rng(11).normal(1, 0.1, 8)))
    assert statistics.paired(first, dict(enumerate(shared))).exceeds(0) is True
    assert statistics.mean(np.array(list(first.values()))).low < shared.mean()


def test_the_verdict_lacks_runs_below_two_pairs_and_where_the_interval_holds_the_bound():
    one = statistics.paired({0: 5.0}, {0: 1.0})
    assert (one.difference.value, one.exceeds(0), math.isnan(one.p_value)) == (4.0, None, True)
    both = statistics.paired({0: 1.0, 1: 2.0, 2: 3.1}, {0: 0.0, 1: 1.0, 2: 2.0})
    assert [both.exceeds(bound) for bound in (0, 1.0, 2)] == [True, None, False]
    same = [statistics.paired({0: 1.0, 1: 2.0}, {0: 0.0 + gap, 1: 1.0 + gap}) for gap in (0.0, 1.0)]
    assert [pair.p_value for pair in same] == [0.0, 1.0]


def test_covers_is_closed():
    estimate = Estimate(0.5, 0.25, 0.75, 3)
    assert [estimate.covers(v) for v in (0.25, 0.75, 0.2, 0.8)] == [True, True, False, False]


def test_verdicts():
    assert [statistics.verdict(v) for v in (True, False, None)] == ["holds", "fails", "undecided"]


@pytest.mark.parametrize(
    ("ends", "holds"),
    [((-0.01, 0.02), True), ((0.02, 0.04), True), ((0.04, 0.19), None), ((0.06, 0.2), False), ((-0.2, -0.06), False),
     ((-0.06, 0.06), None), ((math.nan, math.nan), None)],
)  # fmt: skip
def test_an_estimate_is_within_a_margin_where_its_whole_interval_is(
    ends: tuple[float, float], holds: bool | None
) -> None:
    assert Estimate(sum(ends) / 2, *ends, 3).within(0.05) is holds


@pytest.mark.parametrize(("lost", "gained"), [(0, 1), (1, 1), (3, 4), (5, 5), (2, 30), (400, 460)])
def test_mcnemars_p_value_is_scipys(lost: int, gained: int) -> None:
    before = np.repeat([True, False, True], (lost, gained, 7))
    after = np.repeat([False, True, True], (lost, gained, 7))
    for first, second in ((before, after), (after, before)):
        found = statistics.paired_proportion(first, second).p_value
        assert found == pytest.approx(scipy.stats.binomtest(gained, lost + gained).pvalue, rel=1e-10)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("effect", [0.03, 0.2, 1.0, 3.0, 12.0, 100.0])
def test_runs_to_decide_are_the_fewest_with_the_power_of_students_test(effect: float, paired: bool) -> None:
    def power(runs: int) -> float:
        freedom, distance = (runs - 1, effect * runs**0.5) if paired else (2 * runs - 2, effect * (runs / 2) ** 0.5)
        edge = scipy.stats.t.isf(0.025, freedom)
        shown = scipy.stats.norm.rvs(distance, size=200_000, random_state=1)
        spread = np.sqrt(scipy.stats.chi2.rvs(freedom, size=200_000, random_state=2) / freedom)
        return float((np.abs(shown / spread) > edge).mean())

    found = contrasts.runs_to_decide(effect, 1.0, paired=paired)
    if found is None:
        assert power(10_000) < 0.8
        return
    assert power(found) > 0.8 - 0.005 and (found == 2 or power(found - 1) < 0.8 + 0.005)
