"""Injectivity with a bias: closed values, brute force, laws, and searches for two points with one output."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import optimize

from manifold_lab import stream, theory
from manifold_lab.core.errors import InputError
from manifold_lab.theory.bias import (
    basis_bias,
    facet_bias,
    facets,
    is_omnidirectional,
    largest_basis,
    largest_planar_bias,
    projected_length,
    spanning_margin,
    unit_rows,
)
from manifold_lab.theory.certificates import (
    CERTIFIED,
    NOT_DECIDED,
    REFUTED,
    RectifiedLayer,
    certify,
    find_twins,
)

GOLDEN = (1 + math.sqrt(5)) / 2
ICOSAHEDRON = [
    tuple(np.roll((0.0, one, other * GOLDEN), turn)) for one in (1, -1) for other in (1, -1) for turn in range(3)
]
SOLIDS = {
    "tetrahedron": [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)],
    "octahedron": [*np.eye(3), *-np.eye(3)],
    "cube": list(itertools.product((1, -1), repeat=3)),
    "icosahedron": ICOSAHEDRON,
}


def rows(vectors: object) -> torch.Tensor:
    return unit_rows(torch.tensor(np.array(vectors, dtype=float)))


def polygon(m: int, turn: float = 0.0) -> torch.Tensor:
    return at_angles(2 * math.pi * np.arange(m) / m + turn)


def at_angles(angle: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.stack([np.cos(angle), np.sin(angle)], axis=1))


def best_bases(matrix: torch.Tensor, points: torch.Tensor) -> np.ndarray:
    """Brute force: for every point the largest, over all bases of rows, of the smallest <w_i, x>."""
    bases = [
        list(one)
        for one in itertools.combinations(range(len(matrix)), matrix.shape[1])
        if np.linalg.matrix_rank(matrix[list(one)].numpy()) == matrix.shape[1]
    ]
    value = (points @ matrix.mT).numpy()
    return np.max([value[:, one].min(axis=1) for one in bases], axis=0)


def on_sphere(name: str, points: int, inputs: int) -> torch.Tensor:
    return unit_rows(torch.randn((points, inputs), generator=stream(0, name), dtype=torch.float64))


def rotation(inputs: int, generator: torch.Generator) -> torch.Tensor:
    return torch.linalg.qr(torch.randn((inputs, inputs), generator=generator, dtype=torch.float64)).Q


# ── Sufficient biases ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("m", [3, 4, 5, 8, 15])
def test_the_bias_of_a_regular_polygon_is_the_cosine_of_its_side(m):
    matrix, expected = polygon(m, turn=0.3), math.cos(2 * math.pi / m)
    assert facet_bias(matrix, sphere=True).numpy() == pytest.approx(expected, abs=1e-12)
    assert largest_planar_bias(matrix) == pytest.approx(expected, abs=1e-12)
    assert facet_bias(matrix).numpy() == pytest.approx(min(expected, 0), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "by_facets", "largest"),
    [
        ("tetrahedron", -1 / math.sqrt(3), -1 / math.sqrt(3)),
        ("octahedron", 0, 0),
        ("cube", -1 / 3, 0),
        ("icosahedron", 1 / math.sqrt(5), 1 / math.sqrt(5)),
    ],
)
def test_the_biases_of_platonic_solids(name, by_facets, largest):
    matrix = rows(SOLIDS[name])
    edges = (matrix[:, None] + matrix).flatten(0, 1)
    edges = edges[edges.norm(dim=1) > 0.1]
    points = torch.cat([matrix, -matrix, unit_rows(edges), unit_rows(matrix[facets(matrix)].sum(1))])
    assert float(facet_bias(matrix, sphere=True).min()) == pytest.approx(by_facets, abs=1e-12)
    assert float(facet_bias(matrix, 3.0).min()) == pytest.approx(3 * min(by_facets, 0), abs=1e-12)
    assert best_bases(matrix, points).min() == pytest.approx(largest, abs=1e-12)
    assert best_bases(matrix, on_sphere(name, 2000, 3)).min() >= largest - 1e-12
    assert float(basis_bias(matrix, points).min()) == pytest.approx(largest, abs=1e-12)


@pytest.mark.parametrize("inputs", [2, 3, 5])
def test_below_the_bias_of_facets_some_facets_rows_are_active_at_every_point(inputs, normal):
    matrix = normal(f"rows {inputs}", 6 * inputs, inputs)
    bias, points = facet_bias(matrix, 2.0, sphere=True), 2 * on_sphere("points", 4000, inputs)
    active = points @ matrix.mT >= bias - 1e-12
    assert bool(active[:, facets(matrix)].all(-1).any(-1).all())
    closer = points * torch.rand((len(points), 1), generator=stream(0, "radius"), dtype=torch.float64)
    active = closer @ matrix.mT >= facet_bias(matrix, 2.0) - 1e-12
    assert bool(active[:, facets(matrix)].all(-1).any(-1).all())


@pytest.mark.parametrize("m", [3, 5, 9])
@pytest.mark.parametrize("seed", range(4))
def test_the_largest_bias_in_the_plane_is_that_of_a_fine_grid_and_never_below_the_facets(m, seed):
    matrix = at_angles(np.sort(np.random.default_rng(seed).uniform(0, 2 * math.pi, m)))
    grid = best_bases(matrix, at_angles(np.linspace(0, 2 * math.pi, 20_001)))
    found = largest_planar_bias(matrix)
    assert grid.min() - 2 * math.pi / 20_000 <= found <= grid.min() + 1e-12
    if is_omnidirectional(matrix):
        assert float(facet_bias(matrix, sphere=True).min()) <= found + 1e-12


def test_the_greedy_basis_is_the_best_of_all_bases(normal):
    matrix, points = unit_rows(normal("rows", 7, 3)), normal("points", 50, 3)
    matrix[4], matrix[5] = matrix[3], -matrix[2]  # dependent rows
    taken = largest_basis(matrix, points @ matrix.mT)
    assert bool((taken.sum(1) == 3).all())
    least = torch.where(taken, points @ matrix.mT, math.inf).amin(1)
    assert least.numpy() == pytest.approx(best_bases(matrix, points), abs=1e-12)
    assert spanning_margin(matrix, torch.zeros(7), points).numpy() == pytest.approx(least.numpy(), abs=1e-12)


def test_within_the_margin_of_a_point_the_active_rows_keep_spanning(normal):
    matrix, bias, points = normal("rows", 12, 4), normal("bias", 12) - 1, 2 * normal("points", 200, 4)
    margin = spanning_margin(matrix, bias, points)
    moved = points + 0.999 * margin[:, None] * on_sphere("moves", 200, 4)
    for x, at in zip(moved[margin > 0], margin[margin > 0], strict=True):
        assert np.linalg.matrix_rank(matrix[matrix @ x + bias > 0].numpy()) == 4 and at > 0
    lost = points[margin < 0]
    ranks = [np.linalg.matrix_rank(matrix[matrix @ x + bias > 0].numpy()) for x in lost]
    assert len(lost) > 10 and max(ranks) < 4


def test_a_margin_is_minus_infinity_where_all_rows_together_do_not_span():
    matrix = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]])
    assert spanning_margin(matrix, torch.ones(3), torch.zeros(1, 2)).tolist() == [-math.inf]
    with pytest.raises(InputError, match="do not span"):
        basis_bias(matrix, torch.ones(1, 2))


@pytest.mark.parametrize("m", [2, 3, 4, 6, 9])
def test_omnidirectional_rows_of_the_plane_leave_no_gap_of_half_a_turn(m):
    for seed in range(30):
        angle = np.sort(np.random.default_rng(seed).uniform(0, 2 * math.pi, m))
        widest = np.diff(angle, append=angle[0] + 2 * math.pi).max()
        assert is_omnidirectional(at_angles(angle)) is bool(widest < math.pi)


@pytest.mark.parametrize("corners", [2, 3, 5, 8])
def test_the_projection_onto_a_cone_is_that_of_non_negative_least_squares(corners, normal):
    cones, vectors = normal(f"cones {corners}", 100, corners, corners), normal(f"vectors {corners}", 100, corners)
    cones = torch.nn.functional.normalize(cones, dim=-1)
    pairs = list(zip(cones.numpy(), vectors.numpy(), strict=True))
    expected = [np.linalg.norm(cone.T @ optimize.nnls(cone.T, vector)[0]) for cone, vector in pairs]
    assert projected_length(cones, vectors).numpy() == pytest.approx(expected, abs=1e-10)


def test_what_facets_refuse():
    with pytest.raises(InputError, match="not omnidirectional"):
        facet_bias(torch.eye(3))
    with pytest.raises(InputError, match="from 2 to 8"):
        facet_bias(torch.ones(20, 9))
    with pytest.raises(InputError, match="radius"):
        facet_bias(polygon(5), 0.0)


# ── Certificates ──────────────────────────────────────────────────────────────────────────────────────────────────


def layer_of(matrix: torch.Tensor, bias: float | torch.Tensor = 0.0, high: float = math.inf) -> RectifiedLayer:
    matrix = matrix.double()
    return RectifiedLayer(matrix, matrix.new_zeros(len(matrix)) + bias, high)


def check_twins(layer: RectifiedLayer, twins: torch.Tensor | None, radius: float, sphere: bool) -> None:
    assert twins is not None
    y, length = layer(twins), twins.norm(dim=1)
    assert float((twins[0] - twins[1]).norm()) > 1e-6 * radius
    assert float((y[0] - y[1]).abs().max()) < 1e-12 * radius * float(layer.matrix.norm(dim=1).max())
    assert bool((length <= radius * (1 + 1e-12)).all()) and (not sphere or float(length.min()) > radius * (1 - 1e-12))


@pytest.mark.parametrize("name", SOLIDS)
def test_a_solid_is_certified_up_to_its_largest_bias_and_refuted_on_the_ball_above(name):
    matrix, largest = rows(SOLIDS[name]), {"tetrahedron": -1 / math.sqrt(3)}.get(name, 0.0)
    assert certify(layer_of(matrix, -largest), 1.0).verdict == CERTIFIED
    found = certify(layer_of(matrix, -largest - 0.05), 1.0)
    assert found.verdict == REFUTED
    check_twins(layer_of(matrix, -largest - 0.05), found.twins, 1.0, sphere=False)


@pytest.mark.parametrize("m", [4, 5, 6, 8, 12, 20])
def test_layers_without_bias_agree_with_the_exact_test(m):
    generator = stream(m, "layers")
    agreed = 0
    for inputs in (2, 3):
        matrices = torch.randn((8, m, inputs), generator=generator, dtype=torch.float64)
        for matrix, injective in zip(matrices, theory.is_injective(matrices).tolist(), strict=True):
            found = certify(layer_of(matrix), 1.0)
            assert found.verdict in ((CERTIFIED, NOT_DECIDED) if injective else (REFUTED, NOT_DECIDED))
            agreed += found.verdict != NOT_DECIDED
    assert agreed >= 0.9 * 16


def grid_of_disc(radius: float) -> np.ndarray:
    axis = np.linspace(-radius, radius, 151)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    return points[np.linalg.norm(points, axis=1) <= radius]


@pytest.mark.parametrize("high", [math.inf, 6.0])
def test_of_biased_layers_that_a_fine_grid_finds_injective_nine_in_ten_are_certified_and_no_other(high):
    generator, radius, injective, certified = stream(0, "biased", str(high)), 2.5, 0, 0
    points = grid_of_disc(radius)
    for _ in range(40):
        matrix = torch.randn((9, 2), generator=generator, dtype=torch.float64)
        bias = 1.5 * torch.randn(9, generator=generator, dtype=torch.float64) + 1.5
        y = points @ matrix.numpy().T + bias.numpy()
        active = ((y > 0) & (y < high))[..., None] * matrix.numpy()
        spans = bool((np.linalg.eigvalsh(active.swapaxes(1, 2) @ active)[:, 0] > 1e-9).all())
        found = certify(layer_of(matrix, bias, high), radius)
        assert spans or found.verdict != CERTIFIED
        injective += spans
        certified += found.verdict == CERTIFIED
        if found.verdict == REFUTED:
            check_twins(layer_of(matrix, bias, high), found.twins, radius, sphere=False)
    assert injective >= 10 and certified >= 0.9 * injective


def grid_of_ball(radius: float) -> np.ndarray:
    axis = np.linspace(-radius, radius, 31)
    points = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    shell = radius * on_sphere("shell", 4000, 3).numpy()
    return np.concatenate([points[np.linalg.norm(points, axis=1) <= radius], shell])


@pytest.mark.slow
def test_of_biased_layers_of_space_that_a_grid_finds_injective_nine_in_ten_are_certified_and_no_other():
    """What lies between the grid's points can be lost all the same: then two points with one output show it."""
    generator, radius, injective, certified, refuted = stream(0, "biased space"), 1.5, 0, 0, 0
    points = grid_of_ball(radius)
    for _ in range(24):
        matrix = torch.randn((10, 3), generator=generator, dtype=torch.float64)
        bias = torch.randn(10, generator=generator, dtype=torch.float64) + 0.3
        active = (points @ matrix.numpy().T + bias.numpy() > 0)[..., None] * matrix.numpy()
        spans = bool((np.linalg.eigvalsh(active.swapaxes(1, 2) @ active)[:, 0] > 1e-9).all())
        found = certify(layer_of(matrix, bias), radius)
        assert spans or found.verdict != CERTIFIED
        if found.verdict == REFUTED:
            check_twins(layer_of(matrix, bias), found.twins, radius, sphere=False)
            refuted += 1
        else:
            injective, certified = injective + spans, certified + (found.verdict == CERTIFIED)
    assert injective >= 6 and refuted >= 3 and certified >= 0.9 * injective


