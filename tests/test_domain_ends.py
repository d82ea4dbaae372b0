"""What the library answers at the ends of its domain: limits, empty samples, equal and repeated points."""

import math

import numpy as np
import pytest
import torch

from manifold_lab import metrics, stream, theory
from manifold_lab.core import contrasts, statistics
from manifold_lab.core.errors import InputError
from manifold_lab.random_layer import decoders


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=stream(0, "ends", *shape), dtype=torch.float64)


@pytest.mark.parametrize(
    ("bias", "window", "expected"),
    [(0.0, (0.0, math.inf), 0), (0.5, (0.0, 6.0), 1), (-1.0, (0.0, math.inf), 0), (7.0, (0.0, 6.0), 0)],
)
def test_at_the_origin_every_row_does_what_its_bias_says(bias, window, expected):
    assert theory.active_probability(np.array([0.0, 1e-9]), bias, window).tolist() == pytest.approx(
        [expected, 0.5 if bias == 0 else expected]
    )


def test_no_row_needed_is_always_there_and_more_than_all_never():
    assert float(theory.preserved_fraction(3, 0)) == 1 == 1 - float(theory.preserved_fraction(3, 4))
    assert theory.log2_collapsed_fraction(3, 0) == -math.inf
    assert theory.log2_collapsed_fraction(3, 4) == pytest.approx(0)
    assert (float(theory.information_dimension_loss(0, 2)), float(theory.preserved_fraction(0, 1))) == (1, 0)
    assert theory.poisson_binomial(np.zeros(0)).tolist() == [1]


def test_pairs_with_the_origin_and_equal_points_are_those_of_random_layers(agrees):
    x = torch.cat([torch.zeros(2, 2, dtype=torch.float64), normal(4, 2), normal(4, 2)[:2], 1e-13 * normal(2, 2)])
    draws = torch.relu(x @ normal(4000, 3, 2).mT)
    agrees(metrics.collapsed_pairs(draws).numpy(), theory.expected_collapsed_pairs(x, 3))


def test_the_distance_from_the_origin_is_the_norm():
    x = normal(5, 3)
    found = theory.infinite_width_distance(x, torch.zeros_like(x))
    assert found.numpy() == pytest.approx(x.norm(dim=1).numpy(), rel=1e-12)


def test_a_row_of_zeros_tells_an_affine_decoder_nothing():
    matrix = normal(2, 5, 2)
    more = torch.cat([matrix, torch.zeros(2, 1, 2, dtype=torch.float64)], dim=1)
    assert theory.affine_r2(more).numpy() == pytest.approx(theory.affine_r2(matrix).numpy(), rel=1e-9)


@pytest.mark.parametrize("slope", [1e200, -1e200])
def test_a_slope_beyond_all_others_reads_as_relu_does(slope):
    assert theory.channel_r2(slope) == pytest.approx(theory.channel_r2(0))


def test_points_that_do_not_vary_have_no_spectrum():
    constant = torch.full((7, 3), 0.1)
    for measure in (metrics.participation_ratio, metrics.effective_rank):
        assert math.isnan(measure(constant).item())
        both = measure(torch.stack([constant, normal(7, 3).float()]))
        assert [math.isnan(value) for value in both.tolist()] == [True, False]
    assert math.isnan(metrics.linear_r2(constant, constant)) and math.isnan(
        metrics.knn_r2(constant[:, :1], normal(7, 2), 2)
    )


def test_repeated_points_have_the_spectrum_and_the_dimension_of_the_points():
    points = normal(200, 4)
    twice = torch.cat([points, points])
    for measure in (metrics.participation_ratio, metrics.effective_rank):
        assert measure(twice).item() == pytest.approx(measure(points).item(), rel=1e-9)
    once, again = metrics.neighbours(points, 5), metrics.neighbours(twice, 5)
    assert (again.duplicates, metrics.two_nn(again)) == (0.5, metrics.two_nn(once))


def test_images_that_only_differ_beside_a_large_number_are_not_joined():
    y = torch.cat([torch.full((12, 1), 1e20), torch.tensor([[0.0], [1.0], [2.0]] * 4)], dim=1).double()[None]
    assert metrics.collapsed_pairs(y).item() == pytest.approx(3 * 4 * 3 / (12 * 11))


def test_no_draws_give_no_estimate():
    empty = np.zeros(0)
    none = [statistics.proportion(0, 0), statistics.mean(empty), statistics.median(empty)]
    none += statistics.bounded_means(np.zeros((1, 0)), np.random.default_rng(0))
    for found in none:
        assert found.n == 0
        assert found.exceeds(0) is None and math.isnan(found.value)
    assert all(map(math.isnan, statistics.quantiles(empty).values()))
    assert math.isnan(contrasts.squared_error([1.0]))


def test_one_unknown_draw_leaves_the_median_unknown_and_infinite_ones_do_not():
    values = np.arange(20.0)
    unknown = statistics.median(np.append(values, math.nan))
    assert (unknown.n, unknown.exceeds(-1)) == (21, None)
    assert math.isnan(unknown.value) and math.isnan(unknown.low) and math.isnan(unknown.high)
    infinite = statistics.median(np.append(values, [math.inf, -math.inf]))
    assert (infinite.value, infinite.low > 0) == (9.5, True)
    assert math.isnan(statistics.mean(np.array([math.inf, -math.inf, 1.0])).value)


def test_a_ratio_to_zero_is_unknown():
    found = contrasts.ratio(1.0, 0.0, [[0.1, 0.0], [0.0, 0.1]], 5)
    assert math.isnan(found.value) and found.exceeds(0) is None


def test_an_unknown_output_is_not_blamed_on_the_bias():
    y = normal(30, 4)
    y[3, 2] = math.nan
    with pytest.raises(InputError, match="y: NaN"):
        decoders.fit_affine(decoders.moments(normal(30, 2), y))
