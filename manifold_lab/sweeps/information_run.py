"""Runs that measure every bottleneck of a trained network: dimension, active channels, losses, and what ReLU6 costs.

What it costs is measured bare, and with one map of channels behind it that was fitted on other images.
"""

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from manifold_lab import activations, data, metrics, theory
from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError
from manifold_lab.core.hooks import outputs_of
from manifold_lab.core.random_streams import stream
from manifold_lab.data import Data, DataOptions
from manifold_lab.models import lesions, repair
from manifold_lab.models.lesions import Lesion
from manifold_lab.models.mobilenet import Block, Network
from manifold_lab.models.repair import MAPS
from manifold_lab.models.weights import open_weights
from manifold_lab.sweeps import runner, store, training_run
from manifold_lab.sweeps.store import Result, Run
from manifold_lab.sweeps.training_run import TrainingRun

NEIGHBOURS, FEW_NEIGHBOURS, BATCH = 20, 5, 100
REPAIRED_COSTS = ("cost", *(f"cost_{kind}" for kind in MAPS))
"""What ReLU6 costs bare, and with each map behind it."""
WAIT = 5.0
"""Seconds between two checks whether a training that another process runs has ended."""


@dataclass(frozen=True)
class InformationRun:
    """A trained network whose bottlenecks are measured, on so many validation images, at so many positions of each."""

    KEY_NAME: ClassVar[str] = "Look"

    training: TrainingRun = field(metadata={"key_name": "trial"})
    images: int = field(default=2000, metadata={"key_name": "pictures"})
    positions: int = 4000


@dataclass(frozen=True)
class RepairRun:
    """A trained network whose bottlenecks get ReLU6 and a repair behind it, on so many validation images."""

    training: TrainingRun
    images: int = 2000


Spec = InformationRun | RepairRun
ALL_BLOCKS = "all"
"""The block of the row of the lesion in all blocks together."""


def measure(run: Spec, folder: Path) -> Result:
    """Every bottleneck: dimension, active channels, predicted and measured loss, and what ReLU6 there would cost.

    Of a `RepairRun` what it would cost, bare and with each map behind it.
    """
    network, images = trained(run.training, folder)
    if isinstance(run, RepairRun):
        mended = repaired_costs(network, images, run)
        return Result({"blocks": len(mended)}, mended)
    points = bottlenecks(network, images, run)
    costs = lesion_costs(network, images, run)
    rows = [{**bottleneck_row(network, block, cloud), "cost": costs.get(block)} for block, cloud in enumerate(points)]
    return Result({"blocks": len(rows)}, rows)


def trained(training: TrainingRun, folder: Path) -> tuple[Network, Data]:
    """The network of a training, and its data, for a run in this folder.

    Raises:
        InputError: as `network_of`.
    """
    network = awaited_network(training, folder.parent.parent / training_run.TRAINING_RUNS)
    options = DataOptions(resolution=training.network.resolution)
    return network, data.load(training.data, seed=training.seed, options=options)


def awaited_network(wanted: TrainingRun, folder: Path) -> Network:
    """The network that a training ended with; it is trained first if it never was, and waited for where it runs.

    Raises:
        InputError: where that did not end well, or the network was not kept.
    """
    work, run = runner.Work(training_run.run_training), Run(wanted, folder / key(wanted))
    while (run := runner.run_one(work, run)).state == store.RUNNING:
        time.sleep(WAIT)
    if run.state != store.DONE:
        raise InputError(f"training {run.key}: it is {run.state}, so that there is no network; {run.note}")
    if not (run.folder / training_run.WEIGHTS).exists():
        raise InputError(f"training {run.key}: its network was not kept; remove {run.folder} to train it again")
    return open_weights(run.folder / training_run.WEIGHTS)


def image_batches(images: Data, run: Spec) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the first validation images, as many as are asked for."""
    return itertools.islice(images.evaluation("validation", BATCH), math.ceil(run.images / BATCH))


@torch.inference_mode()
def bottlenecks(network: Network, images: Data, run: InformationRun) -> list[Tensor]:
    """What the projection's norm gives in every block, before any activation: positions x channels.

    The same number of positions is drawn from every batch.
    """
    rng, batches = stream(run.training.seed, "positions"), -(-min(run.images, images.size("validation")) // BATCH)
    each = -(-run.positions // batches)
    clouds: list[list[Tensor]] = [[] for _ in network.blocks]
    norms = (block.project.norm for block in network.blocks if isinstance(block, Block))
    with outputs_of(norms) as outputs:
        for x, _ in image_batches(images, run):
            outputs.clear()
            network(x)
            for cloud, u in zip(clouds, outputs, strict=True):
                flat = u.movedim(1, -1).flatten(0, 2)
                cloud.append(flat[torch.randint(len(flat), (each,), generator=rng)])
    return [torch.cat(cloud) for cloud in clouds]


def needed_channels(channels: int, dimension: float) -> int:
    """Active channels with which a point of a manifold of that dimension, rounded, stays unique; at most all."""
    return min(channels, max(1, round(dimension)) + 1)


def predicted_lost(channels: int, dimension: float) -> float:
    """The share of points with too few active channels, where each is active by a coin of its own."""
    return float(theory.collapsed_fraction(channels, needed_channels(channels, dimension)))


def bottleneck_row(network: Network, place: int, cloud: Tensor) -> dict[str, float | int | str]:
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


def lesion_costs(network: Network, images: Data, run: Spec) -> dict[int, float]:
    """Points of validation accuracy that ReLU6 behind one bottleneck costs, where there is none yet."""
    cuts = [Lesion("relu6_bottleneck", (place,)) for place in lesions.lesion_blocks(network, "relu6_bottleneck")]
    twins, right, seen = [lesions.lesioned(network, cut) for cut in cuts], np.zeros(1 + len(cuts)), 0
    for x, y in image_batches(images, run):
        right += [float((scores.argmax(1) == y).sum()) for scores in lesions.logits(network, x, twins)]
        seen += len(y)
    return {cut.blocks[0]: 100 * (right[0] - mine) / seen for cut, mine in zip(cuts, right[1:], strict=True)}


def repaired_costs(network: Network, images: Data, run: RepairRun) -> list[dict[str, float | int | str]]:
    """Points of validation accuracy that ReLU6 costs behind one bottleneck and behind all: bare, and with each map.

    Every image is judged with maps that were fitted on the other half of the images.
    """
    possible = lesions.lesion_blocks(network, "relu6_bottleneck")
    cuts = [Lesion("relu6_bottleneck", blocks) for blocks in (*((place,) for place in possible), possible)]
    halves = [[(x[start::2], y[start::2]) for x, y in image_batches(images, run)] for start in (0, 1)]
    right, seen = np.zeros((1 + len(MAPS), 1 + len(cuts))), 0
    bare = [lesions.lesioned(network, cut) for cut in cuts]
    mended = repair.cross_fitted(network, cuts, [[x for x, _ in half] for half in halves])
    for mine, twins in zip(halves, mended, strict=True):
        for x, y in mine:
            hits = [float((scores.argmax(1) == y).sum()) for scores in lesions.logits(network, x, [*bare, *twins])]
            right[:, 0] += hits[0]
            right[:, 1:] += np.reshape(hits[1:], (-1, len(cuts)))
            seen += len(y)
    costs = 100 * (right[:, :1] - right[:, 1:]) / seen
    return [
        {"block": cut.blocks[0] if len(cut.blocks) == 1 else ALL_BLOCKS}
        | dict(zip(REPAIRED_COSTS, map(float, column), strict=True))
        for cut, column in zip(cuts, costs.T, strict=True)
    ]
