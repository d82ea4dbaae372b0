import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from manifold_lab import draw_embedding, named, sample, stream, theory
from manifold_lab.core.errors import InputError
from manifold_lab.random_layer.manifolds import ManifoldSpec


def signs(ambient: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product((1.0, -1.0), repeat=ambient)), dtype=torch.float64)


def binomial_tail(ambient: int, needed: int) -> Fraction:
    return Fraction(sum(math.comb(ambient, k) for k in range(needed, ambient + 1)), 2**ambient)


# ── Counting ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ambient", range(1, 13))
def test_preserved_and_collapsed_fractions_count_the_sign_patterns(ambient):
    count = np.array([pattern.bit_count() for pattern in range(2**ambient)])
    for needed in range(ambient + 2):
        expected = (count >= needed).mean()
        assert float(theory.preserved_fraction(ambient, needed)) == pytest.approx(expected, abs=1e-14)
        assert float(theory.collapsed_fraction(ambient, needed)) == pytest.approx(1 - expected, abs=1e-14)


@pytest.mark.parametrize(("m", "printed"), [(2, 0.25), (3, 0.5), (5, 0.8125), (15, 0.999512), (30, 1 - 2.9e-8)])
def test_theorem_1_in_the_plane(m, printed):
    assert float(theory.preserved_fraction(m, 2)) == pytest.approx(float(binomial_tail(m, 2)), rel=1e-14)
    assert float(theory.collapsed_fraction(m, 2)) == pytest.approx(1 - printed, rel=0.02)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_biased_rows_are_counted_by_a_binomial_of_their_own_chance(p):
    assert float(theory.preserved_fraction(9, 4, p)) == pytest.approx(stats.binom.sf(3, 9, p), rel=1e-12)
    lost = sum(stats.binom.pmf(c, 9, p) * max(4 - c, 0) for c in range(10)) / 4
    assert float(theory.information_dimension_loss(9, 4, p)) == pytest.approx(lost, rel=1e-12)


@pytest.mark.parametrize(("m", "n"), [(144, 24), (96, 16), (960, 160), (2, 2), (7, 3)])
def test_log2_of_the_collapsed_fraction_in_exact_integers(m, n):
    exact = math.log2(sum(math.comb(m, k) for k in range(n))) - m
    assert theory.log2_collapsed_fraction(m, n) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize(("n", "some", "nearly_all"), [(2, 11, 25), (8, 27, 46), (32, 85, 113), (128, 295, 343)])
def test_smallest_ambient_dimension_that_keeps_99_percent_or_all_but_a_millionth(n, some, nearly_all):
    for smallest, level in ((some, 0.99), (nearly_all, 0.999999)):
        assert theory.preserved_fraction(smallest, n) >= level > theory.preserved_fraction(smallest - 1, n)


@pytest.mark.parametrize(("m", "k", "loss"), [(2, 2, 0.5), (3, 2, 0.3125), (5, 2, 0.109375), (16, 8, 0.098)])
def test_information_dimension_loss_counts_missing_rows(m, k, loss):
    count = np.array([pattern.bit_count() for pattern in range(2**m)])
    found = float(theory.information_dimension_loss(m, k))
    assert found == pytest.approx((k - count).clip(min=0).mean() / k, rel=1e-12)
    assert found == pytest.approx(loss, abs=5e-4)


@pytest.mark.parametrize("n", [1, 2, 5, 24, 160])
def test_a_full_dimensional_bottleneck_loses_exactly_half_its_dimension(n):
    assert float(theory.information_dimension_loss(n, n)) == pytest.approx(0.5, rel=1e-10)


def test_wide_layers_give_numbers_and_not_nan():
    values = [
        theory.preserved_fraction(10**6, 100),
        theory.information_dimension_loss(10**6, 100),
        theory.log2_collapsed_fraction(10**6, 100),
        theory.injectivity_lower_bound(5000, 50),
        theory.injectivity_probability(5000, 2),
    ]
    assert np.isfinite(np.array([float(v) for v in values])).all()
    assert [float(v) for v in values[:2]] == pytest.approx([1, 0], abs=1e-12)


