"""Is it information loss that makes ReLU6 in the bottleneck worse? Trained networks, bottleneck by bottleneck.

Paper    Sandler et al. 2018, arXiv:1801.04381, section 3.2
Claims   ReLU6 in a bottleneck hurts because it destroys information on a manifold of interest. If so, the loss that
         dimension k and channels n predict, P(Binomial(n, 1/2) <= k), ranks what ReLU6 costs, bottleneck by bottleneck
Run      python -m experiments.ext_information run
Differs  The networks are those of fig6a_nonlinearity (trained first where they are missing). The manifold is what the
         validation images span at single positions of a bottleneck, its dimension the maximum-likelihood estimate of
         20 neighbours, which reads 10 dimensions as 9.0 and 20 as 15.0 (of 5: 9.3 and 16.4; not run on these networks);
         TwoNN's, of two neighbours, stands beside it. The cost is a lesion's: ReLU6 put behind one bottleneck of a
         network trained without it. Training would mend a part of it, and so does one fixed linear map behind it, so
         that it is not the cost of lost information alone. Five networks of one architecture are not five independent
         studies of its bottlenecks: the block is the replicate, and intervals are by resampling blocks. Cost and
         predicted loss both fall along the network; depth stands beside every predictor as its rival. `--smoke` runs
         the digits
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata
from torch import Tensor

from manifold_lab import activations, data, metrics, theory
from manifold_lab.core import statistics
from manifold_lab.core.config import key, stream
from manifold_lab.core.errors import InputError
from manifold_lab.core.statistics import NO_RUNS, Estimate
from manifold_lab.data import Data, DataOptions
from manifold_lab.models import lesions
from manifold_lab.models.lesions import Lesion
from manifold_lab.models.mobilenet import Block, Network
from manifold_lab.models.weights import open_weights
from manifold_lab.report import plots
from manifold_lab.report.plots import column, pick
from manifold_lab.report.tables import ClaimResult, Lines
from manifold_lab.sweeps import ablation, runner, store, training_run
from manifold_lab.sweeps.store import Cell, Result
from manifold_lab.sweeps.study import Study
from manifold_lab.sweeps.study_commands import main
from manifold_lab.sweeps.training_run import TrainingRun

NAME = "ext_information"
ARMS = {name: ablation.variant(bottleneck_activation=name) for name in ("linear", "relu6")}
NEIGHBOURS, FEW_NEIGHBOURS, BATCH = 20, 5, 100
WAIT = 5.0
"""Seconds between two checks whether a training that another process runs has ended."""
COLUMNS = ("arm", "group", "seed", "block", "channels", "shortcut", "dimension", "dimension_5", "two_nn", "active",
           "predicted_lost", "measured_lost", "cost")  # fmt: skip
PREDICTORS = {
    "predicted_lost": "goes with the predicted loss, P(Binomial(n, 1/2) ≤ k)",
    "predicted_lost_5": "goes with the predicted loss, k of 5 neighbours instead of 20",
    "predicted_lost_two_nn": "goes with the predicted loss, k by TwoNN",
    "measured_lost": "goes with the measured loss: positions with at most k active channels",
    "earliness": "falls along the network (the rival of every loss)",
}
"""What might rank the cost; each grows with it if so."""
OTHER_DIMENSIONS = {"predicted_lost_5": "dimension_5", "predicted_lost_two_nn": "two_nn"}
AGREE = 0.05
"""To so much, a share of positions, prediction and count count as equal."""


@dataclass(frozen=True)
class Where:
    """Which bottlenecks are ranked, and what is held fixed: depth and shortcut also tell them apart."""

    name: str
    words: str
    around: bool = False
    given: tuple[str, ...] = ()


ALL = Where("all", "all bottlenecks")
PLACES = (
    ALL,
    Where("shortcut", "bottlenecks with a shortcut", around=True),
    Where("given_depth", "all bottlenecks, given their depth", given=("earliness",)),
    Where("given_shortcut", "all bottlenecks, given whether a shortcut goes around", given=("around",)),
    Where("given_both", "all bottlenecks, given both", given=("earliness", "around")),
)


@dataclass(frozen=True)
class InformationRun:
    """A trained network whose bottlenecks are measured, on so many validation images, at so many positions of each."""

    KEY_NAME: ClassVar[str] = "Look"

    training: TrainingRun = field(metadata={"key_name": "trial"})
    images: int = field(default=2000, metadata={"key_name": "pictures"})
    positions: int = 4000


def grid(smoke: bool) -> tuple[InformationRun, ...]:
    """The short trainings of Figure 6a at width 0.35."""
    trainings = ablation.grid(ARMS, {"0.35": ablation.cifar_setting(0.35)}, smoke)
    return tuple(InformationRun(one) for one in trainings if smoke or one.recipe.images == ablation.SHORT_IMAGES)


def measure(run: InformationRun, folder: Path) -> Result:
    """Every bottleneck: dimension, active channels, predicted and measured loss, and what ReLU6 there would cost."""
    network = network_of(run.training, folder.parent.parent / training_run.TRAINING_RUNS)
    options = DataOptions(resolution=run.training.network.resolution)
    images = data.load(run.training.data, seed=run.training.seed, options=options)
    points = bottlenecks(network, images, run)
    costs = lesion_costs(network, images, run)
    rows = [{**describe(network, block, cloud), "cost": costs.get(block)} for block, cloud in enumerate(points)]
    return Result({"blocks": len(rows)}, rows)


def network_of(wanted: TrainingRun, folder: Path) -> Network:
    """The network that a training ended with; it is trained first if it never was, and waited for where it runs.

    Raises:
        InputError: where that did not end well, or the network was not kept.
    """
    work, cell = runner.Work(training_run.run_training), Cell(wanted, folder / key(wanted))
    while (cell := runner.run_cell(work, cell)).state == store.RUNNING:
        time.sleep(WAIT)
    if cell.state != store.DONE:
        raise InputError(f"training {cell.key}: it is {cell.state}, so that there is no network; {cell.note}")
    if not (cell.folder / training_run.WEIGHTS).exists():
        raise InputError(f"training {cell.key}: its network was not kept; remove {cell.folder} to train it again")
    return open_weights(cell.folder / training_run.WEIGHTS)


def shown(images: Data, run: InformationRun) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the first validation images, as many as are asked for."""
    for number, batch in enumerate(images.evaluation("validation", BATCH)):
        if number * BATCH >= run.images:
            return
        yield batch


