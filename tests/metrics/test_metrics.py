import math

import numpy as np
import pytest
import skdim
import torch
from scipy import optimize
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor

from manifold_lab import ManifoldSpec, draw_embedding, metrics, sample, stream
from manifold_lab.core.errors import InputError
from manifold_lab.metrics.active_rows import active_rows

DEGREE = math.pi / 180


def layer(x: torch.Tensor, matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.relu(x @ matrix.mT)
    return y, y > 0


def cloud(name: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=stream(0, name), dtype=torch.float64)


def rng(name: str = "jitter") -> torch.Generator:
    return stream(0, name)


# ── Active rows ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("law", ["gaussian", "rademacher"])
@pytest.mark.parametrize(("m", "n"), [(2, 2), (6, 3), (4, 5)])
def test_lemma_2_asks_for_the_rank_of_the_active_rows(law, m, n):
    matrix, x = draw_embedding(law, (8, m, n), stream(0, law, m)).matrix, cloud("x", 60, n)
    _, active = layer(x, matrix)
    found = metrics.preserved(active_rows(matrix, active))
    expected = [
        [np.linalg.matrix_rank(t[a]) == n for a in on] for t, on in zip(matrix.numpy(), active.numpy(), strict=True)
    ]
    assert found.tolist() == expected
    assert torch.equal(metrics.active_count(active), torch.tensor(active.numpy().sum(-1)))


def test_rows_that_repeat_count_once():
    x, rows = cloud("x", 100, 2), cloud("rows", 1, 2, 2)
    doubled = rows[:, [0, 0, 1, 1]]
    for matrix in (rows, doubled):
        assert metrics.preserved(active_rows(matrix, layer(x, matrix)[1])).sum() == ((x @ rows[0].T) > 0).all(1).sum()
    assert (metrics.active_count(layer(x, doubled)[1]) >= 2).sum() > metrics.preserved(
        active_rows(doubled, layer(x, doubled)[1])
    ).sum()


def test_signs_as_entries_lose_more_than_their_count_tells():
    matrix, x = draw_embedding("rademacher", (200, 4, 2), stream(0, "signs")).matrix, cloud("x", 50, 2)
    active = layer(x, matrix)[1]
    counted = (metrics.active_count(active) >= 2).double().mean()
    assert metrics.preserved(active_rows(matrix, active)).double().mean() < counted - 0.1


def test_the_rank_criterion_misses_a_unique_point_where_cells_meet():
    # rows at 90, 210 and 330 degrees: only x = 0 is sent to 0, yet no row is active there (erratum 8)
    angle = torch.tensor([90.0, 210.0, 330.0], dtype=torch.float64) * DEGREE
    matrix = torch.stack([angle.cos(), angle.sin()], dim=1)[None]
    origin = torch.zeros(1, 2, dtype=torch.float64)
    assert not metrics.preserved(active_rows(matrix, layer(origin, matrix)[1])).item()
    around = torch.linspace(0, 2 * math.pi, 1000, dtype=torch.float64)
    others = torch.stack([around.cos(), around.sin()], dim=1)
    assert layer(others, matrix)[0].amax(-1).min() > 0.49


def test_twins_on_a_curve_stop_at_two_active_rows():
    curve = sample(ManifoldSpec("trigonometric"), 2000, stream(0, "curve"))
    with_twin = {c: [] for c in range(5)}
    for matrix in draw_embedding("gaussian", (20, 6, 6), stream(0, "twins")).matrix:
        y, active = layer(curve.x, matrix)
        count = metrics.active_count(active)
        kept = metrics.preserved_on_manifold(active, 1, 6)
        assert torch.equal(kept, count >= 2)
        for c in range(5):
            index = (count == c).nonzero()[:, 0]
            if not len(index):
                continue
            pattern = (active[index, None] == active[None, index]).all(-1)
            near = torch.cdist(y[index], y[index]) < 1e-3 * curve.x.norm(dim=1).mean()
            apart = (curve.position[index, None] - curve.position[None, index]).abs()
            far = torch.minimum(apart, 1 - apart) > 0.01
            with_twin[c] += (pattern & near & far).any(1).tolist()
    share = {c: np.mean(found) for c, found in with_twin.items() if found}
    assert share[0] > 0.9
    assert 0.1 < share[1] < 0.6
    assert max(share[2], share[3], share[4]) < 0.02


def test_every_point_keeps_the_image_at_n_rows_of_n_if_the_manifold_is_large():
    active = torch.tensor([[True, True, False], [True, True, True]])
    assert metrics.preserved_on_manifold(active, 3, 3).tolist() == [False, True]
    assert metrics.preserved_on_manifold(active, 1, 3).tolist() == [True, True]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_dimension_loss_is_the_share_of_missing_rows(k):
    active = torch.arange(5)[:, None] > torch.arange(4)
    assert metrics.dimension_loss(active, k).tolist() == [max(k - c, 0) / k for c in range(5)]


@pytest.mark.parametrize("n", [2, 3, 5])
def test_exactly_half_of_an_antipodal_set_is_preserved_at_2n_minus_1_rows_by_every_draw(n):
    half = cloud("half", 100, n)
    x = torch.cat([half, -half])
    matrix = draw_embedding("gaussian", (30, 2 * n - 1, n), stream(0, "odd")).matrix
    kept = metrics.preserved(active_rows(matrix, layer(x, matrix)[1])).double().mean(1)
    assert torch.equal(kept, torch.full((30,), 0.5, dtype=torch.float64))


@pytest.mark.parametrize("factor", [1e-6, 3.0, 1e6])
def test_positive_scaling_changes_no_count(factor):
    x, matrix = cloud("x", 100, 3), cloud("rows", 5, 7, 3)
    assert torch.equal(*(metrics.active_count(layer(scaled, matrix)[1]) for scaled in (x, factor * x)))


def test_rotating_input_and_embedding_together_changes_nothing():
    x, matrix = cloud("x", 100, 3), cloud("rows", 5, 4, 3)
    q = torch.linalg.qr(cloud("rotation", 3, 3)).Q
    assert torch.equal(*(metrics.active_count(layer(a, b)[1]) for a, b in ((x, matrix), (x @ q, matrix @ q))))


# ── Neighbourhoods ────────────────────────────────────────────────────────────────────────────────────────────────


def codes(case: str) -> torch.Tensor:
    x = cloud("x", 150, 2)
    return {
        "relu": torch.relu(x @ cloud("few", 2, 2).T)[None],
        "clipped": 6.0 * torch.randint(0, 2, (1, 400, 4), generator=stream(0, "clip")),
        "wide and clipped": 6.0 * torch.randint(0, 2, (1, 400, 7), generator=stream(0, "clip")),
        "distinct": x[None],
        "constant": torch.zeros(1, 30, 3),
    }[case].double()


@pytest.mark.parametrize("case", ["relu", "clipped", "wide and clipped", "distinct", "constant"])
def test_collapsed_pairs_are_those_found_by_comparing_every_pair(case):
    y = codes(case)
    equal = (y[0, :, None] == y[0, None]).all(-1).sum().item()
    points = y.shape[1]
    assert metrics.collapsed_pairs(y).item() == pytest.approx((equal - points) / (points * (points - 1)), abs=1e-12)


def test_an_isometry_keeps_every_neighbour():
    x = cloud("x", 200, 3)
    y = torch.cat([x, torch.zeros(200, 4)], dim=1) @ torch.linalg.qr(cloud("turn", 7, 7)).Q
    assert metrics.trustworthiness(x, y, rng()) == pytest.approx(1, abs=1e-9)
    assert metrics.continuity(x, y, rng()) == pytest.approx(1, abs=1e-9)
    assert metrics.information_imbalance(x, y, rng()) == pytest.approx((2 / 200, 2 / 200))


def test_ties_between_collapsed_points_are_not_broken_by_their_order():
    x = sample(ManifoldSpec("circle"), 200, stream(0)).x
    y = x.clone()
    y[:150] = y[0]  # three quarters collapse to one point, in order
    mixed = torch.randperm(200, generator=stream(0, "order"))
    ordered = [metrics.trustworthiness(x, y, stream(s)) for s in range(10)]
    shuffled = [metrics.trustworthiness(x[mixed], y[mixed], stream(s)) for s in range(10)]
    error = math.hypot(np.std(ordered, ddof=1), np.std(shuffled, ddof=1)) / math.sqrt(10)
    assert abs(np.mean(ordered) - np.mean(shuffled)) <= 4 * error < 0.05


def test_information_imbalance_is_that_of_ranks_counted_one_by_one():
    x, y = cloud("x", 60, 2), cloud("y", 60, 3)
    expected = []
    for a, b in ((x.numpy(), y.numpy()), (y.numpy(), x.numpy())):
        ranks = []
        for i in range(60):
            near, far = (np.linalg.norm(c - c[i], axis=1) for c in (a, b))
            near[i] = far[i] = np.inf
            ranks.append(list(np.argsort(far)).index(np.argmin(near)) + 1)
        expected.append(2 * np.mean(ranks) / 60)
    assert metrics.information_imbalance(x, y, rng()) == pytest.approx(expected)


def test_information_imbalance_of_independent_clouds_is_one_and_of_a_projection_is_one_sided():
    x, other = cloud("x", 600, 2), cloud("other", 600, 2)
    uniform_rank = 4 * math.sqrt(4 / 12 / 600)
    assert metrics.information_imbalance(x, other, rng()) == pytest.approx((1, 1), abs=uniform_rank)
    there, back = metrics.information_imbalance(x, x[:, :1], rng())
    assert there < back / 3


def test_predictions_from_the_code_are_scikit_learns():
    x = sample(ManifoldSpec("spiral"), 300, stream(0)).x
    y = torch.relu(x @ cloud("rows that keep all", 9, 2).T)
    assert metrics.collapsed_pairs(y[None]).item() == 0
    for found, model in (
        (metrics.knn_r2(x, y), KNeighborsRegressor(5)),
        (metrics.linear_r2(x, y), LinearRegression()),
    ):
        rest = x[1::2].numpy()
        predicted = model.fit(y[::2].numpy(), x[::2].numpy()).predict(y[1::2].numpy())
        expected = 1 - ((rest - predicted) ** 2).sum() / ((rest - rest.mean(0)) ** 2).sum()
        assert 0.2 < expected < 1
        assert found == pytest.approx(expected, abs=1e-6)


def test_points_with_equal_codes_are_predicted_the_same_in_any_order():
    x = sample(ManifoldSpec("circle"), 400, stream(0)).x
    y = x.clone()
    y[:300] = y[0]
    found = metrics.knn_r2(x, y)
    shuffled = []
    for seed in range(20):
        order = torch.randperm(400, generator=stream(seed, "order"))
        shuffled.append(metrics.knn_r2(x[order], y[order]))
    assert abs(found - np.mean(shuffled)) <= 4 * np.std(shuffled, ddof=1)


# ── Spectrum ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_spectra_are_numpys_and_do_not_change_under_rotation():
    points = cloud("points", 80, 5) * torch.tensor([3.0, 2, 1, 0.5, 0.1])
    share = np.linalg.eigvalsh(np.cov(points.numpy().T))
    share /= share.sum()
    expected = 1 / (share**2).sum(), np.exp(-(share * np.log(share)).sum())
    for seen in (points, points @ torch.linalg.qr(cloud("turn", 5, 5)).Q + 7):
        found = metrics.participation_ratio(seen).item(), metrics.effective_rank(seen).item()
        assert found == pytest.approx(expected, rel=1e-9)


def test_spectra_of_a_line_and_of_a_cross():
    cross = torch.cat([torch.eye(4), -torch.eye(4)]).double()
    assert metrics.participation_ratio(cross).item() == pytest.approx(4)
    assert metrics.effective_rank(cross).item() == pytest.approx(4)
    line = torch.arange(9.0)[:, None] * torch.tensor([1.0, 2.0])
    assert metrics.participation_ratio(line).item() == pytest.approx(1)
    assert metrics.effective_rank(line).item() == pytest.approx(1)


# ── Intrinsic dimension ───────────────────────────────────────────────────────────────────────────────────────────


def cube(d: int, count: int = 1500) -> torch.Tensor:
    flat = torch.rand((count, d), generator=stream(0, "cube", d), dtype=torch.float64)
    return flat @ torch.linalg.qr(cloud("frame", 9, 9)).Q[:d]


@pytest.mark.parametrize("d", [1, 2, 5])
def test_dimensions_are_scikit_dimensions_on_the_same_points(d):
    points = cube(d)
    found = metrics.neighbours(points, 20)
    assert metrics.two_nn(found) == pytest.approx(skdim.id.TwoNN().fit(points.numpy()).dimension_, rel=1e-6)
    assert metrics.maximum_likelihood(found, 20) == pytest.approx(
        skdim.id.MLE().fit(points.numpy(), n_neighbors=20).dimension_, rel=1e-6
    )


@pytest.mark.parametrize("d", [2, 5])  # in one dimension theirs cuts off the largest ratios
def test_scale_scan_is_scikit_dimensions_at_every_scale(d):
    points = cube(d)
    scan = metrics.scale_scan(metrics.neighbours(points, 20))
    assert list(scan) == [1, 2, 4, 8]
    for n1, dimension in scan.items():  # theirs has N - 1 for N
        assert dimension == pytest.approx(skdim.id.GRIDE(n1=n1).fit(points.numpy()).dimension_, rel=2 / 1500)


@pytest.mark.parametrize("n1", [1, 2, 4])
def test_scale_scan_maximises_the_likelihood_of_the_ratio(n1):
    found = metrics.neighbours(cube(3), 8)
    log_mu = np.log(found.distance[:, 2 * n1 - 1] / found.distance[:, n1 - 1])

    def minus_likelihood(d: float) -> float:
        return -(np.log(d) + (n1 - 1) * np.log(np.expm1(d * log_mu)) - ((2 * n1 - 1) * d + 1) * log_mu).sum()

    best = optimize.minimize_scalar(minus_likelihood, (1, 5), method="brent")
    assert metrics.scale_scan(found)[n1] == pytest.approx(best.x, rel=1e-5)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_dimensions_of_a_cube(d):
    found = metrics.neighbours(cube(d), 10)
    for dimension in (
        metrics.two_nn(found),
        metrics.maximum_likelihood(found, 10),
        *metrics.scale_scan(found).values(),
    ):
        # one standard error is at most 1.5 d / sqrt(N): neighbours of neighbours are not independent; edges read low
        assert dimension == pytest.approx(d, rel=4 * 1.5 / math.sqrt(1500))


def test_duplicates_are_set_apart_and_do_not_move_the_dimension():
    points = cube(2)
    doubled = torch.cat([points, points[:500]])
    one, two = metrics.neighbours(points, 5), metrics.neighbours(doubled, 5)
    assert (one.duplicates, two.duplicates) == (0, pytest.approx(500 / 2000))
    assert metrics.two_nn(one) == metrics.two_nn(two)
    with pytest.raises(InputError, match="distinct"):
        metrics.neighbours(points[:1].expand(9, -1), 2)
