"""Is what ReLU6 costs an artefact of a network whose last maps are 2x2? Figure 6a on maps twice as large.

Paper    Sandler et al. 2018, arXiv:1801.04381, Figure 6a; it trains on 224x224 images only
Claims   a linear bottleneck is better than one with ReLU6, also where small images keep larger maps
Run      python -m experiments.ext_small_images run
Differs  CIFAR-10 at width 0.35: our network has stride 2 in the stage of 24 channels, so that its last maps are 2x2;
         the one that common repositories train has stride 1 there, and weight decay 4e-5. It takes four times as long,
         so that it has three seeds. `--smoke` runs the digits
"""

import dataclasses
import functools

from manifold_lab.models.specs import CIFAR_LARGE_MAPS
from manifold_lab.report.arm_styles import styles_of
from manifold_lab.report.tables import ClaimResult, DataFrame
from manifold_lab.sweeps import ablation, comparison
from manifold_lab.sweeps.trained_study import Arms, Headline, trained_study

WIDTH, WEIGHT_DECAY = 0.35, 4e-5
SEEDS = {ablation.SHORT_IMAGES: 3}
ARMS = {name: ablation.variant(bottleneck_activation=name) for name in ("linear", "relu6")}
OURS = ablation.cifar_setting(WIDTH, ablation.SHORT_ONLY)
COMMON = ablation.Setting(
    dataclasses.replace(CIFAR_LARGE_MAPS, width=WIDTH),
    OURS.data,
    dataclasses.replace(OURS.recipe, weight_decay=WEIGHT_DECAY),
    SEEDS,
)
EXPECTED = [comparison.ExpectedOrder(
    "linear_beats_relu6", "Figure 6a (ours)", "a linear bottleneck is better than one with ReLU6", "linear", "relu6",
)]  # fmt: skip
LARGER = "last maps 4x4"
SETTINGS = {"last maps 2x2": OURS, LARGER: COMMON}
CONTRAST = comparison.Comparison(styles_of(ARMS), "network")
HEADLINE = Headline(
    f"linear_beats_relu6/cifar10/{LARGER}", "A linear bottleneck beats ReLU6 on larger maps too",
    "A linear bottleneck does not beat ReLU6 on larger maps",
    "Whether a linear bottleneck beats ReLU6 on larger maps is undecided",
    "Whether a linear bottleneck beats ReLU6 on larger maps has not been run yet: the last maps here are 2×2",
)  # fmt: skip


def claims(table: DataFrame) -> list[ClaimResult]:
    """Whether ReLU6 costs accuracy on maps of either size; the larger ones are not run until they have lines."""
    found = comparison.comparison_claims(table, CONTRAST, EXPECTED)
    if LARGER in comparison.groups(table):
        return found
    (claim,), length = EXPECTED, max(SEEDS)
    measure = f"points of test accuracy, {COMMON.data}, {CONTRAST.group} {LARGER}, {length:,} images seen"
    return [*found, comparison.planned(claim, measure, COMMON.data, LARGER, length)]


STUDY = trained_study(
    name="ext_small_images",
    card=__doc__,
    grid=functools.partial(ablation.grid, ARMS, SETTINGS),
    arms=Arms(comparison=CONTRAST, expected=EXPECTED, headline=HEADLINE),
    caption="What ReLU6 behind the bottleneck costs on maps of two sizes.",
    claims=claims,
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
