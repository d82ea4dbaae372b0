"""Labelled pictures from one file, for checks on trained networks.

The file is an .npz with `jpeg` (the pictures' JPEG files one after the other, as bytes), `offsets` (where each begins,
and the end) and `labels`.
"""

import io
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor

from manifold_lab.core.errors import InputError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's channels, in [0, 1]: what PyTorch's published weights expect."""
SYMMETRIC = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Inputs in [-1, 1]: what weights from TensorFlow expect."""
Scale = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Pictures:
    """Pictures and their classes."""

    x: UInt8[Tensor, "n channels height width"]
    labels: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)


def load_images(path: Path) -> Pictures:
    """All pictures of a file, in its order.

    Raises:
        InputError: for a file that is missing, damaged, empty, or holds something else.
    """
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            data, ends, labels = file["jpeg"].tobytes(), file["offsets"], file["labels"]
        found = [_decoded(data[start:end]) for start, end in itertools.pairwise(ends)]
        if len(found) != len(labels):
            raise ValueError("as many labels as pictures are needed")
        return Pictures(torch.stack(found), torch.from_numpy(labels.astype(np.int64)))
    except Exception as error:  # a broken file fails in as many ways as there are bytes
        raise InputError(
            f"images: {path} cannot be read ({type(error).__name__}); it must be an .npz of jpeg, offsets and labels"
        ) from None


def _decoded(data: bytes) -> UInt8[Tensor, "channels height width"]:
    with Image.open(io.BytesIO(data)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0)


SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def folder(path: Path, count: int, size: tuple[int, int]) -> UInt8[Tensor, "n channels height width"]:
    """The first `count` picture files below a folder, by name: short side to 8/7 of `size`, the centre cut out.

    Raises:
        InputError: where there is none, or one cannot be read.
    """
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)[:count]
    if not files:
        raise InputError(f"pictures: {path} holds no picture; looked for {', '.join(SUFFIXES)}")
    found = []
    for file in files:
        try:
            x = _decoded(file.read_bytes())[None]
        except OSError as error:
            raise InputError(
                f"pictures: {file} cannot be read ({type(error).__name__}); replace or delete it"
            ) from None
        scale = 8 / 7 * max(wanted / side for wanted, side in zip(size, x.shape[2:], strict=True))
        x = resized(x, (round(x.shape[2] * scale), round(x.shape[3] * scale)))
        top, left = (x.shape[2] - size[0]) // 2, (x.shape[3] - size[1]) // 2
        found.append(x[..., top : top + size[0], left : left + size[1]])
    return torch.cat(found)


def resized(
    x: UInt8[Tensor, "n channels height width"], size: tuple[int, int]
) -> UInt8[Tensor, "n channels high wide"]:
    """Pictures of another size, antialiased."""
    made = torch.nn.functional.interpolate(x.float(), size, mode="bilinear", antialias=True, align_corners=False)
    return made.round().clamp(0, 255).to(torch.uint8)


def normalised(
    x: UInt8[Tensor, "batch channels height width"], scale: Scale
) -> Float[Tensor, "batch channels height width"]:
    """Bytes to the numbers that a network expects, channels-last."""
    mean, deviation = (torch.tensor(values, device=x.device)[:, None, None] for values in scale)
    return ((x / 255 - mean) / deviation).contiguous(memory_format=torch.channels_last)
