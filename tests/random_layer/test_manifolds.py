import math

import numpy as np
import pytest
import torch
from scipy import stats

from manifold_lab import MANIFOLDS, ManifoldSpec, metrics, sample, stream
from manifold_lab.core.errors import InputError

CURVES = ("spiral", "circle", "line", "trigonometric")
FRACTAL_FREE = [("spiral", 1), ("circle", 1), ("line", 1), ("trigonometric", 1), ("swiss_roll", 2), ("sphere", 2)]
FRACTAL_FREE += [("torus", 2), ("blob", 2)]


def points(name: str, count: int, seed: int = 0, **spec):
    return sample(ManifoldSpec(name, **spec), count, stream(seed, "manifold"))


def test_the_spiral_is_archimedean_and_ends_at_its_radius():
    turns, count = 3.0, 4000
    x = points("spiral", count, turns=turns, radius=2.0).x
    r = x.norm(dim=1)
    angle = np.unwrap(torch.atan2(x[:, 1], x[:, 0]).numpy())
    assert r.numpy() == pytest.approx(2 * angle / (2 * math.pi * turns), rel=1e-9)
    assert r.max().item() == pytest.approx(2, abs=2e-3)


@pytest.mark.parametrize(("name", "turns"), [("spiral", 3.0), ("spiral", 0.4), ("circle", 3.0), ("line", 3.0)])
def test_curves_are_sampled_at_equal_steps_of_arc_length(name, turns):
    fine = points(name, 20_000, turns=turns).x
    step = (fine[1:] - fine[:-1]).norm(dim=1)[200:]  # a chord is its arc but at the centre, where it bends most
    assert (step / step.mean() - 1).abs().max() < 1e-3
    assert step.mean() > 1e-5


def test_length_of_the_spiral_in_closed_form():
    last = 2 * math.pi * 3
    fine = points("spiral", 20_000).x
    length = (fine[1:] - fine[:-1]).norm(dim=1).sum().item() * 20_000 / 19_999
    assert length == pytest.approx((last * math.hypot(1, last) + math.asinh(last)) / (2 * last), rel=1e-5)


@pytest.mark.parametrize(("name", "dimension"), FRACTAL_FREE)
def test_the_nearest_neighbours_see_the_dimension_that_the_manifold_states(name, dimension):
    assert points(name, 10).intrinsic == dimension
    fine = points(name, 40_000).x if name in CURVES else None
    found = []
    for seed in range(6):
        if fine is not None:  # equal steps tie the neighbours: take points of a fine curve by chance
            cloud = fine[torch.randperm(len(fine), generator=stream(seed, "choice"))[:1000]]
        else:
            cloud = points(name, 1000, seed).x
        found.append(metrics.two_nn(metrics.neighbours(cloud, 2)))
    spread = 4 * np.std(found, ddof=1)  # of one sample: its small bias is within that
    assert spread < dimension / 2
    assert abs(np.mean(found) - dimension) <= spread


@pytest.mark.parametrize("inputs", [4, 8])
def test_sphere_and_blob_state_their_dimension_in_higher_spaces(inputs):
    assert points("sphere", 10, inputs=inputs).intrinsic == inputs - 1
    assert points("blob", 10, inputs=inputs).intrinsic == inputs


@pytest.mark.parametrize(("name", "inputs"), [("circle", 2), ("sphere", 3), ("sphere", 7)])
@pytest.mark.parametrize("radius", [0.5, 10.0])
def test_circle_and_sphere_lie_at_their_radius(name, inputs, radius):
    x = points(name, 500, inputs=inputs, radius=radius).x
    assert x.shape == (500, inputs)
    assert x.norm(dim=1).numpy() == pytest.approx(np.full(500, radius))


@pytest.mark.parametrize("name", ["line", "trigonometric", "swiss_roll", "torus", "spiral"])
def test_the_radius_bounds_every_point_and_is_nearly_reached(name):
    farthest = points(name, 5000, radius=3.0).x.norm(dim=1).max().item()
    assert 0.95 * 3 < farthest <= 3 + 1e-12