@torch.inference_mode()
def bottlenecks(network: Network, images: Data, run: InformationRun) -> list[Tensor]:
    """What the projection's norm gives in every block, before any activation: positions x channels.

    The same number of positions is drawn from every batch.
    """
    rng, batches = stream(run.training.seed, "positions"), -(-min(run.images, images.size("validation")) // BATCH)
    each = -(-run.positions // batches)
    clouds: list[list[Tensor]] = [[] for _ in network.blocks]
    with projections(network) as outputs:
        for x, _ in shown(images, run):
            outputs.clear()
            network(x)
            for cloud, u in zip(clouds, outputs, strict=True):
                flat = u.movedim(1, -1).flatten(0, 2)
                cloud.append(flat[torch.randint(len(flat), (each,), generator=rng)])
    return [torch.cat(cloud) for cloud in clouds]


@contextmanager
def projections(network: Network) -> Iterator[list[Tensor]]:
    """The outputs of every projection's norm, in order, as they come."""
    outputs: list[Tensor] = []
    handles = [
        block.project.norm.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        for block in network.blocks
        if isinstance(block, Block)
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def needed_channels(channels: int, dimension: float) -> int:
    """Active channels with which a point of a manifold of that dimension, rounded, stays unique; at most all."""
    return min(channels, max(1, round(dimension)) + 1)


def predicted_lost(channels: int, dimension: float) -> float:
    """The share of points with too few active channels, where each is active by a coin of its own."""
    return float(theory.collapsed_fraction(channels, needed_channels(channels, dimension)))


def describe(network: Network, place: int, cloud: Tensor) -> dict[str, float | int | str]:
    """Dimension, active channels and losses of one bottleneck."""
    block, channels = network.blocks[place], cloud.shape[1]
    assert isinstance(block, Block)
    near = metrics.neighbours(cloud, NEIGHBOURS)
    dimension = metrics.maximum_likelihood(near, NEIGHBOURS)
    active = activations.named("relu6").is_active(cloud).sum(1)
    return {
        "block": place,
        "channels": channels,
        "shortcut": block.stage.shortcut,
        "dimension": dimension,
        "dimension_5": metrics.maximum_likelihood(near, FEW_NEIGHBOURS),
        "two_nn": metrics.two_nn(near),
        "active": float(active.double().mean()),
        "predicted_lost": predicted_lost(channels, dimension),
        "measured_lost": float((active < needed_channels(channels, dimension)).double().mean()),
    }


def lesion_costs(network: Network, images: Data, run: InformationRun) -> dict[int, float]:
    """Points of validation accuracy that ReLU6 behind one bottleneck costs, where there is none yet."""
    cuts = [Lesion("relu6_bottleneck", (place,)) for place in lesions.places(network, "relu6_bottleneck")]
    twins, right, seen = [lesions.lesioned(network, cut) for cut in cuts], np.zeros(1 + len(cuts)), 0
    for x, y in shown(images, run):
        right += [float((scores.argmax(1) == y).sum()) for scores in lesions.logits(network, x, twins)]
        seen += len(y)
    return {cut.blocks[0]: 100 * (right[0] - mine) / seen for cut, mine in zip(cuts, right[1:], strict=True)}


def rows(cells: Sequence[Cell]) -> list[dict[str, str]]:
    """One line per bottleneck of every network that was measured."""
    return [
        {"arm": cell.spec.training.arm, "group": cell.spec.training.group, "seed": str(cell.spec.training.seed)}
        | {name: row.get(name, "") for name in COLUMNS[3:]}
        for cell in cells
        for row in store.history(cell)
    ]


def networks(lines: Lines, where: Where = ALL) -> list[Lines]:
    """The lines of each network with linear bottlenecks."""
    linear = pick(lines, arm="linear", **({"shortcut": "identity"} if where.around else {}))
    return [pick(linear, seed=seed) for seed in dict.fromkeys(line["seed"] for line in linear)]


def values(mine: Lines, name: str) -> np.ndarray:
    """What might rank the cost, of every bottleneck of a network; nan where it was not measured."""
    if name == "earliness":
        return -column(mine, "block")
    if name == "around":
        return np.array([float(line["shortcut"] != "none") for line in mine])
    if name not in OTHER_DIMENSIONS:
        return column(mine, name)
    known = [(int(line["channels"]), line.get(OTHER_DIMENSIONS[name], "")) for line in mine]
    return np.array([predicted_lost(channels, float(k)) if k else np.nan for channels, k in known])


def partial(x: np.ndarray, y: np.ndarray, *given: np.ndarray) -> float:
    """Spearman's correlation of two columns beyond what others tell of both; nan where these tell one of them whole."""
    ranks = np.stack([rankdata(one) - (len(x) + 1) / 2 for one in (x, y, *given)], axis=1)
    pair, others = ranks[:, :2], ranks[:, 2:]
    left = pair - others @ np.linalg.lstsq(others, pair)[0] if given else pair
    size = (left**2).sum(0)
    return float(left[:, 0] @ left[:, 1] / np.sqrt(size.prod())) if (size > 1e-9 * len(x) ** 3).all() else np.nan


def correlation(
    columns: Sequence[Sequence[np.ndarray]], order: np.ndarray, pairing: np.ndarray | slice = slice(None)
) -> float:
    """The mean over networks of the correlation of predictor and cost in some bottlenecks.

    Args:
        columns: of each network: predictor, cost, and what is held fixed.
        order: the bottlenecks, which may repeat.
        pairing: the order of the costs among them.
    """
    found = [partial(x[order], y[order][pairing], *(one[order] for one in given)) for x, y, *given in columns]
    known = [value for value in found if np.isfinite(value)]
    return float(np.mean(known)) if known else np.nan


def columns_of(lines: Lines, predictor: str, where: Where) -> list[list[np.ndarray]]:
    """Predictor, cost and what is held fixed, of every network that has them."""
    found = [[values(mine, name) for name in (predictor, "cost", *where.given)] for mine in networks(lines, where)]
    return [one for one in found if all(np.isfinite(part).all() for part in one)]


def claims(lines: Lines) -> list[ClaimResult]:
    """What ranks the cost, in all bottlenecks, in some, and given more; whether better than depth; what it rests on."""
    ranked = [goes_with(lines, name, where) for where in PLACES for name in PREDICTORS
              if name not in (*where.given, *OTHER_DIMENSIONS) or where == ALL]  # fmt: skip
    better = [beats_depth(lines, name) for name in ("predicted_lost", "measured_lost")]
    return [*ranked, *better, agreeing(lines), threatened(lines)]


def claim(name: str, says: str, measure: str, found: Estimate, holds: bool | None) -> ClaimResult:
    """A claim of this study."""
    return ClaimResult(id=f"{NAME}.{name}", place="Section 3.2 (ours)", says=says, measure=measure, estimate=found,
                       verdict=statistics.verdict(holds, found), command=STUDY.command)  # fmt: skip


def goes_with(lines: Lines, predictor: str, where: Where) -> ClaimResult:
    """Whether a predictor ranks the cost: by resampling blocks, and where nothing is held fixed by permuting them too.

    Both have to decide: of few blocks the bootstrap alone decides a few per cent too often.
    """
    columns, rng = columns_of(lines, predictor, where), np.random.default_rng(0)
    blocks = len(columns[0][0]) if columns else 0
    found = statistics.resampled(blocks, functools.partial(correlation, columns), rng)
    p_value, holds = None, found.exceeds(0)
    if blocks and not where.given:
        pairs = functools.partial(correlation, columns, np.arange(blocks))
        p_value = statistics.permutation_p(blocks, pairs, rng)
        holds = holds if p_value < 1 - statistics.LEVEL else None
    says = f"what ReLU6 costs at a bottleneck {PREDICTORS[predictor]}"
    many = f"mean over {len(columns)} networks" if columns else "mean over networks"
    measure = f"Spearman's correlation with the lesion's cost, {where.words}, {many}, by resampling blocks"
    one = claim(f"cost_goes_with/{predictor}/{where.name}", says, measure, found if blocks else NO_RUNS, holds)
    return dataclasses.replace(one, p_value=p_value)


def beats_depth(lines: Lines, predictor: str) -> ClaimResult:
    """Whether a loss ranks the cost better than the mere place along the network does."""
    mine, rival = (columns_of(lines, name, ALL) for name in (predictor, "earliness"))
    blocks = len(mine[0][0]) if mine else 0

    def gap(order: np.ndarray) -> float:
        return correlation(mine, order) - correlation(rival, order)

    found = statistics.resampled(blocks, gap, np.random.default_rng(0))
    loss = PREDICTORS[predictor].removeprefix("goes with ")
    says = f"what ReLU6 costs at a bottleneck is ranked better by {loss} than by depth"
    measure = "difference of two Spearman's correlations with the lesion's cost, all bottlenecks, by resampling blocks"
    return claim(f"better_than_depth/{predictor}", says, measure, found, found.exceeds(0))


def agreeing(lines: Lines) -> ClaimResult:
    """How far the loss that is predicted for random signs is from the one that is counted, bottleneck by bottleneck."""
    found = [np.abs(column(mine, "predicted_lost") - column(mine, "measured_lost")) for mine in networks(lines)]
    apart = np.mean(found, axis=0) if found else np.zeros(0)
    gap = statistics.resampled(len(apart), lambda order: float(apart[order].mean()), np.random.default_rng(0))
    says = f"random signs predict the positions with at most k active channels (to {AGREE:g})"
    measure = "predicted − counted share, absolute, mean over bottlenecks and networks, by resampling blocks"
    return claim("random_signs_predict_the_count", says, measure, gap, gap.within(AGREE))


def threatened(lines: Lines) -> ClaimResult:
    """Whether the argument predicts any loss to speak of, at these dimensions; of this architecture's bottlenecks."""
    found = [float((column(mine, "predicted_lost") > 0.01).mean()) for mine in networks(lines)]
    share = statistics.mean(np.array(found))
    says = "the manifold argument predicts that ReLU6 would lose more than 1 % of positions in most bottlenecks of this architecture"  # noqa: E501
    return claim("most_bottlenecks_lose", says, "share of its bottlenecks, over trained networks", share,
                 share.exceeds(0.5))  # fmt: skip


def figure(lines: Lines) -> Figure:
    """Channels, dimension and active channels over depth; losses over depth; cost against predicted loss."""
    with plots.style():
        found = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 2.8), layout="constrained")
        left, middle, right = found.subplots(1, 3)
        mine = pick(lines, arm="linear")
        styles = {"channels": ("0.25", "n, channels"), "dimension": (plots.MEASURED, "k, dimension"),
                 "active": (plots.LOST_COLOUR, "active channels")}  # fmt: skip
        for name, (colour, label) in styles.items():
            over_depth(left, mine, name, colour, label)
        over_depth(middle, mine, "predicted_lost", plots.MEASURED, "predicted, P(Bin(n, 1/2) ≤ k)")
        over_depth(middle, mine, "measured_lost", plots.LOST_COLOUR, "measured, active ≤ k")
        marks = {"identity": ("o", "with a shortcut"), "none": ("x", "without")}
        for shortcut, (mark, label) in marks.items():
            some = pick(mine, shortcut=shortcut)
            right.plot(column(some, "predicted_lost"), column(some, "cost"), mark, color=plots.MEASURED, ms=3,
                       mfc="none", mew=0.7, label=label)  # fmt: skip
        left.set_yscale("log", base=2)
        left.yaxis.set_major_formatter("{x:g}")
        left.set(xlabel="block", ylabel="channels or dimensions")
        middle.set(xlabel="block", ylabel="share of positions lost", ylim=(-0.03, 1.03))
        right.set(xlabel="predicted share lost", ylabel="cost of ReLU6 there, points")
        for ax in (left, middle, right):
            ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
        words = f"{len(networks(lines))} networks trained with linear bottlenecks; lines are means"
        found.supxlabel(words, size="small")
        return plots.fixed_layout(found)


def over_depth(ax: Axes, lines: Lines, name: str, colour: str, label: str) -> None:
    """Mean over networks, and every one of them."""
    blocks = sorted({int(line["block"]) for line in lines})
    each = [column(pick(lines, block=str(block)), name) for block in blocks]
    ax.plot(blocks, [values.mean() for values in each], color=colour, label=label)
    for block, values in zip(blocks, each, strict=True):
        ax.plot([block] * len(values), values, ".", color=colour, ms=2)


STUDY = Study(
    name=NAME,
    card=__doc__,
    grid=grid,
    measure=measure,
    rows=rows,
    figure=figure,
    claims=claims,
)


if __name__ == "__main__":
    sys.exit(main(STUDY))
