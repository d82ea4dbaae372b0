"""Memory: Equation 2 against the known integers, lifetimes against the allocator; chunks against the whole."""

import dataclasses

import pytest
import torch

from manifold_lab import stream
from manifold_lab.core.errors import InputError
from manifold_lab.models import memory
from manifold_lab.models.fold import folded
from manifold_lab.models.mobilenet import Block, Network, build
from manifold_lab.models.specs import SHORTCUTS, V2
from manifold_lab.models.split import chunks, split_block, split_forward
from tests.networks import pictures, small


def test_equation_2_gives_the_known_peaks_in_kib_of_two_bytes() -> None:
    network = build(V2)
    assert memory.peak_by_operator(network).elements * 2 == 2940 * 1024
    assert memory.peak_by_block(network).elements * 2 == 1176 * 1024
    peaks = {parts: memory.peak_split(network, parts) * 2 / 1024 for parts in (2, 3, 4, 5, 6, 12)}
    assert peaks == {2: 2009, 3: 1715, 4: 1568, 5: 1519, 6: 1470, 12: 1323}


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 7, 48, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_in_chunks_gives_the_same_logits(parts: int, dtype: torch.dtype) -> None:
    network = small().to(dtype)
    x = pictures().to(dtype)
    with torch.no_grad():
        whole, split = network(x), split_forward(network, x, parts)
    assert whole.abs().max() > 1e-3
    assert torch.allclose(split, whole, rtol=1e4 * torch.finfo(dtype).eps, atol=1e3 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("changes", [{"norm": "none"}, {"padding": "tensorflow"}, {"bottleneck_activation": "relu6"}])
def test_blocks_of_other_specs_split_too(changes: dict[str, str]) -> None:
    for block in small(**changes).double().blocks:
        x = torch.randn(1, block.stage.inputs, 9, 9, generator=stream(0, "x"), dtype=torch.float64)
        assert torch.allclose(split_block(block, x, 4), block(x, None)[0], atol=1e-10)


def test_chunks_cover_every_channel_once() -> None:
    assert [channel for part in chunks(32, 5) for channel in range(32)[part]] == list(range(32))


@pytest.mark.parametrize(
    ("network", "reason"),
    [(small().train(), "training mode"), (small(block="classic", shortcut="none"), "mixes channels"),
     (small(norm="group"), "group norm"), (small(shortcut="expansion"), "needs the expanded tensor whole")],
)  # fmt: skip
def test_what_cannot_be_split_says_why(network: Network, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        split_forward(network, pictures(), 2)


def test_measured_memory_falls_when_a_block_is_split() -> None:
    network = small(norm="none").to(memory_format=torch.contiguous_format)
    block = next(one for one in network.blocks if isinstance(one, Block) and one.stage.hidden == 96)
    x = torch.randn(1, block.stage.inputs, 64, 64)
    with torch.no_grad():
        whole = memory.allocated_peak(lambda: block(x, None))
        split = memory.allocated_peak(lambda: split_block(block, x, 8))
    assert whole >= 4 * 96 * 64 * 64
    assert split < whole / 2


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_what_is_alive_is_what_the_allocator_gave(shortcut: str) -> None:
    network = folded(small(shortcut=shortcut))
    picture = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        rise = memory.allocated_peak(lambda: network(picture))
    alive = max(memory.live_peaks(network).values())
    assert alive == rise // 4 + picture.numel()
    assert alive == max(memory.live_peaks(network.to("meta")).values())


def test_nothing_stays_alive_or_hooked_after_counting() -> None:
    network = small()
    first, again = memory.live_peaks(network), memory.live_peaks(network)
    assert first == again
    assert all(not module._forward_pre_hooks for module in network.modules())


def test_shortcuts_keep_what_their_wiring_says() -> None:
    held = {name: memory.with_shortcuts(build(dataclasses.replace(V2, shortcut=name))) for name in SHORTCUTS}
    narrow, wide, none = (held[name][8] for name in ("bottleneck", "expansion", "none"))
    pixels = 14 * 14
    assert none.by_operator == 2 * 384 * pixels
    assert narrow.by_operator == wide.by_operator == (2 * 384 + 64) * pixels
    assert narrow.as_one == none.as_one == 2 * 64 * pixels
    assert wide.as_one == (2 * 64 + 2 * 384) * pixels
    assert [one.joined for one in held["none"]] == [False] * 17
    assert sum(one.joined for one in held["bottleneck"]) == 10


def test_folded_norms_change_no_logit_and_not_the_network() -> None:
    network = small().double()
    before, x = {key: value.clone() for key, value in network.state_dict().items()}, pictures().double()
    twin = folded(network)
    with torch.no_grad():
        assert torch.allclose(twin(x), network(x), atol=1e-12)
        assert torch.allclose(split_forward(twin, x, 5), network(x), atol=1e-12)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in twin.modules())
    with pytest.raises(InputError, match="training mode"):
        folded(network.train())
