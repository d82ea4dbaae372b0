"""What is looked into: a network by name, from whatever source, and pictures as it wants them."""

import dataclasses
import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from manifold_lab import data
from manifold_lab.core.errors import InputError, one_of
from manifold_lab.core.random_streams import stream, stream_seed
from manifold_lab.data import DataOptions, image_files
from manifold_lab.data.image_files import IMAGENET, SYMMETRIC, Scale
from manifold_lab.models import weights
from manifold_lab.models.mobilenet import Network, build
from manifold_lab.models.specs import NETWORKS

PUBLISHED = "published"
NOISE = "random"
TIMM, TORCHVISION = "timm:", "torchvision:"
GREY: Scale = ((0.5,), (0.5,))
HELP = f"a preset ({', '.join(NETWORKS)}), {TIMM}NAME, {TORCHVISION}NAME, MODULE:CALLABLE, or the key of a stored run"


@dataclass(frozen=True)
class LoadedModel:
    """A network in evaluation mode and what it wants: shape of a picture, and how bytes are scaled."""

    model: nn.Module
    shape: tuple[int, int, int]
    scale: Scale
    words: str
    """What it is, for captions."""


def network(
    name: str, weight: str, *, resolution: int = 0, seed: int = 0, stored: Callable[[str], Network] | None = None
) -> LoadedModel:
    """A network by name; `weight` is a file, `published`, or nothing for initial weights drawn from the seed.

    `stored` opens a stored run by its key.

    A file or a store's run is never run as code; MODULE:CALLABLE is the user's own code and is.

    Raises:
        InputError: for what does not exist, is not installed, or does not fit.
    """
    if name.startswith((TIMM, TORCHVISION)):
        source = _timm if name.startswith(TIMM) else _torchvision
        found = source(name.partition(":")[2], weight, seed)
    elif ":" in name:
        found = _called(name, weight, seed)
    elif stored is not None and re.fullmatch(r"[0-9a-f]{16}", name):
        _none(weight, "a stored run has its own")
        found = _ours(stored(name), f"run {name}")
    else:
        found = _preset(one_of("model", name, NETWORKS), weight, seed)
    shape = (found.shape[0], resolution or found.shape[1], resolution or found.shape[2])
    found.model.eval()
    return dataclasses.replace(found, shape=shape)


def _preset(name: str, weight: str, seed: int) -> LoadedModel:
    spec = NETWORKS[name]
    if not weight:
        return _ours(build(spec, stream(seed, "weights")), f"{name}, initial weights, seed {seed}")
    made = weights.fetch_weights(spec, name) if weight == PUBLISHED else weights.load_weights(spec, Path(weight))
    return _ours(made, f"{name}, {_called_weights(weight)}")


def _called_weights(weight: str) -> str:
    return "published weights" if weight == PUBLISHED else Path(weight).name


def _ours(found: Network, words: str) -> LoadedModel:
    spec = found.spec
    shape = (spec.in_channels, spec.resolution, spec.resolution)
    scale = SYMMETRIC if spec.padding == "tensorflow" else IMAGENET
    return LoadedModel(found, shape, scale, words)


def _none(weight: str, why: str) -> None:
    if weight:
        raise InputError(f"weights: {weight} cannot be used here: {why}")


def _timm(name: str, weight: str, seed: int) -> LoadedModel:
    timm = _module("timm", "pip install timm")
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('.', maxsplit=1)[0][:6]}*")[:8]) or "see timm.list_models()"
        raise InputError(f"model: timm has no {name!r}; it has {near}")
    with _drawn(seed):
        model = _tried(lambda: timm.create_model(name, pretrained=weight == PUBLISHED), f"timm:{name}")
    known: dict[str, Any] = {"input_size": (3, 224, 224), "mean": IMAGENET[0], "std": IMAGENET[1]} | dict(
        getattr(model, "pretrained_cfg", None) or {}
    )
    scale = (tuple(known["mean"]), tuple(known["std"]))
    return LoadedModel(_loaded(model, weight), tuple(known["input_size"]), scale, _words(f"timm {name}", weight, seed))


def _torchvision(name: str, weight: str, seed: int) -> LoadedModel:
    models = _module("torchvision.models", "pip install 'manifold_lab[vision]'")
    one_of("model", name, models.list_models())
    with _drawn(seed):
        made = _tried(lambda: models.get_model(name, weights="DEFAULT" if weight == PUBLISHED else None), name)
    return LoadedModel(_loaded(made, weight), (3, 224, 224), IMAGENET, _words(f"torchvision {name}", weight, seed))


