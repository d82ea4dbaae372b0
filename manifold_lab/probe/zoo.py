"""Networks by name, from whatever source, and images as each of them expects them."""

import dataclasses
import functools
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from manifold_lab import data
from manifold_lab.core.errors import InputError, error_line, one_of
from manifold_lab.core.random_streams import stream, stream_seed
from manifold_lab.data import DataOptions, image_files
from manifold_lab.data.image_files import CENTRE, IMAGENET, SYMMETRIC, UNIT, Fit, Scale
from manifold_lab.models import weights
from manifold_lab.models.mobilenet import Network, build
from manifold_lab.models.specs import NETWORKS
from manifold_lab.probe.names import NOISE, PUBLISHED, TIMM, TORCHVISION

GREY: Scale = ((0.5,), (0.5,))
RESOLUTION = 224
"""Pixels of a side where a network has no size of its own."""


@dataclass(frozen=True)
class LoadedModel:
    """A network in evaluation mode and what it expects: shape of an image, how bytes are scaled, how files are cut."""

    model: nn.Module
    shape: tuple[int, int, int]
    scale: Scale
    description: str
    """What it is, for captions."""
    fit: Fit | None = CENTRE
    """How an image file gets the shape; None where the network expects a way that the reader does not have."""


@dataclass(frozen=True)
class Source:
    """Where weights come from: a file, `published`, or nothing for initial weights drawn from the seed.

    `strip` is taken from the beginning of a file's names. `stored` opens a stored run by its key.
    """

    weights: str = ""
    strip: str = ""
    seed: int = 0
    stored: Callable[[str], Network] | None = None


def network(name: str, source: Source | str = "", *, resolution: int = 0) -> LoadedModel:
    """A network by name, in evaluation mode; a text as `source` is a file, `published` or nothing.

    A file or a store's run is never run as code; MODULE:CALLABLE is the user's own code and is.

    Raises:
        InputError: for what does not exist, is not installed, or does not fit.
    """
    source = Source(source) if isinstance(source, str) else source
    if ":" in name:
        found = _foreign(name, source)
    elif source.stored is not None and re.fullmatch(r"[0-9a-f]{16}", name):
        _none(source.weights, "a stored run has its own")
        found = _ours(source.stored(name), f"run {name}")
    else:
        found = _preset(name, source)
    shape = (found.shape[0], resolution or found.shape[1], resolution or found.shape[2])
    found.model.eval()
    return dataclasses.replace(found, shape=shape)


def _preset(name: str, source: Source) -> LoadedModel:
    if name not in NETWORKS:
        _refuse_foreign(name)
    spec = NETWORKS[one_of("model", name, NETWORKS)]
    if source.weights == PUBLISHED:
        made = weights.fetch_weights(spec, name)
    else:
        made = weights.load_weights(spec, source.weights) if source.weights else build(spec, source.seed)
    return _ours(made, _description(name, source))


def _foreign(name: str, source: Source, **options: Any) -> LoadedModel:
    """A network of a library, made with these options besides, or of the user's own code."""
    library, _, plain = name.partition(":")
    make = {TIMM: _timm, TORCHVISION: _torchvision}.get(f"{library}:")
    return _called(name, source) if make is None else make(plain, source, **options)


def _refuse_foreign(name: str) -> None:
    """Say of a library's name that it wants the library before it."""
    for library, module in ((TORCHVISION, "torchvision.models"), (TIMM, "timm")):
        there = importlib.util.find_spec(module.partition(".")[0]) is not None
        if there and name in importlib.import_module(module).list_models():
            raise InputError(f"model: {name!r} is unknown; did you mean {library + name!r}?")


def _ours(found: Network, description: str) -> LoadedModel:
    scale = SYMMETRIC if found.spec.padding == "tensorflow" else IMAGENET
    return LoadedModel(found, found.spec.image_shape, scale, description)


def _none(weight: str, why: str) -> None:
    if weight:
        raise InputError(f"weights: {weight} cannot be used here: {why}")


