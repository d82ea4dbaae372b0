"""What the tests check of every call is seen to refuse: types everywhere, and shapes where they are annotated."""

import pytest
import torch
from call_checks import CallError, switched_off, with_shapes
from jaxtyping import TypeCheckError

from manifold_lab.core.errors import at_least
from manifold_lab.metrics.linear import second_moments


def test_types_are_checked_where_there_are_no_shapes_and_not_where_it_is_off() -> None:
    assert at_least.__module__ not in with_shapes()
    with pytest.raises(CallError, match="low"):
        at_least("draws", 3, "1")
    with switched_off(), pytest.raises(TypeError):
        at_least("draws", 3, "1")


def test_shapes_of_one_call_are_checked_against_each_other() -> None:
    inputs, outputs = torch.randn(30, 3), torch.randn(29, 2)
    assert second_moments.__module__ in with_shapes()
    with pytest.raises(TypeCheckError):
        second_moments(inputs, outputs)
