"""What ReLU6 in the bottleneck costs under each wiring of the shortcut: the grid that footnote 3 asks for.

Paper    Sandler et al. 2018, arXiv:1801.04381, footnote 3 and Figure 6
Claims   footnote 3: with shortcuts the loss by the nonlinearity is smaller. Nobody has shown it
Run      python -m experiments.ext_shortcut_x_nonlinearity run
Differs  CIFAR-10 at width 0.35 and short trainings instead of ImageNet. The claim is a difference of differences, seed
         by seed. Shares its runs with fig6a_nonlinearity and fig6b_shortcut. `--smoke` runs the digits
"""

import sys

from manifold_lab.report.arm_styles import styles_of
from manifold_lab.report.headlines import Headline
from manifold_lab.report.tables import ClaimResult, Lines
from manifold_lab.sweeps import ablation, comparison, training_run
from manifold_lab.sweeps.comparison import Comparison, ExpectedOrder
from manifold_lab.sweeps.study import Arms, trained_study
from manifold_lab.sweeps.study_commands import main

NAME = "ext_shortcut_x_nonlinearity"
ARMS = {name: ablation.variant(bottleneck_activation=name) for name in ("linear", "relu6")}
DIGITS = "digits, "
SHORTCUTS = ("bottleneck", "none", "expansion")
CONTRAST = Comparison(styles_of(ARMS), "shortcut")
HEADLINE = Headline(
    f"{NAME}.shortcut_", "A shortcut softens what ReLU6 in the bottleneck costs",
    "A shortcut does not soften what ReLU6 in the bottleneck costs",
    "Whether a shortcut softens what ReLU6 in the bottleneck costs is undecided",
)  # fmt: skip


def grid(smoke: bool) -> tuple[training_run.TrainingRun, ...]:
    """Both arms under every wiring."""
    bases = (
        {"": ablation.SMOKE_SETTING} if smoke else {"": ablation.cifar_setting(0.35), DIGITS: ablation.digits_setting()}
    )
    wired = {data + name: base.change(shortcut=name) for data, base in bases.items() for name in SHORTCUTS}
    return ablation.training_runs(ARMS, wired)


EVERYWHERE = ExpectedOrder(
    "linear_beats_relu6", "Figure 6 (ours)", "a linear bottleneck is better than one with ReLU6, whatever the shortcut",
    "linear", "relu6",
)  # fmt: skip


def claims(lines: Lines) -> list[ClaimResult]:
    """The loss under each wiring, and whether a shortcut makes it smaller."""
    present = comparison.groups(lines)
    return comparison.comparison_claims(lines, CONTRAST, [EVERYWHERE], NAME) + [
        softened(lines, (data + wiring, data + "none"), length)
        for data in ("", DIGITS)
        for wiring in ("bottleneck", "expansion")
        if {data + wiring, data + "none"} <= set(present)
        for length in comparison.lengths(lines, data + wiring)
    ]


def softened(lines: Lines, groups: tuple[str, str], length: str) -> ClaimResult:
    """What ReLU6 costs without a shortcut, the second group, minus what it costs with one, the first."""
    with_one, with_none = (comparison.label(lines, group) for group in groups)
    says = f"a shortcut (between {with_one}s) makes the loss by ReLU6 smaller than without one"
    claim = ExpectedOrder(f"shortcut_{with_one}_softens", "Footnote 3", says, "linear", "relu6")
    on = f"{comparison.data_of(lines, groups[0])}, {with_none} minus {with_one}, {int(length):,} images seen"
    tested = comparison.pair_of(claim, (groups[1], length), (groups[0], length))
    return comparison.judged(lines, claim, NAME, tested, f"points of test accuracy lost, {on}")


STUDY = trained_study(
    name=NAME,
    card=__doc__,
    grid=grid,
    arms=Arms(comparison=CONTRAST, expected=[EVERYWHERE], headline=HEADLINE),
    caption="What ReLU6 behind the bottleneck costs under each wiring.",
    claims=claims,
)


if __name__ == "__main__":
    sys.exit(main(STUDY))
