import pytest
import torch

from manifold_lab import (
    Cones,
    ManifoldSpec,
    RandomLayer,
    draw_embedding,
    metrics,
    named,
    plane_curve,
    reconstruct,
    sample,
    stream,
    theory,
)

ACTIVATIONS = ("relu", "leaky_relu", "identity", "abs")
DIMS = (1, 2, 3, 5, 15)
LAWS = ("gaussian", "orthonormal", "uniform", "zero_pad")


def both_ways(law: str, m: int, activation: str, manifold: str, dtype=torch.float64) -> tuple[Cones, RandomLayer]:
    x = sample(ManifoldSpec(manifold), 301, stream(0, "manifold")).x.to(dtype)
    drawn = draw_embedding(law, (12, m, 2), stream(0, "embedding", m))
    drawn = type(drawn)(drawn.matrix.to(dtype), drawn.inverse.to(dtype))
    kind = named(activation)
    return Cones(plane_curve(x), drawn, kind.slopes), RandomLayer(x, drawn, kind)


def close(found: torch.Tensor, expected: torch.Tensor, rounding: float = 1e-9) -> bool:
    return torch.allclose(found.double(), expected.double(), rtol=rounding, atol=rounding)


CASES = [(law, m, "spiral") for law in LAWS for m in DIMS if law != "zero_pad" or m >= 2]
CASES += [("gaussian", m, manifold) for manifold in ("circle", "blob") for m in DIMS]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("law", "m", "manifold"), CASES)
def test_cone_by_cone_is_point_by_point(law, m, activation, manifold):
    cones, channel = both_ways(law, m, activation, manifold)
    count = metrics.active_count(channel.active)
    assert close(cones.share(cones.active_count), count.double().mean(1))
    assert torch.equal(cones.share((cones.active_count >= 2).double()), (count >= 2).double().mean(1))
    for found, expected in zip(cones.linear_products(), channel.linear_products(), strict=True):
        assert close(found, expected)
    kept = cones.linear_products((cones.active_count >= 2).double())
    for found, expected in zip(kept, channel.linear_products((count >= 2).double()), strict=True):
        assert close(found, expected)
    error = (channel.exact() - channel.x).square().sum((1, 2)) / channel.x.square().sum()
    assert close(cones.exact_error(), error)
    assert close(reconstruct(cones), channel.linear())
    for half, expected in zip(cones.affine_moments(), channel.affine_moments(), strict=True):
        assert all(close(getattr(half, name), getattr(expected, name)) for name in ("x", "y", "xx", "xy", "yy"))


@pytest.mark.parametrize("m", DIMS)
def test_the_comparison_is_not_of_zeros(m):
    cones, channel = both_ways("gaussian", m, "relu", "spiral")
    assert channel.linear().abs().max() > 0.1
    assert 0 < cones.share(cones.active_count).mean() < m


@pytest.mark.parametrize("m", [2, 5, 8, 15])
def test_injective_by_cones_is_injective_by_depth(m):
    cones = Cones(
        plane_curve(sample(ManifoldSpec(), 50, stream(0)).x),
        draw_embedding("gaussian", (500, m, 2), stream(0)),
        (0.0, 1.0),
    )
    assert torch.equal(cones.injective(), theory.is_injective(cones.embedding.matrix))
    assert m != 8 or 0 < cones.injective().double().mean() < 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("m", [2, 5, 15])
def test_single_precision_agrees_to_a_thousandth(activation, m):
    fine, _ = both_ways("orthonormal", m, activation, "spiral")
    coarse, _ = both_ways("orthonormal", m, activation, "spiral", torch.float32)
    assert coarse.exact_error().dtype == torch.float32
    assert close(coarse.exact_error(), fine.exact_error(), 1e-3)
    for found, expected in zip(coarse.linear_products(), fine.linear_products(), strict=True):
        assert close(found / len(fine.curve.angle), expected / len(fine.curve.angle), 1e-3)
    # a point next to an edge of a cone may change sides
    step = 2 * m / len(fine.curve.angle)
    assert close(coarse.share(coarse.active_count), fine.share(fine.active_count), step)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_order_of_the_points_does_not_matter(activation):
    x = sample(ManifoldSpec("blob"), 200, stream(0, "manifold")).x
    order = torch.randperm(200, generator=stream(0, "order"))
    drawn = draw_embedding("gaussian", (5, 7, 2), stream(0))
    one, two = (Cones(plane_curve(points), drawn, named(activation).slopes) for points in (x, x[order]))
    assert close(reconstruct(one)[:, order], reconstruct(two))
    assert close(one.exact_error(), two.exact_error())
