"""The frame algorithm against least squares, its rate against what it attains."""

import math

import pytest
import torch

from manifold_lab.core.errors import InputError
from manifold_lab.theory.frames import frame_algorithm, frame_bounds, frame_rate


def test_it_finds_what_least_squares_on_the_active_rows_finds_also_where_they_do_not_span(normal):
    matrix, bias, x = normal("rows", 9, 4), 0.3 * normal("bias", 9), normal("x", 40, 4)
    y = torch.relu(x @ matrix.mT + bias)
    found = frame_algorithm(matrix, bias, y, 20_000)
    lowest, largest = frame_bounds(matrix, y > 0)
    for one, out, estimate in zip(x, y, found, strict=True):
        rows = matrix[out > 0]
        expected = torch.linalg.lstsq(rows, (out - bias)[out > 0, None], driver="gelsd").solution[:, 0]
        if len(rows) and torch.linalg.cond(rows @ rows.mT if len(rows) < 4 else rows.mT @ rows) < 1e3:
            assert torch.allclose(estimate, expected, atol=1e-8)
            assert len(rows) < 4 or torch.allclose(estimate, one, atol=1e-8)
    spans = torch.tensor([torch.linalg.matrix_rank(matrix[out > 0]) == 4 for out in y])
    assert torch.equal(lowest > 0, spans) and 5 < int(spans.sum()) < 40 and bool((largest >= lowest).all())


def test_errors_fall_by_the_rate_and_no_better_along_the_extreme_directions(normal):
    matrix = torch.cat([normal("frame", 12, 3)] * 2) * torch.tensor([1.0, -1.0]).repeat_interleave(12)[:, None]
    x = normal("x", 30, 3)
    y, bias = torch.relu(x @ matrix.mT), torch.zeros(24, dtype=torch.float64)
    rate = frame_rate(*frame_bounds(matrix, y > 0))
    for steps in (0, 1, 5, 20):
        error = (frame_algorithm(matrix, bias, y, steps) - x).norm(dim=1)
        assert bool((error <= rate**steps * x.norm(dim=1) * (1 + 1e-9)).all())
    half = matrix[:12]
    directions = torch.linalg.eigh(half.mT @ half).eigenvectors
    for extreme in (directions[:, 0], directions[:, -1]):
        out = torch.relu(extreme @ matrix.mT)[None]
        rate = float(frame_rate(*frame_bounds(matrix, out > 0)))
        error = float((frame_algorithm(matrix, bias, out, 7)[0] - extreme).norm())
        assert error == pytest.approx(rate**7, rel=1e-9) and 0.05 < rate < 1


def test_a_tight_frame_is_undone_in_one_step():
    angle = 2 * math.pi * torch.arange(5, dtype=torch.float64) / 5
    rows = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)
    matrix, x = torch.cat([rows, -rows]), torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    y, bias = torch.relu(x @ matrix.mT), torch.zeros(10, dtype=torch.float64)
    lowest, largest = frame_bounds(matrix, y > 0)
    assert lowest.tolist() == pytest.approx([2.5]) and largest.tolist() == pytest.approx([2.5])
    assert torch.allclose(frame_algorithm(matrix, bias, y, 1), x, atol=1e-12)


def test_nothing_active_gives_nothing_and_bad_input_is_refused():
    matrix, zeros = torch.eye(2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    assert torch.equal(frame_algorithm(matrix, zeros[0], zeros, 3), zeros)
    assert frame_rate(*frame_bounds(matrix, zeros > 0)).tolist() == [1.0]
    with pytest.raises(InputError, match="steps"):
        frame_algorithm(matrix, zeros[0], zeros, -1)