@pytest.mark.parametrize(("n", "m", "holds"), [
    (24, 144, False), (16, 96, False), (160, 960, False), (2, 3, False), (2, 5, False),
    (2, 15, True), (2, 30, True), (2, 60, True),
])  # fmt: skip
def test_the_papers_closing_bound_against_exact_integers(n, m, holds):
    chain = theory.paper_bounds(m, n)
    collapsed = sum(math.comb(m, k) for k in range(n))
    assert chain.last_step_holds is holds is (collapsed**2 <= 2**m)
    assert chain.exact <= chain.middle
    assert chain.vacuous is (m ** (n + 1) >= 2**m)


@pytest.mark.parametrize("t", [2, 4, 6])
def test_the_middle_bound_says_nothing_at_24_channels(t):
    assert theory.paper_bounds(24 * t, 24).vacuous


@pytest.mark.parametrize(("low", "high", "bias"), [(0.0, math.inf, 0.0), (0.0, 6.0, 0.5), (-1.0, 1.0, -2.0)])
def test_active_probability_is_a_normal_interval(low, high, bias):
    radius = np.array([0.3, 1, 10])
    law = stats.norm(bias, radius)
    found = theory.active_probability(radius, bias, (low, high))
    assert found == pytest.approx(law.cdf(high) - law.cdf(low), abs=1e-12)


@pytest.mark.parametrize("m", [1, 2, 3, 6])
def test_pairs_of_directions_collapse_with_chance_one_over_2_to_the_m_times_m_plus_1(m):
    points = 2000
    x = sample(ManifoldSpec("circle"), points, stream(0, "circle")).x
    assert theory.expected_collapsed_pairs(x, m) == pytest.approx(1 / (2**m * (m + 1)), rel=(m + 2) / points)


def test_too_many_pairs_are_not_averaged():
    assert theory.expected_collapsed_pairs(torch.ones(4097, 2, dtype=torch.float64), 2) is None


# ── Injectivity ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("m", range(3, 11))
def test_flipping_the_signs_of_any_rows_of_the_plane_gives_the_probability_of_injectivity_exactly(m, normal):
    flipped = signs(m)[..., None] * normal(f"flip {m}", m, 2)
    assert theory.is_injective(flipped).double().mean().item() == theory.injectivity_probability(m, 2)


@pytest.mark.parametrize(("m", "n"), [(5, 2), (6, 3), (8, 3), (8, 4)])
def test_half_spaces_without_active_rows_follow_wendel(m, n, normal):
    depth = theory.tukey_depth(signs(m)[..., None] * normal(f"wendel {m} {n}", m, n))
    expected = sum(math.comb(m - 1, i) for i in range(n)) / 2 ** (m - 1)
    assert (depth == 0).double().mean().item() == expected


@pytest.mark.parametrize("m", [7, 10])
def test_depths_in_the_plane_follow_the_bivariate_sign_test(m, normal):
    depth = theory.tukey_depth(signs(m)[..., None] * normal(f"hodges {m}", m, 2))
    for k in range(math.ceil(m / 3)):
        assert (depth <= k).double().mean().item() == (m - 2 * k) * math.comb(m, k) / 2 ** (m - 1)


@pytest.mark.parametrize(("n", "m"), [(2, 3), (2, 7), (2, 12), (3, 8)])
def test_tukey_depth_is_the_fewest_active_rows_over_many_directions(n, m, normal):
    matrix = normal(f"depth {n} {m}", 12, m, n)
    direction = normal(f"directions {n}", 100_000, n)
    brute = torch.stack([(direction @ t.T > 0).sum(1).min() for t in matrix])
    assert len(set(brute.tolist())) > 1
    assert torch.equal(theory.tukey_depth(matrix), brute)


def test_tukey_depth_on_a_line_is_the_rarer_sign():
    matrix = torch.tensor([[[1.0], [-2.0], [3.0]], [[1.0], [2.0], [3.0]]], dtype=torch.float64)
    assert theory.tukey_depth(matrix).tolist() == [1, 0]
    assert theory.is_injective(matrix).tolist() == [True, False]


@pytest.mark.parametrize("law", ["gaussian", "uniform"])
@pytest.mark.parametrize("m", [5, 8, 10])
def test_share_of_injective_draws_is_free_of_the_law(law, m, agrees):
    drawn = draw_embedding(law, (4000, m, 2), stream(0, law, m))
    agrees(theory.is_injective(drawn.matrix), theory.injectivity_probability(m, 2))


