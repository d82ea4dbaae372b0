"""The nonlinearities under test, by name, each with what can be undone of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from manifold_lab.core.errors import InputError, one_of

Map = Callable[[Tensor], Tensor]
INFINITY = math.inf


def _identity(u: Tensor) -> Tensor:
    return u


@dataclass(frozen=True)
class Activation:
    """A scalar function applied to every channel.

    `window` is the open interval of inputs that can be read back, because no other input gives the same output; (0, 0)
    says that there is none, None that it is not known. `inverse` undoes the function on it. `slopes` are the left and
    right slope of u -> slope * u, where it is one (positively homogeneous). `folds` tells that outside the window the
    function is not flat but takes values twice: then Lemma 2's criterion is sufficient, not exact.
    """

    name: str
    function: Map
    window: tuple[float, float] | None = None
    inverse: Map = _identity
    slopes: tuple[float, float] | None = None
    folds: bool = False

    def __call__(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Apply the function.

        Raises:
            InputError: if a finite input gives NaN or infinity, or the shape changes.
        """
        y = self.function(u)
        if self.name not in ACTIVATIONS:
            _check(self.name, u, y)
        return y

    @property
    def outputs(self) -> tuple[float, float]:
        """The open interval of outputs that the window gives.

        Raises:
            InputError: if `window` was not given for this activation.
        """
        if self.window is None:
            raise InputError(f"activation: {self.name} does not say which inputs can be read back; give window=...")
        low, high = self.function(torch.tensor(self.window, dtype=torch.float64)).tolist()
        return low, high

    def is_active(self, y: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """Which outputs have exactly one preimage: 0 < y for ReLU, 0 < y < 6 for ReLU6.

        Raises:
            InputError: if `window` was not given for this activation.
        """
        low, high = self.outputs
        return (y > low) & (y < high)


def _check(name: str, u: Tensor, y: object) -> None:
    if not isinstance(y, Tensor) or y.shape != u.shape or not y.is_floating_point():
        raise InputError(f"activation: {name} must return a floating-point tensor of its input's shape")
    bad = ~torch.isfinite(y)
    if bad.any():
        raise InputError(f"activation: {name}({u[bad][0].item():.4g}) is {y[bad][0].item()}; it must be finite")


def bisected(function: Map) -> Map:
    """The inverse on y > 0 of a gate u * g(u) with 1/2 <= g(u) <= 1 for u > 0: the preimage lies between y and 2y."""

    def inverse(y: Tensor) -> Tensor:
        low, high = y, 2 * y
        for _ in range(60):
            middle = (low + high) / 2
            below = function(middle) < y
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    return inverse


POSITIVE = (0.0, INFINITY)
EVERYWHERE = (-INFINITY, INFINITY)
NOWHERE = (0.0, 0.0)
LEAK = 0.01


def leaky_relu(slope: float) -> Activation:
    """U for u > 0, slope * u below; injective for every slope above zero.

    Args:
        slope: on the left, above 0.
    """
    return Activation(
        "leaky_relu",
        lambda u: functional.leaky_relu(u, slope),
        EVERYWHERE,
        inverse=lambda y: torch.where(y < 0, y / slope, y),
        slopes=(slope, 1.0),
    )


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("identity", _identity, EVERYWHERE, slopes=(1.0, 1.0)),
        Activation("relu", torch.relu, POSITIVE, slopes=(0.0, 1.0)),
        Activation("relu6", functional.relu6, (0.0, 6.0)),
        leaky_relu(LEAK),
        Activation("gelu", functional.gelu, POSITIVE, inverse=bisected(functional.gelu), folds=True),
        Activation("silu", functional.silu, POSITIVE, inverse=bisected(functional.silu), folds=True),
        Activation("hardswish", functional.hardswish, POSITIVE, inverse=bisected(functional.hardswish), folds=True),
        Activation("tanh", torch.tanh, EVERYWHERE, inverse=torch.atanh),
        Activation("abs", torch.abs, NOWHERE, slopes=(-1.0, 1.0), folds=True),
    )
}


def named(name: str) -> Activation:
    """Look an activation up.

    Raises:
        InputError: for an unknown name, with the nearest one and the whole list.
    """
    return ACTIVATIONS[one_of("activation", name, ACTIVATIONS)]


def custom(name: str, function: Map, **properties: object) -> Activation:
    """Wrap any callable on tensors; what `properties` (fields of `Activation`) do not say is taken as unknown.

    >>> custom("softplus", functional.softplus)(torch.zeros(1, dtype=torch.float64))
    tensor([0.6931], dtype=torch.float64)

    Raises:
        InputError: if the name belongs to a built-in activation, or the function fails on a first try.
    """
    if name in ACTIVATIONS:
        raise InputError(f"activation: the name {name!r} belongs to a built-in activation; give another one")
    activation = Activation(name, function, **properties)  # type: ignore[arg-type]
    activation(torch.linspace(-8, 8, 33, dtype=torch.float64))
    return activation
