"""Functions of torch by what they do to the axes of the channels; names without the underscores around them."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Axes = tuple[int, ...]
Placed = list[tuple[Tensor, Axes | None]]


@dataclass(eq=False)
class Root:
    """A tensor that others are functions of, number by number."""

    made: weakref.ref[Tensor] | None = None

    def tensor(self) -> Tensor | None:
        """The tensor, as long as the network keeps it."""
        return None if self.made is None else self.made()


@dataclass(frozen=True, eq=False)
class Origin:
    """What is known of a tensor: where its channels are, and which numbers it is a function of, number by number."""

    axes: Axes | None = None
    """Dimensions that together count the channels; empty after all channels were averaged, None where unknown."""
    given: bool = False
    """Whether it is the network's own input, of which nothing has said yet where its channels are."""
    constant: bool = False
    """Whether it comes from parameters alone."""
    root: Root = field(default_factory=Root)
    """Equal roots: functions of the same tensor, number by number."""
    through: frozenset[str] = frozenset()
    """The activations that were applied since the root, by the names of their layers."""
    unlisted: frozenset[str] = frozenset()
    """Functions that are not linear and no known activation, applied since the last operator, with who called them."""
    gated: bool = False
    """Whether it is made of a product of different functions of the root, such as x * sigmoid(x)."""


