"""What every data set is to those who use it: facts about it, and batches of its three splits."""

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from manifold_lab.data.augment import Augmentation, augment, epoch_of

SPLITS = ("train", "validation", "test")
Batch = tuple[Float[Tensor, "batch channels height width"], Int[Tensor, " batch"]]
Places = Sequence[Tensor]
"""Of the images of batches in their split; batches may differ in size."""
StoredBatch = tuple[Shaped[Tensor, "batch channels height width"], Int[Tensor, " batch"]]
"""A batch as its images are stored."""
Normaliser = Callable[[Tensor], Tensor]
Share = tuple[int, int]
"""One of several processes that take a batch together: its place and their number."""
WHOLE: Share = (0, 1)


def part(count: int, share: Share) -> slice:
    """A process's part of so many things, in a row; parts differ by one at most.

    >>> [part(5, (place, 2)) for place in range(2)]
    [slice(0, 2, None), slice(2, 5, None)]
    """
    place, number = share
    return slice(place * count // number, (place + 1) * count // number)


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set: its classes, native resolution, and mean and standard deviation per channel.

    `mean` and `std` are shares of `full_scale`, the value of a stored image that counts as one. `seed` took the
    validation split from train.
    """

    KEY_NAME: ClassVar[str] = "Facts"

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resolution: int
    full_scale: int = 255
    seed: int = 0

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return len(self.mean)


class Data(abc.ABC):
    """A data set in three splits: train, validation (taken from train by seed) and test."""

    facts: DatasetInfo
    """What is known of it."""
    device: torch.device
    """Where its batches are."""
    drawn_on: ClassVar[torch.device | None] = None
    """Where the order of an epoch and what is random in it are; None for where the batches are."""

    @abc.abstractmethod
    def size(self, split: str) -> int:
        """Images in a split."""

    @abc.abstractmethod
    def check(self, augmentation: Augmentation) -> None:
        """Raise an InputError for an augmentation that this kind of data does not have."""

    @abc.abstractmethod
    def stored(self, split: str, batches: Places, read: Augmentation, rng: tuple[int, int]) -> Iterator[StoredBatch]:
        """Batches by the places of their images, as they are stored, on the device.

        Args:
            split: of which they are.
            batches: the places.
            read: where images are cut when they are read: how.
            rng: seed and epoch, on which what is random in that depends.
        """

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
        """Augmented, normalised batches of one epoch from batch `start` on; an incomplete last batch is left out.

        Order and augmentation depend on (seed, epoch, image) alone: an epoch taken up in its middle goes on as it
        would have, and runs that share a seed see the same images in the same order. With a share, only that part of
        each batch is read and made.
        """
        images, normalise = self.size("train"), normaliser(self.facts, self.device)
        size, where = (images, self.facts.resolution), self.drawn_on or self.device
        drawn = epoch_of(augmentation, size, seed=seed, epoch=epoch, device=where)
        whole = drawn.order[: images // batch_size * batch_size].split(batch_size)[start:]
        batches = [batch[part(batch_size, share)] for batch in whole]
        for index, (x, y) in zip(batches, self.stored("train", batches, augmentation, (seed, epoch)), strict=True):
            yield augment(x, drawn.draws.take(index).to(self.device), augmentation, normalise), y

    def evaluation(self, split: str, batch_size: int, share: Share = WHOLE) -> Iterator[Batch]:
        """Normalised batches of a whole split, in its own order, as they are; with a share, some of the batches."""
        normalise, (place, number) = normaliser(self.facts, self.device), share
        batches = torch.arange(self.size(split)).split(batch_size)[place::number]
        for x, y in self.stored(split, batches, Augmentation(), (0, 0)):
            yield normalise(x), y


def normaliser(facts: DatasetInfo, device: torch.device) -> Normaliser:
    """Stored values -> float32 of mean zero and deviation one per channel, on the device."""
    mean, std = (torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (facts.mean, facts.std))
    scale, shift = 1 / (facts.full_scale * std), -mean / std

    def normalise(x: Shaped[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        return torch.addcmul(shift, x.to(torch.float32), scale)

    return normalise
