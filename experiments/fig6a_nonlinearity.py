"""Figure 6a: a linear bottleneck against one with a nonlinearity, over widths, paired by seed.

Paper    Sandler et al. 2018, arXiv:1801.04381, Figure 6a and section 3.2
Claims   a linear bottleneck is better than one with ReLU6; by section 3.2, the more so the narrower it is
Run      python -m experiments.fig6a_nonlinearity run
Differs  CIFAR-10 at small widths and short trainings instead of ImageNet: it tests the sign, not the size. The test
         pictures are looked at once per run. `--smoke` runs the digits
"""

import functools
import sys

from manifold_lab import ablation, contrast, plots, trial
from manifold_lab.contrast import Contrast, Expected
from manifold_lab.study import Study, main

NAME = "fig6a_nonlinearity"
ARMS = {name: ablation.change(bottleneck_activation=name) for name in ("linear", "relu6")}
BASES = {f"{width:g}": ablation.cifar(width) for width in (0.35, 0.25, 0.5)}
"""The middle width first."""
CONTRAST = Contrast({arm: plots.ACTIVATIONS[arm] for arm in ARMS}, "width")
EXPECTED = [Expected("Figure 6a", "a linear bottleneck is better than one with ReLU6 (−0.62)", "linear", "relu6")]

FIGURE = functools.partial(contrast.draw, contrast=CONTRAST)
CLAIMS = functools.partial(contrast.claims, expected=EXPECTED, command=f"python -m experiments.{NAME}")
DOCUMENT = functools.partial(
    contrast.document, contrast=CONTRAST, caption="Figure 6a: the activation behind the bottleneck."
)
GRID = functools.partial(ablation.trials, ARMS, BASES)
AT_SCALE = functools.partial(ablation.at_scale, ARMS)
STUDY = Study(NAME, __doc__, GRID, trial.measure, trial.lines, FIGURE, CLAIMS, DOCUMENT, trial.SHELF, AT_SCALE)


if __name__ == "__main__":
    sys.exit(main(STUDY))
