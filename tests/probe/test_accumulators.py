"""What a pass leaves behind, against numpy: channels that hardly move, and covariances of positions that were drawn."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from manifold_lab import stream
from manifold_lab.core.errors import InputError
from manifold_lab.probe import Probe, Sampling
from manifold_lab.probe.accumulators import MOVED, Covariance, Still

LAYOUTS = {
    "channels first": lambda x: x.contiguous(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "a slice": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "bfloat16": lambda x: x.bfloat16(),
}


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def maps(images: int = 6, side: int = 64) -> Tensor:
    """Channels around 3: still, still but for one position, one NaN, moving slowly, and 60 that move at once."""
    x = 3 + MOVED / 4 * torch.rand((images, 64, side, side), generator=stream(0, "still"))
    x[-1, 1, -1, -1] += 2 * MOVED
    x[0, 2, 1, 1] = torch.nan
    x[:, 3] += torch.linspace(0, 4 * MOVED, images)[:, None, None]
    x[:, 4:] *= 10
    return x


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_variance_of_channels_that_hardly_move_is_numpys(layout: str, threads: int) -> None:
    x = LAYOUTS[layout](maps())
    followed = Still()
    for part in x.split(2):
        followed.add(part, 1)
    expected = np.var(x[:, 0].double().numpy(), ddof=1)
    assert followed.variance[0].item() == pytest.approx(expected, rel=1e-9)
    assert followed.variance[1:].isinf().all() and not followed.over
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_followed_once_every_channel_has_moved(layout: str) -> None:
    x = LAYOUTS[layout](maps()[:, 4:])
    followed = Still()
    followed.add(x, 1)
    assert followed.over and followed.variance.isinf().all()


def test_many_still_channels_are_followed_as_few_are(threads: int) -> None:
    x = maps()
    many = torch.cat([x[:, :1]] * 40 + [x[:, 4:5]], 1)
    one, all_of_them = Still(), Still()
    one.add(x[:, :1], 1)
    all_of_them.add(many.contiguous(memory_format=torch.channels_last), 1)
    assert torch.allclose(all_of_them.variance[:40], one.variance.expand(40), rtol=1e-9)
    assert all_of_them.variance[40].isinf() and threads


@pytest.mark.parametrize("channels", [3, 130, 300])
def test_a_covariance_is_numpys_for_any_number_of_channels(channels: int) -> None:
    x = torch.randn((2000, channels), generator=stream(0, "x")) @ torch.randn(
        (channels, channels), generator=stream(0, "mixed")
    )
    streamed = Covariance()
    for part in x.split(700):
        streamed.add(part, 1)
    expected = np.cov(x.double().numpy().T)
    assert np.abs(streamed.covariance.numpy() - expected).max() < 1e-5 * np.abs(expected).max()
    assert torch.equal(streamed.covariance, streamed.covariance.t())


def spread(x: Tensor, *cuts: int, seed: int = 0, per_image: int = 20) -> tuple[dict[str, object], Covariance]:
    """The line of an activation that leaves these maps as they are, shown in batches, and its covariance."""
    model = nn.Sequential(nn.Conv2d(5, 5, 1, groups=5, bias=False), nn.PReLU(init=1.0))
    nn.init.ones_(model[0].weight)
    with torch.no_grad(), Probe(model, "1", ["spectrum"], Sampling(seed=seed, per_image=per_image)) as probe:
        for part in x.tensor_split(cuts):
            model(part)
    (row,) = probe.table()
    return dict(row), probe.layers["1"].covariance


def images(count: int = 8) -> Tensor:
    return torch.randn((count, 5, 12, 12), generator=stream(0, "maps")) * torch.arange(1, 6)[:, None, None]


def test_the_table_says_how_many_positions_a_spectrum_rests_on() -> None:
    drawn, _ = spread(images())
    every, _ = spread(images(), per_image=0)
    assert (drawn["spectrum_positions"], drawn["spectrum_share"]) == (8 * 20, 20 / 144)
    assert (every["spectrum_positions"], every["spectrum_share"]) == (8 * 144, 1)
    assert spread(images(), per_image=144)[0] == every == spread(images(), per_image=1000)[0]


def test_the_positions_are_the_same_ones_of_every_image_however_they_come() -> None:
    _, whole = spread(images())
    _, parts = spread(images(), 3, 4)
    _, turned = spread(images().flip(0))
    for other in (parts, turned):
        assert torch.allclose(other.covariance, whole.covariance, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(spread(images(), seed=1)[1].covariance, whole.covariance, rtol=1e-5, atol=1e-5)


def test_maps_that_do_not_vary_within_an_image_lose_nothing_by_drawing() -> None:
    flat = images()[:, :, :1, :1].expand(-1, -1, 12, 12)
    drawn, every = (spread(flat, per_image=many)[1] for many in (20, 0))
    share = (drawn.positions - 1) / drawn.positions * every.positions / (every.positions - 1)
    assert torch.allclose(drawn.covariance * share, every.covariance, rtol=1e-5)


@pytest.mark.slow
def test_drawn_covariances_are_right_on_average(agrees) -> None:
    x = images(1) + 3
    _, every = spread(x, per_image=0)

    def second_moments(found: Covariance) -> Tensor:
        mean = (found.shift + found.total / found.positions).double()
        return found.covariance * (found.positions - 1) / found.positions + torch.outer(mean, mean)

    found = torch.stack([second_moments(spread(x, seed=seed)[1]) for seed in range(200)])
    expected = second_moments(every)
    for place in range(5):
        agrees(found[:, place, place].numpy(), expected[place, place].item())


def test_fewer_positions_than_none_are_refused() -> None:
    with pytest.raises(InputError, match="per_image"):
        Sampling(per_image=-1)
