"""Layers and costs of a network: python -m manifold_lab.network mobilenet_v2 --width 0.5, or torchvision:resnet18."""

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
PRESETS = {
    "mobilenet_v2": "the paper's network: width 1.0, images of 224 pixels, 1000 classes",
    "mobilenet_v1": "its predecessor: separable blocks, ReLU6 everywhere, no shortcuts",
    "mobilenet_v1_tensorflow": "the same with TensorFlow's padding and norms, as its published weights want it",
    "cifar": "the paper's network for CIFAR-10: images of 32 pixels, a stem without stride, 10 classes",
    "cifar_large_maps": "the same with stride 1 in the stage of 24 channels too, as common repositories train it",
    "tiny_imagenet": "the paper's network for Tiny ImageNet: images of 64 pixels, a stem without stride, 200 classes",
    "digits": "a small one of four blocks for images of 8x8 pixels with one channel, 10 classes",
}
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


def print_foreign(options: ForeignOptions) -> None:
    """The table of a network from elsewhere."""
    within("resolution", options.resolution, 0, LARGEST)
    _print_foreign(options.model, options.resolution, options.quiet, options.json)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if any(":" in word for word in words if not word.startswith("-")):
        return run_cli(ForeignOptions, print_foreign, PROGRAM, words, ABOUT)
    presets = {name: (PRESETS[name], NetworkOptions(spec)) for name, spec in NETWORKS.items()}
    return run_cli(presets, print_preset, PROGRAM, words, ABOUT)


if __name__ == "__main__":
    sys.exit(main())
