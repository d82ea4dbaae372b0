"""A comparison of networks from one call: figure, table and claim."""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path

from manifold_lab.core.errors import InputError, one_of
from manifold_lab.models.specs import DIGITS, NetworkSpec
from manifold_lab.report.arm_styles import OTHER_STYLES
from manifold_lab.sweeps.comparison import Comparison, ExpectedOrder
from manifold_lab.sweeps.study import Study
from manifold_lab.sweeps.trained_study import Arms, trained_study
from manifold_lab.sweeps.training_run import TrainingRun
from manifold_lab.training import RECIPES, Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is trained: images seen by each run, and seeds of each arm; below five seeds nothing is decided."""

    images: int = 20_000
    seeds: int = 5
    recipe: Recipe = RECIPES["smoke"]
    like: NetworkSpec = DIGITS
    """Resolution, channels and classes of networks that are named, not specified."""


SMOKE_EFFORT = Effort(images=2_500, seeds=2)


def compare(
    networks: Mapping[str, NetworkSpec | str],
    *,
    better: str,
    worse: str,
    data: str = "digits",
    effort: Effort | None = None,
    name: str = "compare",
) -> Study:
    """A study that trains networks side by side and judges whether one is better than another.

    Args:
        networks: two or more, by the names of their arms: specs, or names of networks from elsewhere
            (torchvision:NAME, timm:NAME, MODULE:CALLABLE), whose resolution and classes are those of `effort.like`.
        better: the arm that should be better.
        worse: than this one.
        data: the data set's name, whose images and classes the networks fit.
        effort: images seen, seeds, recipe, and what networks from elsewhere need to know.
        name: of its files and of the folder of its runs.

    Raises:
        InputError: for fewer than two networks, two that are the same, or an arm that is not among them.
    """
    if len(networks) < 2:
        raise InputError(f"networks: {len(networks)} given; a comparison needs two or more")
    for first, second in itertools.combinations(networks, 2):
        if networks[first] == networks[second]:
            raise InputError(f"networks: {first!r} and {second!r} are the same network; give each its own")
    for arm in (better, worse):
        one_of("arm", arm, list(networks))
    says = f"{better} is better than {worse}"
    started = getattr(sys.modules["__main__"], "__file__", None)
    styles = dict(zip(networks, OTHER_STYLES, strict=False))
    comparison = Comparison({worse: styles[worse]} | styles, "data")  # differences have the sign of the claim's
    expected = [ExpectedOrder(f"{better}_beats_{worse}", name, says, better, worse)]
    return trained_study(
        name=name,
        card=f"{says}.\n\nPaper    none\nClaims   {says}\nRun      this file\nDiffers  from no paper",
        grid=functools.partial(_runs, networks, data, effort or Effort()),
        arms=Arms(comparison=comparison, expected=expected),
        caption=f"{' and '.join(networks)}, compared.",
        run_folder=name,
        program=(str(Path(started).resolve()),) if started else (),
    )


def _runs(networks: Mapping[str, NetworkSpec | str], data: str, effort: Effort, smoke: bool) -> tuple[TrainingRun, ...]:
    used = SMOKE_EFFORT if smoke else effort
    recipe = dataclasses.replace(used.recipe, images=used.images)
    specs = {arm: (used.like, one) if isinstance(one, str) else (one, "") for arm, one in networks.items()}
    return tuple(
        TrainingRun(spec, recipe, data, seed, model=model, arm=arm, group=data)
        for seed in range(used.seeds)
        for arm, (spec, model) in specs.items()
    )
