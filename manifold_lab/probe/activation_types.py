"""Which activation a module or a call of a function applies, decided by its parameters, and not by its class alone.

An entry of `MODULES` or `FUNCTIONS` reads the parameters and gives an `Activation` (its window says which outputs are
active) or, for an activation whose active outputs cannot be counted with one interval, with the reason in words.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from manifold_lab.activations import ACTIVATIONS, EVERYWHERE, NOWHERE, POSITIVE, Activation, bisect, leaky_relu

Found = Activation | str
"""A known activation, or why the active outputs of this one are not counted."""
RELU, RELU6 = ACTIVATIONS["relu"], ACTIVATIONS["relu6"]
IDENTITY = ACTIVATIONS["identity"]
WITHOUT_CLIPS = {(0.0, math.inf): RELU, (-math.inf, math.inf): IDENTITY}
SEVERAL_SIGNS = "slopes of several signs: its channels have different active outputs"
NO_INTERVAL = "its active outputs are no interval"
BOUND_UNKNOWN = "its bounds are no numbers"


def no_inverse(_y: Tensor) -> Tensor:
    """The inverse of an activation for which none is written down.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError


def _gate(name: str, function: Callable[[Tensor], Tensor]) -> Activation:
    """An activation u * g(u) with 1/2 <= g <= 1 for u > 0, which folds below 0."""
    return Activation(name, function, POSITIVE, inverse=functools.partial(bisect, function), folds=True)


def clipped(low: int | float, high: int | float) -> Activation:
    """Identity between two clips."""
    if (low, high) in WITHOUT_CLIPS:
        return WITHOUT_CLIPS[low, high]
    return Activation("hardtanh", lambda u: u.clamp(low, high), (float(low), float(high)))


def sloped(slopes: Tensor) -> Found:
    """The identity for u > 0 and slope * u below, of one slope for all channels or one for each."""
    if bool((slopes == 0).all()):
        return RELU
    if bool((slopes > 0).all()):
        low = float(slopes.min())
        return leaky_relu(low) if low == float(slopes.max()) else Activation("prelu", _first, EVERYWHERE, no_inverse)
    if bool((slopes < 0).all()):
        return Activation("prelu", torch.abs, NOWHERE, no_inverse, folds=True)
    return SEVERAL_SIGNS


def _first(u: Tensor) -> Tensor:
    return u


def exponential(alpha: int | float) -> Found:
    """ELU and CELU: alpha * (exp(u) - 1) below 0."""
    if alpha == 0:
        return RELU
    if alpha < 0:
        return "a negative alpha: it folds"
    return Activation("elu", lambda u: functional.elu(u, alpha), EVERYWHERE,
                      lambda y: torch.where(y < 0, torch.log1p(y / alpha), y))  # fmt: skip


def threshold(cut: int | float, value: int | float) -> Found:
    """The identity above the cut, one value elsewhere."""
    if value > cut:
        return "its value lies among the outputs that it lets through"
    return Activation("threshold", lambda u: functional.threshold(u, cut, value), (float(cut), math.inf))


SIGMOID = Activation("sigmoid", torch.sigmoid, EVERYWHERE, torch.logit)
SMOOTH: dict[str, Activation] = {
    "GELU": ACTIVATIONS["gelu"],
    "GELUTanh": _gate("gelu_tanh", lambda u: functional.gelu(u, approximate="tanh")),
    "QuickGELU": _gate("quick_gelu", lambda u: u * torch.sigmoid(1.702 * u)),
    **dict.fromkeys(("SiLU", "Swish", "SwishMe"), ACTIVATIONS["silu"]),
    **dict.fromkeys(("Hardswish", "HardSwish", "HardSwishMe"), ACTIVATIONS["hardswish"]),
    **dict.fromkeys(("Mish", "MishMe"), _gate("mish", functional.mish)),
    **dict.fromkeys(("HardMish", "HardMishMe"), _gate("hard_mish", lambda u: u / 2 * (u + 2).clamp(0, 2))),
    "Sigmoid": SIGMOID,
    "Tanh": ACTIVATIONS["tanh"],
    **dict.fromkeys(("Hardsigmoid", "HardSigmoid", "HardSigmoidMe"),
                    Activation("hardsigmoid", functional.hardsigmoid, (-3.0, 3.0), lambda y: 6 * y - 3)),
    "Softplus": Activation("softplus", functional.softplus, EVERYWHERE, no_inverse),
    "Softsign": Activation("softsign", lambda u: functional.softsign(u.clamp(-1e300, 1e300)), EVERYWHERE,
                           lambda y: y / (1 - y.abs())),
    "LogSigmoid": Activation("logsigmoid", functional.logsigmoid, EVERYWHERE, lambda y: -torch.log(torch.expm1(-y))),
    "Tanhshrink": Activation("tanhshrink", functional.tanhshrink, EVERYWHERE, no_inverse),
    "SELU": Activation("selu", functional.selu, EVERYWHERE, no_inverse),
    "ReLU": RELU,
    "ReLU6": RELU6,
}  # fmt: skip
"""Activations without parameters, of torch and timm, by the names of their classes."""


