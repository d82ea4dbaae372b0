import math

import numpy as np
import pytest
import torch

from manifold_lab import (
    ACTIVATIONS,
    Embedding,
    ManifoldSpec,
    RandomLayer,
    draw_embedding,
    metrics,
    named,
    sample,
    stream,
)
from manifold_lab.core.errors import InputError


def channel(  # noqa: PLR0913
    activation="relu", *, m=6, n=3, bias=0.0, radius=1.0, manifold="blob", points=80
) -> RandomLayer:
    x = sample(ManifoldSpec(manifold, inputs=n, radius=radius), points, stream(0, "points", n)).x
    return RandomLayer(x, draw_embedding("gaussian", (5, m, n), stream(0, "embedding", m)), named(activation), bias)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_what_arrives_is_the_activation_of_tx_plus_bias(activation):
    layer = channel(activation, bias=0.4)
    for d in range(5):
        u = layer.x.numpy() @ layer.embedding.matrix[d].numpy().T + 0.4
        assert layer.y[d].numpy() == pytest.approx(named(activation)(torch.tensor(u)).numpy(), abs=1e-12)


@pytest.mark.parametrize(("activation", "bias"), [("relu", 0.0), ("relu", -0.7), ("relu6", 0.5), ("abs", 0.0)])
def test_preserved_points_have_active_rows_of_full_rank(activation, bias):
    layer = channel(activation, bias=bias, radius=4.0)
    window = named(activation).window
    for d in range(5):
        matrix = layer.embedding.matrix[d].numpy()
        u = layer.x.numpy() @ matrix.T + bias
        active = (u > window[0]) & (u < window[1])
        assert layer.preserved[d].tolist() == [np.linalg.matrix_rank(matrix[a]) == 3 for a in active]


@pytest.mark.parametrize("activation", ["identity", "leaky_relu", "tanh"])
def test_invertible_activations_lose_nothing_at_n_rows_or_more(activation):
    layer = channel(activation)
    assert layer.preserved.all()
    assert (metrics.collapsed_pairs(layer.y) == 0).all()
    assert not channel(activation, m=2).preserved.any()


def test_rotating_input_and_embedding_together_changes_nothing():
    layer = channel()
    q = torch.linalg.qr(torch.randn(3, 3, generator=stream(0, "turn"), dtype=torch.float64)).Q
    turned = Embedding(layer.embedding.matrix @ q, q.T @ layer.embedding.inverse)
    other = RandomLayer(layer.x @ q, turned, layer.activation)
    assert torch.allclose(other.y, layer.y)
    assert torch.equal(other.preserved, layer.preserved)
    for way in ("linear", "affine", "exact"):
        assert torch.allclose(getattr(other, way)(), getattr(layer, way)() @ q, atol=1e-8)


def test_permuting_the_rows_permutes_what_arrives_and_nothing_else():
    layer = channel()
    order = torch.randperm(6, generator=stream(0, "order"))
    mixed = Embedding(layer.embedding.matrix[:, order], layer.embedding.inverse[:, :, order])
    other = RandomLayer(layer.x, mixed, layer.activation)
    assert torch.equal(other.y, layer.y[..., order])
    for way in ("linear", "affine", "exact"):
        assert torch.allclose(getattr(other, way)(), getattr(layer, way)(), atol=1e-8)


