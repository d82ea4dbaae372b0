"""Augmentation of whole batches on their device: chance is drawn for an epoch ahead, image by image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from manifold_lab.core.config import check_types
from manifold_lab.core.errors import InputError, at_least
from manifold_lab.core.random_streams import stream


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images.

    `pad`: pixels of black around the image, from which a window of its own size is cut. `flip`: left and right
    exchanged in half of the images. `cutout`: side of a square set to the mean, around a random pixel, cut off at the
    border (DeVries and Taylor 2017, arXiv:1708.04552). `smallest_area`: least share of the area of a random-resized
    crop, for images from a folder.
    """

    pad: int = 0
    flip: bool = False
    cutout: int = 0
    smallest_area: int | float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        check_types(self)
        at_least("pad", self.pad, 0)
        at_least("cutout", self.cutout, 0)
        if self.smallest_area is not None and not 0 < self.smallest_area <= 1:
            raise InputError(f"smallest_area: {self.smallest_area} is not allowed; it must be above 0 and at most 1")


@dataclass(frozen=True)
class Draws:
    """What chance decided for each image: the window's corner, whether it is flipped, the centre of the hole."""

    corner: Int[Tensor, "images 2"]
    flipped: Bool[Tensor, " images"]
    centre: Int[Tensor, "images 2"]

    def take(self, index: Int[Tensor, " batch"]) -> "Draws":
        """The draws of some images."""
        return Draws(self.corner[index], self.flipped[index], self.centre[index])

    def to(self, device: torch.device) -> "Draws":
        """The same on a device."""
        fields = (self.corner, self.flipped, self.centre)
        return Draws(*(field.to(device, non_blocking=True) for field in fields))


@dataclass(frozen=True)
class Epoch:
    """The order of one epoch and its draws, by image."""

    order: Int[Tensor, " images"]
    draws: Draws


def epoch_of(
    augmentation: Augmentation, size: tuple[int, int], *, seed: int, epoch: int, device: torch.device
) -> Epoch:
    """What is random in an epoch of `size` (images, resolution): drawn on the CPU, sent to the device at once.

    Each purpose has a stream of its own, so that a cutout more or less moves neither order, windows nor flips.
    """
    images, resolution = size

    def integers(name: str, high: int) -> Tensor:
        return torch.randint(high, (images, 2), generator=stream(seed, name, epoch)).to(device)

    order = torch.randperm(images, generator=stream(seed, "order", epoch))
    flipped = torch.rand(images, generator=stream(seed, "flip", epoch)) < 0.5
    corner, centre = integers("crop", 2 * augmentation.pad + 1), integers("cutout", resolution)
    return Epoch(order.to(device), Draws(corner, flipped.to(device), centre))


def augment(
    x: Shaped[Tensor, "batch channels height width"],
    draws: Draws,
    augmentation: Augmentation,
    normalise: Callable[[Tensor], Tensor],
) -> Float[Tensor, "batch channels height width"]:
    """Stored images as a network sees them in training."""
    if augmentation.pad:
        x = pad_crop(x, draws.corner, augmentation.pad)
    if augmentation.flip:
        x = flip(x, draws.flipped)
    x = normalise(x)
    return cutout(x, draws.centre, augmentation.cutout) if augmentation.cutout else x


def pad_crop(
    x: Shaped[Tensor, "batch channels height width"], corner: Int[Tensor, "batch 2"], pad: int
) -> Shaped[Tensor, "batch channels height width"]:
    """Pad with zeros and cut a window of the old size at each image's corner (row, column), 0 to 2 * pad."""
    height, width = x.shape[2:]
    windows = functional.pad(x, (pad,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    batch = torch.arange(len(x), device=x.device)
    return windows[batch, :, corner[:, 0], corner[:, 1]]


def flip(
    x: Shaped[Tensor, "batch channels height width"], flipped: Bool[Tensor, " batch"]
) -> Shaped[Tensor, "batch channels height width"]:
    """Exchange left and right where told."""
    return torch.where(flipped.view(-1, 1, 1, 1), x.flip(3), x)


def cutout(
    x: Float[Tensor, "batch channels height width"], centre: Int[Tensor, "batch 2"], side: int
) -> Float[Tensor, "batch channels height width"]:
    """Set a square to zero, the mean: from side // 2 before the centre on, `side` pixels each way."""
    rows, columns = (torch.arange(size, device=x.device) for size in x.shape[2:])
    first = centre - side // 2

    def covered(pixels: Tensor, axis: int) -> Tensor:
        offset = pixels - first[:, axis, None]
        return (offset >= 0) & (offset < side)

    hole = covered(rows, 0)[:, :, None] & covered(columns, 1)[:, None, :]
    return x.masked_fill(hole[:, None], 0.0)