def _called(name: str, weight: str, seed: int) -> LoadedModel:
    where, _, what = name.partition(":")
    function = getattr(_module(where, "MODULE:CALLABLE wants an importable module"), what, None)
    if not callable(function):
        raise InputError(f"model: {where} has no callable {what!r}")
    _none(weight if weight == PUBLISHED else "", "nothing is published for it; name a file")
    with _drawn(seed):
        model = function()
    if not isinstance(model, nn.Module):
        raise InputError(f"model: {name}() gives a {type(model).__name__}, not a torch module")
    return LoadedModel(_loaded(model, weight), (3, 224, 224), IMAGENET, _words(name, weight, seed))


def untrained(name: str, *, classes: int, seed: int) -> nn.Module:
    """A network by name with initial weights drawn from the seed, to be trained.

    Args:
        name: torchvision:NAME, timm:NAME, or MODULE:CALLABLE for a function without arguments, with classes of its own.
        classes: of a torchvision or timm network.
        seed: of the weights.

    Raises:
        InputError: for a network that does not exist or cannot be made.
    """
    source, _, what = name.partition(":")
    with _drawn(seed):
        if f"{source}:" == TORCHVISION:
            models = _module("torchvision.models", "pip install 'manifold_lab[vision]'")
            one_of("model", what, models.list_models())
            return _tried(lambda: models.get_model(what, weights=None, num_classes=classes), name)
        if f"{source}:" == TIMM:
            timm = _module("timm", "pip install timm")
            return _tried(lambda: timm.create_model(what, pretrained=False, num_classes=classes), name)
    return _called(name, "", seed).model


def _words(name: str, weight: str, seed: int) -> str:
    return f"{name}, {_called_weights(weight) if weight else f'initial weights, seed {seed}'}"


def _module(name: str, how: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"model: cannot import {name} ({error}); {how}") from None


def _tried(make: Callable[[], Any], name: str) -> nn.Module:
    """What a library makes, or its refusal in one line."""
    try:
        made: nn.Module = make()
        return made
    except Exception as error:  # no network, no weights, a name that is none: as many ways as there are libraries
        told = " ".join(str(error).split())[:160]
        raise InputError(f"model: {name} could not be made ({type(error).__name__}: {told})") from None


@contextmanager
def _drawn(seed: int) -> Iterator[None]:
    """Libraries draw initial weights from torch's own generator: seeded for them, and put back."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, "weights"))
        yield


def _loaded(model: nn.Module, weight: str) -> nn.Module:
    """The model with the state of a file, strictly."""
    if weight in ("", PUBLISHED):
        return model
    path = Path(weight)
    if not path.is_file():
        raise InputError(f"weights: there is no file {path}")
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a broken or foreign file fails in as many ways as there are bytes
        told = " ".join(str(error).split())[:160]
        raise InputError(f"weights: {path} is not a state of this model ({type(error).__name__}: {told})") from None
    return model


def batches(subject: LoadedModel, name: str, count: int, batch: int, seed: int = 0) -> Iterator[Tensor]:
    """At most `count` pictures as the network wants them.

    Of a data set by name (its validation split), an .npz of `pictures`, a folder of picture files, or random bytes.

    Raises:
        InputError: for data that are none of these, or cannot be read.
    """
    channels, height, width = subject.shape
    if name != NOISE and not Path(name).exists():
        one = name if name.startswith("imagefolder:") else one_of("data", name, (*data.NAMES[:-1], NOISE))
        shown = data.load(one, options=DataOptions(resolution=height))
        if shown.facts.channels != channels:
            raise InputError(f"data: {one} has {shown.facts.channels} channels, the model wants {channels}")
        yield from _first(shown.evaluation("validation", batch), count)
        return
    if name == NOISE:
        rng = stream(seed, "pictures")
        x = torch.randint(0, 256, (count, channels, height, width), generator=rng, dtype=torch.uint8)
    else:
        x = (
            image_files.load_images(Path(name)).x
            if Path(name).is_file()
            else image_files.folder(Path(name), count, (height, width))
        )
    for part in x[:count].split(batch):
        fitting = part if part.shape[2:] == (height, width) else image_files.resized(part, (height, width))
        yield image_files.normalised(fitting, subject.scale if channels == len(subject.scale[0]) else GREY)


def _first(found: Iterator[tuple[Tensor, Tensor]], count: int) -> Iterator[Tensor]:
    """So many pictures of batches."""
    for x, _ in found:
        yield x[:count]
        count -= len(x)
        if count <= 0:
            return