def test_sums_of_products_are_those_of_the_decoded_points():
    layer = channel()
    weight = layer.preserved.double()
    x_hat = layer.linear()
    for w, found in ((torch.ones_like(weight), layer.linear_products()), (weight, layer.linear_products(weight))):
        expected = [
            torch.einsum("dp,dpn,dpn->d", w, a, b)
            for a, b in ((x_hat, layer.x.expand_as(x_hat)), (x_hat, x_hat), (layer.x.expand_as(x_hat),) * 2)
        ]
        assert all(torch.allclose(f, e) for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("activation", "bias", "radius"), [("relu", 0.0, 1.0), ("relu", 0.5, 1.0), ("relu6", 0.5, 6.0)]
)
def test_preimages_hold_their_point_and_only_points_with_the_same_image(activation, bias, radius):
    layer = channel(activation, m=3, n=2, bias=bias, radius=radius, manifold="circle", points=24)
    found = layer.preimage(1)
    x = layer.x.numpy()
    assert (found.low <= x + 1e-6).all()
    assert (x <= found.high + 1e-6).all()
    certain = layer.preserved[1].numpy()
    assert found.extent[certain] == pytest.approx(np.zeros(certain.sum()), abs=1e-5)
    assert (found.extent[~certain] > 1e-3).any()
    axis = np.linspace(-radius, radius, 301)
    grid = torch.tensor(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    y = layer.activation(grid @ layer.embedding.matrix[1].T + bias)
    for point in range(24):
        same = (y == layer.y[1, point]).all(-1)
        if same.sum() > 50:  # a region, not a segment that misses the grid
            assert found.low[point] == pytest.approx(grid[same].amin(0).numpy(), abs=0.03 * radius)
            assert found.high[point] == pytest.approx(grid[same].amax(0).numpy(), abs=0.03 * radius)


@pytest.mark.parametrize("activation", ["gelu", "silu", "hardswish", "abs"])
def test_activations_that_fold_have_no_polyhedra(activation):
    with pytest.raises(InputError, match="monotone"):
        channel(activation).preimage(0)


def two_points(distance: float) -> torch.Tensor:
    return torch.tensor([[[0.0, 0.0], [distance, 0.0]]], dtype=torch.float64)


def test_information_of_two_points_far_apart_is_log_2_and_of_equal_points_is_none():
    far = metrics.known_channel_information(two_points(100.0), 1.0, 2, stream(0))
    assert far.item() == pytest.approx(math.log(2), abs=1e-9)
    assert metrics.known_channel_information(two_points(0.0), 1.0, 2, stream(0)).item() == pytest.approx(0, abs=1e-12)


def test_information_of_two_near_points_is_the_integral(agrees):
    from scipy import integrate, stats  # noqa: PLC0415

    def density(z: float) -> float:
        mixed = (stats.norm.pdf(z) + stats.norm.pdf(z, 1.5)) / 2
        return -mixed * math.log(mixed)

    exact = integrate.quad(density, -9, 11)[0] - math.log(2 * math.pi * math.e) / 2
    codebook = two_points(1.5).expand(400, 2, 2).contiguous()
    agrees(metrics.known_channel_information(codebook, 1.0, 2, stream(0)), exact)


def test_information_of_a_long_line_is_its_length_in_noise():
    length, sigma = 1.0, 0.004
    line = torch.linspace(0, length, 2000, dtype=torch.float64)[:, None] * torch.tensor([0.6, 0.8], dtype=torch.float64)
    found = metrics.known_channel_information(line.expand(40, -1, -1).contiguous(), sigma, 64, stream(0))
    exact = math.log(length / (sigma * math.sqrt(2 * math.pi * math.e)))
    ends = 2 * 2 * sigma / length  # near an end part of the noise falls outside
    assert abs(found.mean().item() - exact) <= 4 * found.std().item() / math.sqrt(40) + ends


@pytest.mark.parametrize("sigma", [1e-4, 0.03, 0.3])
def test_information_never_exceeds_the_log_of_the_points_and_falls_with_noise(sigma):
    codebook = channel(points=50).y
    found = metrics.known_channel_information(codebook, sigma, 50, stream(0))
    assert (found <= math.log(50) + 1e-6).all()
    assert (metrics.known_channel_information(codebook, 10 * sigma, 50, stream(0)) <= found + 1e-6).all()


def test_information_does_not_see_where_the_code_lies():
    codebook = channel(points=50).y
    one, two = (metrics.known_channel_information(c, 0.3, 50, stream(0)) for c in (codebook, codebook + 5))
    assert torch.allclose(one, two, atol=1e-9)
