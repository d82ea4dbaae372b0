"""Repair of a lesion: one fixed map of channels behind it, fitted on other images, and nothing retrained.

What a map brings back was not lost. What the best affine map does not bring back is not thereby lost: a map that is
not affine might.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lab.core.errors import one_of
from manifold_lab.core.hooks import outputs_of
from manifold_lab.metrics.linear import Moments, affine_map, second_moments
from manifold_lab.models import lesions
from manifold_lab.models.lesions import Lesion
from manifold_lab.models.mobilenet import Block, Network

MEANS, SCALES, AFFINE = "means", "scales", "affine"
MAPS = (MEANS, SCALES, AFFINE)
"""From the poorest to the richest: the channels' means set right; each channel scaled and shifted; any affine map."""
Maps = dict[int, nn.Conv2d]
"""The map behind each changed block, by the block's place."""
State = tuple[Tensor, Tensor | None]
"""What one block gives the next: its output, and its depthwise output where the wiring passes that on."""


def channel_map(weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, " outputs"]) -> nn.Conv2d:
    """A fixed affine map of the channels, the same at every position."""
    made = nn.utils.skip_init(nn.Conv2d, weight.shape[1], weight.shape[0], 1).requires_grad_(False)
    made.load_state_dict({"weight": weight[:, :, None, None].float(), "bias": bias.float()})
    return made


def fitted_map(moments: Moments, kind: str) -> nn.Conv2d:
    """The map of one kind from observed to wanted channels that has the least squared error.

    Args:
        moments: of `second_moments`, of as many observed as wanted channels.
        kind: one of MAPS.

    Raises:
        InputError: for another kind.
    """
    channels = len(moments) // 2
    if one_of("map", kind, MAPS) == AFFINE:
        found = affine_map(moments, channels)
        return channel_map(found[1:].T, found[0])
    if kind == MEANS:
        means = moments[0, 1:] / moments[0, 0]
        return channel_map(torch.eye(channels), means[channels:] - means[:channels])
    own = [moments[[0, 1 + place, 1 + channels + place]][:, [0, 1 + place, 1 + channels + place]]
           for place in range(channels)]  # fmt: skip
    shifts, scales = torch.cat([affine_map(part, 1) for part in own], 1)
    return channel_map(torch.diag(scales), shifts)


def repaired(network: Network, lesion: Lesion, maps: Maps) -> dict[int, Block]:
    """Copies of the changed blocks by their places, each with its map behind what was changed."""
    twins = lesions.lesioned(network, lesion)
    for place, found in maps.items():
        _attach(twins[place], lesion.kind, found)
    return twins


def cross_fitted(
    network: Network, cuts: Sequence[Lesion], halves: Sequence[Iterable[Tensor]], kinds: Sequence[str] = MAPS
) -> Iterator[list[dict[int, Block]]]:
    """For each of two halves of some images, every repaired lesion with maps that were fitted on the other half.

    Args:
        network: as of `fit`.
        cuts: as of `fit`.
        halves: batches of either half.
        kinds: of MAPS; the order of the lesions is kinds outermost, then cuts.
    """
    for other in reversed(halves):
        maps = fit(network, cuts, other, kinds)
        yield [repaired(network, cut, maps[cut, kind]) for kind in kinds for cut in cuts]


def _attach(twin: Block, kind: str, found: nn.Conv2d) -> None:
    def behind(_module: nn.Module, _inputs: object, output: Tensor | State) -> Tensor | State:
        return (found(output[0]), output[1]) if isinstance(output, tuple) else found(output)

    twin.get_submodule(lesions.LESIONS[kind].site).register_forward_hook(behind)


@torch.no_grad()
def fit(
    network: Network, cuts: Sequence[Lesion], batches: Iterable[Tensor], kinds: Sequence[str] = MAPS
) -> dict[tuple[Lesion, str], Maps]:
    """The maps behind every lesion, fitted on these images: of each the maps by block.

    Behind a lesion of several blocks they are fitted one after the other, each behind those before it.

    Args:
        network: the intact one, in evaluation mode.
        cuts: the lesions.
        batches: images, normalised.
        kinds: of MAPS.
    """
    shown = [(network.stem(x), None) for x in batches]
    found = {(cut, kind): Maps() for cut in cuts for kind in kinds}
    single = [cut for cut in cuts if len(cut.blocks) == 1]
    states: list[State] = list(shown)
    for place, block in enumerate(network.blocks):
        for cut in single:
            if cut.blocks == (place,):
                moments = _moments(block, lesions.lesioned(network, cut)[place], cut.kind, states, states)
                for kind in kinds:
                    found[cut, kind][place] = fitted_map(moments, kind)
        states = [block(*state) for state in states]
    for cut, kind in found:
        if cut not in single:
            found[cut, kind] = _one_after_the_other(network, cut, kind, shown)
    return found


def _one_after_the_other(network: Network, cut: Lesion, kind: str, shown: Sequence[State]) -> Maps:
    intact, mine, maps = list(shown), list(shown), Maps()
    twins = lesions.lesioned(network, cut)
    for place, block in enumerate(network.blocks):
        twin = twins.get(place)
        if twin is not None:
            maps[place] = fitted_map(_moments(block, twin, cut.kind, intact, mine), kind)
            _attach(twin, cut.kind, maps[place])
        intact = [block(*state) for state in intact]
        mine = [(twin or block)(*state) for state in mine]
    return maps


def _moments(block: Block, twin: Block, kind: str, intact: Sequence[State], mine: Sequence[State]) -> Moments:
    """Of what the changed block gives at its lesion, from its own inputs, and of what the intact one gives there."""
    site, total = lesions.LESIONS[kind].site, torch.zeros(())
    for one, other in zip(intact, mine, strict=True):
        wanted, observed = _at(site, block, one), _at(site, twin, other)
        total = total + second_moments(*(part.movedim(1, -1).flatten(0, -2) for part in (observed, wanted)))
    return total


def _at(site: str, block: Block, state: State) -> Tensor:
    """What a part of a block gives while that runs."""
    with outputs_of([block.get_submodule(site)]) as seen:
        block(*state)
    return seen[0][0] if isinstance(seen[0], tuple) else seen[0]
