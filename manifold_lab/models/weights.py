"""Trained weights in and out: strictly, by an explicit table of names, and without running code from a file.

Our own format is safetensors under our own names. The widely used PyTorch layout (`features.2.conv.0.0.weight`) is read
and written through a table, so that trained networks of ours open in code that expects it.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from manifold_lab.core.config import canonical_json
from manifold_lab.core.errors import InputError, SourceError, one_of
from manifold_lab.core.files import publish
from manifold_lab.models.mobilenet import Network, build, channels_last
from manifold_lab.models.specs import NetworkSpec, from_fields, stages

URLS = {"mobilenet_v2": "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"}
"""Published weights by name; the last eight hexadecimal digits of a file's name begin its SHA-256."""
PUBLISHED_WIDTH = 1.0
HASHED = re.compile(r"-(?=[0-9]*[a-f])([0-9a-f]{8,64})$")
"""A hash at a name's end, as torch.hub has it; digits alone, such as a date, are none unless the file is a published
one."""
SHOWN = 3


def pytorch_names(spec: NetworkSpec) -> dict[str, str]:
    """Our module names -> those of the widely used layout, convolution by convolution and norm by norm.

    Raises:
        InputError: for a spec whose blocks that layout cannot hold.
    """
    if spec.block in ("classic", "sandglass") or spec.shortcut == "projected":
        raise InputError(f"layout: block {spec.block} with shortcut {spec.shortcut} has no place in the PyTorch layout")
    table = {"stem.conv": "features.0.0", "stem.norm": "features.0.1"}
    plan = stages(spec)
    for i, stage in enumerate(plan):
        ours, theirs = f"blocks.{i}", f"features.{i + 1}"
        if spec.block == "separable":
            table |= _pair(f"{ours}.depthwise", f"{theirs}.0") | _pair(f"{ours}.project", f"{theirs}.1")
            continue
        first = 1 if stage.expands else 0
        if stage.expands:
            table |= _pair(f"{ours}.expand", f"{theirs}.conv.0")
        table |= _pair(f"{ours}.depthwise", f"{theirs}.conv.{first}")
        table |= {
            f"{ours}.project.conv": f"{theirs}.conv.{first + 1}",
            f"{ours}.project.norm": f"{theirs}.conv.{first + 2}",
        }
    if spec.last_channels:
        table |= _pair("last", f"features.{len(plan) + 1}")
    return table | {"classifier": "classifier.1" if spec.last_channels else "classifier"}