def test_torus_satisfies_its_equation():
    x, y, z = (1.5 * points("torus", 1000).x).unbind(1)
    assert ((torch.hypot(x, y) - 1) ** 2 + z**2).numpy() == pytest.approx(np.full(1000, 0.25))


def test_torus_is_uniform_in_area():
    x, y, z = (1.5 * points("torus", 5000).x).unbind(1)
    tube = torch.atan2(z, torch.hypot(x, y) - 1).numpy() % (2 * math.pi)
    around = torch.atan2(y, x).numpy()
    assert stats.kstest(tube, lambda v: (v + 0.5 * np.sin(v)) / (2 * math.pi)).pvalue > 1e-3
    assert stats.kstest(tube, stats.uniform(0, 2 * math.pi).cdf).pvalue < 1e-3
    assert stats.kstest(around, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3


def test_sphere_is_uniform_in_area_by_archimedes():
    x = points("sphere", 5000).x
    assert all(stats.kstest(axis.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3 for axis in x.unbind(1))


def test_swiss_roll_is_a_roll_of_constant_height():
    x = points("swiss_roll", 5000).x * math.hypot(4.5 * math.pi, 10.5)
    angle = torch.hypot(x[:, 0], x[:, 2])
    assert torch.allclose(torch.stack([angle * angle.cos(), angle * angle.sin()], 1), x[:, [0, 2]])
    assert stats.kstest(x[:, 1].numpy(), stats.uniform(-10.5, 21).cdf).pvalue > 1e-3


def test_blob_is_normal_with_its_radius():
    x = points("blob", 3000, radius=2.0, inputs=3).x
    assert stats.kstest(x.flatten().numpy(), stats.norm(0, 2).cdf).pvalue > 1e-3


def test_line_is_straight_and_misses_the_origin_by_half_its_half_length():
    x = points("line", 101, inputs=5).x
    assert torch.linalg.matrix_rank(x - x.mean(0), rtol=1e-9) == 1
    half = (x[-1] - x[0]).norm().item() / 2 * 101 / 100
    assert x.norm(dim=1).min().item() == pytest.approx(half / 2, rel=1e-9)


def test_trigonometric_curve_is_closed_and_spans_its_space():
    x = points("trigonometric", 2000).x
    steps = (x - x.roll(1, 0)).norm(dim=1)
    assert steps[0] < 2 * steps[1:].max()
    assert torch.linalg.matrix_rank(x, rtol=1e-6) == 6


@pytest.mark.parametrize("name", sorted(MANIFOLDS))
def test_equal_seeds_give_equal_points_and_positions_lie_in_the_unit_interval(name):
    one, two = points(name, 100), points(name, 100)
    assert torch.equal(one.x, two.x)
    assert one.position.min() >= 0
    assert one.position.max() <= 1
    assert one.position.std() > 0.1


@pytest.mark.parametrize("name", ["line", "trigonometric", "swiss_roll", "sphere", "torus", "blob"])
def test_other_seeds_give_other_points(name):
    assert not torch.equal(points(name, 100).x, points(name, 100, seed=1).x)


@pytest.mark.parametrize(("bad", "message"), [
    ({"name": "spirall"}, "did you mean 'spiral'"), ({"name": "spiral", "inputs": 3}, "allowed: 2"),
    ({"name": "blob", "inputs": 10**6}, "allowed: 2 to"), ({"name": "sphere", "inputs": 1}, "allowed: 2 to"),
    ({"turns": 0.0}, "turns"), ({"turns": -1.0}, "turns"), ({"turns": math.nan}, "turns"),
    ({"radius": 0.0}, "radius"), ({"radius": math.inf}, "radius"),
])  # fmt: skip
def test_specs_that_cannot_be_built_are_refused(bad, message):
    with pytest.raises(InputError, match=message):
        ManifoldSpec(**bad)


def test_a_single_point_is_refused():
    with pytest.raises(InputError, match="points"):
        points("circle", 1)
