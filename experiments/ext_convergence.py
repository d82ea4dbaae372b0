"""Does the cost of ReLU6 in a bottleneck fall to the paper's with more training? Each arm at its best learning rate.

Paper    Sandler et al. 2018, arXiv:1801.04381, Figure 6a: 0.62 points at the end of a long training on ImageNet
Claims   the cost at the end of a long training is 0.62 points; measured is whether it is still more here
Run      python -m experiments.ext_convergence run
Differs  CIFAR-10 instead of ImageNet. The learning rates are those that were best on validation in short trainings at
         width 0.35 (ext_cause), and other seeds than chose them are run. Trainings of 1,920,000 images, 43 times
         through the training images, and long ones at the paper's width are dear: two and three seeds, on which nothing
         is decided. `--smoke` runs the digits
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from experiments.ext_cause import BEST_RATES, FRESH, WIDTH
from experiments.fig6a_nonlinearity import PAIR, PRINTED_GAP
from experiments.rules import ext_cause_tuning as tuning
from manifold_lab.report.arm_styles import styles_of
from manifold_lab.report.tables import ClaimResult, DataFrame
from manifold_lab.sweeps import ablation, comparison, gap_over_training, training_run
from manifold_lab.sweeps.trained_study import Arms, Headline, trained_study

ARMS = {name: ablation.variant(bottleneck_activation=name) for name in PAIR}
VERY_LONG_IMAGES = 1_920_000
PLANNED: Sequence[tuple[float, int, Iterable[int]]] = (
    (WIDTH, ablation.SHORT_IMAGES, FRESH),
    (1.0, ablation.LONG_IMAGES, FRESH[:3]),
    (WIDTH, VERY_LONG_IMAGES, FRESH[:2]),
)
"""Width, images seen, and seeds; the first trainings are those of ext_cause."""
CONTRAST = comparison.Comparison(styles_of(ARMS), "width")
SHRINKING = comparison.ExpectedOrder(
    "gap_shrinks", "Figure 6a (ours)", "at the best learning rates the gap gets smaller with training", *PAIR
)
ABOVE, SAYS = "gap_above_the_papers", f"ReLU6 costs more than the {PRINTED_GAP} points of the paper"
HEADLINE = Headline(
    ABOVE, f"At the best learning rates ReLU6 costs more than the paper's {PRINTED_GAP} points",
    f"At the best learning rates ReLU6 costs no more than the paper's {PRINTED_GAP} points",
)  # fmt: skip


def grid(smoke: bool) -> tuple[training_run.TrainingRun, ...]:
    """Both arms, each with its own learning rate, the cheaper trainings first."""
    if smoke:
        return ablation.training_runs(ARMS, {f"{WIDTH:g}": ablation.SMOKE_SETTING})
    return tuple(
        dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, learning_rate=BEST_RATES[run.arm]))
        for width, length, seeds in PLANNED
        for run in ablation.paired_runs(ARMS, f"{width:g}", ablation.cifar_setting(width).of_length(length), seeds)
    )


def claims(table: DataFrame) -> list[ClaimResult]:
    """Whether the gap is above the paper's in every place, in planned ones without runs too; whether it shrinks."""
    data = table["data"].iloc[0]
    planned = [(f"{width:g}", length) for width, length, _ in PLANNED if data == ablation.cifar_setting(width).data]
    found = [above_the_papers(table, data, place) for place in dict.fromkeys([*comparison.places(table), *planned])]
    return found + gap_over_training.gap_shrinks_with_training(table, CONTRAST, [SHRINKING])


def above_the_papers(table: DataFrame, data: str, place: comparison.Place) -> ClaimResult:
    """Whether the gap less the paper's is above zero."""
    better, worse = (np.array([*comparison.scores(table, arm, *place).values()]) for arm in PAIR)
    return comparison.above_zero(
        f"{ABOVE}/{data}/{place[0]}/{place[1]}", SAYS, measure(data, place),
        [(better - PRINTED_GAP, 1.0), (worse, -1.0)], place=SHRINKING.place,
    )  # fmt: skip


def measure(data: str, place: comparison.Place) -> str:
    """What is measured, in words."""
    return (
        f"points by which the gap at the best learning rates ({tuning.named(BEST_RATES, PAIR)}) is above "
        f"{PRINTED_GAP}, {data}, width {place[0]}, {place[1]:,} images seen"
    )


STUDY = trained_study(
    name="ext_convergence",
    card=__doc__,
    grid=grid,
    arms=Arms(comparison=CONTRAST, expected=[SHRINKING], headline=HEADLINE),
    caption="What ReLU6 behind the bottleneck costs at each arm's best learning rate, over lengths of training.",
    claims=claims,
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
