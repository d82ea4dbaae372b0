"""Is it information loss that makes ReLU6 in the bottleneck worse? Trained networks, bottleneck by bottleneck.

Paper    Sandler et al. 2018, arXiv:1801.04381, section 3.2
Claims   ReLU6 in a bottleneck hurts because it destroys information on a manifold of interest. If so, the loss that
         dimension k and channels n predict, P(Binomial(n, 1/2) <= k), ranks what ReLU6 costs, bottleneck by bottleneck
Run      python -m experiments.ext_information run
Differs  The networks are those of fig6a_nonlinearity (trained first where they are missing). The manifold is what the
         validation pictures span at single positions of a bottleneck, its dimension the maximum-likelihood estimate of
         20 neighbours. The cost is a lesion's: ReLU6 put behind one bottleneck of a network trained without it, so it
         leaves out what training would mend. `--smoke` runs the digits
"""

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from manifold_lab import activations, data, metrics, theory
from manifold_lab.core import statistics
from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError
from manifold_lab.core.random_streams import stream
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
from manifold_lab.sweeps.study import Study, main
from manifold_lab.sweeps.training_run import TrainingRun

NAME = "ext_information"
COMMAND = f"python -m experiments.{NAME}"
ARMS = {name: ablation.variant(bottleneck_activation=name) for name in ("linear", "relu6")}
NEIGHBOURS, BATCH = 20, 100
WAIT = 5.0
"""Seconds between two looks whether a trial that another process runs has ended."""
COLUMNS = ("arm", "group", "seed", "block", "channels", "shortcut", "dimension", "two_nn", "active", "predicted_lost",
           "predicted_dimension_loss", "measured_lost", "cost")  # fmt: skip
LOSSES = {
    "predicted_lost": "predicted loss, P(Binomial(n, 1/2) ≤ k)",
    "predicted_dimension_loss": "predicted loss of information dimension",
    "measured_lost": "measured loss: positions with at most k active channels",
}
"""What might rank the cost."""
ALL, AROUND = "all bottlenecks", "bottlenecks with a shortcut"
GIVEN = {
    "all bottlenecks, given their depth": ("depth",),
    "all bottlenecks, given whether a shortcut goes around": ("around",),
    "all bottlenecks, given both": ("depth", "around"),
}
"""Partial correlations: what else tells bottlenecks apart, and falls or rises along the network."""
AGREE = 0.05
"""To so much, a share of positions, prediction and count are told to agree."""


@dataclass(frozen=True)
class Look:
    """A trained network to look into, on so many validation pictures, at so many positions of every bottleneck."""

    trial: TrainingRun
    pictures: int = 2000
    positions: int = 4000


def grid(smoke: bool) -> tuple[Look, ...]:
    """The short trainings of Figure 6a at width 0.35."""
    trials = ablation.grid(ARMS, {"0.35": ablation.cifar_setting(0.35)}, smoke)
    return tuple(Look(one) for one in trials if smoke or one.recipe.images == ablation.SHORT_IMAGES)


def measure(look: Look, folder: Path) -> Result:
    """Every bottleneck: dimension, active channels, predicted and measured loss, and what ReLU6 there would cost."""
    network = network_of(look.trial, folder.parent.parent / training_run.TRAINING_RUNS)
    options = DataOptions(resolution=look.trial.network.resolution)
    pictures = data.load(look.trial.data, seed=look.trial.seed, options=options)
    points = bottlenecks(network, pictures, look)
    costs = lesion_costs(network, pictures, look)
    rows = [{**describe(network, block, cloud), "cost": costs.get(block)} for block, cloud in enumerate(points)]
    return Result({"blocks": len(rows)}, rows)


def network_of(wanted: TrainingRun, shelf: Path) -> Network:
    """The network that a trial ended with; it is trained first if it never was, and waited for where another does it.

    Raises:
        InputError: where that did not end well, or the network was not kept.
    """
    work, cell = runner.Work(training_run.run_training), Cell(wanted, shelf / key(wanted))
    while (cell := runner.run_cell(work, cell)).state == store.RUNNING:
        time.sleep(WAIT)
    if cell.state != store.DONE:
        raise InputError(f"trial {cell.key}: it is {cell.state}, so that there is no network to look into; {cell.note}")
    if not (cell.folder / training_run.WEIGHTS).exists():
        raise InputError(f"trial {cell.key}: its network was not kept; remove {cell.folder} to train it again")
    return open_weights(cell.folder / training_run.WEIGHTS)


