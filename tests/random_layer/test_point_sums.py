"""The compiled pass over points against every point decoded for itself by singular value decompositions."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from manifold_lab import ManifoldSpec, RandomLayer, draw_embedding, named, sample, stream
from manifold_lab.random_layer import kernel, point_sums
from manifold_lab.random_layer.point_sums import PointSums, reference_sums, sum_points

pytestmark = pytest.mark.slow

SPACES = {"sphere": 3, "torus": 3, "spiral": 2, "blob": 8}


def layer(manifold: str, m: int, activation: str = "relu", bias: float = 0.0, law: str = "gaussian") -> RandomLayer:
    x = sample(ManifoldSpec(manifold, inputs=SPACES[manifold]), 301, stream(0, "points")).x
    return RandomLayer(x, draw_embedding(law, (5, m, x.shape[1]), stream(0, law, m)), named(activation), bias)


def numbers(sums: PointSums) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the sums, by name."""
    yield from (("products", part) for part in sums.products)
    yield from (("kept", part) for part in sums.kept or ())
    yield from sums.means.items()
    for half in sums.halves or ():
        yield from ((f.name, getattr(half, f.name)) for f in dataclasses.fields(half))


def check(given: RandomLayer, intrinsic: int) -> None:
    found, expected = (list(numbers(way(given, intrinsic, True))) for way in (sum_points, reference_sums))
    assert [name for name, _ in found] == [name for name, _ in expected]
    for (name, one), (_, other) in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10), name


@pytest.mark.parametrize("m", [1, 2, 5, 9, 24])
@pytest.mark.parametrize(("activation", "bias"), [("relu", 0.0), ("gelu", -0.4), ("relu6", 0.5), ("abs", 0.0),
                                                  ("tanh", 0.3), ("silu", 0.0), ("identity", 0.2)])  # fmt: skip
@pytest.mark.parametrize("manifold", SPACES)
def test_one_pass_is_point_by_point(manifold: str, activation: str, bias: float, m: int) -> None:
    check(layer(manifold, m, activation, bias), intrinsic=2)


@pytest.mark.parametrize("manifold", SPACES)
@pytest.mark.parametrize("m", [3, 9])
def test_dependent_rows_are_left_to_the_decomposition(manifold: str, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    decompose = point_sums.active_rows
    monkeypatch.setattr(point_sums, "active_rows", lambda *given: asked.append(given) or decompose(*given))
    check(layer(manifold, m, law="rademacher"), intrinsic=1)
    assert asked, "no point was unsure"


def test_a_nearly_singular_layer_is_decoded_to_the_same_error() -> None:
    given = layer("sphere", 6)
    matrix = given.embedding.matrix.clone()
    matrix[..., 2] = matrix[..., 1] + 1e-7 * matrix[..., 2]  # condition 1e7: its square is beyond a Gram matrix
    embedding = dataclasses.replace(given.embedding, matrix=matrix, inverse=torch.linalg.pinv(matrix))
    found = sum_points(dataclasses.replace(given, embedding=embedding), 2, False).means
    expected = reference_sums(dataclasses.replace(given, embedding=embedding), 2, False).means
    kept, error = "preserved_fraction", "reconstruction_error/exact"
    assert torch.equal(found[kept], expected[kept]) and 0 < float(found[kept].mean()) < 1
    assert torch.allclose(found[error], expected[error], atol=1e-10)


@pytest.mark.parametrize("closeness", [1e-1, 1e-2, 1e-3, 3e-4, 1e-4, 3e-5, 1e-6])
@pytest.mark.parametrize("m", [2, 3, 6])
def test_nearly_parallel_rows_are_solved_as_by_numpy(m: int, closeness: float) -> None:
    """Two rows that nearly agree, on both sides of what is left to the decomposition, and fewer active rows than n."""
    given = layer("sphere", m, "relu", 0.3)
    matrix = given.embedding.matrix.clone()
    matrix[:, 1] = matrix[:, 0] + closeness * matrix[:, 1]
    embedding = dataclasses.replace(given.embedding, matrix=matrix, inverse=torch.linalg.pinv(matrix))
    found = sum_points(dataclasses.replace(given, embedding=embedding), 2, False).means
    x, wrong = given.x.numpy(), np.zeros(len(matrix))
    for draw, rows in enumerate(matrix.numpy()):
        for point in x:
            on = rows @ point + 0.3 > 0
            wrong[draw] += ((np.linalg.lstsq(rows[on], rows[on] @ point)[0] - point) ** 2).sum() if on.any() else 1
    assert np.allclose(found["reconstruction_error/exact"], wrong / (x**2).sum(), rtol=0, atol=1e-10)


def test_any_number_of_points_is_summed_whole() -> None:
    for points in (kernel.BLOCK - 1, kernel.BLOCK, 2 * kernel.BLOCK + 1):
        given = layer("sphere", 7)
        check(dataclasses.replace(given, x=given.x.repeat(2, 1)[:points]), intrinsic=2)  # some points come twice


@pytest.mark.parametrize("way", [sum_points, reference_sums])
def test_without_a_window_only_the_linear_decoder_is_summed(way) -> None:
    given = layer("sphere", 5, "gelu")
    sums = way(dataclasses.replace(given, activation=dataclasses.replace(given.activation, window=None)), 2, False)
    assert sums.kept is None and sums.halves is None and [*sums.means] == ["collapsed_pairs"]
    assert all(map(torch.allclose, sums.products, given.linear_products()))


@pytest.mark.parametrize("wide", [point_sums.MAX_INPUTS, point_sums.MAX_INPUTS + 1])
def test_the_widest_inputs_and_single_precision_agree_as_well(wide: int) -> None:
    x = sample(ManifoldSpec("blob", inputs=wide), 100, stream(0, "points")).x
    given = RandomLayer(x, draw_embedding("gaussian", (3, 40, wide), stream(0, "wide")), named("relu"))
    check(given, wide)
    embedding = type(given.embedding)(given.embedding.matrix.float(), given.embedding.inverse.float())
    single = sum_points(RandomLayer(x.float(), embedding, named("relu")), wide, False)
    double = sum_points(given, wide, False)
    assert all(
        torch.allclose(one.double(), two, rtol=1e-3) for one, two in zip(single.products, double.products, strict=True)
    )