def test_on_a_circle_full_rank_at_every_point_is_found_by_the_grid_too():
    generator, circle, injective, certified = stream(0, "circle"), at_angles(np.linspace(0, 6.2832, 5000)), 0, 0
    for _ in range(25):
        matrix = torch.randn((10, 2), generator=generator, dtype=torch.float64)
        bias = 0.7 * torch.randn(10, generator=generator, dtype=torch.float64)
        spans = bool((spanning_margin(matrix, bias, circle) > 0).all())
        found = certify(layer_of(matrix, bias), 1.0, sphere=True)
        assert spans or found.verdict != CERTIFIED
        injective, certified = injective + spans, certified + (found.verdict == CERTIFIED)
        if found.verdict == REFUTED:
            check_twins(layer_of(matrix, bias), found.twins, 1.0, sphere=True)
    assert injective >= 8 and certified >= 0.9 * injective


def test_rows_that_are_active_at_their_edge_only_certify_no_sphere():
    """At 0.5 and -0.5 every row but the first is at its edge or inactive, and the first has the same value."""
    centre = np.array([0, 0.2, -0.2, 0.9, -0.9, 2.0, -2.0, 2.2, -2.2, math.pi])
    reach = np.array([1.2, 0.3, 0.3, 0.4, 0.4, 0.85, 0.85, 1.06, 1.06, 0.6])
    layer = layer_of(at_angles(centre), -torch.tensor(np.cos(reach)))
    grid = at_angles(np.linspace(-math.pi, math.pi, 1999))
    assert bool((spanning_margin(layer.matrix, layer.bias, grid) > -1e-3).all())
    pair = layer(at_angles(np.array([0.5, -0.5])))
    assert float((pair[0] - pair[1]).abs().max()) < 1e-15
    assert certify(layer, 1.0, sphere=True).verdict != CERTIFIED


