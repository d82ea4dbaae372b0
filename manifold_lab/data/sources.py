"""Data sets by name."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from manifold_lab.core.config import check_types
from manifold_lab.core.errors import InputError, at_least, one_of
from manifold_lab.core.random_streams import stream
from manifold_lab.data import cache, folder, synthetic
from manifold_lab.data.in_memory import InMemory, Split, hold_out, in_memory, on_device, shrunk, statistics
from manifold_lab.data.interface import Data, DatasetInfo
from manifold_lab.data.synthetic import ManifoldTask

IMAGEFOLDER = "imagefolder:"
NAMES = ("digits", *cache.SOURCES, "manifold", f"{IMAGEFOLDER}PATH")


@dataclass(frozen=True)
class DataOptions:
    """How a set is divided and, where it leaves a choice, read.

    `validation`: share of train that is held out. `resolution`: of an imagefolder's images; those of another set are
    averaged down to it where they are larger. `workers`: of an imagefolder. `task`: of manifold.
    """

    validation: int | float = 0.1
    resolution: int = 224
    workers: int = field(default_factory=lambda: min(4, os.cpu_count() or 1))
    task: ManifoldTask = field(default_factory=ManifoldTask)

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        check_types(self)
        if not 0 < self.validation < 1:
            raise InputError(f"validation: {self.validation} is not allowed; it must be above 0 and below 1")
        at_least("resolution", self.resolution, 1)
        at_least("workers", self.workers, 0)


DEFAULT_OPTIONS = DataOptions()


def load(
    name: str = "digits",
    *,
    root: Path | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    options: DataOptions = DEFAULT_OPTIONS,
) -> Data:
    """A data set by name, its batches on `device`; `seed` takes the validation split from train.

    Names: digits, cifar10, cifar100, fashion-mnist, manifold, imagefolder:PATH. Downloads are kept in `root`, by
    default the folder that MANIFOLD_LAB_DATA names.

    Raises:
        InputError: for an unknown name, or a set that is not there, cannot be fetched, or is damaged.

    >>> data = load("digits")
    >>> data.facts.resolution, data.facts.channels, len(data.facts.classes), data.size("test")
    (8, 1, 10, 359)
    """
    where = torch.device(device)
    if name.startswith(IMAGEFOLDER):
        path = Path(name.removeprefix(IMAGEFOLDER))
        layout = folder.Layout(options.resolution, options.workers, options.validation)
        return folder.image_folder(path, layout, seed=seed, device=where)
    one_of("data", name, NAMES)
    return on_device(shrunk(_in_memory(name, root, options, seed), options.resolution), where)


def _in_memory(name: str, root: Path | None, options: DataOptions, seed: int) -> InMemory:
    if name == "digits":
        return digits(share=options.validation, seed=seed)
    if name == "manifold":
        return synthetic.manifold(options.task, share=options.validation, seed=seed)
    return cache.cached(name, root, share=options.validation, seed=seed)


def digits(*, share: int | float, seed: int) -> InMemory:
    """scikit-learn's 1797 handwritten digits of 8x8 pixels, stretched from 0..16 to bytes; needs no download.

    They come without a test split: every fifth of each class, drawn once for all, whatever the seed.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a heavy library, and only wanted here

    pixels, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(pixels * 255 // 16).to(torch.uint8).view(-1, 1, 8, 8)
    everything = Split(x, torch.from_numpy(labels).to(torch.int64))
    kept, held = hold_out(everything.y, synthetic.TEST_SHARE, stream(0, "digits", "test"))
    images = everything.take(kept)
    facts = DatasetInfo("digits", tuple("0123456789"), *statistics(images.x), resolution=8)
    return in_memory(facts, images, everything.take(held), share=share, seed=seed)