def _pair(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.conv": f"{theirs}.0", f"{ours}.norm": f"{theirs}.1"}


def _renamed(state: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename modules; a key whose module is not in the table keeps its name, to be refused as surplus."""
    split = {key: key.rpartition(".") for key in state}
    return {f"{table.get(module, module)}.{field}": state[key] for key, (module, _, field) in split.items()}


def to_pytorch_layout(network: Network) -> dict[str, Tensor]:
    """The network's state under the names of the widely used layout.

    Raises:
        InputError: as `names`.
    """
    return _renamed(network.state_dict(), pytorch_names(network.spec))


def from_pytorch_layout(spec: NetworkSpec, state: Mapping[str, Tensor]) -> Network:
    """A network with a copy of this state, strictly, in evaluation mode.

    Raises:
        InputError: for a missing or surplus key, a wrong shape, or numbers of another type than our own (float32; int64
            for the norms' counts), so that no precision is lost or made up unsaid; nothing is loaded then.
    """
    return _loaded(spec, _renamed(state, {theirs: ours for ours, theirs in pytorch_names(spec).items()}))


def _loaded(spec: NetworkSpec, state: dict[str, Tensor]) -> Network:
    network = build(spec)
    wanted = network.state_dict()
    types = _unlike(wanted, state, lambda value: str(value.dtype).removeprefix("torch."))
    found = _listed(_problems(wanted, state) | {"of another type": types})
    if found:
        raise SourceError(f"weights: these are not of this network; {found}")
    network.load_state_dict({key: value.detach().clone() for key, value in state.items()}, assign=True)
    return channels_last(network).eval()


def _problems(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """The keys that only one of two states has, and those whose tensors have another shape."""
    missing, surplus = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = _unlike(wanted, state, lambda value: str(tuple(value.shape)))
    return {"missing": missing, "surplus": surplus, "of another shape": shapes}


def _unlike(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], of: Callable[[Tensor], str]) -> list[str]:
    """The keys of both whose tensors differ in something, and how."""
    pairs = [(key, of(state[key]), of(value)) for key, value in wanted.items() if key in state]
    return [f"{key} is {one}, not {other}" for key, one, other in pairs if one != other]


def _listed(problems: Mapping[str, Sequence[str]]) -> str:
    """How many keys have each problem, and the first of them; empty where there is none."""
    return "; ".join(f"{len(keys)} {kind}: {', '.join(keys[:SHOWN])}" for kind, keys in problems.items() if keys)


def read_state(path: str | Path, strip: str = "") -> dict[str, Tensor]:
    """The tensors of a file of weights by name, without running code from it.

    Args:
        path: a .safetensors file, or what `torch.save(model.state_dict(), path)` writes.
        strip: is taken away from the beginning of the names, such as "module." of a DataParallel model.

    Raises:
        InputError: for a file that is missing or damaged, that holds a pickled model or a whole training checkpoint, or
            of which no name begins so.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceError(f"weights: there is no file {path}")
    try:
        is_ours = path.suffix == ".safetensors"
        found = safetensors.torch.load_file(path) if is_ours else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # a broken file fails in as many ways as there are bytes
        problem = f"cannot be read ({type(error).__name__}); it is damaged or of another kind"
        if "Unsupported" in str(error):
            problem = (
                "holds a pickled model or other objects, and loading those would run code from the file; where the "
                "model's code is, save its state: torch.save(model.state_dict(), FILE)"
            )
        raise SourceError(f"weights: {path} {problem}") from None
    state = _only_tensors(path, found)
    if strip and not any(key.startswith(strip) for key in state):
        raise InputError(f"strip: no name in {path} begins with {strip!r}; the first is {next(iter(state), '')!r}")
    return {key.removeprefix(strip): value for key, value in state.items()}


def _only_tensors(path: Path, found: object) -> dict[str, Tensor]:
    if not isinstance(found, Mapping):
        raise SourceError(f"weights: {path} holds a {type(found).__name__}; it must be a state, tensors by name")
    if all(isinstance(value, Tensor) for value in found.values()):
        return dict(found)
    states = [key for key, value in found.items() if isinstance(value, Mapping) and value
              and all(isinstance(part, Tensor) for part in value.values())]  # fmt: skip
    if not states:
        raise SourceError(f"weights: {path} holds other things than tensors; it must be a state, tensors by name")
    raise SourceError(
        f"weights: {path} is a training checkpoint with a state under {' and '.join(map(repr, states))}; save the one "
        f"you mean: torch.save(torch.load({path.name!r}, weights_only=True)[{states[0]!r}], FILE)"
    )


def load_state(model: nn.Module, path: str | Path, strip: str = "") -> None:
    """Give any network the state of a file, strictly.

    Raises:
        InputError: as `read_state`, and for a state of another network, with the likely reason.
    """
    state = read_state(path, strip)
    try:
        model.load_state_dict(state)
    except Exception:  # a module may refuse in its own way
        problem = _differences(model.state_dict(), state)
        raise SourceError(f"weights: {path} is not a state of this model: {problem}") from None


def _differences(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """In one sentence, what another state has otherwise, and the remedy where it is a known one."""
    ends = zip(min(state, default=""), max(state, default=""), strict=False)
    common = "".join(one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], ends))
    prefix = common.rpartition(".")[0] + "."
    if len(wanted.keys() & {key.removeprefix(prefix) for key in state}) > len(wanted) / 2 > len(wanted.keys() & state):
        return f"every name begins with {prefix!r}; give --strip {prefix}"
    problems = _problems(wanted, state)
    missing, surplus, shapes = problems.values()
    if shapes and not (missing or surplus) and len({one.partition(" ")[0].rpartition(".")[0] for one in shapes}) == 1:
        return f"it has another head or first layer ({shapes[0]}); build the model with these sizes, as MODULE:CALLABLE"
    return _listed(problems)


def load_weights(spec: NetworkSpec, path: str | Path) -> Network:
    """A network from a file: ours (.safetensors) or the widely used layout (.pth, .pt), whose name may tell its hash.

    Raises:
        InputError: for a file that is missing, unreadable, of another hash than its name says, or of another network.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _loaded(spec, read_state(path))
    if path.is_file():
        _check_hash(path)
    return from_pytorch_layout(spec, read_state(path))


def _check_hash(path: Path) -> None:
    published = path.name in {Path(url).name for url in URLS.values()}
    named = path.stem.rpartition("-")[2] if published or HASHED.search(path.stem) else ""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(named):
        raise SourceError(
            f"weights: {path} has SHA-256 {digest[:8]}…, not the {named} at its name's end; fetch it again, or "
            "rename it if that is no hash"
        )


def open_weights(path: str | Path) -> Network:
    """A network from a file of `save_weights`, whose header tells its spec.

    Raises:
        InputError: as `load_weights`, and for a file of another origin.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            fields = json.loads((file.metadata() or {})["spec"])
            spec = from_fields(fields)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise SourceError(f"weights: {path} tells no network of ours ({type(error).__name__})") from None
    return load_weights(spec, path)


def save_weights(network: Network, path: str | Path) -> None:
    """Write the network as safetensors, its spec in the header: whole or not at all; a missing folder is made.

    Raises:
        InputError: if the folder or the disk refuses.
    """
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    content = safetensors.torch.save(state, metadata={"spec": canonical_json(network.spec)})
    publish(Path(path).parent, {Path(path).name: lambda scratch: scratch.write_bytes(content)})


def fetch_weights(spec: NetworkSpec, name: str) -> Network:
    """A network with published weights by name, downloaded once with its hash checked (torch.hub's loader).

    Raises:
        InputError: for an unknown name, or when there is no way to the file.
    """
    url = URLS[one_of("weights", name, URLS)]
    try:
        state = torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise SourceError(f"weights: could not fetch {url} ({error}); give the path of a file instead") from None
    return from_pytorch_layout(spec, state)


def mobilenet_v2(*, pretrained: bool = False, width: float = 1.0, seed: int = 0) -> Network:
    """The paper's MobileNetV2 for 1000 classes at 224 pixels.

    Args:
        pretrained: with the published ImageNet weights, fetched once, in evaluation mode; else with initial weights.
        width: of all channels. Published weights exist at width 1.0.
        seed: of the initial weights.

    Raises:
        InputError: for published weights at another width, or where they cannot be fetched.
    """
    spec = NetworkSpec(width=width)
    if not pretrained:
        return build(spec, seed)
    if width != PUBLISHED_WIDTH:
        raise InputError(f"width: {width:g} has no published weights; pretrained=True is allowed at width 1.0 only")
    return fetch_weights(spec, "mobilenet_v2")
