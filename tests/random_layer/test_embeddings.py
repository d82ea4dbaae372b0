import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats

from manifold_lab import LAWS, RandomLayer, draw_embedding, named, stream
from manifold_lab.core.errors import InputError
from manifold_lab.random_layer.embeddings import pseudo_inverse

EVERY = sorted(LAWS)
small = settings(max_examples=40, deadline=None, derandomize=True)


@pytest.mark.parametrize("law", EVERY)
@pytest.mark.parametrize(("m", "n"), [(2, 2), (7, 3)])
def test_entries_have_mean_zero_and_variance_one(law, m, n, agrees):
    matrix = draw_embedding(law, (4000, m, n), stream(0, "entries", law)).matrix
    means, squares = matrix.mean((1, 2)).numpy(), matrix.square().mean((1, 2)).numpy()
    assert abs(means.mean()) <= 4 * means.std() / np.sqrt(len(means))
    assert means.std() > 0.01
    if squares.std() > 1e-9:
        agrees(squares, 1.0)
    else:  # fixed by the law: signs, and orthonormal columns
        assert squares == pytest.approx(np.ones(4000))


@pytest.mark.parametrize(("m", "n"), [(2, 2), (9, 4), (3, 5)])
def test_orthonormal_columns_or_rows_up_to_scale(m, n):
    matrix = draw_embedding("orthonormal", (20, m, n), stream(0, "columns")).matrix
    gram = matrix.mT @ matrix if m >= n else matrix @ matrix.mT
    assert torch.allclose(gram, max(m, n) * torch.eye(min(m, n), dtype=torch.float64).expand_as(gram))


@pytest.mark.parametrize("law", [law for law in EVERY if LAWS[law].isotropic])
@pytest.mark.parametrize("direction", [(1.0, 0.0, 0.0), (0.6, 0.0, 0.8), (0.5, -0.5, 0.5**0.5)])
def test_isotropic_laws_look_the_same_along_every_direction(law, direction):
    matrix = draw_embedding(law, (4000, 5, 3), stream(0, "isotropy", law)).matrix[:, 0]
    along = matrix @ torch.tensor(direction, dtype=torch.float64)
    other = draw_embedding(law, (4000, 5, 3), stream(1, "isotropy", law)).matrix[:, 0, 1]
    assert stats.ks_2samp(along, other).pvalue > 1e-3


def test_uniform_rows_do_not_look_the_same_along_the_diagonal():
    matrix = draw_embedding("uniform", (4000, 1, 2), stream(0, "isotropy")).matrix[:, 0]
    assert stats.ks_2samp(matrix.sum(1) / 2**0.5, matrix[:, 0]).pvalue < 1e-3


@pytest.mark.parametrize("law", EVERY)
@pytest.mark.parametrize(("m", "n"), [(2, 2), (5, 3)])
def test_a_draw_depends_neither_on_their_number_nor_on_the_chunks(law, m, n):
    whole = draw_embedding(law, (50, m, n), stream(3, "draws", law))
    few = draw_embedding(law, (7, m, n), stream(3, "draws", law))
    generator = stream(3, "draws", law)
    chunks = [draw_embedding(law, (count, m, n), generator).matrix for count in (16, 32, 2)]
    assert torch.equal(whole.matrix[:7], few.matrix)
    assert torch.equal(whole.matrix, torch.cat(chunks))


@pytest.mark.parametrize("law", EVERY)
def test_seeds_and_draws_differ(law):
    shape = (20, 6, 5)
    one, two = (draw_embedding(law, shape, stream(seed, "draws")).matrix for seed in (0, 1))
    assert not torch.equal(one, two)
    assert len(torch.unique(one.flatten(1), dim=0)) == 20


@pytest.mark.parametrize("law", ["gaussian", "orthonormal", "uniform", "zero_pad"])
def test_signs_of_rows_are_fair_and_independent(law):
    matrix = draw_embedding(law, (4000, 3, 2), stream(0, "signs", law)).matrix
    pattern = ((matrix[..., 0] > 0).long() * torch.tensor([1, 2, 4])).sum(1)
    assert stats.chisquare(torch.bincount(pattern, minlength=8).numpy()).pvalue > 1e-3


@small
@given(some.sampled_from(EVERY), some.integers(1, 8), some.integers(1, 5), some.integers(1, 20), some.integers(0, 99))
def test_the_inverse_undoes_the_map_wherever_its_rank_allows(law, m, n, draws, seed):
    if LAWS[law].square and m < n:
        with pytest.raises(InputError, match="zero_pad"):
            draw_embedding(law, (draws, m, n), stream(seed))
        return
    drawn = draw_embedding(law, (draws, m, n), stream(seed))
    assert drawn.matrix.shape == (draws, m, n)
    assert drawn.inverse.shape == (draws, n, m)
    again = drawn.matrix @ drawn.inverse @ drawn.matrix
    assert torch.allclose(again, drawn.matrix, rtol=1e-6, atol=1e-6)


@small
@given(
    some.integers(1, 8), some.integers(1, 5), some.integers(1, 4), some.integers(0, 99),
    some.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_pseudo_inverse_is_moore_and_penroses_in_either_precision(m, n, draws, seed, dtype):
    matrix = draw_embedding("gaussian", (draws, m, n), stream(seed)).matrix.to(dtype)
    found = pseudo_inverse(matrix)
    assert found.dtype == dtype
    # backward stable: the residual is small against the size of the factors, however badly conditioned
    size = torch.linalg.matrix_norm(matrix, 2) * torch.linalg.matrix_norm(found, 2)
    for product in (found @ matrix, matrix @ found):
        assert (torch.linalg.matrix_norm(product - product.mT, 2) <= 1e3 * torch.finfo(dtype).eps * size**2).all()
    lost = torch.linalg.matrix_norm(matrix @ found @ matrix - matrix, 2)
    assert (lost <= 1e3 * torch.finfo(dtype).eps * size * torch.linalg.matrix_norm(matrix, 2)).all()


def test_pseudo_inverse_with_dependent_columns_is_numpys():
    matrix = draw_embedding("gaussian", (3, 6, 3), stream(0, "dependent")).matrix
    matrix[1, :, 2] = matrix[1, :, 0]
    assert np.allclose(pseudo_inverse(matrix), np.linalg.pinv(matrix.numpy()))


@small
@given(some.integers(1, 9), some.integers(1, 4), some.integers(1, 3), some.sampled_from([torch.float32, torch.float64]))
def test_a_channel_keeps_the_precision_and_counts_draws_points_and_channels(m, n, draws, dtype):
    drawn = draw_embedding("gaussian", (draws, m, n), stream(0, m, n))
    drawn = type(drawn)(drawn.matrix.to(dtype), drawn.inverse.to(dtype))
    x = torch.randn((10, n), generator=stream(0, "points"), dtype=dtype)
    channel = RandomLayer(x, drawn, named("relu"))
    assert channel.y.shape == (draws, 10, m)
    assert channel.exact().shape == channel.linear().shape == channel.affine().shape == (draws, 10, n)
    assert {channel.y.dtype, channel.exact().dtype, channel.affine().dtype} == {dtype}


def test_unknown_law_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="did you mean 'gaussian'"):
        draw_embedding("gausian", (1, 2, 2), stream(0))