def test_two_inputs_that_differ_along_what_no_row_sees_are_found_and_checked(normal):
    layer, x = layer_of(normal("rows", 3, 5)), normal("x", 5) / 10
    for sphere in (False, True):
        radius = float(x.norm()) if sphere else 1.0
        check_twins(layer, find_twins(layer, x, radius, sphere), radius, sphere)
    assert find_twins(layer_of(torch.eye(5), 1.0), x, 1.0) is None


def test_relu6_s_upper_clip_is_inactive():
    matrix = torch.cat([torch.eye(2), -torch.eye(2)]).double()
    assert certify(layer_of(matrix, 7.0), 1.0).verdict == CERTIFIED
    assert certify(layer_of(matrix, 7.5, high=6.0), 1.0).verdict == REFUTED
    assert certify(layer_of(matrix, 3.0, high=6.0), 1.0).verdict == CERTIFIED
    assert certify(layer_of(matrix, 0.0, high=6.0), 8.0).verdict == REFUTED
    both = torch.cat([matrix, matrix, matrix, matrix])
    shifts = torch.tensor([0.0, 4.0, -4.0, 2.0]).repeat_interleave(4)
    assert certify(layer_of(both, shifts, high=6.0), 7.0).verdict == CERTIFIED


def test_many_inputs_are_certified_where_rows_are_active_on_the_whole_ball_and_else_not_decided(normal):
    matrix = normal("wide", 60, 24)
    assert certify(layer_of(matrix, 1.01 * matrix.norm(dim=1)), 1.0).verdict == CERTIFIED
    found = certify(layer_of(matrix), 1.0)
    assert found.verdict == NOT_DECIDED and "24 inputs are above" in found.method
    with pytest.raises(InputError, match="radius"):
        certify(layer_of(matrix), 0.0)


