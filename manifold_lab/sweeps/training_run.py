"""One training run of an ablation as a spec, and the measure that runs it.

Trials that are compared share seeds: the same validation split, data order, augmentation and, where activations
or wirings differ alone, the same initial weights. Where they run (device, folder of data, threads) is not part of them.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import safetensors.torch
import torch
from torch import nn

from manifold_lab import data
from manifold_lab.core.config import check_types
from manifold_lab.core.errors import DivergedError, at_least
from manifold_lab.core.files import binary, publish, text
from manifold_lab.core.random_streams import stream
from manifold_lab.data import DataOptions, ManifoldTask
from manifold_lab.models import matching, profiler
from manifold_lab.models.bottlenecks import read_bottlenecks
from manifold_lab.models.mobilenet import Network, build
from manifold_lab.models.specs import NetworkSpec
from manifold_lab.models.weights import open_weights, save_weights
from manifold_lab.probe import zoo
from manifold_lab.sweeps.store import DIVERGED, FAILED, PROGRESS, Result, Run, history
from manifold_lab.training import Bookkeeping, Outcome, Recipe, train
from manifold_lab.training.distributed import current
from manifold_lab.training.outcome import EVALUATION

CHECKPOINTS = 200
"""Steps between two checkpoints: about half a minute on two cores."""
HELD_OUT, HELD_OUT_BATCH = 250, 50
"""Validation images on which what bottlenecks keep is fitted, and as many others on which it is measured."""
TRAINING_RUNS = "trials"
"""The folder of the trials that studies share."""
WEIGHTS = "network.safetensors"
LENGTH = "recipe.images"
"""The field of a trial that its time is in proportion to."""


@dataclass(frozen=True)
class TrainingRun:
    """A network to be trained; `arm` and `group` are its names in figures, and no part of its identity.

    With `model`, the network is that one: torchvision:NAME, timm:NAME or MODULE:CALLABLE, a function without arguments.
    Of `network` then resolution, channels and classes count alone.
    """

    KEY_NAME: ClassVar[str] = "Trial"

    network: NetworkSpec
    recipe: Recipe
    data: str = "digits"
    seed: int = 0
    task: ManifoldTask = field(default_factory=ManifoldTask)
    """Of the data named manifold."""
    arm: str = field(default="", compare=False)
    group: str = field(default="", compare=False)
    model: str = ""
    """A network from elsewhere, by name."""

    def __post_init__(self) -> None:
        """Refuse what is no trial."""
        check_types(self)
        at_least("seed", self.seed, 0)


def run_training(trial: TrainingRun, folder: Path) -> Result:
    """Train it, or go on training it; accuracy and loss on validation and test, and the history.

    Raises:
        InputError: if the data cannot be had.
        DivergedError: with the step at which the loss left the finite numbers.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options = DataOptions(resolution=trial.network.resolution, task=trial.task)
    images = data.load(trial.data, seed=trial.seed, device=device, options=options)
    network = network_of(trial)
    keeping = Bookkeeping(folder, CHECKPOINTS, bar=False, report=lambda *how_far: _report(folder, trial, *how_far))
    outcome = train(network, images, trial.recipe, seed=trial.seed, bookkeeping=keeping)
    if outcome.diverged_at is not None:
        raise DivergedError(outcome.diverged_at, "the loss is not finite")
    if current().first:
        _save(network, folder)
    norms = {str(step): dict(parts) for step, parts in outcome.gradients.items()}
    numbers: dict[str, Any] = _numbers(outcome) | {"gradient_norms": norms}
    if isinstance(network, Network):
        numbers["bottlenecks"] = _bottlenecks(network, images)
    return Result(numbers, [_flat(dataclasses.asdict(row)) for row in outcome.history])


def network_of(run: TrainingRun) -> nn.Module:
    """The network with its initial weights, drawn from the run's seed.

    Raises:
        InputError: for a model that cannot be made.
    """
    if not run.model:
        return build(run.network, stream(run.seed, "weights"))
    return zoo.untrained(run.model, classes=run.network.num_classes, seed=run.seed)


