"""Which layers of a network can be looked into, by name and by kind, and which of their outputs are active."""

import fnmatch
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from manifold_lab.core.errors import InputError
from manifold_lab.models.mobilenet import LINEAR, Activate

Window = tuple[float, float]
"""The open interval of outputs that are active: read back from the output, as in `activations.Activation.outputs`."""
ALL_KINDS: Window = (-math.inf, math.inf)
CALLED = "()"
"""What the names of activations called as functions end in: "features.relu()"."""
POSITIVE_OUTPUTS: Window = (0.0, math.inf)
NONLINEARITY, BOTTLENECK, CONVOLUTION, LINEAR_LAYER, NORM, BLOCK_KIND = LAYER_KINDS = (
    "nonlinearity", "bottleneck", "convolution", "linear", "norm", "block",
)  # fmt: skip
"""What layers can be asked for by. `bottleneck`: the norm behind a 1x1 convolution to fewer channels, before any
activation. `block`: the smallest modules that hold several convolutions or linear layers."""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
OPERATOR_TYPES = (*CONVOLUTIONS, nn.Linear)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NORM_TYPES = (*BATCH_NORMS, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)
WINDOWS: dict[str, Window] = {
    **dict.fromkeys(("ReLU", "GELU", "SiLU", "Hardswish", "Mish", "Swish", "HardSwish", "HardMish", "GELUTanh",
                     "QuickGELU"), POSITIVE_OUTPUTS),
    "ReLU6": (0.0, 6.0),
    **dict.fromkeys(("Hardsigmoid", "HardSigmoid"), (0.0, 1.0)),
    **dict.fromkeys(("LeakyReLU", "PReLU", "RReLU", "ELU", "SELU", "CELU", "Sigmoid", "Tanh", "Softplus", "Softsign",
                     "LogSigmoid", "Tanhshrink"), ALL_KINDS),
}  # fmt: skip
"""Activation modules of torch and timm by the names of their classes. GELU and its kin fold: what lies in the window is
active for certain, and some of the rest could be read back too."""

FUNCTIONS: dict[Callable[..., Any], type[nn.Module]] = {
    **dict.fromkeys((functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), nn.ReLU),
    **dict.fromkeys((functional.sigmoid, torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_), nn.Sigmoid),
    **dict.fromkeys((functional.tanh, torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_), nn.Tanh),
    **dict.fromkeys((functional.leaky_relu, functional.leaky_relu_), nn.LeakyReLU),
    functional.relu6: nn.ReLU6,
    functional.gelu: nn.GELU,
    functional.silu: nn.SiLU,
    functional.mish: nn.Mish,
    functional.hardswish: nn.Hardswish,
    functional.hardsigmoid: nn.Hardsigmoid,
    functional.elu: nn.ELU,
    functional.selu: nn.SELU,
    functional.softplus: nn.Softplus,
}
"""Activations that networks call as functions, and the modules that do the same."""


def window(module: nn.Module) -> Window | None:
    """Which outputs of an activation are active; None for a module that is no (known) activation."""
    if isinstance(module, Activate):
        return None if module.name == LINEAR else module.activation.outputs
    if type(module) is nn.Hardtanh:
        return float(module.min_val), float(module.max_val)
    return WINDOWS.get(type(module).__name__)


@dataclass(frozen=True)
class Chosen:
    """What was asked for: kinds, and patterns of names with * and ?, as `sites.choose` understands them."""

    words: tuple[str, ...]

    def name(self, name: str) -> bool:
        """Whether a pattern fits this name."""
        return any(fnmatch.fnmatchcase(name, word) for word in self.words if word not in LAYER_KINDS)

    def kind(self, kinds: Sequence[str]) -> bool:
        """Whether any of these kinds was asked for."""
        return any(kind in self.words for kind in kinds)


def kinds(module: nn.Module) -> tuple[str, ...]:
    """The kinds that a module has by itself; whether a norm is a bottleneck shows in a forward pass."""
    tests = {
        NONLINEARITY: window(module) is not None,
        CONVOLUTION: isinstance(module, CONVOLUTIONS),
        LINEAR_LAYER: isinstance(module, nn.Linear),
        NORM: isinstance(module, NORM_TYPES),
        BLOCK_KIND: _holds_several(module) and not any(_holds_several(inner) for inner in _inside(module)),
    }
    return tuple(kind for kind, holds in tests.items() if holds)


def _inside(module: nn.Module) -> Iterator[nn.Module]:
    return (inner for inner in module.modules() if inner is not module)


def _holds_several(module: nn.Module) -> bool:
    plain = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    return not plain and sum(isinstance(inner, OPERATOR_TYPES) for inner in _inside(module)) > 1


def choose(model: nn.Module, layers: str | Sequence[str]) -> Chosen:
    """What `layers` asks for.

    Raises:
        InputError: for a word that is no kind and no name or pattern of a name in this model.
    """
    words = (layers,) if isinstance(layers, str) else tuple(layers)
    names = [name for name, _ in model.named_modules() if name]
    for word in words:
        if word not in LAYER_KINDS and CALLED not in word and not fnmatch.filter(names, word.partition("#")[0]):
            raise InputError(
                f"layers: {word!r} is no layer of this model; allowed: {', '.join(LAYER_KINDS)}, or names with * and "
                f"?, such as {names[-1] if names else 'none'}"
            )
    if not words:
        raise InputError(f"layers: none given; allowed: {', '.join(LAYER_KINDS)}, or names with * and ?")
    return Chosen(words)


def narrows(module: nn.Module) -> bool:
    """Whether it is a 1x1 convolution to fewer channels."""
    return isinstance(module, nn.Conv2d) and pointwise(module) and module.out_channels < module.in_channels


def pointwise(module: nn.Module) -> bool:
    """Whether Lemma 2 can speak of it: a linear map at each position alone, all channels to all channels."""
    if isinstance(module, CONVOLUTIONS):
        return set(module.kernel_size) == {1} and module.groups == 1 and not any(map(bool, _padding(module)))
    return isinstance(module, nn.Linear)


def _padding(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> tuple[int, ...]:
    return () if isinstance(module.padding, str) else tuple(module.padding)


def first_tensor(value: object) -> Tensor | None:
    """The tensor that a module was given or gave: itself, or the first one inside."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return next((found for part in value if (found := first_tensor(part)) is not None), None)
    return None


def channels_at(x: Tensor, operator: nn.Module | None) -> int:
    """The place of the channels among a tensor's dimensions, given the operator that it comes from.

    Second in pictures, last in vectors, tokens, and whatever a linear layer gives.
    """
    tokenwise = isinstance(operator, nn.LayerNorm) and not type(operator).__name__.endswith("2d")  # timm's LayerNorm2d
    last = isinstance(operator, nn.Linear) or tokenwise or x.dim() < 3
    tokens = x.dim() == 3 and not isinstance(operator, nn.Conv1d | nn.BatchNorm1d)
    return x.dim() - 1 if last or tokens else 1
