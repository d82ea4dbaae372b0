from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manifold_lab.errors import InputError, at_least, one_of
from manifold_lab.spec import canonical_json, key, stream


@dataclass(frozen=True)
class Spec:
    dims: tuple[int, ...] = (2, 3)
    rate: float = 0.5


def test_equal_specs_have_equal_keys_and_different_ones_do_not() -> None:
    assert key(Spec()) == key(Spec((2, 3), 0.5))
    assert len({key(Spec()), key(Spec((3, 2))), key(Spec(rate=0.25))}) == 3


def test_a_spec_with_nan_has_no_canonical_text() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(Spec(rate=float("nan")))


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_streams_agree_exactly_when_seed_and_name_do(seed: int, other: int) -> None:
    first, again = (torch.rand(4, generator=stream(seed, "embedding", 3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.rand(4, generator=stream(seed, "embedding", 4)))
    assert (seed == other) == torch.equal(first, torch.rand(4, generator=stream(other, "embedding", 3)))


def test_an_unknown_name_is_answered_with_the_nearest_and_the_whole_list() -> None:
    with pytest.raises(InputError, match=r"activation: 'rellu' is unknown; did you mean 'relu'\? allowed: relu, tanh"):
        one_of("activation", "rellu", ("relu", "tanh"))


@pytest.mark.parametrize("value", [0, -3, float("nan"), float("inf")])
def test_a_number_out_of_range_is_named_with_its_bound(value: float) -> None:
    with pytest.raises(InputError, match=rf"draws: {value} is not allowed; .*at least 1"):
        at_least("draws", value, 1)