PLAIN: dict[str, Found] = {**SMOOTH, **dict.fromkeys(("Hardshrink", "Softshrink"), NO_INTERVAL)}
"""All types without parameters."""


def _gelu(approximate: str) -> Found:
    return SMOOTH["GELUTanh" if approximate == "tanh" else "GELU"]


def _leaky(*slopes: int | float) -> Found:
    """One slope, or two between which slopes are drawn."""
    return sloped(torch.tensor(slopes, dtype=torch.float64))


Rule = tuple[str, Mapping[str, Any], Callable[..., Found]]
PARAMETRIC: dict[str, Rule] = {
    "GELU": ("gelu", {"approximate": "none"}, _gelu),
    "Hardtanh": ("hardtanh", {"min_val": -1.0, "max_val": 1.0}, clipped),
    "LeakyReLU": ("leaky_relu", {"negative_slope": 0.01}, _leaky),
    "PReLU": ("prelu", {"weight": None}, lambda weight: sloped(weight.detach())),
    "RReLU": ("rrelu", {"lower": 1 / 8, "upper": 1 / 3}, _leaky),
    "ELU": ("elu", {"alpha": 1.0}, exponential),
    "CELU": ("celu", {"alpha": 1.0}, exponential),
    "Threshold": ("threshold", {"threshold": None, "value": None}, threshold),
}
"""Types with parameters, by the names of their classes: the function that does the same, the names of the module's
attributes and of the function's arguments behind the first, with their defaults, and the activation from their
values."""


def of_module(module: nn.Module) -> Found | None:
    """The activation of a module; None for one that is no (known) activation.

    A module with an attribute `activation` that is an `Activation` of this package is known by it.
    """
    own = getattr(module, "activation", None)
    if isinstance(own, Activation):
        return None if own.name == "identity" else own if own.window is not None else "its window is not given"
    kind = type(module).__name__
    found = PLAIN.get(kind)
    if kind in PARAMETRIC:
        _, parameters, find = PARAMETRIC[kind]
        found = find(*(getattr(module, name, default) for name, default in parameters.items()))
    return None if found is IDENTITY else found


def _bounds(low: Any = None, high: Any = None) -> Found:
    """Clips of clamp and maximum, each None, a number or a tensor of one number."""
    ends = (-math.inf if low is None else _number(low), math.inf if high is None else _number(high))
    return BOUND_UNKNOWN if any(map(math.isnan, ends)) else clipped(*ends)


def _number(value: Any) -> float:
    """A number, or NaN for what is none."""
    one = not isinstance(value, Tensor) or (value.numel() == 1 and not value.is_meta)
    return float(value) if one else math.nan


def _always(found: Found) -> Callable[[], Found]:
    return lambda: found


FUNCTIONS: dict[str, Rule] = {
    **{kind.lower(): (kind, {}, _always(found)) for kind, found in PLAIN.items() if hasattr(nn, kind)},
    "log_sigmoid": ("LogSigmoid", {}, _always(PLAIN["LogSigmoid"])),
    **{name: (kind, parameters, find) for kind, (name, parameters, find) in PARAMETRIC.items()},
    **dict.fromkeys(("clamp", "clip"), ("clamp", {"min": None, "max": None}, _bounds)),
    "clamp_min": ("clamp", {"min": None}, _bounds),
    "clamp_max": ("clamp", {"max": None}, lambda high: _bounds(None, high)),
    "maximum": ("maximum", {"other": math.nan}, _bounds),
}
"""Functions that are activations, by name: the type that the table says, the arguments behind the first with their
defaults, and the activation from their values."""
CLIPS = ("clamp", "clip", "clamp_min", "clamp_max", "maximum")
"""Functions that serve other ends too: activations only where they act on features."""


def of_call(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, Found]:
    """The type and the activation of a call of a function of `FUNCTIONS`."""
    kind, parameters, find = FUNCTIONS[name]
    given = {**parameters, **dict(zip(parameters, args[1:], strict=False)), **kwargs}
    return kind, find(*(given[parameter] for parameter in parameters))
