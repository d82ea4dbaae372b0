"""The nonlinearities under test, by name, each with what can be undone of it."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manifold_lab.core.errors import InputError, one_of
from manifold_lab.core.lazy import lazy_function

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any  # commands list the activations in their help, before torch is loaded

Map = Callable[[Tensor], Tensor]
INFINITY = math.inf


def _call(name: str, u: Tensor, *options: float) -> Tensor:
    from torch.nn import functional  # noqa: PLC0415  (an import statement, which torch.compile can trace)

    return getattr(functional, name)(u, *options)


def _method(name: str, u: Tensor) -> Tensor:
    return getattr(u, name)()


def _functional(name: str) -> Map:
    """A function of torch.nn.functional, imported when it is called; other processes can be sent it."""
    return functools.partial(_call, name)


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

    def __repr__(self) -> str:
        return f"<Activation {self.name}>"

    def __call__(self, u: Tensor) -> Tensor:
        """Apply the function to every element.

        Raises:
            InputError: if a finite input gives NaN or infinity, or the shape changes.
        """
        y = self.function(u)
        if self.name not in ACTIVATIONS:
            _check(self.name, u, y)
        return y

    @property
    def rectifies(self) -> bool:
        """Whether it is ReLU, clipped above or not: the identity on a window that begins at zero, and flat outside."""
        return self.window is not None and self.window[0] == 0 and self.reads_back_itself and not self.folds

    @property
    def reads_back_itself(self) -> bool:
        """Whether an output that can be read back is its own input."""
        return self.inverse is _identity

    @functools.cached_property
    def outputs(self) -> tuple[float, float]:
        """The open interval of outputs that the window gives.

        Raises:
            InputError: if `window` was not given for this activation.
        """
        if self.window is None:
            raise InputError(f"activation: {self.name} does not say which inputs can be read back; give window=...")
        import torch  # noqa: PLC0415

        low, high = self.function(torch.tensor(self.window, dtype=torch.float64)).tolist()
        return low, high

    def is_active(self, y: Tensor) -> Tensor:
        """Which outputs have exactly one preimage, as booleans of y's shape: 0 < y for ReLU, 0 < y < 6 for ReLU6.

        Raises:
            InputError: if `window` was not given for this activation.
        """
        low, high = self.outputs
        return (y > low) & (y < high)


def _check(name: str, u: Tensor, y: object) -> None:
    import torch  # noqa: PLC0415

    if not isinstance(y, torch.Tensor) or y.shape != u.shape or not y.is_floating_point():
        raise InputError(f"activation: {name} must return a floating-point tensor of its input's shape")
    bad = ~torch.isfinite(y)
    if bad.any():
        raise InputError(f"activation: {name}({u[bad][0].item():.4g}) is {y[bad][0].item()}; it must be finite")


def _gate_inverse(function: Map, end: float) -> Map:
    """Inverse on y > 0 of a gate u * g(u) with 1/2 <= g(u) <= 1 for u > 0, where g(u) is 1 to rounding from `end` on.

    On the CPU it is a table of polynomials (`core.tabulated`), made by bisection at the first call.
    """

    @functools.cache
    def coefficients() -> Any:
        import torch  # noqa: PLC0415

        return lazy_function("manifold_lab.core.tabulated.tabulate")(
            lambda y: bisect(function, torch.from_numpy(y)).numpy(), end
        )

    def inverse(y: Tensor) -> Tensor:
        if y.device.type != "cpu":
            return bisect(function, y)
        flat = y.detach().double().contiguous().view(-1)
        result = flat.new_empty(flat.shape)
        lazy_function("manifold_lab.core.tabulated.evaluate_table")(coefficients(), flat.numpy(), result.numpy())
        return result.view(y.shape).to(y.dtype)

    return inverse


def bisect(function: Map, y: Tensor) -> Tensor:
    """The u between y and 2y with function(u) = y: of a gate u * g(u) with 1/2 <= g(u) <= 1 for u > 0, where y > 0."""
    low, high = y, 2 * y
    for _ in range(60):
        middle = (low + high) / 2
        below = function(middle) < y
        low, high = middle.where(below, low), high.where(below, middle)
    return (low + high) / 2


def _hardswish_inverse(y: Tensor) -> Tensor:
    """Inverse on y > 0 of u (u + 3) / 6 below u = 3 and of u above, in a form without cancellation."""
    return y.where(y >= 3, 12 * y / (3 + (9 + 24 * y).clamp_min(0).sqrt()))


POSITIVE = (0.0, INFINITY)
EVERYWHERE = (-INFINITY, INFINITY)
NOWHERE = (0.0, 0.0)
LEAK = 0.01


def leaky_relu(slope: float) -> Activation:
    """The function u for u > 0, slope * u below; injective for every slope above zero.

    Args:
        slope: on the left, above 0.
    """
    return Activation(
        "leaky_relu",
        lambda u: _call("leaky_relu", u, slope),
        EVERYWHERE,
        inverse=lambda y: y.where(y >= 0, y / slope),
        slopes=(slope, 1.0),
    )


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("identity", _identity, EVERYWHERE, slopes=(1.0, 1.0)),
        Activation("relu", functools.partial(_method, "relu"), POSITIVE, slopes=(0.0, 1.0)),
        Activation("relu6", _functional("relu6"), (0.0, 6.0)),
        leaky_relu(LEAK),
        Activation("gelu", _functional("gelu"), POSITIVE, inverse=_gate_inverse(_functional("gelu"), 9.0), folds=True),
        Activation("silu", _functional("silu"), POSITIVE, inverse=_gate_inverse(_functional("silu"), 40.0), folds=True),
        Activation("hardswish", _functional("hardswish"), POSITIVE, inverse=_hardswish_inverse, folds=True),
        Activation("tanh", functools.partial(_method, "tanh"), EVERYWHERE, inverse=functools.partial(_method, "atanh")),
        Activation("abs", functools.partial(_method, "abs"), NOWHERE, slopes=(-1.0, 1.0), folds=True),
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

    >>> import torch
    >>> custom("softplus", torch.nn.functional.softplus)(torch.zeros(1, dtype=torch.float64))
    tensor([0.6931], dtype=torch.float64)

    Raises:
        InputError: if the name belongs to a built-in activation, or the function fails on a first try.
    """
    if name in ACTIVATIONS:
        raise InputError(f"activation: the name {name!r} belongs to a built-in activation; give another one")
    activation = Activation(name, function, **properties)  # type: ignore[arg-type]
    import torch  # noqa: PLC0415

    activation(torch.linspace(-8, 8, 33, dtype=torch.float64))
    return activation
