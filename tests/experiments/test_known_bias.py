"""The bias that a study's card gives for its estimators is what they read of a Gaussian, whose dimension is known."""

import re

import numpy as np
import pytest
import torch

from experiments import ext_dimension
from manifold_lab.metrics import dimension

DRAWS = 8
CARD = " ".join((ext_dimension.__doc__ or "").split())
SAID = re.search(r"10 dimensions as ([\d.]+) and 20 as ([\d.]+), of 5 neighbours as ([\d.]+) and ([\d.]+) ", CARD)
TWO_NN = re.search(r"TwoNN of 2,000 points reads 50 as ([\d.]+)\. ", CARD)


def read(points: int, dim: int, estimate) -> tuple[float, float]:
    """Mean and standard error over draws."""
    draws = torch.Generator().manual_seed(dim)
    clouds = [torch.randn(points, dim, generator=draws, dtype=torch.float64) for _ in range(DRAWS)]
    found = np.array([estimate(dimension.neighbours(cloud, 20)) for cloud in clouds])
    return float(found.mean()), float(found.std(ddof=1) / DRAWS**0.5)


@pytest.mark.parametrize(("group", "dim", "k"), [(1, 10, 20), (2, 20, 20), (3, 10, 5), (4, 20, 5)])
def test_the_likelihood_s_bias_is_as_said(group: int, dim: int, k: int) -> None:
    assert SAID is not None
    mean, error = read(1500, dim, lambda found: dimension.maximum_likelihood(found, k))
    assert abs(mean - float(SAID[group])) < 3 * error + 0.05  # half of the last digit


def test_two_nn_s_bias_is_as_said() -> None:
    assert TWO_NN is not None
    mean, error = read(2000, 50, dimension.two_nn)
    assert abs(mean - float(TWO_NN[1])) < 3 * error + 0.5
