import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.linear_model import LinearRegression

from manifold_lab import ManifoldSpec, RandomLayer, draw_embedding, named, sample, stream, theory
from manifold_lab.core.errors import InputError
from manifold_lab.metrics.active_rows import active_rows
from manifold_lab.random_layer import decoders

pytestmark = pytest.mark.slow

RECOVERABLE = [("relu", 0.0), ("relu", 0.5), ("relu6", 0.0), ("relu6", -1.0), ("leaky_relu", 0.0), ("tanh", 0.2)]
RECOVERABLE += [("gelu", 0.3), ("silu", 0.0), ("hardswish", -0.4), ("identity", 0.0)]


def channel(
    activation: str, *, m: int = 9, n: int = 3, bias: float = 0.0, radius: float = 3.0, law: str = "gaussian"
) -> RandomLayer:
    x = sample(ManifoldSpec("blob", inputs=n, radius=radius), 120, stream(0, "points", n)).x
    return RandomLayer(x, draw_embedding(law, (6, m, n), stream(0, "embedding", m, n)), named(activation), bias)


# ── Least squares on the active rows ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("activation", "bias"), RECOVERABLE)
def test_every_preserved_point_is_recovered_to_rounding(activation, bias):
    layer = channel(activation, bias=bias, radius=0.5 if activation == "tanh" else 6.0)
    kept = layer.preserved
    assert kept.double().mean() > 0.3
    if activation in ("relu", "relu6"):
        assert kept.double().mean() < 0.999
    error = (layer.exact() - layer.x).norm(dim=-1)
    condition = layer.rows.singular[:, 0] / layer.rows.singular[:, -1]
    assert (error[kept] <= 1e-10 * condition[layer.rows.group][kept]).all()


def test_relu6_rows_that_are_clipped_above_are_left_out():
    layer = channel("relu6", radius=6.0)
    assert (layer.y == 6).double().mean() > 0.1
    assert torch.equal(layer.active, (layer.y > 0) & (layer.y < 6))


@pytest.mark.parametrize("m", [2, 4, 9])
def test_least_squares_of_smallest_norm_is_numpys(m):
    layer = channel("relu", m=m)
    for d in range(3):
        matrix = layer.embedding.matrix[d].numpy()
        for point in range(0, 120, 5):
            on = layer.active[d, point].numpy()
            expected = np.linalg.lstsq(matrix[on], layer.y[d, point].numpy()[on])[0] if on.any() else np.zeros(3)
            assert layer.exact()[d, point].numpy() == pytest.approx(expected, abs=1e-8)


def test_inactive_entries_are_ignored_even_where_they_are_not_numbers():
    layer = channel("relu")
    value = torch.where(layer.active, layer.y, math.nan)
    assert torch.equal(decoders.exact_decode(layer.rows, value, layer.active), layer.exact())


@pytest.mark.parametrize("m", [2, 3, 8])
def test_rank_singular_value_and_volume_of_the_active_rows_are_numpys(m):
    layer = channel("relu", m=m)
    rows = active_rows(layer.embedding.matrix, layer.active)
    for d, point in [(d, p) for d in range(3) for p in range(0, 120, 7)]:
        taken = layer.embedding.matrix[d].numpy() * layer.active[d, point].numpy()[:, None]
        rank = np.linalg.matrix_rank(taken)
        assert rows.rank[d, point] == rank
        smallest, volume = (0, -math.inf) if rank < 3 else (
            np.linalg.svd(taken)[1][-1], np.linalg.slogdet(taken.T @ taken)[1] / 2,
        )  # fmt: skip
        assert rows.smallest_singular_value[d, point].item() == pytest.approx(smallest, rel=1e-9)
        assert rows.log_volume[d, point].item() == pytest.approx(volume, rel=1e-9)


# ── Preimages ─────────────────────────────────────────────────────────────────────────────────────────────────────

BOX = (np.array([-1.0, -1.0]), np.array([1.0, 2.0]))


@pytest.mark.parametrize("seed", range(6))
def test_preimage_boxes_hold_every_grid_point_with_the_same_image_and_are_tight(seed):
    matrix = draw_embedding("gaussian", (1, 3, 2), stream(seed, "preimage")).matrix[0].numpy()
    x = np.random.default_rng(seed).uniform(*BOX, (12, 2))
    u = x @ matrix.T
    found = decoders.preimage(matrix, np.where(u > 0, u, -np.inf), np.where(u > 0, u, 0.0), BOX)
    axes = [np.linspace(low, high, 401) for low, high in zip(*BOX, strict=True)]
    grid = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    image = np.maximum(grid @ matrix.T, 0)
    for point in range(12):
        active = (u[point] > 0).sum()
        if active == 0:
            same = grid[(image == 0).all(1)]
            assert found.low[point] == pytest.approx(same.min(0), abs=0.03)
            assert found.high[point] == pytest.approx(same.max(0), abs=0.03)
        elif active >= 2:
            assert found.extent[point] == pytest.approx(0, abs=1e-6)
            assert found.middle[point] == pytest.approx(x[point], abs=1e-6)
        else:  # a segment: walk along it
            row = matrix[u[point] > 0][0]
            along = x[point] + np.linspace(-4, 4, 8001)[:, None] * np.array([-row[1], row[0]]) / np.linalg.norm(row)
            inside = ((along >= BOX[0]) & (along <= BOX[1])).all(1)
            same = along[inside & (along @ matrix[u[point] <= 0].T <= 1e-12).all(1)]
            assert found.low[point] == pytest.approx(same.min(0), abs=2e-3)
            assert found.high[point] == pytest.approx(same.max(0), abs=2e-3)


