"""Is ReLU6 robust at low precision? Trained networks in int8, with ReLU6 or with ReLU in every place.

Paper    Sandler et al. 2018, arXiv:1801.04381, section 4: "we use ReLU6 ... because of its robustness when used with
         low-precision computation"
Claims   section 4: ReLU6 is robust when computed at low precision; and more so than ReLU
Run      python -m experiments.ext_int8 run
Differs  CIFAR-10 at width 0.35 and short trainings; post-training quantisation, by the processor's int8 kernels, with
         ranges from 1,000 validation images and weights per channel: better schemes than 2018's, which favours neither.
         Bottlenecks are linear in both arms. `--smoke` runs the digits
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import stats
from torch import nn

from manifold_lab.core import statistics
from manifold_lab.data import Data
from manifold_lab.models.quantized import quantized
from manifold_lab.report import deciding
from manifold_lab.report.arm_styles import ARM_STYLES
from manifold_lab.report.plots import draw_intervals
from manifold_lab.report.tables import ClaimResult, DataFrame, Document, Record, estimated_claim, frame, pick
from manifold_lab.sweeps import ablation
from manifold_lab.sweeps.comparison import FEWEST, POINTS, above_zero
from manifold_lab.sweeps.information_run import trained
from manifold_lab.sweeps.store import Result, Run
from manifold_lab.sweeps.study import Headline, Study, captioned_figure
from manifold_lab.sweeps.training_run import TrainingRun

PLACE = "Section 4"
WIDTH = 0.35
SEEDS = range(5, 10)
"""Seeds whose trainings other experiments keep the networks of."""
EVERYWHERE = ("expansion_activation", "depthwise_activation", "outer_activation")
ARMS = {name: ablation.variant(**dict.fromkeys(EVERYWHERE, name)) for name in ("relu6", "relu")}
MARGIN = 1.0
"""Points of accuracy; a network that loses less in int8 is robust."""
BATCH, CALIBRATION = 250, 1000


@dataclass(frozen=True)
class Int8Run:
    """A trained network, in float and in int8, on all test images.

    Args:
        training: it is trained first where it never was.
        calibration: validation images that set the ranges.
    """

    training: TrainingRun
    calibration: int = CALIBRATION


def grid(smoke: bool) -> tuple[Int8Run, ...]:
    """Both arms, seeds outermost."""
    if smoke:
        return tuple(map(Int8Run, ablation.training_runs(ARMS, {"": ablation.digits_setting({640: 2})})))
    base = ablation.cifar_setting(WIDTH).of_length(ablation.SHORT_IMAGES)
    return tuple(map(Int8Run, ablation.paired_runs(ARMS, f"{WIDTH:g}", base, SEEDS)))


def measure(run: Int8Run, folder: Path) -> Result:
    """Test accuracy in float and in int8."""
    network, images = trained(run.training, folder)
    size = min(BATCH, images.size("validation"))
    shown = itertools.islice(images.evaluation("validation", size), math.ceil(run.calibration / size))
    twin = quantized(network, [x for x, _ in shown])
    return Result({"test_accuracy": accuracy(network, images), "int8_accuracy": accuracy(twin, images),
                   "test_images": images.size("test")})  # fmt: skip


@torch.no_grad()
def accuracy(model: nn.Module, images: Data) -> float:
    """The share of test images that are classified rightly."""
    right = [model(x).argmax(1) == y for x, y in images.evaluation("test", min(BATCH, images.size("test")))]
    return float(torch.cat(right).double().mean())


def rows(runs: Sequence[Run]) -> list[Record]:
    """One line per network."""
    return [
        {"arm": run.spec.training.arm, "seed": run.spec.training.seed}
        | {name: run.numbers.get(name) for name in ("test_accuracy", "int8_accuracy")}
        | {"data": run.spec.training.data, "length": run.spec.training.recipe.images}
        for run in runs
        if run.numbers
    ]


def lost(lines: DataFrame, arm: str) -> np.ndarray:
    """Points of test accuracy that int8 costs, run by run."""
    mine = pick(lines, arm=arm)
    return POINTS * (mine["test_accuracy"] - mine["int8_accuracy"]).to_numpy()


def claims(lines: DataFrame) -> list[ClaimResult]:
    """Whether each arm is robust, and whether ReLU6 is more so; below `FEWEST` runs nothing is decided."""
    found = []
    on = f"{lines['data'].iloc[0]}, {lines['length'].iloc[0]:,} images seen"
    for arm, name in (("relu6", "ReLU6"), ("relu", "ReLU")):
        losses = lost(lines, arm) if arm in set(lines["arm"]) else np.zeros(0)
        says = f"a network with {name} in every place loses less than {MARGIN:g} point in int8"
        found.append(robust(f"robust/{arm}", says, f"points of test accuracy lost, {on}", losses))
    groups = [(lost(lines, "relu"), 1), (lost(lines, "relu6"), -1)]
    measure = f"points lost with ReLU − with ReLU6, {on}{beside_student(*(values for values, _ in groups))}"
    less = above_zero("relu6_loses_less", "ReLU6 loses less in int8 than ReLU", measure, groups, place=PLACE)
    return [*found, less]


def beside_student(one: np.ndarray, other: np.ndarray) -> str:
    """What permuting the runs of both arms says of their means, where few losses are skewed; it decides nothing."""
    if min(len(one), len(other)) < FEWEST:
        return ""
    found = stats.permutation_test((one, other), lambda x, y, axis: x.mean(axis) - y.mean(axis), n_resamples=10_000,
                                   random_state=np.random.default_rng(0))  # fmt: skip
    return f" (Student's test decides; by permuting runs p = {found.pvalue:.2g})"


def robust(name: str, says: str, measure: str, losses: np.ndarray) -> ClaimResult:
    """Whether the mean loss is within the margin, over runs."""
    loss = statistics.mean(losses) if len(losses) else statistics.NO_RUNS
    nearest = math.copysign(MARGIN, loss.value)
    return estimated_claim(name, says, measure, loss, loss.within(MARGIN) if loss.n >= FEWEST else None, place=PLACE,
                           needed=deciding.seeds(losses, nearest, "runs", FEWEST))  # fmt: skip


HEADLINE = Headline(
    "relu6_loses_less", "ReLU6 loses less in int8 than ReLU", "ReLU6 loses more in int8 than ReLU",
)  # fmt: skip


def draw(figure: Figure, lines: DataFrame) -> str:
    """What int8 costs, run by run, with mean and interval of each arm."""
    ax = figure.subplots()
    for place, arm in enumerate(ARMS):
        values = np.sort(lost(lines, arm))
        colour, mark = ARM_STYLES[arm]
        beside = place + 0.04 * (np.arange(len(values)) - len(values))
        ax.plot(beside, values, mark, color=colour, ms=3, mfc="none", mew=0.7)
        mean = statistics.mean(values) if len(values) else statistics.NO_RUNS
        draw_intervals(ax, [place + 0.1], [mean], fmt=mark, color=colour, ms=4, capsize=2)
    ax.axhline(0, color="0.6", lw=0.6, ls=":")
    ax.set_xticks(range(len(ARMS)), [f"{arm}, n = {len(lost(lines, arm))}" for arm in ARMS])
    ax.set(xlim=(-0.5, len(ARMS) - 0.3), xlabel="activation in every place", ylabel="points of accuracy lost in int8")
    return ("Open marks: trained networks, by their loss, CIFAR-10 at width 0.35; filled: their mean, "
            f"Student's {statistics.PERCENT} interval.")  # fmt: skip


def _mean(values: np.ndarray) -> str:
    return f"{values.mean():.2f}" if len(values) else ""


def table(lines: DataFrame) -> Document:
    """Every arm in float and in int8."""
    head = {"arm": "activation", "n": "runs", "float": "float, %", "int8": "int8, %", "lost": "lost, points"}
    body = []
    for arm in ARMS:
        mine = pick(lines, arm=arm)
        level, int8 = (_mean(POINTS * mine[f"{kind}_accuracy"].to_numpy()) for kind in ("test", "int8"))
        loss = statistics.mean(lost(lines, arm)) if len(mine) else statistics.NO_RUNS
        ends = f"{loss.value:.2f} ({loss.low:.2f} to {loss.high:.2f})" if len(mine) else ""
        body.append({"arm": arm, "n": len(mine), "float": level, "int8": int8, "lost": ends})
    caption = "Trained networks in float and in int8, test accuracy: means over seeds, with Student's 95 % interval."
    return Document(caption, head, frame(body))


FIGURE = captioned_figure(draw, claims, HEADLINE, 2.6, 0.55)
STUDY = Study(name="ext_int8", card=__doc__, grid=grid, measure=measure, rows=rows, claims=claims, figure=FIGURE,
              table=table)  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
