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


def _relu6(block: Block) -> None:
    block.project.act = Activate("relu6")


def _cut(block: Block) -> None:
    block.stage, block.bridge = dataclasses.replace(block.stage, shortcut="none"), None


def _linear(block: Block) -> None:
    assert block.expand is not None
    block.expand.act = Activate(LINEAR)


def _expansion(block: Block) -> nn.Module:
    assert block.expand is not None
    return block.expand.act


def _name(activation: nn.Module) -> str | None:
    """The name of a plain activation; None for one that is part of an intervention."""
    return activation.name if isinstance(activation, Activate) else None


@dataclass(frozen=True)
class LesionKind:
    """What a lesion does to a block, the blocks it can be done to, and the module whose output it changes first."""

    change: Callable[[Block], None]
    applies: Callable[[Block], bool]
    site: Callable[[Block], nn.Module]


LESIONS = {
    "relu6_bottleneck": LesionKind(
        _relu6, lambda block: _name(block.bottleneck) == LINEAR, lambda block: block.project.act
    ),
    "no_shortcut": LesionKind(_cut, lambda block: block.stage.shortcut != "none", lambda block: block),
    "linear_expansion": LesionKind(
        _linear, lambda block: block.expand is not None and _name(block.expand.act) != LINEAR, _expansion
    ),
}
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
    change, twins = LESIONS[lesion.kind].change, {}
    for place in lesion.blocks:
        twin = copy.deepcopy(network.blocks[place])
        change(twin)
        twins[place] = twin
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
