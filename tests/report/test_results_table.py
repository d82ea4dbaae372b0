import math

import numpy as np
import pytest
import torch
from scipy import stats

from manifold_lab import ManifoldSpec, MonteCarlo, layers, measure_layer, theory
from manifold_lab.core.statistics import ResultRow
from manifold_lab.random_layer.monte_carlo import input_information
from manifold_lab.report import results_table, tables
from manifold_lab.report.results_table import NO_MEAN, TYPICAL
from tests.tabled import tabled

CPU = torch.device("cpu")


def rows(shown: bool = False, **changes) -> list[ResultRow]:
    (layer,) = layers(MonteCarlo(**{"dims": (5,), "draws": 40, "points": 60, "information_draws": 3} | changes), CPU)
    return results_table.rows(layer, measure_layer(layer), shown)


def pick(found: list[ResultRow], quantity: str, decoder: str = "", statistic: str = "mean") -> ResultRow | None:
    wanted = (quantity, decoder, statistic)
    return next((row for row in found if (row.quantity, row.decoder, row.statistic) == wanted), None)


def test_theory_stands_only_where_a_closed_form_is_known():
    found = rows()
    assert pick(found, "preserved_fraction").theory == pytest.approx(0.8125)
    assert pick(found, "injective", statistic="probability").theory == pytest.approx(0.0625)
    assert pick(found, "information_dimension_loss").theory == pytest.approx(2**-5)
    assert pick(found, "reconstruction_error", "pinv").theory == pytest.approx(0.25 + 3 / 14)
    assert pick(found, "reconstruction_error", "affine").theory is None
    assert pick(found, "mutual_information").theory is None
    assert pick(found, "decoder_share").theory is None
    assert all(row.theory is None for row in found if row.statistic == "median")


def test_laws_without_a_closed_form_for_pinv_have_none():
    found = rows(embedding="uniform")
    assert pick(found, "reconstruction_error", "pinv").theory is None
    assert pick(found, "reconstruction_error", "exact").theory is None
    assert pick(found, "collapsed_pairs").theory is None
    assert pick(found, "preserved_fraction").theory == pytest.approx(0.8125)


@pytest.mark.slow
def test_signs_as_entries_have_no_theory_at_all():
    assert {row.theory for row in rows(embedding="rademacher") if "error" not in row.quantity} == {None}


def test_relu6_has_theory_for_counts_from_each_points_own_chance():
    found = rows(activation="relu6", manifold=ManifoldSpec("circle", radius=10.0))
    rng = theory.active_probability(np.array(10.0), 0.0, (0.0, 6.0))
    expected = 1 - (1 - rng) ** 5 - 5 * rng * (1 - rng) ** 4
    assert pick(found, "preserved_fraction").theory == pytest.approx(expected)
    assert pick(found, "reconstruction_error", "pinv").theory is None


@pytest.mark.parametrize("m", [2, 3])
def test_pinv_has_a_median_and_no_mean_where_its_law_has_none(m):
    found = rows(dims=(m,))
    assert pick(found, "reconstruction_error", "pinv") is None
    median = pick(found, "reconstruction_error", "pinv", "median")
    assert median.note == NO_MEAN
    assert math.isfinite(median.estimate.low)
    assert pick(found, "reconstruction_error", "affine") is not None
    assert pick(found, "reconstruction_error", "affine", "median").note == ""


@pytest.mark.parametrize(("m", "note"), [(4, results_table.HEAVY), (5, results_table.HEAVY), (6, "")])
def test_a_mean_without_a_variance_says_so(m, note):
    assert pick(rows(dims=(m,)), "reconstruction_error", "pinv").note == note


def test_orthonormal_columns_have_a_mean_at_every_dim():
    found = rows(dims=(2,), embedding="orthonormal")
    assert pick(found, "reconstruction_error", "pinv").theory == pytest.approx(0.25 + 0.25)


@pytest.mark.parametrize("changes", [{"dims": (1,)}, {"dims": (2,), "activation": "identity"}])
def test_errors_that_are_bounded_are_not_said_to_lack_a_mean(changes):
    # one row: x_hat is half of a projection or nothing; the identity: no error at all
    assert pick(rows(**changes), "reconstruction_error", "pinv", "median").note != NO_MEAN


def test_padded_embeddings_have_no_mean_at_any_dim():
    found = rows(dims=(15,), embedding="zero_pad")
    assert pick(found, "reconstruction_error", "pinv") is None
    assert pick(found, "reconstruction_error", "pinv", "median").note == NO_MEAN


def test_the_typical_draw_is_in_the_middle_by_share_and_by_error():
    share = np.array([0.9, 0.5, 0.5, 0.1, 0.5])
    error = np.array([0.0, 3.0, 1.0, 9.0, 2.0])
    drawn = {"preserved_fraction": share, "reconstruction_error/pinv": error}
    assert results_table.typical_draw(drawn) == 4
    assert results_table.typical_draw({"reconstruction_error/pinv": error}) == 4
    odd = {"reconstruction_error/pinv": np.random.default_rng(0).normal(size=101)}
    assert odd["reconstruction_error/pinv"][results_table.typical_draw(odd)] == np.median(
        odd["reconstruction_error/pinv"]
    )


def test_a_draw_with_the_median_share_and_an_extreme_error_is_not_typical():
    rng = np.random.default_rng(1)
    share, error = rng.normal(size=(2, 1001))
    error[np.argsort(share)[500]] = 100.0  # of continuous shares the median one is a single draw
    drawn = results_table.typical_draw({"preserved_fraction": share, "reconstruction_error/pinv": error})
    for values in (share, error):
        assert abs(stats.percentileofscore(values, values[drawn]) - 50) < 3


