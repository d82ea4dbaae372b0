"""Claim: epochs of CIFAR-10 go at least 1.5 times as fast as in the common loop; a trial loses under 3 % around them.

Run      python -m benchmarks.training
Peer     the loop of the common CIFAR repositories: a DataLoader with 2 workers over torchvision's transforms of single
         PIL images, the NCHW network, SGD with Nesterov's momentum, loss.item() at every step
Ours     `train` with the recipe `cifar`: its own data, augmentation and bookkeeping. The same network, batch size,
         images and threads; its evaluations, which the peer has not, see one image
Overhead start-up: a new process, its imports, the data. bookkeeping: what a run of a study spends outside its training
         steps (claim, spec, progress, checkpoints, weights, result): a real one, as many steps long as those of the
         ablations, on small batches of the digits. Both as a share of such a run at the rate that ours has here

Contestants take turns (see `turns`).
"""

import dataclasses
import functools
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks import turns
from benchmarks.turns import Turn
from manifold_lab.core.cli import run_cli
from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError, at_least
from manifold_lab.core.files import check_folder, publish, text
from manifold_lab.core.random_streams import stream
from manifold_lab.data import InMemory, load
from manifold_lab.models.mobilenet import build
from manifold_lab.report import tables
from manifold_lab.sweeps import ablation, runner, training_run
from manifold_lab.sweeps.store import DONE, Run
from manifold_lab.training import RECIPES, Bookkeeping, train
from manifold_lab.training.allocator import keep_memory

WORKERS = 2
SMALL = 8
"""Pictures in a step of the run that measures bookkeeping: few, as its steps are not what is measured."""
NETWORK = ablation.cifar_setting(0.35).network
RECIPE = RECIPES["cifar"]
OURS, PEER = "train", "DataLoader, NCHW loop"
COLUMNS = ("work", "contestant", "peer", "images_per_second", *turns.RATIO, "seconds", "share")


@dataclass(frozen=True)
class TrainingOptions:
    """Throughput of whole epochs of CIFAR-10 against the common loop, and what a run of a study spends around them.

    The data are in the folder that MANIFOLD_LAB_DATA names, or are fetched into it.
    """

    rounds: int = 7
    """Rounds in which both contestants have their turn."""
    steps: int = 36
    """Length of a turn: steps of 128 images."""
    out: Path = Path("benchmarks")
    """Folder for training.csv."""


def cifar() -> InMemory:
    """CIFAR-10 in memory."""
    data = load("cifar10")
    assert isinstance(data, InMemory)
    return data


def for_training() -> InMemory:
    """CIFAR-10, of whose validation and test one image is looked at."""
    whole = cifar()
    looked_at = {name: whole.splits[name].take(torch.arange(1)) for name in ("validation", "test")}
    return InMemory(whole.facts, whole.splits | looked_at)


def ours() -> Turn:
    """`train` over so many images."""
    data, network = for_training(), build(NETWORK, stream(0, "weights"))

    def turn(images: int | float) -> float:
        began = time.perf_counter()
        recipe = dataclasses.replace(RECIPE, images=int(images))
        train(network, data, recipe, seed=0, bookkeeping=Bookkeeping(bar=False))
        return images / (time.perf_counter() - began)

    return turn


class Single(Dataset[tuple[Any, int]]):
    """Pictures one by one through a transform, as torchvision's data sets give them."""

    def __init__(self, data: InMemory, transform: Any) -> None:
        split = data.splits["train"]
        self.x, self.y, self.transform = split.x.permute(0, 2, 3, 1).contiguous().numpy(), split.y.tolist(), transform

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.x[index])), self.y[index]


def transform(data: InMemory) -> Any:
    """The common augmentation of CIFAR.

    Raises:
        InputError: where torchvision is not installed.
    """
    try:
        from torchvision import transforms  # noqa: PLC0415  (an extra)
    except ImportError:
        raise InputError("torchvision is not installed; it is the extra `vision`") from None
    resolution, pad = data.facts.resolution, RECIPE.augmentation.pad
    steps = [
        transforms.RandomCrop(resolution, padding=pad),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(data.facts.mean, data.facts.std),
    ]
    return transforms.Compose(steps)


