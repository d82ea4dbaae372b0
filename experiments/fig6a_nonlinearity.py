"""Figure 6a: a linear bottleneck against one with a nonlinearity, over widths.

Paper    Sandler et al. 2018, arXiv:1801.04381, Figure 6a and section 3.2
Claims   a linear bottleneck is better than one with ReLU6; the gap gets smaller with training; by section 3.2, it is
         the larger the narrower the bottleneck
Run      python -m experiments.fig6a_nonlinearity run
Differs  CIFAR-10 at small widths and short trainings instead of ImageNet: it tests the sign, not the size. The test
         images are evaluated once per run. Numbers of seeds were set beforehand, but two of the five of each
         long training were added when three were known, as fewer than five decide nothing. The digits are a cheap
         second data set. Beyond the paper: relu, leaky_relu, gelu and hardswish in the bottleneck. `--smoke` runs the
         digits alone
"""

import functools

from manifold_lab.report.arm_styles import styles_of
from manifold_lab.report.tables import ClaimResult, DataFrame
from manifold_lab.sweeps import ablation, comparison, gap_over_training, training_run
from manifold_lab.sweeps.trained_study import Arms, Headline, trained_study

ARMS = {name: ablation.variant(bottleneck_activation=name) for name in ("linear", "relu6")}
BEYOND = {name: ablation.variant(bottleneck_activation=name) for name in ("relu", "leaky_relu", "gelu", "hardswish")}
"""Not in the paper: at one width, and short."""
SHORT = ablation.SHORT_ONLY
SETTINGS = {
    "0.35": ablation.cifar_setting(0.35),
    "0.25": ablation.cifar_setting(0.25),
    "0.5": ablation.cifar_setting(0.5),
    "1": ablation.cifar_setting(1.0, SHORT),
    "digits": ablation.digits_setting(),
}
"""The middle width first; 1 is the paper's own."""
CONTRAST = comparison.Comparison(styles_of(ARMS | BEYOND), "width")
PAIR = ("linear", "relu6")
PRINTED_GAP = 0.62
"""Points of top-1 accuracy at the end of the paper's training."""
EXPECTED = comparison.ExpectedOrder(
    "linear_beats_relu6", "Figure 6a",
    f"a linear bottleneck is better than one with ReLU6 (in the paper by {PRINTED_GAP} points)",
    *PAIR,
)  # fmt: skip
SHRINKING = comparison.ExpectedOrder(
    "gap_shrinks",
    "Figure 6a",
    f"the gap gets smaller with training (in the paper from 0.95 points to {PRINTED_GAP})",
    *PAIR,
)
NARROWING = comparison.ExpectedOrder(
    "gap_grows_when_narrower", "Section 3.2",
    "the narrower the bottleneck, the more ReLU6 costs (as its argument says)",
    *PAIR,
)  # fmt: skip
HEADLINE = Headline(
    "linear_beats_relu6", "A linear bottleneck beats one with ReLU6",
    "A linear bottleneck does not beat one with ReLU6",
)  # fmt: skip


def grid(smoke: bool) -> tuple[training_run.TrainingRun, ...]:
    """The paper's two arms in every setting, then the others in the first and on the digits."""
    beyond = {"0.35": ablation.cifar_setting(0.35, SHORT), "digits": SETTINGS["digits"]}
    return ablation.grid(ARMS, SETTINGS, smoke) + (() if smoke else ablation.training_runs(BEYOND, beyond))


def claims(table: DataFrame) -> list[ClaimResult]:
    """Whether ReLU6 costs accuracy, everywhere; whether less after longer training; whether more at smaller widths."""
    return (
        comparison.comparison_claims(table, CONTRAST, [EXPECTED])
        + gap_over_training.gap_shrinks_with_training(table, CONTRAST, [SHRINKING])
        + comparison.gap_grows_when_narrower(table, CONTRAST, NARROWING)
    )


STUDY = trained_study(
    name="fig6a_nonlinearity",
    card=__doc__,
    grid=grid,
    arms=Arms(comparison=CONTRAST, expected=[EXPECTED, SHRINKING, NARROWING], headline=HEADLINE),
    caption="Figure 6a: the activation behind the bottleneck.",
    claims=claims,
    at_scale=functools.partial(ablation.at_scale, ARMS),
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
