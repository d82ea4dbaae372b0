"""Claim: a step of the ablations' training on one thread takes at most two thirds of the time that torch's layers take.

Run      python -m benchmarks.training_step
Ours     `train` with the recipe `cifar` and the layers of `models.fast`; width 0.35, batches of 128, CIFAR-10
Peers    the same with torch's own layers, and with torch's own layers compiled (`Recipe.compile`)
Work     steps with their data, augmentation and bookkeeping, on one thread. Contestants take turns, each in a process
         of its own (see `turns`); images per second of CPU time, which other work on the machine disturbs least
Parts    where a step's milliseconds go, with our layers and with torch's, by torch's profiler: the median over steps
         of what each part takes in a step. A convolution is counted at the resolution that it gives
"""

import dataclasses
import functools
import itertools
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import turns
from benchmarks.training import NETWORK, RECIPE, for_training
from benchmarks.turns import Turn
from manifold_lab.core.cli import run_cli
from manifold_lab.core.errors import at_least
from manifold_lab.core.files import check_folder, publish, text
from manifold_lab.core.hooks import attached
from manifold_lab.core.random_streams import stream
from manifold_lab.models.fast import plain_layers
from manifold_lab.models.memory import QUIET
from manifold_lab.models.mobilenet import Convolution, Network, build
from manifold_lab.report import tables
from manifold_lab.training import Bookkeeping, train

OURS, PLAIN, COMPILED = "our layers", "torch's layers", "torch's layers, compiled"
PEERS = (PLAIN, COMPILED)
COLUMNS = (
    "work", "contestant", "peer", "images_per_second", *turns.RATIO, "part", "resolution", "plain_ms", "ours_ms",
)  # fmt: skip
FORWARD = ("aten::conv2d", "aten::linear", "TinyDepthwise")
BACKWARD = ("ConvolutionBackward0", "MmBackward0", "AddmmBackward0", "TinyDepthwiseBackward")
NAMED = {
    "aten::batch_norm": "norm and activation, forward",
    "aten::relu6": "norm and activation, forward",
    "NormActivation": "norm and activation, forward",
    "NativeBatchNormBackward0": "norm and activation, backward",
    "HardtanhBackward0": "norm and activation, backward",
    "NormActivationBackward": "norm and activation, backward",
}
"""What the profiler calls the layers, and the part that each is counted in."""
Span = tuple[str, float, float]
"""Name, start and end of what the profiler saw, in milliseconds."""
Parts = dict[tuple[str, int | None], float]
"""Milliseconds by part and, for depthwise convolutions, resolution."""
END = "Optimizer.step#SGD.step"


@dataclass(frozen=True)
class Run:
    """A training step on one thread: our layers against torch's, and where its milliseconds go.

    The data are in the folder that MANIFOLD_LAB_DATA names, or are fetched into it.
    """

    rounds: int = 9
    """Rounds in which every contestant has its turn."""
    steps: int = 20
    """Length of a turn: steps of 128 images."""
    out: Path = Path("benchmarks")
    """Folder for training_step.csv."""


def layers(name: str) -> AbstractContextManager[None]:
    """The context in which a contestant trains."""
    return nullcontext() if name == OURS else plain_layers()


def contestant(name: str) -> Turn:
    """Images per second of CPU time over so many steps."""
    torch.set_num_threads(1)
    images, network = for_training(), build(NETWORK, stream(0, "weights"))

    def turn(steps: int | float) -> float:
        recipe = dataclasses.replace(RECIPE, images=int(steps) * RECIPE.batch_size, compile=name == COMPILED)
        began = time.process_time()
        with layers(name):
            train(network, images, recipe, seed=0, bookkeeping=Bookkeeping(bar=False))
        return recipe.images / (time.process_time() - began)

    return turn


def products(network: Network) -> list[tuple[str, int | None]]:
    """Kind of every convolution and of the classifier, in the order in which they run; resolution of the depthwise."""
    found: list[tuple[str, int | None]] = []

    def note(layer: nn.Module, _x: object, y: torch.Tensor) -> None:
        if isinstance(layer, Convolution) and layer.groups > 1:
            found.append(("depthwise", y.shape[2]))
        else:
            found.append(("1x1" if getattr(layer, "kernel_size", None) == (1, 1) else "stem and classifier", None))

    layers = [layer for layer in network.modules() if isinstance(layer, (Convolution, nn.Linear))]
    with attached(layer.register_forward_hook(note) for layer in layers), torch.no_grad():
        network(torch.zeros(2, 3, NETWORK.resolution, NETWORK.resolution))
    return found