_BINARY = ("add", "sub", "mul", "truediv", "div", "pow", "floordiv", "mod")
ELEMENTWISE = frozenset({
    *(prefix + name for prefix in ("", "r", "i") for name in _BINARY),
    *("true_divide", "multiply", "subtract", "divide", "rsub", "floor_divide", "remainder", "fmod", "neg", "negative"),
    *("positive", "pos", "abs", "absolute", "exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "square"),
    *("reciprocal", "sin", "cos", "tan", "atan", "arctan", "sinh", "cosh", "asinh", "erf", "erfc", "sign", "round"),
    *("floor", "ceil", "frac", "heaviside", "where", "maximum", "minimum", "fmax", "fmin", "clamp", "clip", "hypot"),
    *("clamp_min", "clamp_max", "relu", "relu6", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "sigmoid", "tanh"),
    *("leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "softplus", "hardtanh", "threshold", "hardshrink"),
    *("softshrink", "softsign", "logsigmoid", "log_sigmoid", "tanhshrink", "gt", "lt", "ge", "le", "eq", "ne"),
    *("greater", "less", "logical_and", "logical_or", "logical_not", "and", "or", "invert", "isnan", "isinf"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"),
    *("clone", "contiguous", "detach", "to", "type", "type_as", "float", "half", "double", "bfloat16", "cuda", "cpu"),
    *("addcmul", "addcdiv", "lerp", "nan_to_num", "masked_fill", "data", "alias", "copy"),
    *("requires_grad", "fill", "bernoulli", "expand_as", "xlogy", "logit", "erfinv", "sinc", "real"),
})  # fmt: skip
"""The axes stay where they are, as far as broadcasting lets them."""
PRODUCTS = frozenset({"mul", "rmul", "imul", "multiply", "div", "truediv", "itruediv", "true_divide", "divide"})
NONLINEAR = frozenset({
    "abs", "absolute", "exp", "expm1", "log", "log1p", "log2", "sqrt", "square", "pow", "rpow", "ipow", "sin", "cos",
    "tan", "atan", "arctan", "sinh", "cosh", "asinh", "erf", "erfc", "sign", "heaviside", "minimum", "fmax", "fmin",
    "where", "hypot", "gt", "lt", "ge", "le", "reciprocal", "sinc",
})  # fmt: skip
"""Functions of single numbers that are not affine, and no activation that is known."""
CREATORS = frozenset({
    "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "new_zeros", "new_ones",
    "new_empty", "new_full", "new_tensor",
})  # fmt: skip
MOVED = frozenset({
    "view", "reshape", "flatten", "unflatten", "permute", "transpose", "swapaxes", "swapdims", "t", "T", "mT", "H",
    "mH", "adjoint", "movedim", "moveaxis", "squeeze", "unsqueeze", "expand", "repeat", "repeat_interleave", "tile",
    "getitem", "narrow", "select", "index_select", "chunk", "split", "split_with_sizes", "unsafe_chunk", "unbind",
    "tensor_split", "unfold", "gather", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "reshape_as", "view_as",
    "diagonal", "ravel", "squeeze_copy", "take_along_dim", "atleast_1d", "broadcast_to",
})  # fmt: skip
REDUCED = frozenset({
    "mean", "sum", "amax", "amin", "max", "min", "var", "std", "norm", "logsumexp", "prod", "median", "var_mean",
    "std_mean", "nansum", "nanmean", "aminmax", "argmax", "argmin", "vector_norm", "linalg_vector_norm",
})  # fmt: skip
_SPATIAL = tuple(
    (name.format(k), k)
    for k in (1, 2, 3)
    for name in ("max_pool{}d", "avg_pool{}d", "adaptive_avg_pool{}d", "adaptive_max_pool{}d", "lp_pool{}d",
                 "max_pool{}d_with_indices", "adaptive_max_pool{}d_with_indices", "fractional_max_pool{}d")
)  # fmt: skip
KEPT: dict[str, int] = {
    **dict(_SPATIAL), "interpolate": 0, "upsample": 0, "pad": 0, "roll": 0, "flip": 0, "cat": 0, "concat": 0,
    "concatenate": 0, "stack": 0, "local_response_norm": 0, "sort": 0, "topk": 0, "glu": 0, "softmax": 0,
    "log_softmax": 0, "softmin": 0, "normalize": 0, "cumsum": 0, "rms_norm": 0
}  # fmt: skip
"""The number of dimensions stays, and so do the axes, which must not lie in so many of the last dimensions."""


def _behind(k: int) -> Callable[[Tensor], Axes]:
    return lambda y: (y.dim() - k - 1,)


OPERATORS: dict[str, Callable[[Tensor], Axes]] = {
    **{f"{name}{k}d": _behind(k) for k in (1, 2, 3) for name in ("conv", "conv_transpose")},
    **dict.fromkeys(("linear", "bilinear", "embedding", "embedding_bag", "lstm", "gru", "rnn_tanh", "rnn_relu",
                     "multi_head_attention_forward", "native_multi_head_attention"), _behind(0)),
}  # fmt: skip
"""Functions that make channels, and where."""
NORMALISED = frozenset({"batch_norm", "instance_norm", "group_norm", "layer_norm"})


def tensors(value: object) -> Iterator[Tensor]:
    """All tensors in what a function was given or gave."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            if not isinstance(part, int | float | str | slice):
                yield from tensors(part)
    elif isinstance(value, dict):
        yield from tensors(tuple(value.values()))


def broadcast_axes(placed: Placed, dimensions: int) -> Axes | None:
    """The axes of a result that is broadcast to so many dimensions; None where the sources do not agree."""
    if any(axes is None for _, axes in placed):
        return None
    found = {tuple(axis + dimensions - x.dim() for axis in axes) for x, axes in placed if axes}
    if len(found) == 1:
        return found.pop()
    return None if found or not placed else ()


def behind_norm(args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str, placed: Placed, y: Tensor) -> Axes | None:
    """Behind a norm: it has a weight for each channel, and so says where they are."""
    if name != "layer_norm":
        return (1,)
    shape = kwargs["normalized_shape"] if "normalized_shape" in kwargs else args[1]
    return (y.dim() - 1,) if len(shape) == 1 else broadcast_axes(placed[:1], y.dim())


def kept(name: str, placed: Placed, y: Tensor) -> Axes | None:
    """Behind pools, resizes, padding and concatenation."""
    if name == "stack":
        return None
    axes = broadcast_axes(placed, y.dim())
    if name == "local_response_norm" or axes is None:
        return axes
    crossed = any(axis >= y.dim() - KEPT[name] for axis in axes)
    return None if crossed or any(own and x.dim() != y.dim() for x, own in placed) else axes


def reduced(args: tuple[Any, ...], kwargs: Mapping[str, Any], placed: Placed, y: Tensor) -> Axes | None:
    """Behind a mean, a sum, a maximum over some dimensions."""
    if not placed or placed[0][1] is None:
        return None
    x, axes = placed[0]
    asked = kwargs.get("dim", kwargs.get("axis", next((a for a in args[1:] if _dimensions(a)), None)))
    if asked is None:
        return ()
    gone = {axis % x.dim() for axis in (asked if isinstance(asked, tuple | list) else (asked,))}
    left = tuple(axis for axis in axes or () if axis not in gone)
    return left if y.dim() == x.dim() else tuple(axis - sum(one < axis for one in gone) for axis in left)


def _dimensions(value: object) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, tuple | list) and len(value) > 0)
