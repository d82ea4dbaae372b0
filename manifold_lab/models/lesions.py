"""Post-hoc lesions: one change to a trained network, no retraining, and the logits that come out.

Everything up to the first changed block is computed once for all lesions, so that a lesion at every depth costs about
half of a pass each.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lab.core.errors import one_of
from manifold_lab.models.mobilenet import LINEAR, Activate, Block, Network


@dataclass(frozen=True)
class Lesion:
    """What is changed, and in which blocks."""

    kind: str
    blocks: tuple[int, ...]


def _name(activation: nn.Module) -> str | None:
    """The name of a plain activation; None for one that is part of an intervention."""
    return activation.name if isinstance(activation, Activate) else None


def _cut(block: Block) -> None:
    block.stage, block.bridge = dataclasses.replace(block.stage, shortcut="none"), None


@dataclass(frozen=True)
class LesionKind:
    """The blocks a lesion can be made in, the part of a block whose output it changes first, and what it does.

    `site`: the part's name within the block, empty for the block itself.
    """

    applies: Callable[[Block], bool]
    site: str
    change: Callable[[Block], None]


LESIONS = {
    "relu6_bottleneck": LesionKind(
        lambda block: _name(block.bottleneck) == LINEAR, "project.act",
        lambda block: block.set_submodule("project.act", Activate("relu6"))),
    "no_shortcut": LesionKind(lambda block: block.stage.shortcut != "none", "", _cut),
    "linear_expansion": LesionKind(
        lambda block: block.expand is not None and _name(block.expand.act) != LINEAR, "expand.act",
        lambda block: block.set_submodule("expand.act", Activate(LINEAR))),
}  # fmt: skip
"""ReLU6 behind the projection, before the sum; the shortcut between bottlenecks away; the expansion's activation
away."""


def lesion_blocks(network: Network, kind: str) -> tuple[int, ...]:
    """The blocks that a lesion of this kind can be made in.

    Raises:
        InputError: for an unknown kind.
    """
    applies = LESIONS[one_of("lesion", kind, LESIONS)].applies
    return tuple(place for place, block in enumerate(network.blocks) if applies(block))


def every(network: Network) -> list[Lesion]:
    """Every kind in every block where it can be made, one at a time, and then in all of them together."""
    found = []
    for kind in LESIONS:
        possible = lesion_blocks(network, kind)
        found += [Lesion(kind, (place,)) for place in possible]
        found += [Lesion(kind, possible)] if possible else []
    return found


def lesioned(network: Network, lesion: Lesion) -> dict[int, Block]:
    """Copies of the changed blocks by their places; the network itself stays as it is."""
    twins = {place: copy.deepcopy(network.blocks[place]) for place in lesion.blocks}
    for twin in twins.values():
        LESIONS[lesion.kind].change(twin)
    return twins


@torch.inference_mode()
def logits(
    network: Network, x: Float[Tensor, "batch channels height width"], lesions: Sequence[Mapping[int, Block]]
) -> Iterator[Float[Tensor, "batch classes"]]:
    """The intact network's logits, then those of every lesion (as `lesioned` makes them), in order."""
    states: list[tuple[Tensor, Tensor | None]] = [(network.stem(x), None)]
    for block in network.blocks:
        states.append(block(*states[-1]))
    yield _finish(network, states[-1][0])
    for twins in lesions:
        first = min(twins)
        state = states[first]
        for place in range(first, len(network.blocks)):
            state = twins.get(place, network.blocks[place])(*state)
        yield _finish(network, state[0])


def _finish(network: Network, x: Tensor) -> Tensor:
    return network.head(x if network.last is None else network.last(x))