def outermost(events: Iterable[Any]) -> Iterator[Span]:
    """Name, start and end in milliseconds of the events that have a part, without those inside of others."""
    end = -1.0
    for event in sorted(events, key=lambda event: event.time_range.start):
        start, name = event.time_range.start, event.name
        if start >= end and (name in FORWARD or name in BACKWARD or name in NAMED or name == END):
            end = event.time_range.end
            yield name, start / 1e3, end / 1e3


def parts(name: str, steps: int) -> Parts:
    """Milliseconds of a step by part and resolution: medians over the steps but the first."""
    torch.set_num_threads(1)
    images, network = for_training(), build(NETWORK, stream(0, "weights"))
    order = products(network)
    recipe = dataclasses.replace(RECIPE, images=steps * RECIPE.batch_size)
    os.environ.setdefault("KINETO_LOG_LEVEL", QUIET)  # read once, when the profiler first starts
    with layers(name):
        train(network, images, dataclasses.replace(recipe, images=2 * recipe.batch_size), seed=0,
              bookkeeping=Bookkeeping(bar=False))  # fmt: skip
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            train(network, images, recipe, seed=0, bookkeeping=Bookkeeping(bar=False))
    return medians(list(outermost(profile.events())), order)


def medians(events: list[Span], order: list[tuple[str, int | None]]) -> Parts:
    """The median over the steps but the first of what each part takes; the rest of a step is `other`."""
    ends = [index for index, event in enumerate(events) if event[0] == END]
    steps: dict[tuple[str, int | None], list[float]] = defaultdict(list)
    for before, last in itertools.pairwise(ends):
        spent = step(events[before : last + 1], order)
        for part, milliseconds in spent.items():
            steps[part].append(milliseconds)
    return {part: float(np.median(found)) for part, found in steps.items()}


def step(events: list[Span], order: list[tuple[str, int | None]]) -> Parts:
    """What one step spends on each part; its events come after the end of the step before, which is the first."""
    spent: Parts = defaultdict(float)
    forward, backward = iter(order), iter(order[::-1])
    (_, _, began), (_, first, _) = events[:2]
    spent["data and augmentation", None] = first - began
    for name, start, end in events[1:]:
        if name in FORWARD or name in BACKWARD:
            kind, resolution = next(forward if name in FORWARD else backward)
            part = f"{kind}, {'forward' if name in FORWARD else 'backward'}"
            spent[part, resolution] += end - start
        else:
            spent["optimizer" if name == END else NAMED[name], None] += end - start
    whole = events[-1][2] - began
    spent["other", None] = whole - sum(spent.values())
    spent["together", None] = whole
    return spent


def rows(ours: Parts, plain: Parts) -> list[dict[str, str]]:
    """A line per part, in the order in which torch's layers have them."""
    lines = []
    for part, resolution in sorted(plain, key=lambda key: (key[0] in ("other", "together"), key[0], -(key[1] or 0))):
        milliseconds = [f"{side[part, resolution]:.3g}" for side in (plain, ours)]
        names = ("work", "part", "resolution", "plain_ms", "ours_ms")
        values = ("part", part, str(resolution or ""), *milliseconds)
        lines.append(dict.fromkeys(COLUMNS, "") | dict(zip(names, values, strict=True)))
    return lines


def ratios(found: dict[str, list[float]]) -> list[dict[str, str]]:
    """A line per peer."""
    speed = f"{np.median(found[OURS]):.4g}"
    return [
        dict.fromkeys(COLUMNS, "")
        | {"work": "step", "contestant": OURS, "peer": peer, "images_per_second": speed}
        | turns.ratio(found[OURS], found[peer])
        | {"threads": "1"}
        for peer in PEERS
    ]


def run(options: Run) -> None:
    """Turns, then parts; print and write the lines.

    Raises:
        InputError: for less than one round or three steps, and where the data cannot be had.
    """
    at_least("rounds", options.rounds, 1)
    at_least("steps", options.steps, 3)
    check_folder(options.out)
    contestants = {name: functools.partial(contestant, name) for name in (OURS, *PEERS)}
    lines = ratios(turns.rates(contestants, options.steps, options.rounds))
    lines += rows(parts(OURS, options.steps), parts(PLAIN, options.steps))
    for line in lines:
        print("  ".join(f"{name} {value}" for name, value in line.items() if value))
    publish(options.out, {"training_step.csv": text(tables.to_csv(lines, COLUMNS))})


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, "benchmarks.training_step"))
