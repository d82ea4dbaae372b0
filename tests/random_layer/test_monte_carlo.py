import math

import numpy as np
import pytest
import torch
from scipy import stats

from manifold_lab import ManifoldSpec, MonteCarlo, custom, layers, measure_layer
from manifold_lab.core.errors import InputError
from manifold_lab.random_layer import monte_carlo
from manifold_lab.report import results_table

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CASES = {
    "spiral": ({}, (2, 3, 8)),
    "spiral, orthonormal": ({"embedding": "orthonormal"}, (2, 3, 8)),
    "spiral, uniform": ({"embedding": "uniform"}, (2, 3, 6)),
    "spiral, padded": ({"embedding": "zero_pad"}, (2, 5)),
    "spiral, leaky": ({"activation": "leaky_relu"}, (2, 8)),
    "spiral, relu6": ({"activation": "relu6", "manifold": ManifoldSpec(radius=10.0)}, (2, 5)),
    "spiral, bias": ({"bias": 0.5}, (2, 5)),
    "spiral, bias and gelu": ({"bias": -0.5, "activation": "gelu"}, (3,)),
    "sphere": ({"manifold": ManifoldSpec("sphere")}, (3, 8)),
    "sphere, orthonormal": ({"manifold": ManifoldSpec("sphere"), "embedding": "orthonormal"}, (3, 6)),
    "trigonometric": ({"manifold": ManifoldSpec("trigonometric")}, (4, 9)),
    "blob": ({"manifold": ManifoldSpec("blob", inputs=4)}, (4, 9)),
    "blob, orthonormal": ({"manifold": ManifoldSpec("blob", inputs=4), "embedding": "orthonormal"}, (5,)),
}


def spec(**changes) -> MonteCarlo:
    return MonteCarlo(**{"dims": (4,), "draws": 12, "points": 60, "information_draws": 2} | changes)


def measured(given=None, **changes) -> dict[str, np.ndarray]:
    (layer,) = layers(spec(**changes), CPU, given)
    return measure_layer(layer)


def same(one: dict, two: dict, rounding: float = 0.0) -> bool:
    return one.keys() == two.keys() and all(np.allclose(one[k], two[k], rtol=rounding, atol=rounding) for k in one)


@pytest.mark.parametrize("case", sorted(CASES))
def test_every_row_agrees_with_theory(case):
    changes, dims = CASES[case]
    compared = set()
    for layer in layers(spec(draws=1000, points=80, dims=dims, **changes), CPU):
        values = measure_layer(layer)
        for row in results_table.rows(layer, values):
            if row.theory is None or row.note == results_table.HEAVY:  # no variance, no standard error
                continue
            drawn = values[row.quantity + ("/" + row.decoder if row.decoder else "")]
            error = drawn.std(ddof=1) / math.sqrt(len(drawn))
            if row.quantity == "injective":
                error = math.sqrt(row.theory * (1 - row.theory) / len(drawn))
            # what all draws agree on may still happen once in many: less than ten times among all draws
            tolerance = 4 * error if error > 1e-12 else min(10 / len(drawn), 1e-6 + max(0.0, 1 - row.theory))
            assert abs(row.estimate.value - row.theory) <= tolerance, row
            if row.theory > 0.02 and error > 1e-12:
                assert tolerance < row.theory, "too few draws: a zero would pass"
                compared.add(row.quantity)
    assert "preserved_fraction" in compared or "leaky" in case


