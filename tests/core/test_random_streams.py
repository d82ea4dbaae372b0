import torch
from hypothesis import given
from hypothesis import strategies as st

from manifold_lab.core.random_streams import stream


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_streams_agree_exactly_when_seed_and_name_do(seed: int, other: int) -> None:
    first, again = (torch.rand(4, generator=stream(seed, "embedding", 3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.rand(4, generator=stream(seed, "embedding", 4)))
    assert (seed == other) == torch.equal(first, torch.rand(4, generator=stream(other, "embedding", 3)))
