"""Measures that depend on ratios alone are the same at every scale of the cloud, and wherever it lies."""

import math

import numpy as np
import pytest
import torch

from manifold_lab import metrics, stream, theory
from manifold_lab.metrics.active_rows import active_rows

SINGLE = [1e-35, 1e-30, 1e-23, 1e-22, 1e-10, 1e10, 1e19, 1e30, 1e35]
DOUBLE = [1e-290, 1e-200, 1e-160, 1e160, 1e200, 1e290]
SCALES = [(scale, torch.float32) for scale in SINGLE] + [(scale, torch.float64) for scale in DOUBLE]


def cloud(name: str, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=stream(0, "scale", name), dtype=torch.float64)


def plane() -> torch.Tensor:
    """1500 points of a cube in three dimensions, turned into eight."""
    return cloud("plane", 1500, 3) @ torch.linalg.qr(cloud("turn", 8, 8) - 0.5).Q[:3]


def scaled(x: torch.Tensor, scale: float, kind: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """The cloud at a scale, and the unscaled cloud of the very same digits."""
    made = (x.to(kind) * scale).to(kind)
    mantissa = made.double() / scale if kind == torch.float32 else x
    return made, mantissa


@pytest.mark.parametrize(("scale", "kind"), SCALES)
def test_intrinsic_dimension_is_the_same_at_every_scale(scale, kind):
    made, plain = (metrics.neighbours(points, 10) for points in scaled(plane(), scale, kind))
    assert metrics.maximum_likelihood(plain, 10) == pytest.approx(3, rel=4 * 1.5 / math.sqrt(1500))
    for found, expected in (
        (metrics.maximum_likelihood(made, 10), metrics.maximum_likelihood(plain, 10)),
        (metrics.two_nn(made), metrics.two_nn(plain)),
        (metrics.likelihood_error(made, 10), metrics.likelihood_error(plain, 10)),
        (list(metrics.scale_scan(made).values()), list(metrics.scale_scan(plain).values())),
    ):
        assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shift", [1e3, 1e6, 1e8])
def test_intrinsic_dimension_is_the_same_wherever_the_cloud_lies(shift):
    here, there = (metrics.neighbours(plane() + step, 10) for step in (0, shift))
    assert metrics.maximum_likelihood(there, 10) == pytest.approx(metrics.maximum_likelihood(here, 10), rel=1e-4)


def test_distances_are_those_of_every_pair_also_between_far_clusters():
    points = torch.cat([1e-3 * cloud("near", 40, 3), 1e6 + 1e-3 * cloud("far", 40, 3)])
    every = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").sort(1).values[:, 1:6]
    found = np.sort(metrics.neighbours(points, 5).distance[:, 0])
    assert found == pytest.approx(np.sort(every[:, 0].numpy()), rel=1e-6)


def test_a_grid_has_equal_distances_and_no_finite_dimension():
    found = metrics.neighbours(torch.cartesian_prod(*[torch.arange(6.0)] * 3), 2)
    assert metrics.two_nn(found) == metrics.maximum_likelihood(found, 2) == metrics.scale_scan(found)[1] == math.inf
    assert math.isnan(metrics.likelihood_error(found, 2))


def test_some_ties_leave_the_scale_scan_at_its_maximum():
    found = metrics.neighbours(torch.cat([plane(), 9 + torch.cartesian_prod(*[torch.arange(3.0)] * 8)[:200]]), 4)
    log_ratio = np.log(found.distance[:, 3] / found.distance[:, 1])
    assert 0.01 < (log_ratio == 0).mean() < 0.5

    def likelihood(d: float) -> float:  # of ratio r at n1 = 2, without what does not depend on d
        return float(np.log(d * (-np.expm1(-d * log_ratio) / np.where(log_ratio > 0, 1, np.inf) + (log_ratio == 0) * d)
                            ).sum() - 2 * d * log_ratio.sum())  # fmt: skip

    best = metrics.scale_scan(found)[2]
    assert likelihood(best) > max(likelihood(0.99 * best), likelihood(1.01 * best))


@pytest.mark.parametrize(("scale", "kind"), SCALES)
def test_spectra_and_neighbourhoods_are_the_same_at_every_scale(scale, kind):
    y = torch.relu(cloud("y", 120, 4) - 0.3)
    (x_made, x), (y_made, y) = scaled(cloud("x", 120, 4), scale, kind), scaled(y, scale, kind)
    for measure in (metrics.participation_ratio, metrics.effective_rank):
        assert measure(y_made).item() == pytest.approx(measure(y).item(), rel=1e-5)
    for paired in (metrics.trustworthiness, metrics.continuity, metrics.information_imbalance):
        assert paired(x_made, y_made, stream(0)) == pytest.approx(paired(x, y, stream(0)), rel=1e-9)
    for read in (metrics.knn_r2, metrics.linear_r2):
        assert read(x_made, y_made) == pytest.approx(read(x, y), rel=1e-4)
    assert metrics.collapsed_pairs(y_made[None]).item() == metrics.collapsed_pairs(y[None]).item()


@pytest.mark.parametrize(("scale", "kind"), SCALES)
def test_ranks_and_information_are_the_same_at_every_scale(scale, kind):
    made, plain = scaled(cloud("matrix", 4, 6, 3) - 0.5, scale, kind)
    active = cloud("active", 4, 20, 6) > 0.5
    assert torch.equal(active_rows(made, active).rank, active_rows(plain, active).rank)
    code, same = scaled(cloud("code", 1, 50, 2), scale, kind)
    assert metrics.known_channel_information(code, 0.3 * scale, 50, stream(0)).item() == pytest.approx(
        metrics.known_channel_information(same, 0.3, 50, stream(0)).item(), rel=1e-4
    )


@pytest.mark.parametrize(("scale", "kind"), SCALES)
def test_closed_forms_of_points_are_the_same_at_every_scale(scale, kind):
    x, plain = scaled(cloud("x", 30, 3) - 0.5, scale, kind)
    assert theory.expected_collapsed_pairs(x, 4) == pytest.approx(theory.expected_collapsed_pairs(plain, 4), rel=1e-5)
    distance = theory.infinite_width_distance(x, x.flip(0)).double() / scale
    assert distance.numpy() == pytest.approx(theory.infinite_width_distance(plain, plain.flip(0)).numpy(), rel=1e-4)
    matrix, same = scaled(cloud("matrix", 4, 6, 3) - 0.5, scale, kind)
    assert theory.affine_r2(matrix).numpy() == pytest.approx(theory.affine_r2(same).numpy(), rel=1e-3)
