"""Figure 6a: a linear bottleneck against one with a nonlinearity, over widths, paired by seed.

Paper    Sandler et al. 2018, arXiv:1801.04381, Figure 6a and section 3.2
Claims   a linear bottleneck is better than one with ReLU6; by section 3.2, the more so the narrower it is
Run      python -m experiments.fig6a_nonlinearity run
Differs  CIFAR-10 at small widths and short trainings instead of ImageNet: it tests the sign, not the size. The test
         pictures are looked at once per run. `--smoke` runs the digits
"""

import dataclasses
import sys

from manifold_lab import contrast, plots, trial
from manifold_lab.contrast import Contrast, Expected
from manifold_lab.netspec import CIFAR, DIGITS
from manifold_lab.study import Study, main
from manifold_lab.train import PRESETS
from manifold_lab.trial import Trial

NAME = "fig6a_nonlinearity"
ARMS = ("linear", "relu6")
WIDTHS = (0.25, 0.35, 0.5)
SHORT, LONG = 120_000, 480_000
"""Pictures seen."""
SEEDS = {SHORT: 5, LONG: 3}
CONTRAST = Contrast({arm: plots.ACTIVATIONS[arm] for arm in ARMS}, "width")


def grid(smoke: bool) -> tuple[Trial, ...]:
    """The middle width first; within a width seeds outermost, so that whatever is finished is paired."""
    if smoke:
        return tuple(
            Trial(dataclasses.replace(DIGITS, bottleneck_activation=arm), PRESETS["smoke"], "digits", seed, arm,
                  f"{DIGITS.width:g}")
            for seed in range(3) for arm in ARMS
        )  # fmt: skip
    recipe = dataclasses.replace(PRESETS["cifar"], evaluate_every=15_000)
    return tuple(
        Trial(dataclasses.replace(CIFAR, width=width, bottleneck_activation=arm),
              dataclasses.replace(recipe, images=length), "cifar10", seed, arm, f"{width:g}")
        for length in (SHORT, LONG)
        for width in sorted(WIDTHS, key=lambda width: abs(width - 0.35))
        for seed in range(SEEDS[length])
        for arm in ARMS
    )  # fmt: skip


def figure(lines: contrast.Lines) -> contrast.Figure:
    """Curves at the middle width and the greatest length that is there."""
    groups = sorted(contrast.unique(lines, "group"), key=float)
    length = max(contrast.unique(lines, "length"), key=int)
    return contrast.draw(lines, CONTRAST, (groups[len(groups) // 2], length))


def claims(lines: contrast.Lines) -> list[contrast.Claim]:
    """The sign of Figure 6a, in every width and length."""
    expected = [Expected("Figure 6a", "a linear bottleneck is better than one with ReLU6 (−0.62)", "linear", "relu6")]
    return contrast.claims(lines, expected, f"python -m experiments.{NAME}")


STUDY = Study(NAME, __doc__, grid, trial.measure, trial.lines, figure, claims)


if __name__ == "__main__":
    sys.exit(main(STUDY))