def _timm(name: str, source: Source, **options: Any) -> LoadedModel:
    timm = _module("timm", "pip install timm")
    plain, _, tag = name.partition(".")
    if not timm.is_model(plain) or (tag and name not in timm.list_pretrained(f"{plain}.*")):
        one_of("model", name, [*timm.list_models(), *timm.list_pretrained(f"{plain}.*")])
    with _drawn(source.seed):
        make = functools.partial(timm.create_model, name, pretrained=source.weights == PUBLISHED, **options)
        model = _tried(make, f"timm:{name}")
    known = timm.data.resolve_data_config({}, model=model)
    channels, high, wide = known["input_size"]
    cut, ratio = known["crop_mode"], int(high / known["crop_pct"]) / high
    fit = Fit(ratio, known["interpolation"], squash=cut == "squash") if cut in ("center", "squash") else None
    scale = (tuple(known["mean"]), tuple(known["std"]))
    description = _description(f"timm {name}", source)
    return LoadedModel(_loaded(model, source), (channels, high, wide), scale, description, fit)


def _torchvision(name: str, source: Source, **options: Any) -> LoadedModel:
    models = _module("torchvision.models", "pip install 'manifold_lab[vision]'")
    one_of("model", name, models.list_models())
    chosen = {"weights": "DEFAULT" if source.weights == PUBLISHED else None} | options
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        chosen["weights_backbone"] = None  # else an untrained detector fetches a trained backbone
    with _drawn(source.seed):
        made = _tried(lambda: models.get_model(name, **chosen), name)
    given = models.get_model_weights(name).DEFAULT.transforms()
    scale, resolution, fit = _preset_of(name, given)
    description = _description(f"torchvision {name}", source)
    return LoadedModel(_loaded(made, source), (3, resolution, resolution), scale, description, fit)


def _preset_of(name: str, given: Any) -> tuple[Scale, int, Fit]:
    """Mean and deviation, side of the window and fit of a preset of torchvision's."""
    kind = type(given).__name__
    if kind in ("VideoClassification", "OpticalFlow", "StereoMatching"):
        raise InputError(f"model: torchvision:{name} expects clips or pairs of frames ({kind}), not images")
    scale = (tuple(given.mean), tuple(given.std)) if hasattr(given, "mean") else UNIT
    resized = (getattr(given, "resize_size", None) or [RESOLUTION])[0]
    window = (getattr(given, "crop_size", None) or [resized])[0]
    way = getattr(given, "interpolation", None)
    return scale, window, Fit(resized / window, way.value if way is not None else "bilinear")


def _called(name: str, source: Source) -> LoadedModel:
    where, _, what = name.partition(":")
    if not (where and what):
        raise InputError(f"model: {name!r} is not allowed; MODULE:CALLABLE needs both, such as torch.nn:Identity")
    if where.endswith(".py"):
        module = ".".join(Path(where).with_suffix("").parts)
        raise InputError(f"model: {name!r} names a file; did you mean {f'{module}:{what}'!r}, from its folder?")
    function = getattr(_module(where, "MODULE:CALLABLE wants an importable module"), what, None)
    if not callable(function):
        raise InputError(f"model: {where} has no callable {what!r}")
    _none(source.weights if source.weights == PUBLISHED else "", "nothing is published for it; name a file")
    with _drawn(source.seed):
        model = _tried(function, f"{name}()")
    if not isinstance(model, nn.Module):
        raise InputError(f"model: {name}() gives a {type(model).__name__}, not a torch module")
    shape = (3, RESOLUTION, RESOLUTION)
    return LoadedModel(_loaded(model, source), shape, IMAGENET, _description(name, source))


def untrained(name: str, *, classes: int, seed: int) -> nn.Module:
    """A network by name with initial weights drawn from the seed, to be trained.

    Args:
        name: torchvision:NAME, timm:NAME, or MODULE:CALLABLE for a function without arguments, with classes of its own.
        classes: of a torchvision or timm network.
        seed: of the weights.

    Raises:
        InputError: for a network that does not exist or cannot be made.
    """
    return _foreign(name, Source(seed=seed), num_classes=classes).model


