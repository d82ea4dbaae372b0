"""Small data sets, whole on the device."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.nn import functional

from manifold_lab.core.errors import InputError, one_of
from manifold_lab.core.random_streams import stream
from manifold_lab.data.augment import Augmentation
from manifold_lab.data.interface import SPLITS, Data, DatasetInfo, Places, StoredBatch

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
class InMemory(Data):
    """A data set whose images fit in the device's memory, as bytes (or floats, where they are no images)."""

    facts: DatasetInfo
    splits: dict[str, Split]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
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

    def stored(self, split: str, batches: Places, *_: object) -> Iterator[StoredBatch]:
        """Batches by places (see Data.stored)."""
        whole = self.splits[split]
        return ((whole.x[index], whole.y[index]) for index in batches)


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