def test_a_triangle_and_a_half_plane_clipped_to_the_box():
    corner = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    zero, free = np.zeros((1, 3)), np.full((1, 3), -np.inf)
    triangle = decoders.preimage(corner, free, np.array([[0.5, 0.5, 0.0]]), BOX)
    assert triangle.low[0] == pytest.approx([-0.5, -0.5], abs=1e-8)
    assert triangle.high[0] == pytest.approx([0.5, 0.5], abs=1e-8)
    half = decoders.preimage(corner[:1], free[:, :1], zero[:, :1], BOX)
    assert (half.low[0], half.high[0]) == (pytest.approx(BOX[0]), pytest.approx([0.0, 2.0]))
    assert half.extent[0] == pytest.approx(3)


def test_an_image_that_no_point_of_the_box_has_is_refused():
    with pytest.raises(InputError, match="no x of the box"):
        decoders.preimage(np.eye(2), np.full((1, 2), 9.0), np.full((1, 2), 9.0), BOX)


# ── Linear and affine ─────────────────────────────────────────────────────────────────────────────────────────────


def test_affine_decoder_is_scikit_learns_on_the_same_split():
    layer = channel("relu")
    for d in range(6):
        y = layer.y[d].numpy()
        expected = LinearRegression().fit(y[::2], layer.x[::2].numpy()).predict(y)
        assert layer.affine()[d].numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("activation", ["relu", "tanh", "abs"])
def test_affine_error_from_moments_is_the_error_over_the_points(activation):
    layer = channel(activation)
    fit, held_out = layer.affine_moments()
    found = decoders.affine_error(decoders.fit_affine(fit), held_out)
    expected = (layer.affine() - layer.x)[:, 1::2].square().sum(-1).mean(1)
    assert expected.min() > 1e-3
    assert torch.allclose(found, expected, rtol=1e-9)


def test_channels_that_never_fire_or_repeat_do_not_spoil_the_affine_decoder():
    layer = channel("relu", m=5)
    y = layer.y[0]
    doubled = torch.cat([y, y, torch.zeros_like(y)], dim=1)
    one, two = (decoders.fit_affine(decoders.moments(layer.x, code))(code) for code in (y, doubled))
    assert torch.allclose(one, two, atol=1e-6)


@pytest.mark.parametrize(("law", "m"), [("gaussian", 3), ("gaussian", 9), ("orthonormal", 5)])
def test_pinv_returns_half_of_x_and_half_of_what_it_makes_of_the_absolute_values(law, m):
    layer = channel("relu", m=m, law=law)
    u = layer.x @ layer.embedding.matrix.mT
    inverse = torch.linalg.pinv(layer.embedding.matrix)
    assert torch.allclose(layer.linear(), layer.x / 2 + u.abs() @ inverse.mT / 2, atol=1e-8)


@pytest.mark.parametrize("law", ["gaussian", "orthonormal", "uniform", "zero_pad"])
@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_linear_decoders_undo_what_the_identity_sends(law, bias):
    layer = channel("identity", law=law, bias=bias)
    assert layer.linear().abs().max() > 1
    assert torch.allclose(layer.linear(), layer.x.expand(6, -1, -1), atol=1e-9)
    assert torch.allclose(layer.linear(2.0), 2 * layer.x.expand(6, -1, -1), atol=1e-9)


# ── What theory says ──────────────────────────────────────────────────────────────────────────────────────────────

GATES = ("relu", "gelu", "silu", "hardswish")


@pytest.mark.parametrize(("n", "m", "printed"), [
    (2, 4, 0.3333), (2, 5, 0.2143), (2, 15, 0.0637), (2, 30, 0.0324), (8, 48, 0.0590), (64, 384, 0.0512),
])  # fmt: skip
def test_variance_of_the_papers_reconstruction(n, m, printed):
    assert theory.pinv_variance(m, n) == pytest.approx(printed, abs=5e-5)
    assert theory.pinv_error(m, n, (0.0, 1.0)) == pytest.approx(0.25 + printed, abs=5e-5)
    best = theory.best_scale(m, n, (0.0, 1.0))
    assert theory.pinv_error(m, n, (0.0, 1.0), best) == pytest.approx(4 * printed / (1 + 4 * printed), abs=2e-4)