def test_rows_of_the_typical_draw_are_of_one_draw_and_only_where_shown():
    found = rows(shown=True)
    typical = [row for row in found if row.statistic == TYPICAL]
    assert {row.estimate.n for row in typical} == {1}
    drawn = measure_layer(layers(MonteCarlo(dims=(5,), draws=40, points=60), CPU)[0])
    share, error = drawn["preserved_fraction"], drawn["reconstruction_error/pinv"]
    away = np.maximum(*(abs(stats.rankdata(values) - 20.5) for values in (share, error)))
    message = pick(found, "preserved_fraction", statistic=TYPICAL).estimate.value
    other = pick(found, "reconstruction_error", "pinv", statistic=TYPICAL).estimate.value
    pairs = [(share[draw], error[draw]) for draw in np.flatnonzero(away == away.min())]
    assert any((message, other) == pytest.approx(pair) for pair in pairs)
    assert not [row for row in rows() if row.statistic == TYPICAL]


def test_estimates_are_means_and_medians_of_the_draws_and_know_their_number():
    (layer,) = layers(MonteCarlo(dims=(6,), draws=50, points=60), CPU)
    values = measure_layer(layer)
    found = results_table.rows(layer, values)
    for quantity, decoder in (("preserved_fraction", ""), ("reconstruction_error", "exact"), ("collapsed_pairs", "")):
        row = pick(found, quantity, decoder)
        drawn = values[f"{quantity}/{decoder}".rstrip("/")]
        assert row.estimate.value == pytest.approx(drawn.mean())
        assert row.estimate.low <= drawn.mean() <= row.estimate.high
        assert row.estimate.n == 50
    affine = pick(found, "reconstruction_error", "affine", "median")
    assert affine.estimate.value == np.median(values["reconstruction_error/affine"])
    assert pick(found, "mutual_information").estimate.n == 24


def test_bounded_quantities_have_intervals_within_their_bounds():
    for row in rows(dims=(12,)):
        if row.quantity in results_table.BOUNDED and row.statistic == "mean":
            assert 0 <= row.estimate.low <= row.estimate.high <= 1 + 1e-12
            assert row.estimate.high > row.estimate.low


def test_the_manifold_count_is_said_only_where_it_differs_from_the_whole_space():
    assert pick(rows(), "preserved_on_manifold") is None
    curve = rows(manifold=ManifoldSpec("trigonometric"), dims=(6,))
    assert pick(curve, "preserved_on_manifold").theory == pytest.approx(1 - 7 / 64)
    assert pick(curve, "preserved_fraction").theory == pytest.approx(1 / 64)


def test_folding_activations_say_that_their_share_is_a_lower_bound():
    assert pick(rows(activation="gelu"), "preserved_fraction").note == results_table.FOLDS
    assert pick(rows(), "preserved_fraction").note == ""


def test_the_inputs_own_information_belongs_to_no_dim_and_bounds_the_layers():
    (layer,) = layers(MonteCarlo(dims=(5,), draws=40, points=300), CPU)
    row = results_table.input_row(layer, input_information(layer))
    assert row.dim is None
    assert row.unit == "nats at sigma 0.03"
    assert (
        pick(results_table.rows(layer, measure_layer(layer)), "mutual_information").estimate.value < row.estimate.value
    )


def message(
    quantity: str, statistic: str, ends: tuple[str, str, str], decoder: str = "", **more: str
) -> dict[str, str]:
    line = dict.fromkeys(tables.RESULT_COLUMNS, "")
    line |= {"quantity": quantity, "statistic": statistic, "decoder": decoder, "dim": "3", "n": "1000"}
    return line | dict(zip(("estimate", "low", "high"), ends, strict=True)) | {"activation": "gelu"} | more


def test_a_sentence_quotes_means_and_medians_with_their_intervals_and_says_a_bound() -> None:
    numbers = [
        message(
            "preserved_fraction",
            "mean",
            ("0.25", "0.2", "0.3"),
            unit="fraction of points",
            note=results_table.FOLDS,
            theory="0.125",
        ),
        message("preserved_fraction", results_table.TYPICAL, ("0.9", "", "")),
        message("reconstruction_error", "median", ("0.436", "0.4", "0.5"), "pinv"),
        message("reconstruction_error", results_table.TYPICAL, ("1.05", "", ""), "pinv"),
    ]
    assert results_table.dim_sentence(tabled(numbers), 3) == (
        "dim 3: gelu lost at most 75.0 % of the points (70.0 % to 80.0 %, mean of 1,000 draws; at most 87.5 % by "
        "theory); "
        "median over draws: pinv gets 43.6 % (40.0 % to 50.0 %) of |x|² wrong."
    )
    (row,) = [row for row in results_table.summary_rows(tabled(numbers), 3) if row[1] == "points recoverable"]
    assert row[2:] == ["at least 25.0 %", "20.0 % to 30.0 %", "at least 12.5 %"]


def test_an_error_above_the_whole_is_said_in_times() -> None:
    numbers = [message("reconstruction_error", "median", ("1.05", "0.9", "1.2"), "pinv"),
               message("reconstruction_error", "median", ("0", "0", "0"), "exact")]  # fmt: skip
    assert results_table.dim_sentence(tabled(numbers), 3) == (
        "dim 3: median over draws: pinv gets 1.05 times (0.900 times to 1.20 times) |x|² wrong, "
        "solving on the active rows gives x back."
    )