@pytest.mark.parametrize(("m", "known"), [(12, 0.328), (15, 0.702)])
def test_share_of_injective_draws_in_space(m, known, agrees, normal):
    injective = theory.is_injective(normal(f"space {m}", 3000, m, 3))
    agrees(injective, known, errors=4 * math.sqrt(2))  # `known` is itself a mean over draws
    assert theory.injectivity_lower_bound(m, 3) <= injective.double().mean()


@pytest.mark.parametrize("m", range(1, 31))
def test_the_union_bound_is_below_the_probability(m):
    assert theory.injectivity_lower_bound(m, 2) <= theory.injectivity_probability(m, 2)
    assert theory.injectivity_lower_bound(m, 1) == pytest.approx(theory.injectivity_probability(m, 1), abs=1e-15)


def test_the_union_bound_counts_cells_times_bad_patterns():
    cells = Fraction(2 * (1 + 39 + math.comb(39, 2)))
    assert theory.injectivity_lower_bound(40, 3) == pytest.approx(float(1 - cells * (1 - binomial_tail(40, 3))))


@pytest.mark.parametrize(("n", "m"), [(2, 7), (3, 9), (4, 12)])
def test_a_search_finds_no_fewer_active_rows_than_there_are_and_mostly_the_fewest(n, m, normal):
    matrix = normal(f"search {n} {m}", 40, m, n)
    found, depth = theory.fewest_active_found(matrix, stream(0, "search")), theory.tukey_depth(matrix)
    assert bool((found >= depth).all()) and (found == depth).double().mean() > 0.6
    unmoved = theory.fewest_active_found(matrix, stream(0, "search"), steps=0)
    assert bool((unmoved >= found).all()) and unmoved.sum() > found.sum()


def test_a_search_refutes_layers_of_sizes_that_no_exact_test_reaches(normal):
    matrix = normal("large", 5, 48, 16)
    assert bool((theory.fewest_active_found(matrix, stream(0, "search")) < 16).all())


def test_depths_with_too_many_directions_are_refused():
    with pytest.raises(InputError, match="directions"):
        theory.tukey_depth(torch.zeros(1, 1000, 3, dtype=torch.float64))


# ── Geometry ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_arc_cosine_kernel_is_the_mean_product_of_two_outputs(agrees, normal):
    x, other = torch.tensor([2.0, 0, 0]).double(), torch.tensor([-0.5, 1, 1]).double()
    rows = normal("kernel", 100_000, 3)
    norms = x.norm() * other.norm()
    kernel = theory.arc_cosine_kernel(norms, torch.arccos(x @ other / norms))
    agrees(torch.relu(rows @ x) * torch.relu(rows @ other), kernel.item())


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.3, math.pi / 2, 2.5, math.pi])
def test_distance_at_infinite_width_lies_between_the_one_over_root_2_and_the_distance(angle):
    r, s = 1.0, 0.4
    x = torch.tensor([[r, 0.0]], dtype=torch.float64)
    other = torch.tensor([[s * math.cos(angle), s * math.sin(angle)]], dtype=torch.float64)
    found = theory.infinite_width_distance(x, other).item()
    before = (x - other).norm().item()
    assert before / math.sqrt(2) - 1e-12 <= found <= before + 1e-12
    ends = {0.0: r - s, math.pi / 2: math.sqrt(r**2 + s**2 - 2 * r * s / math.pi), math.pi: math.hypot(r, s)}
    if angle in ends:
        assert found == pytest.approx(ends[angle], rel=1e-12)


def test_opposite_points_are_the_tight_end_of_the_distortion():
    x = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    assert theory.infinite_width_distance(x, -x).item() == pytest.approx(math.sqrt(2), rel=1e-12)


def test_distance_at_infinite_width_is_the_limit_of_wide_layers(agrees, normal):
    x, other = normal("pair", 2, 1, 4)
    rows = normal("wide", 100_000, 4)
    squared = 2 * (torch.relu(rows @ x[0]) - torch.relu(rows @ other[0])).square()
    agrees(squared, theory.infinite_width_distance(x, other).item() ** 2)