def _save(network: nn.Module, folder: Path) -> None:
    """Its weights; those of a network from elsewhere without a spec."""
    if isinstance(network, Network):
        save_weights(network, folder / WEIGHTS)
        return
    content = safetensors.torch.save({name: value.contiguous() for name, value in network.state_dict().items()})
    publish(folder, {WEIGHTS: binary(content)})


def _bottlenecks(network: Network, images: data.Data) -> list[dict[str, object]]:
    """What every bottleneck keeps: fitted on the first validation images, measured on as many others."""
    number = min(HELD_OUT, images.size("validation") // 2)
    if not number:
        return []
    halves = itertools.islice(images.evaluation("validation", number), 2)
    fit, test = (x.split(HELD_OUT_BATCH) for x, _ in halves)
    found = read_bottlenecks(network, fit, test)
    return [dataclasses.asdict(one) for one in found]


def trained_network(runs: Path, key: str) -> Network:
    """The network that the trial of this key ended with, in evaluation mode.

    Raises:
        InputError: where no such trial has ended there.
    """
    return open_weights(runs / TRAINING_RUNS / key / WEIGHTS)


def _report(folder: Path, trial: TrainingRun, step: int, steps: int, speed: float) -> None:
    """How far it is, for `status`."""
    left = (steps - step) * trial.recipe.batch_size / speed if speed else 0.0
    known = {"step": step, "steps": steps, "images_per_second": speed, "seconds_left": left}
    publish(folder, {PROGRESS: text(json.dumps(known))})


def _numbers(outcome: Outcome) -> dict[str, float]:
    assert outcome.validation is not None and outcome.test is not None
    splits = {"validation": outcome.validation, "test": outcome.test}
    found = {f"{name}_{key}": value for name, one in splits.items() for key, value in dataclasses.asdict(one).items()}
    return found | {"images_per_second": outcome.images_per_second}


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of history with the validation's metrics beside the rest."""
    flat = dict(row)
    return flat | {f"validation_{name}": value for name, value in flat.pop("validation").items()}


TRAINING_COLUMNS = (
    "arm", "group", "madds", "parameters", "length", "data", "seed", "state", "kind", "images", "train_loss",
    "validation_accuracy", "test_accuracy",
)  # fmt: skip
FINAL, CURVE = "final", "curve"


def training_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row per look at a finished run, and a final one per run that ended, whichever way."""
    found = []
    prices = {one: _price(*one) for one in dict.fromkeys((run.spec.network, run.spec.model) for run in runs)}
    for run in runs:
        trial, price = run.spec, prices[run.spec.network, run.spec.model]
        facts = {"arm": trial.arm, "group": trial.group, "length": trial.recipe.images, "data": trial.data}
        facts |= {"seed": trial.seed, "state": run.state, "madds": price.madds, "parameters": price.parameters}
        evaluations = history(run)
        if trial.recipe.evaluate_every:  # then an epoch's end is no second point a step beside one of these
            evaluations = [row for row in evaluations if row["kind"] == EVALUATION]
        found += [_line(facts | {"kind": CURVE}, row) for row in evaluations]
        if run.numbers or run.state in (DIVERGED, FAILED):
            last = {
                name: float(f"{value:.6g}") for name, value in run.numbers.items() if isinstance(value, int | float)
            }
            found.append(_line(facts | {"kind": FINAL, "images": facts["length"]}, last))
    return found


def _price(network: NetworkSpec, model: str) -> profiler.Cost:
    """What one image costs."""
    if not model:
        return matching.spec_cost(network)
    shape = (network.in_channels, network.resolution, network.resolution)
    return profiler.cost(profiler.profile(zoo.untrained(model, classes=network.num_classes, seed=0), shape))


def _line(facts: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {**values, **facts}.get(name) for name in TRAINING_COLUMNS}
