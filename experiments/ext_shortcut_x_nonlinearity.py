"""What ReLU6 in the bottleneck costs under each wiring of the shortcut: the grid that footnote 3 asks for.

Paper    Sandler et al. 2018, arXiv:1801.04381, footnote 3 and Figure 6
Claims   footnote 3: with shortcuts the loss by the nonlinearity is smaller. Nobody has shown it
Run      python -m experiments.ext_shortcut_x_nonlinearity run
Differs  CIFAR-10 at width 0.35 and short trainings instead of ImageNet. The claim is a difference of differences, seed
         by seed. Shares its runs with fig6a_nonlinearity and fig6b_shortcut. `--smoke` runs the digits
"""

import dataclasses
import sys

from manifold_lab import ablation, contrast, plots, stats, trial
from manifold_lab.contrast import Contrast, Expected
from manifold_lab.study import Study, main
from manifold_lab.tables import Claim

NAME = "ext_shortcut_x_nonlinearity"
COMMAND = f"python -m experiments.{NAME}"
ARMS = {name: ablation.change(bottleneck_activation=name) for name in ("linear", "relu6")}
SHORTCUTS = ("bottleneck", "none", "expansion")
CONTRAST = Contrast({arm: plots.ACTIVATIONS[arm] for arm in ARMS}, "shortcut")


def grid(smoke: bool) -> tuple[trial.Trial, ...]:
    """Both arms under every wiring."""
    base = ablation.SMOKE if smoke else ablation.cifar(0.35)
    bases = {name: dataclasses.replace(base, shortcut=name) for name in SHORTCUTS}
    return ablation.trials(ARMS, bases, smoke)


def figure(lines: contrast.Lines) -> contrast.Figure:
    """Curves with the paper's shortcut, differences under all."""
    return contrast.draw(lines, CONTRAST)


def claims(lines: contrast.Lines) -> list[Claim]:
    """The loss under each wiring, and whether a shortcut makes it smaller."""
    says = "a linear bottleneck is better than one with ReLU6, whatever the shortcut"
    found = contrast.claims(lines, [Expected("Figure 6 (ours)", says, "linear", "relu6")], COMMAND)
    present = contrast.groups(lines)
    return found + [
        softened(lines, wiring, length)
        for wiring in ("bottleneck", "expansion")
        if {wiring, "none"} <= set(present)
        for length in contrast.lengths(lines, wiring)
    ]


def softened(lines: contrast.Lines, wiring: str, length: str) -> Claim:
    """What ReLU6 costs without a shortcut minus what it costs with this one."""
    losses = [contrast.gaps(lines, ("linear", "relu6"), group, length) for group in ("none", wiring)]
    shared = losses[0].keys() & losses[1].keys()
    paired = stats.paired(*losses) if shared else None
    says = f"a shortcut (between {wiring}s) makes the loss by ReLU6 smaller than without one"
    measure = f"points of test accuracy lost without minus with, {int(length):,} pictures seen, paired by seed"
    verdict = stats.verdict(paired.exceeds(0) if paired else None)
    return Claim("Footnote 3", says, measure, paired.difference if paired else contrast.NO_RUNS, verdict, COMMAND)


def document(lines: contrast.Lines) -> contrast.Document:
    """Both arms under every wiring."""
    return contrast.document(lines, CONTRAST, "What ReLU6 behind the bottleneck costs under each wiring.")


STUDY = Study(NAME, __doc__, grid, trial.measure, trial.lines, figure, claims, document, trial.SHELF)


if __name__ == "__main__":
    sys.exit(main(STUDY))