@pytest.mark.parametrize(("n", "c"), [(1, 1), (3, 3), (3, 5), (8, 24)])
def test_log_volume_is_half_the_mean_log_determinant(n, c, agrees, normal):
    rows = normal(f"volume {n} {c}", 20_000, c, n)
    agrees(torch.linalg.slogdet(rows.mT @ rows).logabsdet / 2, theory.expected_log_volume(n, c))


def test_too_few_rows_have_no_volume():
    assert theory.expected_log_volume(3, 2) == -math.inf


PULLBACK = [
    ("relu", 3.0, 0.5, 0.5), ("relu6", 10.0, 0.226, 0.026), ("gelu", 1.0, 0.456, 0.578),
    ("silu", 1.0, 0.380, 0.518), ("hardswish", 1.0, 0.359, 0.554), ("tanh", 1.0, 0.464, 0.108),
]  # fmt: skip


@pytest.mark.parametrize(("name", "radius", "across", "along"), PULLBACK)
def test_pullback_metric_of_wide_layers(name, radius, across, along):
    assert theory.pullback_coefficients(named(name).function, radius) == pytest.approx((across, along), abs=1e-3)


@pytest.mark.parametrize("radius", [0.5, 1.0, 4.0])
def test_pullback_metric_of_tanh_and_relu6_by_quadrature_and_in_closed_form(radius):
    found = theory.pullback_coefficients(torch.tanh, radius)
    for power, coefficient in zip((0, 2), found, strict=True):
        expected = integrate.quad(lambda z, p=power: z**p * stats.norm.pdf(z) / math.cosh(radius * z) ** 4, -12, 12)
        assert coefficient == pytest.approx(expected[0], abs=1e-6)
    edge = 6 / radius
    across = stats.norm.cdf(edge) - 0.5
    expected = (across, across - edge * stats.norm.pdf(edge))
    assert theory.pullback_coefficients(named("relu6").function, radius) == pytest.approx(expected, abs=1e-4)


def injective_layers(normal) -> torch.Tensor:
    matrix = normal("stability", 40, 12, 2)
    return matrix[theory.is_injective(matrix)]


def test_smallest_singular_value_over_cones_is_that_over_many_angles(normal):
    matrix = injective_layers(normal)
    angle = torch.linspace(0, 2 * math.pi, 20_001, dtype=torch.float64)
    direction = torch.stack([angle.cos(), angle.sin()], dim=1)
    for t, found in zip(matrix, theory.smallest_cell_singular_value(matrix), strict=True):
        brute = torch.linalg.svdvals((direction @ t.T > 0).double()[..., None] * t)[:, -1].min()
        assert brute > 0.01
        assert found == pytest.approx(brute.item(), rel=1e-9)


def test_layers_that_are_not_injective_have_no_smallest_singular_value(normal):
    matrix = normal("not stable", 200, 5, 2)
    smallest = theory.smallest_cell_singular_value(matrix)
    assert torch.equal(smallest > 1e-9, theory.is_injective(matrix))


def test_no_pair_of_points_comes_closer_than_the_lower_bound_and_neighbours_reach_the_upper(normal):
    pairs = torch.cat([normal("ends", 20_000, 2, 2), normal("antipodes", 20_000, 1, 2) * torch.tensor([[1], [-1]])])
    angle = torch.linspace(0, 2 * math.pi, 801, dtype=torch.float64)
    around = torch.stack([angle.cos(), angle.sin()], dim=1)
    steps = around[::2] * 1e-7
    layers = injective_layers(normal)[:5]
    for t, s in zip(layers, theory.smallest_cell_singular_value(layers), strict=True):
        low, high = theory.inverse_stability_bounds(s.item())
        first, second = torch.relu(pairs @ t.T).unbind(1)
        assert ((first - second).norm(dim=1) >= low * (pairs[:, 0] - pairs[:, 1]).norm(dim=1)).all()
        moved = torch.relu((around[:, None] + steps) @ t.T) - torch.relu(around[:, None] @ t.T)
        assert moved.norm(dim=-1).min().item() / 1e-7 == pytest.approx(high, rel=0.03)


def test_the_lower_bound_of_stability_is_reached_on_a_line():
    t, x = torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [-1.0]])
    reached = (torch.relu(x[0] @ t.T) - torch.relu(x[1] @ t.T)).norm() / 2
    assert reached.item() == pytest.approx(theory.inverse_stability_bounds(1.0)[0])
