"""Grids of trials: arms of an ablation over base networks, seeds and lengths, each arm one change of a base's spec."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from manifold_lab import data
from manifold_lab.models.specs import CIFAR, DIGITS, V2, NetworkSpec
from manifold_lab.sweeps.training_run import TrainingRun
from manifold_lab.training import RECIPES, Recipe

Arm = Callable[[NetworkSpec], NetworkSpec]
"""What an arm makes of a base network."""
SHORT_IMAGES, LONG_IMAGES = 120_000, 480_000
"""Images seen, on CIFAR-10."""
SEEDS_BY_LENGTH = {SHORT_IMAGES: 5, LONG_IMAGES: 5}
"""No verdict is given on fewer runs of an arm."""
SHORT_ONLY = {SHORT_IMAGES: 5}
DIGITS_SEEDS = {20_000: 10}
SMOKE_SEEDS = {640: 2}
SCALE_SEEDS = 3
EVALUATE_EVERY = 15_000
"""Images seen between two points of a curve."""


@dataclass(frozen=True)
class Setting:
    """What the arms of a grid share: the network that they change, the data and recipe, and the seeds by length."""

    network: NetworkSpec
    data: str
    recipe: Recipe
    seeds: Mapping[int, int]
    """How many seeds, by images seen."""

    def change(self, **fields: object) -> "Setting":
        """The setting with these words of its network changed."""
        return dataclasses.replace(self, network=dataclasses.replace(self.network, **fields))  # type: ignore[arg-type]

    def of_length(self, images: int, **fields: object) -> TrainingRun:
        """A training of so many images, with these words of its recipe changed."""
        recipe = dataclasses.replace(self.recipe, images=images, **fields)  # type: ignore[arg-type]
        return TrainingRun(self.network, recipe, self.data)


def cifar_setting(width: int | float, seeds: Mapping[int, int] = SEEDS_BY_LENGTH) -> Setting:
    """CIFAR-10 at a width."""
    recipe = dataclasses.replace(RECIPES["cifar"], evaluate_every=EVALUATE_EVERY)
    return Setting(dataclasses.replace(CIFAR, width=width), "cifar10", recipe, seeds)


def digits_setting(seeds: Mapping[int, int] = DIGITS_SEEDS) -> Setting:
    """The digits, which are cheap and need no download."""
    return Setting(DIGITS, "digits", RECIPES["smoke"], seeds)


SMOKE_SETTING = digits_setting(SMOKE_SEEDS)
"""To see that it runs."""


def variant(**fields: str) -> Arm:
    """The arm that changes these words of a spec and nothing else."""
    return lambda base: dataclasses.replace(base, **fields)  # type: ignore[arg-type]


def grid(arms: Mapping[str, Arm], settings: Mapping[str, Setting], smoke: bool) -> tuple[TrainingRun, ...]:
    """Every arm in every setting; for smoke, on a few runs of the digits instead."""
    return training_runs(arms, {f"{SMOKE_SETTING.network.width:g}": SMOKE_SETTING} if smoke else settings)


def training_runs(arms: Mapping[str, Arm], settings: Mapping[str, Setting]) -> tuple[TrainingRun, ...]:
    """Every arm in every setting, its group: the shortest training of each setting first, then the longer ones.

    Within a setting and a length the seeds are outermost, so that whatever is finished is paired.
    """
    most = max(len(setting.seeds) for setting in settings.values())
    return tuple(
        trial
        for place in range(most)
        for group, setting in settings.items()
        for length in sorted(setting.seeds)[place : place + 1]
        for trial in paired_runs(arms, group, setting.of_length(length), range(setting.seeds[length]))
    )


def at_scale(arms: Mapping[str, Arm], images: str) -> tuple[TrainingRun, ...]:
    """Every arm of the paper's network, trained with the paper's recipe on a folder of images such as ImageNet's.

    Raises:
        InputError: for a folder that holds no train/CLASS and val/CLASS or test/CLASS.
    """
    name = f"imagefolder:{Path(images).resolve()}"  # the folder is a part of the key, however it is spelled
    base = dataclasses.replace(V2, num_classes=len(data.load(name).facts.classes))
    return paired_runs(arms, f"{base.width:g}", TrainingRun(base, RECIPES["paper"], name), range(SCALE_SEEDS))


def paired_runs(
    arms: Mapping[str, Arm], group: str, base: TrainingRun, seeds: Iterable[int]
) -> tuple[TrainingRun, ...]:
    """Every arm of one training, seeds outermost."""
    made = {arm: of(base.network) for arm, of in arms.items()}
    return tuple(
        dataclasses.replace(base, network=network, seed=seed, arm=arm, group=group)
        for seed in seeds
        for arm, network in made.items()
    )
