"""Images in folders, ImageNet and the like: PATH/train/CLASS/*.jpg, and PATH/val or PATH/test for the test."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from manifold_lab.core.errors import InputError, SourceError, one_of
from manifold_lab.core.random_streams import stream_seed
from manifold_lab.data import image_files
from manifold_lab.data.augment import Augmentation
from manifold_lab.data.in_memory import kept_for_training
from manifold_lab.data.interface import SPLITS, Data, DatasetInfo, Places, StoredBatch

TEST_NAMES = ("test", "val")
Transform = Callable[[Any], Tensor]
Sample = tuple[str, int]


@dataclass(frozen=True)
class Layout:
    """How a folder is read: pixels of a side, processes that read, share of train held out for validation."""

    resolution: int
    workers: int
    validation: int | float


class Files(Dataset[tuple[Tensor, int]]):
    """Image files through a transform whose chance, if it has any, depends on (seed, epoch, image) alone."""

    def __init__(self, samples: list[Sample], transform: Transform, rng: tuple[int, int] = (0, 0)):
        self.samples, self.transform, self.rng = samples, transform, rng

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        image = image_files.open_image(path)
        seed, epoch = self.rng
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
            torch.default_generator.manual_seed(stream_seed(seed, "resized crop", epoch, index))
            return self.transform(image), label


@dataclass(frozen=True)
class Folder(Data):
    """A data set that is read from image files batch by batch."""

    facts: DatasetInfo
    device: torch.device
    layout: Layout
    samples: dict[str, list[Sample]]
    drawn_on: ClassVar[torch.device | None] = torch.device("cpu")

    def size(self, split: str) -> int:
        """Images in a split."""
        return len(self.samples[one_of("split", split, SPLITS)])

    def check(self, augmentation: Augmentation) -> None:
        """Refuse padding.

        Raises:
            InputError: if it is asked for.
        """
        if augmentation.pad:
            raise InputError("pad: an imagefolder is cropped by smallest_area, not padded; allowed: 0")

    def stored(self, split: str, batches: Places, read: Augmentation, rng: tuple[int, int]) -> Iterator[StoredBatch]:
        """Batches by places (see Data.stored), cut by the readers."""
        return self._read(Files(self.samples[split], cut(self.layout.resolution, read.smallest_area), rng), batches)

    def _read(self, files: Files, batches: Places) -> Iterator[StoredBatch]:
        """Images as bytes and their labels, on the device."""
        pinned = self.device.type == "cuda"
        sampler = [batch.tolist() for batch in batches]
        loader = DataLoader(files, batch_sampler=sampler, num_workers=self.layout.workers, pin_memory=pinned)
        try:
            for x, y in loader:
                yield x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)
        except SourceError as error:  # a reading process sends its whole traceback; the last line is ours
            raise SourceError(str(error).splitlines()[-1].partition("SourceError: ")[2] or str(error)) from None


def cut(resolution: int, smallest_area: int | float | None) -> Transform:
    """Bytes of a random-resized crop, aspect 3/4 to 4/3; without a smallest area, of a window at the centre.

    That is one of an image whose short side is 256/224 of it.
    """
    if smallest_area is None:
        return functools.partial(_centre, (resolution, resolution))
    from torchvision.transforms import v2  # noqa: PLC0415 - torchvision is an extra

    return v2.Compose([v2.RandomResizedCrop(resolution, scale=(smallest_area, 1.0)), v2.PILToTensor()])


def _centre(size: tuple[int, int], image: Image) -> Tensor:
    return image_files.as_bytes(image_files.cropped(image, size))


def image_folder(path: Path, layout: Layout, *, seed: int, device: torch.device) -> Folder:
    """A data set from PATH/train and PATH/test or PATH/val, one folder per class; validation is taken from train.

    Raises:
        InputError: without torchvision.
        SourceError: for a missing folder, an empty class, or classes that differ between the two.
    """
    train, test = (_samples(part) for part in (path / "train", _test_folder(path)))
    if train[0] != test[0]:
        odd = sorted(set(train[0]) ^ set(test[0]))
        raise SourceError(f"data: {path} has other classes in train than in test, such as {odd[0]!r}; make them equal")
    facts = DatasetInfo(f"imagefolder:{path.name}", train[0], *image_files.IMAGENET, layout.resolution, seed=seed)
    labels = torch.tensor([label for _, label in train[1]])
    parts = kept_for_training(facts, labels, layout.validation, seed)
    kept = {name: [train[1][i] for i in part.tolist()] for name, part in zip(SPLITS, parts, strict=False)}
    return Folder(facts, device, layout, kept | {"test": test[1]})


def _test_folder(path: Path) -> Path:
    """The one of TEST_NAMES that is there."""
    if not path.is_dir():
        raise SourceError(f"data: there is no folder {path}; it must hold train/CLASS/ and test/CLASS/ or val/CLASS/")
    return next((path / name for name in TEST_NAMES if (path / name).is_dir()), path / TEST_NAMES[0])


def _samples(folder: Path) -> tuple[tuple[str, ...], list[Sample]]:
    """Classes and files of a folder of folders."""
    try:
        from torchvision.datasets import ImageFolder  # noqa: PLC0415 - torchvision is an extra

        found = ImageFolder(str(folder))
    except ImportError:
        raise InputError(
            "data: an imagefolder needs torchvision, which is not installed; pip install 'manifold_lab[vision]'"
        ) from None
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"data: {folder} is not a folder with images in a folder per class ({reason})") from None
    return tuple(found.classes), found.samples