def test_the_share_preserved_by_two_rows_of_a_circle_is_uniform_up_to_one_half():
    kept = measured(manifold=ManifoldSpec("circle"), dims=(2,), draws=1000, points=4000)["preserved_fraction"]
    # steps of 1/4000 are far below what 1000 draws resolve
    assert stats.kstest(kept, stats.uniform(0, 0.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize("changes", [{}, {"manifold": ManifoldSpec("sphere")}, {"bias": 0.5}])
def test_equal_seeds_give_equal_values_and_others_do_not(changes):
    one, two, other = measured(**changes), measured(**changes), measured(seed=1, **changes)
    assert same(one, two)
    assert not np.allclose(one["reconstruction_error/pinv"], other["reconstruction_error/pinv"])
    assert not np.allclose(one["mutual_information"], other["mutual_information"])


@pytest.mark.parametrize("changes", [{}, {"manifold": ManifoldSpec("sphere")}])
def test_another_dim_or_more_draws_do_not_move_the_draws(changes):
    one = measured(**changes)
    among = measure_layer(layers(spec(dims=(3, 4, 9), **changes), CPU)[1])
    longer = measured(draws=40, **changes)
    assert same(one, among)
    information = one.pop("mutual_information")
    assert np.array_equal(information, longer.pop("mutual_information"))
    assert same(one, {name: values[:12] for name, values in longer.items()}, 1e-12)


@pytest.mark.parametrize("changes", [{}, {"manifold": ManifoldSpec("sphere")}, {"embedding": "zero_pad"}])
def test_values_do_not_depend_on_the_chunks(changes, monkeypatch):
    one = measured(draws=20, **changes)
    monkeypatch.setattr(monte_carlo, "CHUNK_BYTES", 1)
    assert same(one, measured(draws=20, **changes), 1e-8)


@pytest.mark.parametrize("changes", [{}, {"manifold": ManifoldSpec("sphere"), "draws": 30, "points": 400}])
def test_values_do_not_depend_on_the_number_of_threads(changes):
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(measured(**changes))
    finally:
        torch.set_num_threads(before)
    assert same(*found, 1e-6)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
@pytest.mark.parametrize("m", [2, 5])
def test_the_shortcut_for_the_plane_gives_what_the_general_way_gives(activation, m, monkeypatch):
    changes = {"dims": (m,), "activation": activation}
    short = measured(**changes)
    monkeypatch.setattr(monte_carlo.MonteCarloLayer, "planar", property(lambda _layer: False))
    assert same(short, measured(**changes), 1e-5)  # held-out errors of a fit to few points amplify rounding


def test_single_precision_agrees_with_double():
    one, two = (measured(dims=(8,), points=400, dtype=dtype) for dtype in ("float64", "float32"))
    for name in ("reconstruction_error/pinv", "mutual_information", "reconstruction_error/exact"):
        assert np.allclose(one[name], two[name], rtol=1e-3, atol=3e-3)  # a point at an edge may change sides


def test_a_draw_that_pinv_decodes_without_error_does_not_stop_the_survey(monkeypatch):
    monkeypatch.setattr(monte_carlo, "CHUNK_BYTES", 1)  # every draw is a chunk of its own
    found = measured(manifold=ManifoldSpec("circle"), bias=1.0, dims=(3,), draws=60, points=30)
    error = found["reconstruction_error/pinv"]
    assert (error < 1e-12).any()
    assert (error > 1e-3).any()


def test_dims_are_drawn_independently():
    three, four = (next(monte_carlo.draw_random_layer(layer, 16, 1)).matrix for layer in layers(spec(dims=(3, 4)), CPU))
    assert not torch.isclose(three.flatten()[:3, None], four.flatten()).any()


@pytest.mark.parametrize("changes", [{}, {"manifold": ManifoldSpec("sphere")}, {"bias": 0.5}])
def test_the_decoders_share_is_the_error_that_falls_on_preserved_points(changes):
    (layer,) = layers(spec(**changes), CPU)
    found = measure_layer(layer)["decoder_share"]
    drawn = torch.cat([part.matrix for part in monte_carlo.draw_random_layer(layer, 12, layer.bytes_per_draw)]).numpy()
    x = layer.points.x.numpy()
    for t, share in zip(drawn, found, strict=True):
        u = x @ t.T + layer.spec.bias
        error = (((np.maximum(u, 0) - layer.spec.bias) @ np.linalg.pinv(t).T - x) ** 2).sum(1)
        kept = [np.linalg.matrix_rank(t[on]) == x.shape[1] for on in u > 0]
        assert share == pytest.approx(error[kept].sum() / error.sum(), rel=1e-8)
    assert 0.05 < found.mean() < 0.95


@pytest.mark.parametrize("m", [3, 40])
def test_an_isometry_of_any_width_keeps_the_information(m):
    # sqrt(2/m) makes orthonormal columns of norm sqrt(m) stretch by sqrt(2): the noise is stretched with them
    changes = {"points": 300, "information_draws": 30, "draws": 30, "dims": (m,)}
    (layer,) = layers(spec(sigma=0.1, **changes), CPU)
    one = monte_carlo.input_information(layer)
    sent = {"embedding": "orthonormal", "activation": "identity", "sigma": 0.1 * math.sqrt(2)}
    two = measured(**changes, **sent)["mutual_information"]
    error = math.sqrt((one.var(ddof=1) + two.var(ddof=1)) / 30)
    assert 4 * error < 0.2
    assert abs(one.mean() - two.mean()) <= 4 * error


def test_padding_with_zeros_does_not_profit_from_width_as_the_papers_way_does():
    medians = {
        law: [
            np.median(measured(embedding=law, dims=(m,), draws=200, points=40)["reconstruction_error/pinv"])
            for m in (5, 30)
        ]
        for law in ("gaussian", "zero_pad")
    }
    assert medians["gaussian"][1] < 0.8 * medians["gaussian"][0]
    assert medians["zero_pad"][1] > 0.9 * medians["zero_pad"][0]


@pytest.mark.parametrize("dim", [10**9, 10**20])
def test_a_dim_that_does_not_fit_is_refused_with_the_largest_that_does(dim):
    with pytest.raises(InputError, match=r"needs .* GiB; at most \d+ fit here"):
        layers(spec(dims=(2, dim)), CPU)


def test_a_callable_without_a_window_has_no_row_about_preserved_points():
    (layer,) = layers(spec(), CPU, custom("softplus", torch.nn.functional.softplus))
    found = measure_layer(layer)
    named = {row.quantity for row in results_table.rows(layer, found)}
    assert {"reconstruction_error", "mutual_information", "collapsed_pairs"} <= named
    assert not named & {"preserved_fraction", "preserved_on_manifold", "information_dimension_loss", "injective"}
    assert "reconstruction_error/exact" not in found


def test_a_callable_with_all_its_properties_gives_what_the_built_in_gives():
    mine = custom("mine", torch.relu, window=(0.0, math.inf), slopes=(0.0, 1.0))
    assert same(measured(mine), measured())


def test_a_callable_that_gives_nan_on_the_way_is_refused():
    mine = custom("mine", lambda u: torch.where(u.abs() > 50, math.nan, u))
    with pytest.raises(InputError, match="must be finite"):
        measured(mine, manifold=ManifoldSpec(radius=500.0))


@pytest.mark.parametrize(("bad", "message"), [
    ({"activation": "rellu"}, "did you mean 'relu'"), ({"embedding": "gaussain"}, "did you mean 'gaussian'"),
    ({"dtype": "float16"}, "float32"), ({"dims": ()}, "dims"), ({"dims": (0,)}, "dims"), ({"draws": 0}, "draws"),
    ({"points": 7}, "points"), ({"sigma": 0.0}, "sigma"), ({"bias": math.nan}, "bias"), ({"seed": -1}, "seed"),
    ({"embedding": "zero_pad", "dims": (1,)}, "zero_pad"),
])  # fmt: skip
def test_what_cannot_be_run_is_refused(bad, message):
    with pytest.raises(InputError, match=message):
        layers(spec(**bad), CPU)
