"""Domains of the library's functions: each check returns its argument ready to compute with, or refuses it in one line.

The checks raise an InputError, which is a ValueError.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from manifold_lab.core.errors import InputError

ROUNDING = 1e-6
"""By so much a computed probability or angle may leave its range."""
HALVES = (torch.float16, torch.bfloat16)


def _refuse(field: str, value: object, allowed: str) -> InputError:
    shown = " ".join(str(value).split())
    return InputError(f"{field}: {shown[:60]}{'…' * (len(shown) > 60)} is not allowed; it must be {allowed}")


def whole(field: str, value: Any, low: int | None = None) -> int:
    """A whole number, of at least `low` where one is given.

    Raises:
        InputError: for anything else, 2.0 among it.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or (low is not None and int(value) < low):
        raise _refuse(field, value, "a whole number" + ("" if low is None else f" of at least {low}"))
    return int(value)


def number(
    field: str, value: Any, low: int | float = -math.inf, high: int | float = math.inf, *, above: bool = False
) -> float:
    """A finite number from `low` to `high`; `above` excludes `low`.

    Raises:
        InputError: for anything else.
    """
    given = float(value) if isinstance(value, Real) else math.nan
    if not (math.isfinite(given) and low <= given <= high) or (above and given == low):
        raise _refuse(field, value, f"a finite number{_range(low, high, above)}")
    return given


def _range(low: int | float, high: int | float, above: bool = False) -> str:
    least = f"above {low:g}" if above else f"of at least {low:g}"
    bounds = [least] * (low > -math.inf) + [f"at most {high:g}"] * (high < math.inf)
    return f" {' and '.join(bounds)}" if bounds else ""


def values(field: str, given: Any, *, ndim: int | None = None, least: int = 0) -> Float[np.ndarray, "*shape"]:
    """Real numbers as float64, NaN and infinity among them.

    Args:
        field: the argument's name.
        given: numbers, in whatever container.
        ndim: dimensions that it must have.
        least: elements that it must have.

    Raises:
        InputError: for another shape, or what is not real numbers.
    """
    found = given.detach().cpu().double().numpy() if isinstance(given, Tensor) and not given.is_complex() else given
    try:
        found = np.asarray(found)
    except (ValueError, TypeError, RuntimeError):
        raise _refuse(field, f"a {type(given).__name__}", "an array of real numbers") from None
    if found.size and found.dtype.kind not in "buif":
        raise _refuse(field, f"an array of {found.dtype}", "one of real numbers")
    if (ndim is not None and found.ndim != ndim) or found.size < least:
        dimensions = "" if ndim is None else f"{ndim}-dimensional"
        allowed = " ".join(filter(None, (dimensions, f"with at least {least} values")))
        raise _refuse(field, f"shape {found.shape}", allowed)
    return found.astype(np.float64)


def array(
    field: str, given: Any, low: int | float = -math.inf, high: int | float = math.inf, *, ndim: int | None = None
) -> Float[np.ndarray, "*shape"]:
    """Finite numbers from `low` to `high`, which rounding may have left by `ROUNDING`, as float64.

    Raises:
        InputError: for anything else.
    """
    found = values(field, given, ndim=ndim)
    outside = ~(np.isfinite(found) & (found >= low - ROUNDING) & (found <= high + ROUNDING))
    if outside.any():
        raise _refuse(field, found[outside][0], f"finite{' and' * (low > -math.inf)}{_range(low, high)}")
    return found


def probability(field: str, given: Any, *, ndim: int | None = None) -> Float[np.ndarray, "*shape"]:
    """Numbers from 0 to 1; what rounding has moved outside is moved back.

    Raises:
        InputError: for anything else.
    """
    return np.asarray(array(field, given, 0, 1, ndim=ndim).clip(0, 1))


def flags(field: str, x: Any, shape: str) -> Shaped[Tensor, "*shape"]:
    """A tensor of bool with these dimensions, as in `tensor`.

    Raises:
        InputError: for anything else.
    """
    return _shaped(field, x, shape, "bool", lambda kind: kind == torch.bool)


def tensor(field: str, x: Any, shape: str, *, finite: bool = True) -> Shaped[Tensor, "*shape"]:
    """A tensor of finite real numbers with these dimensions; whole numbers become float64, half precision float32.

    Args:
        field: the argument's name.
        x: the argument.
        shape: names of the dimensions, each with its least size where that is not one: "points:2 channels"; a first
            "*" stands for any number of further dimensions.
        finite: refuse NaN and infinity.

    Raises:
        InputError: for anything else.
    """
    found = _shaped(field, x, shape, "real numbers", lambda kind: not kind.is_complex and kind != torch.bool)
    if not found.is_floating_point():
        return found.double()
    if finite and not bool(torch.isfinite(found.detach()).all()):
        raise InputError(f"{field}: NaN or infinity is not allowed; every number must be finite")
    return found.float() if found.dtype in HALVES else found


def _shaped(field: str, x: Any, shape: str, kind: str, fits: Callable[[torch.dtype], bool]) -> Tensor:
    names = shape.split()
    batched = names[0] == "*"
    sizes = [(name, int(least or 1)) for name, _, least in (one.partition(":") for one in names[batched:])]
    wanted = f"a tensor of {kind}, ({', '.join(['...'] * batched + [name for name, _ in sizes])})"
    wanted += "".join(f", with at least {least} {name}" for name, least in sizes if least > 1)
    if not isinstance(x, Tensor):
        raise _refuse(field, f"a {type(x).__name__}", wanted)
    if not fits(x.dtype):
        raise _refuse(field, str(x.dtype), wanted)
    last = tuple(x.shape[len(x.shape) - len(sizes) :])
    right = x.ndim >= len(sizes) if batched else x.ndim == len(sizes)
    if not right or x.numel() == 0 or any(size < least for size, (_, least) in zip(last, sizes, strict=True)):
        raise _refuse(field, f"shape {tuple(x.shape)}", wanted)
    return x


def same_length(names: str, *parts: Sequence[object] | Tensor | np.ndarray) -> None:
    """Refuse arguments that are not of one length.

    Raises:
        InputError: naming them.
    """
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise _refuse(names, f"lengths {', '.join(map(str, lengths))}", "of one length")


def unit_scale(x: Shaped[Tensor, "*shape"]) -> tuple[Shaped[Tensor, "*shape"], int]:
    """Numbers over 2^e, which brings the largest to [1/2, 1), and e: squares then neither vanish nor overflow.

    A power of two changes no digit, so that numbers of an ordinary size give the results that they gave unscaled.
    """
    exponent = int(torch.frexp(x.detach().abs().amax()).exponent)
    half = exponent // 2  # in two steps: 2^-e itself may overflow
    return x * 2.0**-half * 2.0 ** (half - exponent), exponent
