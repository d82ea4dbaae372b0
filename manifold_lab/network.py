"""Layers and costs of a network: python -m manifold_lab.network mobilenet_v2 --width 0.5, or torchvision:resnet18."""

import math
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from manifold_lab.core.cli import About, Json, Quiet, run_cli
from manifold_lab.core.errors import within
from manifold_lab.core.lazy import lazy_function
from manifold_lab.models.specs import LIMITS, NETWORKS, NetworkSpec

PROGRAM = "manifold_lab.network"
LARGEST = LIMITS["resolution"][1]
ABOUT = About(
    "What are the layers of a network, and what do they cost? A line per operator with parameters, multiply-adds "
    "(MAdds) for one image, and numbers in and out; then the sums. A preset whose fields can be changed, or "
    "torchvision:NAME or timm:NAME.",
    ("python -m manifold_lab.network mobilenet_v2 --width 0.5", "python -m manifold_lab.network torchvision:resnet18"),
)


@dataclass(frozen=True)
class NetworkOptions:
    """Layers and costs of a preset."""

    spec: Annotated[NetworkSpec, tyro.conf.arg(name="")]
    quiet: Quiet = False
    json: Json = False


@dataclass(frozen=True)
class ForeignOptions:
    """Layers and costs of a network of a library, or of your own."""

    model: tyro.conf.Positional[str]
    """torchvision:NAME, timm:NAME, or MODULE:CALLABLE for your own."""
    resolution: int = 0
    """Pixels of an image's side; 0 for the network's own."""
    quiet: Quiet = False
    json: Json = False


_print_network = lazy_function("manifold_lab.report.network_table.print_network")
_print_foreign = lazy_function("manifold_lab.report.network_table.print_foreign")


def print_preset(options: NetworkOptions) -> None:
    """The table of a preset."""
    _print_network(options.spec, options.quiet, options.json)


def show_foreign(options: ForeignOptions) -> None:
    """The table of a network from elsewhere."""
    within("resolution", options.resolution, 0, LARGEST)
    _print_foreign(options.model, options.resolution, options.quiet, options.json)


def described(spec: NetworkSpec) -> str:
    """What a preset is, in a line.

    >>> described(NETWORKS["digits"])
    '5 inverted blocks, width 0.35, shortcut bottleneck; images of 8x8 pixels, 1 channel, maps down to 4x4; 10 classes'
    """
    channels = "1 channel" if spec.in_channels == 1 else f"{spec.in_channels} channels"
    smallest = math.ceil(spec.resolution / math.prod((spec.stem_stride, *(stride for *_, stride in spec.rows))))
    blocks = sum(repeats for _, _, repeats, _ in spec.rows)
    padding = "" if spec.padding == NetworkSpec.padding else f", {spec.padding} padding"
    return (
        f"{blocks} {spec.block} blocks, width {spec.width:g}, shortcut {spec.shortcut}{padding}; images of "
        f"{spec.resolution}x{spec.resolution} pixels, {channels}, maps down to {smallest}x{smallest}; "
        f"{spec.num_classes} classes"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if any(":" in argument for argument in given if not argument.startswith("-")):
        return run_cli(ForeignOptions, show_foreign, PROGRAM, given, ABOUT)
    presets = {name: (described(spec), NetworkOptions(spec)) for name, spec in NETWORKS.items()}
    return run_cli(presets, print_preset, PROGRAM, given, ABOUT)


if __name__ == "__main__":
    sys.exit(main())
