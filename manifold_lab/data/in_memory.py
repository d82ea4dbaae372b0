"""Small data sets, whole on the device."""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.nn import functional

from manifold_lab.core.errors import InputError, one_of
from manifold_lab.core.random_streams import stream
from manifold_lab.data.augment import Augmentation, augment, epoch_of
from manifold_lab.data.interface import SPLITS, WHOLE, Batch, DatasetInfo, Share, normaliser, part

CHUNK = 4096
"""Images that are averaged at a time."""


@dataclass(frozen=True)
class Split:
    """Images as they are stored, and their labels."""

    x: Shaped[Tensor, "images channels height width"]
    y: Int[Tensor, " images"]

    def take(self, index: Int[Tensor, " some"]) -> "Split":
        """Some of them."""
        return Split(self.x[index], self.y[index])

    def to(self, device: torch.device) -> "Split":
        """The same on a device."""
        return Split(self.x.to(device), self.y.to(device))


@dataclass(frozen=True)
class InMemory:
    """A data set whose images fit in the device's memory, as bytes (or floats, where they are no images)."""

    facts: DatasetInfo
    splits: dict[str, Split]

    @property
    def device(self) -> torch.device:
        """Where its batches are."""
        return self.splits["train"].y.device

    def size(self, split: str) -> int:
        """Images in a split."""
        return len(self.splits[one_of("split", split, SPLITS)].y)

    def check(self, augmentation: Augmentation) -> None:
        """Refuse the random-resized crop.

        Raises:
            InputError: if it is asked for.
        """
        if augmentation.smallest_area is not None:
            raise InputError(
                f"smallest_area: {self.facts.name} has no random-resized crop, only an imagefolder has; allowed: None"
            )

    def training(
        self,
        augmentation: Augmentation,
        *,
        seed: int,
        epoch: int,
        batch_size: int,
        start: int = 0,
        share: Share = WHOLE,
    ) -> Iterator[Batch]:
        """Batches of one epoch (see Data.training)."""
        split, normalise = self.splits["train"], normaliser(self.facts, self.device)
        size = (len(split.y), self.facts.resolution)
        rng = epoch_of(augmentation, size, seed=seed, epoch=epoch, device=self.device)
        for batch in range(start, len(split.y) // batch_size):
            index = rng.order[batch * batch_size : (batch + 1) * batch_size][part(batch_size, share)]
            yield augment(split.x[index], rng.draws.take(index), augmentation, normalise), split.y[index]

    def evaluation(self, split: str, batch_size: int, share: Share = WHOLE) -> Iterator[Batch]:
        """Batches of a whole split (see Data.evaluation)."""
        whole, normalise = self.splits[one_of("split", split, SPLITS)], normaliser(self.facts, self.device)
        place, number = share
        batches = zip(whole.x.split(batch_size), whole.y.split(batch_size), strict=True)
        for x, y in itertools.islice(batches, place, None, number):
            yield normalise(x), y


def hold_out(
    labels: Int[Tensor, " images"], share: int | float, generator: torch.Generator
) -> tuple[Int[Tensor, " kept"], Int[Tensor, " held"]]:
    """Indices kept and held out, each in rising order: the same share of every class, at least one of it."""
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]
    counts = labels.bincount()
    wanted = torch.where(counts > 0, (share * counts).round().clamp(min=1), 0)
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    held = rank < wanted.repeat_interleave(counts)
    return order[~held].sort().values, order[held].sort().values


def kept_for_training(
    facts: DatasetInfo, labels: Int[Tensor, " images"], share: int | float, seed: int
) -> list[Tensor]:
    """Indices of train and validation, by seed.

    Raises:
        InputError: if a class has no image left to train on.
    """
    kept, held = hold_out(labels, share, stream(seed, "validation"))
    counts = labels[kept].bincount(minlength=len(facts.classes))
    if (counts == 0).any():
        empty = int((counts == 0).nonzero()[0])
        raise InputError(
            f"data: class {facts.classes[empty]!r} of {facts.name} has no image to train on; "
            "add images or lower the validation share"
        )
    return [kept, held]


def in_memory(facts: DatasetInfo, images: Split, test: Split, *, share: int | float, seed: int) -> InMemory:
    """The three splits of images that are on the CPU.

    Raises:
        InputError: if a class has no image left to train on.
    """
    train, validation = (images.take(index) for index in kept_for_training(facts, images.y, share, seed))
    return InMemory(dataclasses.replace(facts, seed=seed), {"train": train, "validation": validation, "test": test})


def on_device(data: InMemory, device: torch.device) -> InMemory:
    """The same data on a device."""
    return InMemory(data.facts, {name: split.to(device) for name, split in data.splits.items()})


def shrunk(data: InMemory, resolution: int) -> InMemory:
    """The same images, averaged over areas down to a resolution where they are larger, and their new statistics."""
    if resolution >= data.facts.resolution:
        return data
    splits = {name: Split(_averaged(split.x, resolution), split.y) for name, split in data.splits.items()}
    mean, std = statistics(splits["train"].x)
    return InMemory(dataclasses.replace(data.facts, mean=mean, std=std, resolution=resolution), splits)


def _averaged(
    x: Shaped[Tensor, "images channels height width"], resolution: int
) -> Shaped[Tensor, "images channels resolution resolution"]:
    parts = [functional.adaptive_avg_pool2d(part.to(torch.float32), resolution) for part in x.split(CHUNK)]
    return torch.cat([part.round().to(x.dtype) for part in parts])


def statistics(x: Shaped[Tensor, "images channels height width"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of bytes per channel, as shares of 255: exact, from the counts of the 256 values."""
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in x.unbind(1)]).to(torch.float64)
    counts /= counts.sum(1, keepdim=True)
    mean = counts @ values
    std = (counts @ values**2 - mean**2).clamp(min=0).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())
