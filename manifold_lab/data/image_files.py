"""The one reader of image files: any file to RGB bytes, sized and cut as a network expects them.

A file of labelled images is an .npz with `jpeg` (the images' JPEG files one after the other, as bytes), `offsets`
(where each begins, and the end) and `labels`.
"""

import io
import itertools
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor

from manifold_lab.core.errors import SourceError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's channels, in [0, 1]: what PyTorch's published weights expect."""
SYMMETRIC = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Inputs in [-1, 1]: what weights from TensorFlow expect."""
UNIT = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Inputs in [0, 1]: what torchvision's detectors expect."""
Scale = tuple[tuple[float, ...], tuple[float, ...]]
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
LONGEST = 16
"""Of an image longer than so many times its short side, only the middle is sized: the rest is cut off anyhow."""


@dataclass(frozen=True)
class Fit:
    """How an image gets the size of a window: its short side is scaled to `ratio` of the window's, the centre cut out.

    `squash` scales both sides to the window instead, and cuts nothing.
    """

    ratio: float = 256 / 224
    interpolation: str = "bilinear"
    squash: bool = False


CENTRE = Fit()
"""ImageNet's usual one."""


@dataclass(frozen=True)
class LabelledImages:
    """Images and their classes."""

    x: UInt8[Tensor, "n channels height width"]
    labels: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)


def load_images(path: Path) -> LabelledImages:
    """All images of a file, in its order.

    Raises:
        SourceError: for a file that is missing, damaged, empty, or holds something else.
    """
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            data, ends, labels = file["jpeg"].tobytes(), file["offsets"], file["labels"]
        found = [as_bytes(_rgb(io.BytesIO(data[start:end]))) for start, end in itertools.pairwise(ends)]
        if len(found) != len(labels):
            raise ValueError("as many labels as images are needed")
        return LabelledImages(torch.stack(found), torch.from_numpy(labels.astype(np.int64)))
    except Exception as error:  # a broken file fails in as many ways as there are bytes
        raise SourceError(
            f"images: {path} cannot be read ({type(error).__name__}); it must be an .npz of jpeg, offsets and labels"
        ) from None


def open_image(path: Path | str) -> Image.Image:
    """An image file in RGB: 16 bits a channel are scaled to eight, transparency is dropped.

    Raises:
        SourceError: for a file that is missing, damaged, has more than PIL's safe number of pixels, or holds numbers
            without a scale.
    """
    try:
        return _rgb(path)
    except Exception as error:  # a broken file fails in as many ways as there are bytes
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise SourceError(f"data: {path} cannot be read ({reason}); replace or delete it") from None


def _rgb(source: Path | str | io.BytesIO) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", "Palette images with Transparency", UserWarning)
        with Image.open(source) as image:
            if image.mode == "F" or image.mode.startswith("I"):
                return Image.fromarray(_eight_bits(image)).convert("RGB")
            return image.convert("RGB")


def _eight_bits(image: Image.Image) -> UInt8[np.ndarray, "height width"]:
    """Whole numbers of 16 bits as bytes, to the nearest.

    Raises:
        ValueError: for floats, and for numbers outside of 16 bits, whose white is unknown.
    """
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"mode {image.mode} has no known white; save it with 8 or 16 bits a channel")
    return np.rint(values / 257).astype(np.uint8)


def as_bytes(image: Image.Image) -> UInt8[Tensor, "channels height width"]:
    """The pixels of an RGB image."""
    return torch.from_numpy(np.array(image)).movedim(-1, 0)


def cropped(image: Image.Image, size: tuple[int, int], fit: Fit = CENTRE) -> Image.Image:
    """An image at the size (height, width) of a window, as torchvision's Resize and CenterCrop do it."""
    high, wide = size
    resample = Image.Resampling[fit.interpolation.upper()]
    if fit.squash:
        return image.resize((wide, high), resample)
    image = _middle(image)
    if image.height * wide <= image.width * high:
        tall = round(high * fit.ratio)
        scaled = (int(tall * image.width / image.height), tall)
    else:
        broad = round(wide * fit.ratio)
        scaled = (broad, int(broad * image.height / image.width))
    left, top = round((scaled[0] - wide) / 2), round((scaled[1] - high) / 2)
    return image.resize(scaled, resample).crop((left, top, left + wide, top + high))


def _middle(image: Image.Image) -> Image.Image:
    """What is not farther than LONGEST short sides from end to end, around the centre."""
    limit = LONGEST * min(image.size)
    cut = [max(0, side - limit) // 2 for side in image.size]
    box = (cut[0], cut[1], image.width - cut[0], image.height - cut[1])
    return image.crop(box) if any(cut) else image


def folder(
    path: Path, count: int, size: tuple[int, int], fit: Fit = CENTRE
) -> UInt8[Tensor, "n channels height width"]:
    """The first `count` image files below a folder, by name, each cropped to `size` (height, width).

    Raises:
        SourceError: where there is none, or one cannot be read.
    """
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)[:count]
    if not files:
        raise SourceError(f"data: {path} holds no image; allowed: {', '.join(SUFFIXES)}")
    return torch.stack([as_bytes(cropped(open_image(file), size, fit)) for file in files])


def resized(
    x: UInt8[Tensor, "n channels height width"], size: tuple[int, int]
) -> UInt8[Tensor, "n channels high wide"]:
    """Images of another size, antialiased."""
    made = torch.nn.functional.interpolate(x.float(), size, mode="bilinear", antialias=True, align_corners=False)
    return made.round().clamp(0, 255).to(torch.uint8)


def normalised(
    x: UInt8[Tensor, "batch channels height width"], scale: Scale
) -> Float[Tensor, "batch channels height width"]:
    """Bytes to the numbers that a network expects, channels-last."""
    mean, deviation = (torch.tensor(values, device=x.device)[:, None, None] for values in scale)
    return ((x / 255 - mean) / deviation).contiguous(memory_format=torch.channels_last)
