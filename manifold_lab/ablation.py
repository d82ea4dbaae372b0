"""Grids of trials: arms of an ablation over base networks, seeds and lengths, each arm one change of a base's spec."""

import dataclasses
from collections.abc import Callable, Mapping

from manifold_lab import data
from manifold_lab.netspec import CIFAR, DIGITS, V2, NetworkSpec
from manifold_lab.train import PRESETS
from manifold_lab.trial import Trial

Arm = Callable[[NetworkSpec], NetworkSpec]
"""What an arm makes of a base network."""
SHORT, LONG = 120_000, 480_000
"""Pictures seen, on CIFAR-10."""
SEEDS = {SHORT: 5, LONG: 3}
SCALE_SEEDS = 3
SMOKE, SMOKE_SEEDS, SMOKE_IMAGES = DIGITS, 4, 5_000
EVALUATE_EVERY = 15_000
"""Pictures seen between two points of a curve."""


def change(**fields: str) -> Arm:
    """The arm that changes these words of a spec and nothing else."""
    return lambda base: dataclasses.replace(base, **fields)  # type: ignore[arg-type]


def cifar(width: int | float) -> NetworkSpec:
    """The base network for CIFAR-10 at a width."""
    return dataclasses.replace(CIFAR, width=width)


def trials(arms: Mapping[str, Arm], bases: Mapping[str, NetworkSpec], smoke: bool) -> tuple[Trial, ...]:
    """Every arm of every base on CIFAR-10, short trainings first; for smoke, of small networks on the digits.

    Bases that are for CIFAR-10 give way to one for the digits then. Within a base the seeds are outermost, so that
    whatever is finished is paired.
    """
    if smoke:
        small = {group: base for group, base in bases.items() if base.rows == SMOKE.rows} or {f"{SMOKE.width:g}": SMOKE}
        recipe = dataclasses.replace(PRESETS["smoke"], images=SMOKE_IMAGES)
        return tuple(
            trial
            for group, base in small.items()
            for trial in _paired(arms, group, Trial(base, recipe, "digits"), SMOKE_SEEDS)
        )
    recipe = dataclasses.replace(PRESETS["cifar"], evaluate_every=EVALUATE_EVERY)
    return tuple(
        trial
        for length, seeds in SEEDS.items()
        for group, base in bases.items()
        for trial in _paired(arms, group, Trial(base, dataclasses.replace(recipe, images=length), "cifar10"), seeds)
    )


def at_scale(arms: Mapping[str, Arm], pictures: str) -> tuple[Trial, ...]:
    """Every arm of the paper's network, trained with the paper's recipe on a folder of pictures such as ImageNet's.

    Raises:
        InputError: for a folder that holds no train/CLASS and val/CLASS or test/CLASS.
    """
    name = f"imagefolder:{pictures}"
    base = dataclasses.replace(V2, num_classes=len(data.load(name).facts.classes))
    return _paired(arms, f"{base.width:g}", Trial(base, PRESETS["paper"], name), SCALE_SEEDS)


def _paired(arms: Mapping[str, Arm], group: str, base: Trial, seeds: int) -> tuple[Trial, ...]:
    made = {arm: of(base.network) for arm, of in arms.items()}
    return tuple(
        dataclasses.replace(base, network=network, seed=seed, arm=arm, group=group)
        for seed in range(seeds)
        for arm, network in made.items()
    )
