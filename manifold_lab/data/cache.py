"""Downloaded sets as plain arrays in one folder: NAME.npz with x_train, y_train, x_test, y_test (bytes) and classes."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from manifold_lab.core.errors import SourceError
from manifold_lab.data.in_memory import InMemory, Split, in_memory, statistics
from manifold_lab.data.interface import DatasetInfo

FOLDER_VARIABLE = "MANIFOLD_LAB_DATA"
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class DownloadSource:
    """Where a set comes from: torchvision's class, which knows addresses and hashes, and what it must look like."""

    torchvision: str
    shape: tuple[int, ...]
    classes: int


SOURCES = {
    "cifar10": DownloadSource("CIFAR10", (32, 32, 3), 10),
    "cifar100": DownloadSource("CIFAR100", (32, 32, 3), 100),
    "fashion-mnist": DownloadSource("FashionMNIST", (28, 28), 10),
}


def cached(name: str, root: Path | None, *, share: int | float, seed: int) -> InMemory:
    """A set of SOURCES from the cache folder, fetched first if it is not there.

    Raises:
        SourceError: if there is no folder, no way to fetch, or a file that is damaged or of another form.
    """
    folder = root or os.environ.get(FOLDER_VARIABLE)
    if not folder:
        raise SourceError(f"data: {name} needs a folder to be kept in; set {FOLDER_VARIABLE} or give root")
    path = Path(folder) / f"{name}.npz"
    if not path.exists():
        fetch(name, path)
    arrays = read_cached(name, path)
    train, test = (_split(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    mean, std = statistics(train.x)
    facts = DatasetInfo(name, tuple(arrays["classes"].tolist()), mean, std, train.x.shape[-1])
    return in_memory(facts, train, test, share=share, seed=seed)


def _split(x: np.ndarray, y: np.ndarray) -> Split:
    images = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(y.astype(np.int64)))


def read_cached(name: str, path: Path) -> Arrays:
    """The arrays of a file, checked; no code in it is run.

    Raises:
        SourceError: for a damaged file or arrays of another form.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {key: content[key] for key in ("x_train", "y_train", "x_test", "y_test", "classes")}
    except Exception as error:  # a damaged archive is refused in as many ways as its format has fields
        raise SourceError(
            f"data: {path} cannot be read ({_one_line(error)}); delete it, and it is fetched again"
        ) from None
    problem = next(filter(None, (_problem(SOURCES[name], arrays, part) for part in ("train", "test"))), None)
    if arrays["classes"].shape != (SOURCES[name].classes,):
        problem = f"classes is {arrays['classes'].shape}, not ({SOURCES[name].classes},)"
    if problem:
        raise SourceError(f"data: {path} is not {name}: {problem}; delete it, and it is fetched again")
    return arrays


def _problem(source: DownloadSource, arrays: Arrays, part: str) -> str | None:
    """What is wrong with the images or labels of a part, if anything."""
    x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if x.shape[1:] != source.shape or x.dtype != np.uint8:
        return f"x_{part} is {x.dtype} {x.shape}, not uint8 (images, {', '.join(map(str, source.shape))})"
    if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        return f"y_{part} is {y.dtype} {y.shape}, not one integer for each of the {len(x)} images"
    found = np.unique(y)
    if not np.array_equal(found, np.arange(source.classes)):
        return f"y_{part} holds {len(found)} different labels, not each of 0 to {source.classes - 1}"
    return None


def fetch(name: str, path: Path) -> None:
    """Download a set by torchvision, which checks every file's hash, and keep it as arrays; whole or not at all.

    Raises:
        SourceError: without torchvision or the internet, for a wrong hash, or a folder that takes no files.
    """
    advice = f"give a folder that takes files, look after the connection, or put {path.name} there yourself"
    try:
        from torchvision import datasets  # noqa: PLC0415 - a heavy library, and only wanted here

        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=path.parent) as scratch:
            kind = getattr(datasets, SOURCES[name].torchvision)
            parts = {part: kind(scratch, train=part == "train", download=True) for part in ("train", "test")}
            _keep(parts, Path(scratch) / path.name).replace(path)
    except ImportError:
        raise SourceError(
            f"data: there is no {path}, and torchvision, which would fetch it, is not installed; "
            "pip install 'manifold_lab[vision]'"
        ) from None
    except (OSError, RuntimeError) as error:
        raise SourceError(f"data: could not fetch {name} into {path.parent} ({_one_line(error)}); {advice}") from None


def _keep(parts: dict[str, Any], path: Path) -> Path:
    """Write the arrays of torchvision's parts, synced to the disk."""
    arrays: Arrays = {"classes": np.array(parts["train"].classes)}
    for name, part in parts.items():
        arrays |= {f"x_{name}": np.asarray(part.data), f"y_{name}": np.asarray(part.targets, dtype=np.uint8)}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    return path


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