def peer(images: int) -> Turn:
    """The common loop over so many images; its workers live on from turn to turn."""
    data = cifar()
    dataset = Single(data, transform(data))
    sampler = RandomSampler(dataset, num_samples=images)
    loader = DataLoader(
        dataset, RECIPE.batch_size, sampler=sampler, num_workers=WORKERS, drop_last=True, persistent_workers=True
    )
    network: Any = build(NETWORK, stream(0, "weights"))
    network = network.to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=float(RECIPE.weight_decay)
    )
    criterion = nn.CrossEntropyLoss()

    def turn(_images: int | float) -> float:
        began, total = time.perf_counter(), 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(network(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        return images / (time.perf_counter() - began)

    return turn


def ready() -> Turn:
    """A process that has what a run needs to begin."""
    cifar()
    return lambda _length: 0.0


def start_up() -> float:
    """Seconds from nothing to a process that is ready."""
    began = time.perf_counter()
    with turns.started(ready) as turn:
        turn(0)
        return time.perf_counter() - began


def bookkeeping(folder: Path) -> float:
    """Seconds that a run of a study spends outside its training steps.

    Its evaluations, which are of very few pixels, are counted in. The digits are loaded once before: the library that
    holds them is none that a run on CIFAR-10 waits for.
    """
    load("digits")
    steps = round(ablation.SHORT_IMAGES / RECIPE.batch_size)
    small = dataclasses.replace(RECIPE, batch_size=SMALL, images=SMALL * steps, learning_rate=1e-3)
    spec = training_run.TrainingRun(dataclasses.replace(NETWORK, resolution=8, in_channels=1), small, "digits")
    keep_memory()
    with tempfile.TemporaryDirectory(prefix=".run-", dir=folder) as runs:
        began = time.perf_counter()
        ended = runner.run_one(runner.Work(training_run.run_training), Run(spec, Path(runs) / key(spec)))
        spent = time.perf_counter() - began
    if ended.state != DONE:
        raise InputError(f"the run did not end: {ended.note}")
    return spent - small.images / float(ended.numbers["images_per_second"])


def epochs(options: TrainingOptions) -> dict[str, str]:
    """The line of whole epochs."""
    images = options.steps * RECIPE.batch_size
    found = turns.rates({OURS: ours, PEER: functools.partial(peer, images)}, images, options.rounds)
    speed = f"{np.median(found[OURS]):.4g}"
    names = {"work": "epochs", "contestant": OURS, "peer": PEER}
    return names | {"images_per_second": speed} | turns.ratio(found[OURS], found[PEER])


def overhead(folder: Path) -> dict[str, float]:
    """Seconds that a run spends around its steps, by what for."""
    folder.mkdir(parents=True, exist_ok=True)
    return {"start-up": start_up(), "bookkeeping": bookkeeping(folder)}


def share(work: str, seconds: float, images_per_second: float) -> dict[str, str]:
    """The line of an overhead, also as a share of a run's length at this rate."""
    whole = ablation.SHORT_IMAGES / images_per_second
    return dict.fromkeys(COLUMNS, "") | {"work": work, "seconds": f"{seconds:.3g}", "share": f"{seconds / whole:.2g}"}


def run(options: TrainingOptions) -> None:
    """Overhead, then epochs; print and write the lines.

    Raises:
        InputError: for less than a round or a step, and where data or torchvision cannot be had.
    """
    for name in ("rounds", "steps"):
        at_least(name, getattr(options, name), 1)
    check_folder(options.out)
    spent = overhead(options.out)
    first = epochs(options) | {"seconds": "", "share": ""}
    lines = [first, *(share(work, seconds, float(first["images_per_second"])) for work, seconds in spent.items())]
    for line in lines:
        print("  ".join(f"{name} {value}" for name, value in line.items() if value))
    publish(options.out, {"training.csv": text(tables.to_csv(lines, COLUMNS))})


if __name__ == "__main__":
    sys.exit(run_cli(TrainingOptions, run, "benchmarks.training"))
