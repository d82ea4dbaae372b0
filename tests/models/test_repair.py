"""Repair: each map against scikit-learn's regression, and laws of what a map brings back."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from manifold_lab.core.errors import InputError
from manifold_lab.metrics.linear import second_moments
from manifold_lab.models import lesions, repair
from manifold_lab.models.lesions import Lesion
from manifold_lab.models.mobilenet import Network
from tests.networks import pictures, small

BATCHES = [pictures(6), pictures(4).flip(3)]
KINDS = list(lesions.LESIONS)


def at_lesion(network: Network, cut: Lesion, maps: repair.Maps) -> tuple[torch.Tensor, torch.Tensor]:
    """What the lesion's site gives in the intact and in the repaired network, of the last block that is changed."""
    place, site = max(cut.blocks), lesions.LESIONS[cut.kind].site
    twins, found = repair.repaired(network, cut, maps), []
    for blocks in ([*network.blocks], [twins.get(at, block) for at, block in enumerate(network.blocks)]):
        outputs: list[torch.Tensor | tuple[torch.Tensor, None]] = []
        part = blocks[place].get_submodule(site)
        handle = part.register_forward_hook(lambda _m, _i, y, outputs=outputs: outputs.append(y))
        with torch.no_grad():
            for x in BATCHES:
                state = (network.stem(x), None)
                for block in blocks:
                    state = block(*state)
        handle.remove()
        parts = [one[0] if isinstance(one, tuple) else one for one in outputs]
        found.append(torch.cat(parts).movedim(1, -1).flatten(0, -2).double())
    return found[0], found[1]


def test_each_map_is_scikit_learns_regression() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4)) + 1
    observed = np.clip(wanted, 0, 6)
    moments = second_moments(torch.tensor(observed), torch.tensor(wanted))
    shown = torch.tensor(observed, dtype=torch.float32).T[None, :, :, None]
    found = {kind: repair.fitted_map(moments, kind)(shown)[0, :, :, 0].T.numpy() for kind in repair.MAPS}
    affine = LinearRegression().fit(observed, wanted).predict(observed)
    scaled = [LinearRegression().fit(observed[:, [c]], wanted[:, c]).predict(observed[:, [c]]) for c in range(4)]
    assert np.allclose(found[repair.AFFINE], affine, atol=1e-4)
    assert np.allclose(found[repair.SCALES], np.stack(scaled, 1), atol=1e-4)
    assert np.allclose(found[repair.MEANS], observed + (wanted - observed).mean(0), atol=1e-4)
    with pytest.raises(InputError, match="did you mean 'affine'"):
        repair.fitted_map(moments, "afine")


@pytest.mark.parametrize("kind", KINDS)
def test_a_richer_map_is_nearer_behind_every_lesion(kind: str) -> None:
    network = small()
    cut = Lesion(kind, lesions.lesion_blocks(network, kind)[1:2])
    maps = repair.fit(network, [cut], BATCHES)
    errors = []
    for found in ({}, *(maps[cut, name] for name in repair.MAPS)):
        wanted, given = at_lesion(network, cut, found)
        errors.append(float(((wanted - given) ** 2).sum()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.9 * errors[0]


def test_maps_of_several_blocks_are_fitted_behind_one_another() -> None:
    network = small()
    first, second = lesions.lesion_blocks(network, "relu6_bottleneck")[:2]
    cut = Lesion("relu6_bottleneck", (first, second))
    alone = repair.fit(network, [Lesion("relu6_bottleneck", (first,)), Lesion("relu6_bottleneck", (second,))], BATCHES)
    maps = repair.fit(network, [cut], BATCHES)[cut, repair.AFFINE]
    assert torch.allclose(maps[first].weight, alone[Lesion("relu6_bottleneck", (first,)), repair.AFFINE][first].weight)
    apart = {first: maps[first], **alone[Lesion("relu6_bottleneck", (second,)), repair.AFFINE]}
    errors = [float(((wanted - given) ** 2).sum()) for wanted, given in
              (at_lesion(network, cut, found) for found in (maps, apart))]  # fmt: skip
    assert errors[0] < errors[1]


def test_a_lesion_that_changes_nothing_is_repaired_by_nothing() -> None:
    network = small()
    place = lesions.lesion_blocks(network, "relu6_bottleneck")[2]
    norm = network.blocks[place].project.norm
    torch.nn.init.constant_(norm.bias, 3.0)
    torch.nn.init.constant_(norm.weight, 1e-3)
    cut = Lesion("relu6_bottleneck", (place,))
    channels = norm.num_features
    for kind, maps in repair.fit(network, [cut], BATCHES).items():
        assert torch.allclose(maps[place].weight[:, :, 0, 0], torch.eye(channels), atol=1e-2), kind
        wanted, given = at_lesion(network, cut, maps)
        assert torch.allclose(wanted, given, atol=1e-4)