@pytest.mark.parametrize("case", [
    ("gaussian", 2, 15, 6000), ("gaussian", 8, 48, 2000), ("orthonormal", 2, 2, 6000),
    ("orthonormal", 2, 5, 6000), ("orthonormal", 4, 4, 6000), ("orthonormal", 3, 9, 6000),
])  # fmt: skip
def test_variance_of_the_reconstruction_over_draws(case, agrees, normal):
    law, n, m, draws = case
    drawn = draw_embedding(law, (draws, m, n), stream(0, "variance", law, n, m))
    x = normal("a point", n)
    x_hat = (drawn.inverse @ torch.relu(drawn.matrix @ x)[..., None]).squeeze(-1)
    agrees((x_hat - x / 2).square().sum(1) / x.square().sum(), theory.pinv_variance(m, n, law))


def test_variance_is_infinite_just_above_the_input_dimension_and_unknown_below_it():
    assert theory.pinv_variance(3, 2) == theory.pinv_variance(2, 2) == math.inf
    # below it the error of one row is at most |x|^2, so that infinity would be wrong
    assert theory.pinv_variance(1, 2) is None
    assert theory.pinv_variance(1, 2, "orthonormal") is None
    assert theory.pinv_variance(9, 2, "uniform") is None


@pytest.mark.parametrize("slopes", [(0.0, 1.0), (0.01, 1.0), (-0.5, 1.0), (-1.0, 1.0), (2.0, 2.0)])
@pytest.mark.parametrize("law", ["gaussian", "orthonormal"])
def test_the_best_scale_is_the_minimum_of_the_error(slopes, law):
    best = theory.best_scale(7, 3, slopes, law)
    grid = np.linspace(best - 1, best + 1, 2001).tolist()
    errors = [theory.pinv_error(7, 3, slopes, scale, law) for scale in grid]
    assert grid[np.argmin(errors)] == pytest.approx(best, abs=1e-3)
    assert np.ptp(errors) > 0.1


@pytest.mark.parametrize("slopes", [(0.01, 1.0), (-0.5, 1.0)])
def test_error_of_a_scaled_reconstruction_over_draws(slopes, agrees, normal):
    drawn = draw_embedding("gaussian", (150_000, 12, 2), stream(0, "scaled"))
    x = normal("a point", 2)
    u = drawn.matrix @ x
    y = torch.where(u < 0, slopes[0] * u, slopes[1] * u)
    x_hat = 1.4 * (drawn.inverse @ y[..., None]).squeeze(-1)
    agrees((x_hat - x).square().sum(1) / x.square().sum(), theory.pinv_error(12, 2, slopes, 1.4))


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("law", ["gaussian", "orthonormal"])
def test_the_exact_decoder_errs_by_the_dimension_it_lacks(n, law, agrees, normal):
    m = n + 1
    drawn = draw_embedding(law, (6000, m, n), stream(0, "exact", law, n))
    x = normal("a point", n)
    rows = drawn.matrix * (drawn.matrix @ x > 0)[..., None]
    x_hat = (torch.linalg.pinv(rows) @ rows @ x[:, None]).squeeze(-1)
    agrees((x_hat - x).square().sum(1) / x.square().sum(), theory.exact_decoder_error(m, n))


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("radius", [0.3, 1.0, 10.0])
def test_gates_with_f_of_u_minus_f_of_minus_u_equal_to_u_shrink_by_one_half(name, radius):
    assert theory.gain(named(name).function, radius) == pytest.approx(0.5, abs=1e-7)


@pytest.mark.parametrize(("radius", "tanh"), [(0.3, 0.923), (1.0, 0.606), (3.0, 0.255), (10.0, 0.080)])
def test_saturating_activations_shrink_by_the_mean_slope(radius, tanh):
    assert theory.gain(named("relu6").function, radius) == pytest.approx(stats.norm.cdf(6 / radius) - 0.5, abs=1e-6)
    assert theory.gain(torch.tanh, radius) == pytest.approx(tanh, abs=1e-3)
    slope = integrate.quad(lambda z: stats.norm.pdf(z) / math.cosh(radius * z) ** 2, -12, 12, points=[0])[0]
    assert theory.gain(torch.tanh, radius) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize(("m", "printed", "draws"), [(2, 0.646, 8000), (3, 0.794, 8000), (5, 0.931, 8000)])
def test_mean_r2_of_the_best_affine_decoder(m, printed, draws, agrees, normal):
    # the printed mean is over 500 draws: its own error is the larger one
    r2 = theory.affine_r2(normal(f"affine {m}", draws, m, 2))
    agrees(r2, printed, errors=4 * math.sqrt(1 + draws / 500))


@pytest.mark.parametrize(("m", "n"), [(2, 2), (5, 2), (12, 4)])
def test_r2_of_the_best_affine_decoder_on_a_sample(m, n, agrees, normal):
    matrix = normal(f"one layer {m} {n}", 1, m, n)
    x = normal("gaussian inputs", 200_000, n)
    y = torch.cat([torch.relu(x @ matrix[0].T), torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    blocks = []
    for block_x, block_y in zip(x.numpy().reshape(20, -1, n), y.numpy().reshape(20, -1, m + 1), strict=True):
        residual = block_x - block_y @ np.linalg.lstsq(block_y, block_x)[0]
        blocks.append(1 - (residual**2).sum() / (block_x**2).sum())
    agrees(blocks, theory.affine_r2(matrix).item())