def _description(name: str, source: Source) -> str:
    published = "published weights" if source.weights == PUBLISHED else Path(source.weights).name
    return f"{name}, {published if source.weights else f'initial weights, seed {source.seed}'}"


def _module(name: str, how: str) -> Any:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # the code of a module may raise anything
        raise InputError(f"model: cannot import {name} ({error_line(error)}); {how}") from None


def _tried(make: Callable[[], Any], name: str) -> Any:
    """What other code makes, or its refusal in one line."""
    try:
        return make()
    except (Exception, SystemExit) as error:  # no network, no weights, arguments that are missing: in many ways
        raise InputError(f"model: {name} could not be made ({error_line(error)})") from None


@contextmanager
def _drawn(seed: int) -> Iterator[None]:
    """Libraries draw initial weights from torch's own generator: seeded for them, and put back."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, "weights"))
        yield


def _loaded(model: nn.Module, source: Source) -> nn.Module:
    """The model with the state of a file, strictly."""
    if source.weights not in ("", PUBLISHED):
        weights.load_state(model, source.weights, source.strip)
    return model


def batches(subject: LoadedModel, name: str, count: int, batch: int, seed: int = 0) -> Iterator[Tensor]:
    """At most `count` images as the network expects them.

    Of a data set by name (its validation split), an .npz of labelled images, a folder of image files, or random bytes.

    Raises:
        InputError: for data that are none of these, cannot be read, or have other channels.
    """
    channels, height, width = subject.shape
    if name != NOISE and not Path(name).exists():
        one = name if name.startswith("imagefolder:") else one_of("data", name, (*data.NAMES[:-1], NOISE))
        shown = data.load(one, options=DataOptions(resolution=height))
        _same_channels(one, shown.facts.channels, channels)
        yield from _first(shown.evaluation("validation", batch), count)
        return
    for part in _bytes(subject, name, count, batch, seed):
        _same_channels(name, part.shape[1], channels)
        fitting = part if part.shape[2:] == (height, width) else image_files.resized(part, (height, width))
        yield image_files.normalised(fitting, subject.scale if channels == len(subject.scale[0]) else GREY)


def check_forward(subject: LoadedModel, device: torch.device) -> None:
    """Run the network once on zeros, before anything is attached to it.

    Raises:
        InputError: where its own code raises.
    """
    try:
        with torch.inference_mode(), torch.random.fork_rng():
            subject.model(torch.zeros((1, *subject.shape), device=device))
    except Exception as error:  # whatever the code of a network may raise
        size = "x".join(map(str, subject.shape))
        raise InputError(f"model: its forward pass of an image of {size} raised {error_line(error)}") from None


def _same_channels(name: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise InputError(f"data: {name} has {found} channels, the model wants {wanted}")


def _bytes(subject: LoadedModel, name: str, count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Images as bytes: noise batch by batch, or those of a file or a folder."""
    if name == NOISE:
        rng = stream(seed, "pictures")
        for start in range(0, count, batch):
            size = (min(batch, count - start), *subject.shape)
            yield torch.randint(0, 256, size, generator=rng, dtype=torch.uint8)
    elif Path(name).is_file():
        yield from image_files.load_images(Path(name)).x[:count].split(batch)
    elif subject.fit is None:
        raise InputError(
            f"data: {subject.description} expects padded images, which the reader does not make; give an .npz"
        )
    else:
        yield from image_files.folder(Path(name), count, subject.shape[1:], subject.fit).split(batch)


def _first(found: Iterator[tuple[Tensor, Tensor]], count: int) -> Iterator[Tensor]:
    """So many images of batches."""
    for x, _ in found:
        yield x[:count]
        count -= len(x)
        if count <= 0:
            return