@pytest.mark.parametrize("sphere", [False, True])
def test_rotation_scale_order_and_centre_do_not_change_a_verdict(sphere):
    generator, seen = stream(0, "laws"), set()
    for case in range(9):
        inputs = 2 + case % 2
        matrix = torch.randn((4 * inputs + 2, inputs), generator=generator, dtype=torch.float64)
        bias = torch.randn(len(matrix), generator=generator, dtype=torch.float64) * 0.5 + (0.8, 0.2, -1.0)[case // 3]
        layer, scale = layer_of(matrix, bias), torch.rand(len(matrix), generator=generator).double() + 0.1
        order, centre = torch.randperm(len(matrix), generator=generator), matrix.new_ones(inputs)
        others = [
            layer_of(matrix @ rotation(inputs, generator), bias),
            layer_of(scale[:, None] * matrix, scale * bias),
            layer_of(matrix[order], bias[order]),
            layer_of(matrix, bias - matrix @ centre).around(centre),
        ]
        verdict = certify(layer, 1.3, sphere).verdict
        assert {certify(one, 1.3, sphere).verdict for one in others} == {verdict}
        scaled = layer_of(matrix, 10 * bias)
        assert certify(scaled, 13.0, sphere).verdict == verdict
        seen.add(verdict)
    assert {CERTIFIED, REFUTED} <= seen


@pytest.mark.parametrize("inputs", [1, 3, 30])
def test_rows_with_their_opposites_are_certified_at_any_width_and_shift(inputs, normal):
    matrix, shift = normal("basis", inputs, inputs), normal("shift", inputs)
    both, scale = torch.cat([matrix, -matrix]), torch.cat([torch.ones(inputs), 2 * torch.ones(inputs)]).double()
    bias = torch.cat([shift, -shift])
    found = certify(layer_of(scale[:, None] * both, scale * bias), 9.0)
    assert found.verdict == CERTIFIED
    assert found.singular_value == pytest.approx(float(torch.linalg.svdvals(matrix)[-1]), rel=1e-6)
    apart = certify(layer_of(both, bias - 0.01), 9.0)
    same = certify(layer_of(both, bias), 9.0)
    assert same.singular_value == pytest.approx(float(torch.linalg.svdvals(matrix)[-1]), rel=1e-6)
    assert apart.verdict == (REFUTED if inputs <= 4 else NOT_DECIDED)


def test_scaling_is_no_law_of_relu6():
    matrix = torch.cat([torch.eye(2), -torch.eye(2)]).double()
    verdicts = [certify(layer_of(scale * matrix, 2.0 * scale, high=6.0), 1.0).verdict for scale in (1, 10)]
    assert verdicts == [CERTIFIED, REFUTED]


def test_the_certified_singular_value_is_below_that_of_every_cell(normal):
    checked = 0
    for seed in range(20):
        matrix = normal(f"plane {seed}", 14, 2)
        exact, found = float(theory.smallest_cell_singular_value(matrix[None])), certify(layer_of(matrix), 1.0)
        if found.verdict == CERTIFIED:
            assert found.singular_value is not None and 0 < found.singular_value <= exact + 1e-9
            checked += 1
    assert checked >= 15


# ── Searches for two points with one output ───────────────────────────────────────────────────────────────────────


def certified_layers(inputs: int, wanted: int, sphere: bool) -> Iterator[tuple[RectifiedLayer, float]]:
    """Random layers of one shape that are certified on the unit ball or sphere, as near to the edge as is known."""
    generator = stream(inputs, "certified", str(sphere))
    found = 0
    while found < wanted:
        matrix = torch.randn((max(inputs + 3, 12 - inputs), inputs), generator=generator, dtype=torch.float64)
        matrix[-1] = -torch.rand(len(matrix) - 1, generator=generator).double() @ matrix[:-1]
        if inputs <= 3 and found % 5 == 0:
            bias = matrix.norm(dim=1) * 0.6 * torch.rand(len(matrix), generator=generator).double()
        elif inputs == 1:
            bias = 1.1 * matrix[:, 0].abs() * torch.rand(len(matrix), generator=generator).double()
        else:
            try:
                least = facet_bias(matrix, sphere=sphere)
            except InputError:  # not omnidirectional
                continue
            bias = torch.where(least < math.inf, -least, -1.0) + 1e-9 * matrix.norm(dim=1)
        layer = layer_of(matrix, bias)
        certificate = certify(layer, 1.0, sphere)
        if certificate.verdict == CERTIFIED and certificate.singular_value is not None:
            found += 1
            yield layer, certificate.singular_value


def closest(matrix: torch.Tensor, bias: torch.Tensor, sphere: bool, starts: int = 8) -> tuple[torch.Tensor, ...]:
    """By gradient descent on pairs of points: the least |f(x) - f(y)| / |x - y| of each layer, and its x and y."""
    generator = stream(matrix.shape[2], "starts")
    free = torch.randn((2, len(matrix), starts, matrix.shape[2]), generator=generator, dtype=torch.float64)
    free[1, :, ::2] = free[0, :, ::2] + 0.1 * free[1, :, ::2]  # every other pair begins close together
    free.requires_grad_()
    adam = torch.optim.Adam([free], lr=0.05)
    slower = torch.optim.lr_scheduler.ExponentialLR(adam, 0.95)

    def pairs() -> torch.Tensor:
        length = free.norm(dim=-1, keepdim=True)
        return free / length if sphere else free / length * torch.tanh(length)

    def ratio(x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(torch.einsum("kmn,pksn->pksm", matrix, x) + bias[None, :, None])
        return (y[0] - y[1]).norm(dim=-1) / (x[0] - x[1]).norm(dim=-1).clamp_min(1e-9)

    for _ in range(80):
        adam.zero_grad()
        (ratio(pairs()) + 1e-12).log().sum().backward()
        adam.step()
        slower.step()
    x = pairs().detach()
    least, which = ratio(x).min(dim=1)
    return least, *x[:, torch.arange(len(matrix)), which]


def widest(layer: RectifiedLayer, x: np.ndarray, direction: np.ndarray) -> float:
    """By a linear program: how far apart two points with one output and the active rows of x are, in a cross-polytope.

    Each point is p - q with p, q >= 0 and a sum of at most one, so that it lies in the unit ball.
    """
    matrix, bias = layer.matrix.numpy(), layer.bias.numpy()
    active = matrix @ x + bias > 0
    none, signed = np.zeros_like(matrix), np.hstack([matrix, -matrix])
    same = np.hstack([signed[active], -signed[active]])
    below = [np.hstack(pair) for pair in ((signed, none, none), (none, none, signed))]
    sign = np.where(active, -1.0, 1.0)
    ones = np.kron(np.eye(2), np.ones(2 * len(x)))
    found = optimize.linprog(
        -np.concatenate([direction, -direction, -direction, direction]),
        A_ub=np.vstack([sign[:, None] * half for half in below] + [ones]),
        b_ub=np.concatenate([-sign * bias, -sign * bias, np.ones(2)]),
        A_eq=same if len(same) else None, b_eq=np.zeros(len(same)) if len(same) else None, bounds=(0, None),
    )  # fmt: skip
    return -float(found.fun) if found.status == 0 else 0.0


@pytest.mark.slow
@pytest.mark.parametrize("inputs", range(1, 9))
def test_no_certificate_of_a_ball_is_refuted_by_a_search(inputs):
    """1,000 layers: by descent, for less than the bound on stability; of every fifth by a linear program too."""
    wanted = 150 if inputs <= 6 else 50
    layers, singular = zip(*certified_layers(inputs, wanted, sphere=False), strict=True)
    matrix, bias = torch.stack([one.matrix for one in layers]), torch.stack([one.bias for one in layers])
    least, x, y = closest(matrix, bias, sphere=False)
    assert bool((least >= torch.tensor(singular) / math.sqrt(2) * (1 - 1e-9)).all())
    for layer, start, end in list(zip(layers, x.numpy(), y.numpy(), strict=True))[::5]:
        assert widest(layer, 0.5 * start, end - start) < 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("inputs", range(2, 9))
def test_no_certificate_of_a_sphere_is_refuted_by_a_search(inputs):
    layers, _ = zip(*certified_layers(inputs, 30, sphere=True), strict=True)
    matrix, bias = torch.stack([one.matrix for one in layers]), torch.stack([one.bias for one in layers])
    assert float(closest(matrix, bias, sphere=True)[0].min()) > 1e-6


@pytest.mark.parametrize("sphere", [False, True])
def test_the_search_finds_two_points_where_there_are_some(sphere):
    matrix = torch.randn((20, 5, 4), generator=stream(0, "lossy"), dtype=torch.float64)
    assert float(closest(matrix, matrix.new_zeros(20, 5), sphere)[0].median()) < 0.01
    if not sphere:
        lossy = [layer_of(one) for one in matrix]
        direction = on_sphere("directions", 20, 4).numpy()
        wide = [widest(one, -0.1 * one.matrix.sum(0).numpy(), d) for one, d in zip(lossy, direction, strict=True)]
        assert np.median(wide) > 0.01
