"""Grids of trials: arms of an ablation over base networks, seeds and lengths, each arm one change of a base's spec."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from manifold_lab import data
from manifold_lab.models.specs import CIFAR, DIGITS, V2, NetworkSpec
from manifold_lab.sweeps.training_run import Trial
from manifold_lab.training import PRESETS, Recipe

Arm = Callable[[NetworkSpec], NetworkSpec]
"""What an arm makes of a base network."""
SHORT, LONG = 120_000, 480_000
"""Pictures seen, on CIFAR-10."""
SEEDS = {SHORT: 5, LONG: 3}
DIGITS_SEEDS = {20_000: 10}
SMOKE_SEEDS = {2_500: 4}
SCALE_SEEDS = 3
EVALUATE_EVERY = 15_000
"""Pictures seen between two points of a curve."""


@dataclass(frozen=True)
class Setting:
    """What the arms of a grid share: the network that they change, the data and recipe, and the seeds by length."""

    network: NetworkSpec
    data: str
    recipe: Recipe
    seeds: Mapping[int, int]
    """How many seeds, by pictures seen."""

    def change(self, **fields: object) -> "Setting":
        """The setting with these words of its network changed."""
        return dataclasses.replace(self, network=dataclasses.replace(self.network, **fields))  # type: ignore[arg-type]


def cifar(width: int | float, seeds: Mapping[int, int] = SEEDS) -> Setting:
    """CIFAR-10 at a width."""
    recipe = dataclasses.replace(PRESETS["cifar"], evaluate_every=EVALUATE_EVERY)
    return Setting(dataclasses.replace(CIFAR, width=width), "cifar10", recipe, seeds)


def digits(seeds: Mapping[int, int] = DIGITS_SEEDS) -> Setting:
    """The digits, which are cheap and need no download."""
    return Setting(DIGITS, "digits", PRESETS["smoke"], seeds)


SMOKE = digits(SMOKE_SEEDS)
"""To see that it runs."""


def change(**fields: str) -> Arm:
    """The arm that changes these words of a spec and nothing else."""
    return lambda base: dataclasses.replace(base, **fields)  # type: ignore[arg-type]


def grid(arms: Mapping[str, Arm], settings: Mapping[str, Setting], smoke: bool) -> tuple[Trial, ...]:
    """Every arm in every setting; for smoke, on a few runs of the digits instead."""
    return trials(arms, {f"{SMOKE.network.width:g}": SMOKE} if smoke else settings)


def trials(arms: Mapping[str, Arm], settings: Mapping[str, Setting]) -> tuple[Trial, ...]:
    """Every arm in every setting, its group: the shortest training of each setting first, then the longer ones.

    Within a setting and a length the seeds are outermost, so that whatever is finished is paired.
    """
    most = max(len(setting.seeds) for setting in settings.values())
    return tuple(
        trial
        for place in range(most)
        for group, setting in settings.items()
        for length in sorted(setting.seeds)[place : place + 1]
        for trial in _paired(arms, group, _trial(setting, length), setting.seeds[length])
    )


def _trial(setting: Setting, length: int) -> Trial:
    return Trial(setting.network, dataclasses.replace(setting.recipe, images=length), setting.data)


def at_scale(arms: Mapping[str, Arm], pictures: str) -> tuple[Trial, ...]:
    """Every arm of the paper's network, trained with the paper's recipe on a folder of pictures such as ImageNet's.

    Raises:
        InputError: for a folder that holds no train/CLASS and val/CLASS or test/CLASS.
    """
    name = f"imagefolder:{Path(pictures).resolve()}"  # the folder is a part of the key, however it is spelled
    base = dataclasses.replace(V2, num_classes=len(data.load(name).facts.classes))
    return _paired(arms, f"{base.width:g}", Trial(base, PRESETS["paper"], name), SCALE_SEEDS)


def _paired(arms: Mapping[str, Arm], group: str, base: Trial, seeds: int) -> tuple[Trial, ...]:
    made = {arm: of(base.network) for arm, of in arms.items()}
    return tuple(
        dataclasses.replace(base, network=network, seed=seed, arm=arm, group=group)
        for seed in range(seeds)
        for arm, network in made.items()
    )
