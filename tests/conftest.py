"""Helpers that the tests share: named normal samples, and agreement of a mean with its law in standard errors."""

import os
from collections.abc import Callable

import numpy as np
import pytest
import torch

from manifold_lab import stream

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors are faster on one thread, and the test runner may have a process for every core."""
    torch.set_num_threads(1)


@pytest.fixture
def normal() -> Callable[..., torch.Tensor]:
    def sample(name: str, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=stream(0, name), dtype=torch.float64)

    return sample


@pytest.fixture
def agrees() -> Callable[..., None]:
    """Mean of independent values within `errors` standard errors of a law that zero would not satisfy."""

    def check(values, expected: float, errors: float = 4.0) -> None:
        values = np.asarray(values, dtype=float)
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert errors * error < abs(expected), "too few values: a zero would pass"
        assert abs(values.mean() - expected) <= errors * error, f"{values.mean()} +- {error} against {expected}"

    return check
