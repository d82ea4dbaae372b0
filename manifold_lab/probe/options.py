"""The options of the probe's command, checked before torch is loaded as far as they can be."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from manifold_lab.core.cli import About, Json, Quiet, choice, run_cli
from manifold_lab.core.errors import InputError, one_of, within
from manifold_lab.core.files import check_folder
from manifold_lab.core.lazy import lazy_function
from manifold_lab.probe import names

LARGEST, WIDEST = 1_000_000_000, 16_384
"""Of counts, and of pixels of a side."""
MOST_POINTS = 100_000
"""Of a curve, which goes through the network as one batch."""
ABOUT = About(examples=(
    "python -m manifold_lab.probe --model torchvision:resnet18 --images 16 --out out/",
    "python -m manifold_lab.probe --model mobilenet_v2 --weights published --data FOLDER --measures active",
))  # fmt: skip


@dataclass(frozen=True)
class ProbeOptions:
    """Look inside a network: where is information lost, layer by layer."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME", help=f"{names.HELP}.")]
    weights: str = ""
    """A file of weights, or published; without it the network has initial weights drawn from the seed."""
    strip: str = ""
    """Taken from the beginning of the names in a file of weights, such as module. of a DataParallel model."""
    data: str = names.NOISE
    """A folder of image files, an .npz of jpeg, offsets and labels, a data set's name, or random (noise)."""
    layers: Annotated[tuple[str, ...], tyro.conf.arg(metavar="WORD [WORD ...]")] = (names.LAYER_KINDS[0],)
    """Kinds (nonlinearity, bottleneck, convolution, linear, norm, block) and names with * and ?."""
    measures: Annotated[tuple[str, ...], choice(names.MEASURE_NAMES, "Any of", "NAME [NAME ...]")] = (
        "active", "rank", "preservation")  # fmt: skip
    list: bool = False
    """Only list the layers, their kinds and thresholds, and the measures."""
    images: int = 200
    """Images that it is shown."""
    batch: int = 16
    """Images at a time."""
    resolution: int = 0
    """Pixels of an image's side; 0 for the network's own."""
    positions: int = names.POSITIONS
    """Positions that are kept of a layer for the measures that need points."""
    per_image: int = names.PER_IMAGE
    """Positions of each image that the covariance of the measure spectrum is estimated from; 0 for all."""
    points: int = names.CURVE_POINTS
    """Of the curve that information is measured along, all at once."""
    space: str = names.PIXEL_SPACE
    """Where that curve is drawn: pixel, or the name of a layer."""
    seed: int = 0
    """Of initial weights, samples and the curve's plane."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    runs: Path = Path("runs")
    """Folder of the stored runs, for a run's key."""
    out: Path = Path("figures")
    """Folder for probe.csv, probe_histogram.csv, probe.json and the figure."""
    style: str = ""
    """Whose text width and fonts the figure has, such as neurips2024; the gallery lists them. Empty: as all figures."""
    quiet: Quiet = False
    json: Json = False


def check_options(options: ProbeOptions) -> None:
    """Refuse what can be refused without a network, data or a device.

    Raises:
        InputError: naming the option and what is allowed.
    """
    for name in ("images", "batch", "positions"):
        within(name, getattr(options, name), 1, LARGEST)
    within("per_image", options.per_image, 0, LARGEST)
    within("points", options.points, 1, MOST_POINTS)
    within("resolution", options.resolution, 0, WIDEST)
    within("seed", options.seed, 0, 2**63 - 1)
    if not options.measures:
        raise InputError(f"measures: none given; allowed: {', '.join(names.MEASURE_NAMES)}")
    for name in options.measures:
        one_of("measures", name, names.MEASURE_NAMES)
    if not re.fullmatch(r"cpu|cuda(:\d+)?", options.device):
        raise InputError(f"device: {options.device!r} is not on this machine; allowed: cpu, cuda, cuda:N")
    check_folder(options.out)


def run(options: ProbeOptions) -> None:
    """Look, write, draw, say.

    Raises:
        InputError: for anything that the options ask for and cannot be had.
    """
    check_options(options)
    lazy_function("manifold_lab.probe.command.run")(options)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    return run_cli(ProbeOptions, run, "manifold_lab.probe", arguments, ABOUT)