def shown(pictures: Data, look: Look) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the first validation pictures, as many as are asked for."""
    for number, batch in enumerate(pictures.evaluation("validation", BATCH)):
        if number * BATCH >= look.pictures:
            return
        yield batch


@torch.inference_mode()
def bottlenecks(network: Network, pictures: Data, look: Look) -> list[Tensor]:
    """What the projection's norm gives in every block, before any activation: positions x channels.

    The same number of positions is drawn from every batch.
    """
    rng, batches = stream(look.trial.seed, "positions"), -(-min(look.pictures, pictures.size("validation")) // BATCH)
    each = -(-look.positions // batches)
    clouds: list[list[Tensor]] = [[] for _ in network.blocks]
    with heard(network) as outputs:
        for x, _ in shown(pictures, look):
            outputs.clear()
            network(x)
            for cloud, u in zip(clouds, outputs, strict=True):
                flat = u.movedim(1, -1).flatten(0, 2)
                cloud.append(flat[torch.randint(len(flat), (each,), generator=rng)])
    return [torch.cat(cloud) for cloud in clouds]


@contextmanager
def heard(network: Network) -> Iterator[list[Tensor]]:
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


def describe(network: Network, place: int, cloud: Tensor) -> dict[str, float | int | str]:
    """Dimension, active channels and losses of one bottleneck."""
    block, channels = network.blocks[place], cloud.shape[1]
    assert isinstance(block, Block)
    near = metrics.neighbours(cloud, NEIGHBOURS)
    dimension = metrics.maximum_likelihood(near, NEIGHBOURS)
    k = min(channels, max(1, round(dimension)))
    active = activations.named("relu6").is_active(cloud).sum(1)
    return {
        "block": place,
        "channels": channels,
        "shortcut": block.stage.shortcut,
        "dimension": dimension,
        "two_nn": metrics.two_nn(near),
        "active": float(active.double().mean()),
        "predicted_lost": float(theory.collapsed_fraction(channels, min(channels, k + 1))),
        "predicted_dimension_loss": float(theory.information_dimension_loss(channels, k)),
        "measured_lost": float((active < min(channels, k + 1)).double().mean()),
    }


def lesion_costs(network: Network, pictures: Data, look: Look) -> dict[int, float]:
    """Points of validation accuracy that ReLU6 behind one bottleneck costs, where there is none yet."""
    cuts = [Lesion("relu6_bottleneck", (place,)) for place in lesions.places(network, "relu6_bottleneck")]
    twins, right, seen = [lesions.lesioned(network, cut) for cut in cuts], np.zeros(1 + len(cuts)), 0
    for x, y in shown(pictures, look):
        right += [float((scores.argmax(1) == y).sum()) for scores in lesions.logits(network, x, twins)]
        seen += len(y)
    return {cut.blocks[0]: 100 * (right[0] - mine) / seen for cut, mine in zip(cuts, right[1:], strict=True)}


def rows(cells: Sequence[Cell]) -> list[dict[str, str]]:
    """One line per bottleneck of every network that was looked into."""
    return [
        {"arm": cell.spec.trial.arm, "group": cell.spec.trial.group, "seed": str(cell.spec.trial.seed)}
        | {name: row.get(name, "") for name in COLUMNS[3:]}
        for cell in cells
        for row in store.history(cell)
    ]


def correlations(lines: Lines, loss: str, where: str = ALL) -> dict[int, float]:
    """Spearman's rank correlation of a loss with the lesion's cost over the bottlenecks, by seed, where it exists.

    Where something is given, it is the partial one: loss and cost both fall along the network, for whatever reason.
    """
    found = {}
    for seed in sorted({int(line["seed"]) for line in lines}):
        mine = pick(lines, arm="linear", seed=str(seed), **({"shortcut": "identity"} if where == AROUND else {}))
        x, y = column(mine, loss), column(mine, "cost")
        if len(mine) > 3 and np.ptp(x) and np.ptp(y):
            apart = {"depth": column(mine, "block"), "around": np.array([line["shortcut"] != "none" for line in mine])}
            given = [apart[name] for name in GIVEN.get(where, ())]
            found[seed] = partial(x, y, *given) if given else float(spearmanr(x, y).statistic)
    return {seed: value for seed, value in found.items() if np.isfinite(value)}


def partial(x: np.ndarray, y: np.ndarray, *given: np.ndarray) -> float:
    """The rank correlation of two columns beyond what others tell of both; nan where these tell one of them whole."""
    ranks = np.stack([rankdata(one) - (len(x) + 1) / 2 for one in (x, y, *given)], axis=1)
    pair, others = ranks[:, :2], ranks[:, 2:]
    left = pair - others @ np.linalg.lstsq(others, pair)[0]
    kept = (left**2).sum(0) / (pair**2).sum(0)
    return float(np.corrcoef(left.T)[0, 1]) if kept.min() > 1e-9 else float("nan")


def claims(lines: Lines) -> list[ClaimResult]:
    """Whether each loss ranks the cost, in all bottlenecks, in some, and given more; how prediction and count agree."""
    ranked = [ranks(lines, loss, where) for where in (ALL, AROUND, *GIVEN) for loss in LOSSES]
    return [*ranked, agreeing(lines), threatened(lines)]


def ranks(lines: Lines, loss: str, where: str) -> ClaimResult:
    """Mean over networks of the rank correlation."""
    found = correlations(lines, loss, where)
    measure = f"Spearman's correlation with the cost of ReLU6 there, {where}, mean over networks"
    says = f"what ReLU6 costs at a bottleneck goes with the {LOSSES[loss]}"
    gap = statistics.mean(np.array(list(found.values())))
    within = dataclasses.replace(gap, low=max(gap.low, -1.0), high=min(gap.high, 1.0)) if gap.n > 1 else gap
    return ClaimResult("Section 3.2 (ours)", says, measure, within, statistics.verdict(gap.exceeds(0)), COMMAND)


def networks(lines: Lines) -> list[Lines]:
    """The lines of each network with linear bottlenecks."""
    linear = pick(lines, arm="linear")
    return [pick(linear, seed=seed) for seed in dict.fromkeys(line["seed"] for line in linear)]


def agreeing(lines: Lines) -> ClaimResult:
    """How far the loss that is predicted for random signs is from the one that is counted, bottleneck by bottleneck."""
    apart = [np.abs(column(mine, "predicted_lost") - column(mine, "measured_lost")).mean() for mine in networks(lines)]
    gap = statistics.mean(np.array(apart))
    says = f"random signs predict the positions with at most k active channels (to {AGREE:g})"
    measure = "predicted − counted share, absolute, mean over bottlenecks and networks"
    return ClaimResult("Section 3.2 (ours)", says, measure, gap, statistics.verdict(gap.within(AGREE)), COMMAND)


def threatened(lines: Lines) -> ClaimResult:
    """Whether the argument predicts any loss to speak of, at these dimensions."""
    found = [(column(mine, "predicted_lost") > 0.01).mean() for mine in networks(lines)]
    share = statistics.mean(np.array(found))
    says = "the manifold argument predicts that ReLU6 would lose more than 1 % of positions in most bottlenecks"
    verdict = statistics.verdict(share.exceeds(0.5))
    return ClaimResult("Section 3.2 (ours)", says, "share of bottlenecks, mean over networks", share, verdict, COMMAND)


def figure(lines: Lines) -> Figure:
    """Channels, dimension and active channels over depth; losses over depth; cost against predicted loss."""
    with plots.style("cvpr2024"):
        found = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 2.8), layout="constrained")
        left, middle, right = found.subplots(1, 3)
        mine = pick(lines, arm="linear")
        looks = {"channels": ("0.25", "n, channels"), "dimension": (plots.MEASURED, "k, dimension"),
                 "active": (plots.LOST_COLOUR, "active channels")}  # fmt: skip
        for name, (colour, label) in looks.items():
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
        networks = len({line["seed"] for line in mine})
        words = f"{networks} networks trained with linear bottlenecks; lines are means"
        found.supxlabel(words, size="small")
        return plots.fixed_layout(found)


def over_depth(ax: Axes, lines: Lines, name: str, colour: str, label: str) -> None:
    """Mean over networks, and every one of them."""
    blocks = sorted({int(line["block"]) for line in lines})
    each = [column(pick(lines, block=str(block)), name) for block in blocks]
    ax.plot(blocks, [values.mean() for values in each], color=colour, label=label)
    for block, values in zip(blocks, each, strict=True):
        ax.plot([block] * len(values), values, ".", color=colour, ms=2)


STUDY = Study(NAME, __doc__, grid, measure, rows, figure, claims)


if __name__ == "__main__":
    sys.exit(main(STUDY))
