"""Runs that go back from a trained network's activations to the image: exactly where its layers allow it, or by search.

Lines of MAIN: one per network, place and image. Lines of IMAGES: the pixels of some images and of what was found.
"""

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from manifold_lab.activations import Activation
from manifold_lab.core.random_streams import stream
from manifold_lab.data import Data
from manifold_lab.models.fold import folded
from manifold_lab.models.mobilenet import Activate, Block, ConvNormAct, Network
from manifold_lab.probe import image_search, inversion
from manifold_lab.probe.inversion import Layer, Step
from manifold_lab.report.tables import nine_digits
from manifold_lab.sweeps import information_run
from manifold_lab.sweeps.store import Result, Run
from manifold_lab.sweeps.study import MAIN, tables_of, tables_result
from manifold_lab.sweeps.training_run import TrainingRun

IMAGES = "images"
STEM = -1
"""The place before the first block."""
NEAR = 0.1
"""The noise that a control starts with, as a share of the image's variance."""
WHERE = ("data", "arm", "seed", "block", "image")
"""The columns that name a line; of an image itself the block is empty."""


@dataclass(frozen=True)
class InversionRun:
    """A trained network, the places from which images are sought, and how long.

    Args:
        training: of the network.
        places: blocks, or STEM.
        images: the first so many of the test images.
        steps: of each stage of a search; a control has one stage, as long as all of these.
        kept: of so many images the pixels are kept.
    """

    training: TrainingRun
    places: tuple[int, ...]
    images: int = 8
    steps: int = 100
    kept: int = 2


def measure(run: InversionRun, folder: Path) -> Result:
    """Every image from every place; the network is trained first where it never was."""
    network, images = information_run.trained(run.training, folder)
    network = folded(network).requires_grad_(False)
    x, _ = next(images.evaluation("test", run.images))
    known = {"data": run.training.data, "arm": run.training.arm, "seed": str(run.training.seed)}
    lines, pictures = [], _images(known | {"block": ""}, x[: run.kept], images)
    for place in run.places:
        at = known | {"block": str(place)}
        found, mine = inverted(network, x, place, run.steps)
        lines += [at | {"image": str(i)} | line for i, line in enumerate(mine)]
        pictures += _images(at, found[: run.kept], images)
    return tables_result({MAIN: lines, IMAGES: pictures})


def inverted(network: Network, x: Tensor, place: int, steps: int) -> tuple[Tensor, list[dict[str, str]]]:
    """What is found from the activations at a place, and a line for each image.

    Args:
        network: folded, in evaluation mode.
        x: the images.
        place: a block, or STEM.
        steps: of each stage of a search.
    """
    exactly, stopped = inversion.undo_all(*_exact_problem(network, x, place))
    function, rng = until(network, place), stream(place + 1, "controls")
    y = function(x)
    whole = torch.tensor([not name for name in stopped])
    found = x if bool(whole.all()) else image_search.search(function, y, torch.zeros_like(x), steps)
    control = image_search.search(
        function, y, image_search.near(x, NEAR, rng), steps * len(image_search.SMOOTHNESS), (0.0,)
    )
    if bool(whole.any()):
        found = torch.where(whole.view(-1, 1, 1, 1), exactly.x.to(x.dtype), found)
    errors = inversion.unexplained(found, x)
    if bool(whole.any()):  # in float64, in which it was solved
        errors = torch.where(whole, inversion.unexplained(exactly.x, x), errors)
    parts = (errors, inversion.mismatch(function(found), y), inversion.unexplained(control, x),
             inversion.mismatch(function(control), y), exactly.singular_value)  # fmt: skip
    fixed = {"outputs": str(y[0].numel()), "inputs": str(x[0].numel())}
    lines = [fixed | line(name, tuple(map(float, values))) for name, *values in zip(stopped, *parts, strict=True)]
    return found, lines


def line(stopped: str, numbers: tuple[float, ...]) -> dict[str, str]:
    """The columns of one image.

    Args:
        stopped: the first layer on the way back that is not determined, if any.
        numbers: error and mismatch of the search, of its control, and the smallest singular value of the layers.
    """
    names = ("error", "mismatch", "control_error", "control_mismatch", "singular_value")
    known = {name: nine_digits(value) for name, value in zip(names, numbers, strict=True)}
    return {"stopped": stopped} | known | ({"singular_value": ""} if stopped else {})


def rows(runs: Sequence[Run]) -> dict[str, list[dict[str, str]]]:
    """The lines of all runs, each with the status that its numbers give; of an image itself none."""
    found = tables_of(runs)
    if not found:
        return {}
    judged = [one | {"status": outcome_of(one)} for one in found[MAIN]]
    statuses = {tuple(one[name] for name in WHERE): one["status"] for one in judged}
    shown = [one | {"status": statuses.get(tuple(one[name] for name in WHERE), "")} for one in found[IMAGES]]
    return {MAIN: judged, IMAGES: shown}


def outcome_of(line: dict[str, str]) -> str:
    """What became of an image, by `inversion.outcome`."""
    search, control = ((float(line[f"{of}error"]), float(line[f"{of}mismatch"])) for of in ("", "control_"))
    return inversion.outcome(not line["stopped"], search, control)


def until(network: Network, place: int) -> Callable[[Tensor], Tensor]:
    """The network from the image to a place."""

    def function(x: Tensor) -> Tensor:
        state: tuple[Tensor, Tensor | None] = network.stem(x), None
        for block in network.blocks[: place + 1]:
            state = block(*state)
        return state[0]

    return function


def _exact_problem(network: Network, x: Tensor, place: int) -> tuple[list[Step], Tensor]:
    """The layers up to a place and what they give, in float64; the network itself stays in float32."""
    twin = folded(network).double()
    with torch.no_grad():
        return list(steps(twin, x.double(), place)), until(twin, place)(x.double())


def steps(network: Network, x: Tensor, place: int) -> Iterator[Step]:
    """The layers from the image to a place; a block with a shortcut is one step without an inverse."""
    yield Step("stem", _layer(network.stem), _size(x))
    x = network.stem(x)
    for number_, block in enumerate(network.blocks[: place + 1]):
        assert isinstance(block, Block)
        name = f"blocks.{number_}"
        if type(block) is not Block or block.stage.shortcut != "none" or network.spec.shortcut == "expansion":
            yield Step(name, None, _size(x))
        else:
            inner = x
            for part in ("expand", "depthwise", "project"):
                made = getattr(block, part)
                if made is not None:
                    yield Step(f"{name}.{part}", _layer(made), _size(inner))
                    inner = made(inner)
        x = block(x)[0]


def _layer(made: ConvNormAct) -> Layer | None:
    """A folded layer; None for one with a norm by example, or with an intervention behind it."""
    if isinstance(made.act, Activate) and isinstance(made.norm, nn.Identity):
        activation: Activation = made.act.activation
        return Layer(made.conv, None, activation)
    return None


def _size(x: Tensor) -> tuple[int, int, int]:
    _, channels, height, width = x.shape
    return channels, height, width


def _images(known: dict[str, str], x: Tensor, images: Data) -> list[dict[str, str]]:
    """Images as lines: their pixels as bytes, channel by channel, in base64."""
    facts = images.facts
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (facts.mean, facts.std))
    lines = []
    for place, one in enumerate(x):
        pixels = ((one.cpu() * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
        size = "x".join(map(str, pixels.shape))
        held = base64.b64encode(pixels.numpy().tobytes()).decode()
        lines.append(known | {"image": str(place), "size": size, "pixels": held})
    return lines
