"""Any image file: 16 bits, broken ones, too large ones, and the cuts that torchvision and timm make."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from torchvision.transforms import v2

from manifold_lab.core.errors import InputError
from manifold_lab.data import image_files
from manifold_lab.data.image_files import Fit, as_bytes, cropped, open_image


def ramp(path: Path) -> np.ndarray:
    """A PNG of grey values over the whole range of 16 bits."""
    values = np.linspace(0, 65535, 300).round().astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(values).save(path)
    return values


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_16_bits_are_scaled_to_eight(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "ramp.tiff"
    values = ramp(path) if mode == "I;16" else np.linspace(0, 65535, 300).round().astype(np.int32)[None]
    Image.fromarray(values).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    found = as_bytes(open_image(path))
    assert torch.equal(found[0], found[2])
    assert np.abs(found[0].numpy() - values / 65535 * 255).max() <= 0.5


def test_16_bits_of_a_png_are_scaled_to_eight(tmp_path: Path) -> None:
    values = ramp(tmp_path / "ramp.png")
    assert np.abs(as_bytes(open_image(tmp_path / "ramp.png"))[0].numpy() - values / 65535 * 255).max() <= 0.5


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def broken(path: Path, kind: str) -> None:
    plain = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    if kind == "chunk":
        plain.save(path)
        data = bytearray(path.read_bytes())
        data[data.index(b"IDAT") - 8 - 9] ^= 255  # within the header's check sum
        path.write_bytes(data)
    elif kind == "cut":
        noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "bomb":
        header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    elif kind == "text":
        notes = PngImagePlugin.PngInfo()
        notes.add_text("note", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 10), zip=True)
        plain.save(path, pnginfo=notes)
    elif kind == "floats":
        Image.fromarray(np.ones((8, 8), np.float32)).save(path, format="TIFF")
    elif kind == "beyond 16 bits":
        Image.fromarray(np.full((8, 8), 1 << 20, np.int32)).save(path, format="TIFF")
    else:
        path.write_bytes(b"no image")


@pytest.mark.parametrize("kind", ["chunk", "cut", "bomb", "text", "floats", "beyond 16 bits", "none"])
def test_a_file_that_cannot_be_read_is_named_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"{kind}.png"
    broken(path, kind)
    for read in (lambda: open_image(path), lambda: image_files.folder(tmp_path, 9, (8, 8))):
        with pytest.raises(InputError, match=rf"^data: .*{kind}\.png cannot be read .*; replace or delete it$"):
            read()


def test_a_large_photograph_is_refused_before_its_pixels_are_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "large.png")
    with pytest.raises(InputError, match="DecompressionBomb"):
        open_image(tmp_path / "large.png")


@pytest.mark.parametrize("shape", [(60, 41), (37, 90), (50, 50)])
@pytest.mark.parametrize(("resize", "crop", "way"), [(36, 32, "bilinear"), (32, 32, "bicubic"), (40, 30, "bicubic")])
def test_the_centre_is_torchvisions(shape: tuple[int, int], resize: int, crop: int, way: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    reference = v2.Compose([v2.Resize(resize, v2.InterpolationMode(way)), v2.CenterCrop(crop), v2.PILToTensor()])
    found = as_bytes(cropped(image, (crop, crop), Fit(resize / crop, way)))
    assert torch.equal(found, reference(image))


def test_a_long_image_takes_no_more_memory_than_a_square_one() -> None:
    wave = np.sin(np.arange(9000) / 40)[None, :, None] * 100 + 128
    image = Image.fromarray(wave.round().astype(np.uint8).repeat(3, 2))
    sizes: list[tuple[int, int]] = []

    original = Image.Image.resize

    def resize(self, size, *more):
        sizes.append(size)
        return original(self, size, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", resize)
        found = as_bytes(cropped(image, (64, 64)))
    assert found.shape == (3, 64, 64)
    assert sizes[0][0] * sizes[0][1] < 20 * 73**2
    middle = wave[0, 4499:4501, 0].mean()
    assert abs(float(found[0, 32, 32]) - middle) <= 3


def test_squashed_images_keep_their_edges() -> None:
    image = Image.fromarray(np.linspace(0, 255, 90).astype(np.uint8)[None, :, None].repeat(30, 0).repeat(3, 2))
    found = as_bytes(cropped(image, (16, 16), Fit(1.0, "bilinear", squash=True)))[0, 8].float()
    assert found[0] < 12 and found[-1] > 243
