"""Which layers of a network can be looked into, by name and by kind, and which of their outputs are active."""

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from manifold_lab.core.errors import InputError
from manifold_lab.probe import names
from manifold_lab.probe.activation_types import of_module
from manifold_lab.probe.axis_rules import tensors

Window = tuple[float, float]
"""The open interval of outputs that are active: read back from the output, as in `activations.Activation.outputs`."""
CALLED = "()"
"""What the names of activations called as functions end in: "features.relu()"."""
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
OPERATOR_TYPES = (*CONVOLUTIONS, nn.Linear)
OTHER_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
"""Norms whose statistics are those of each example: no fixed map."""
NORM_TYPES = (nn.modules.batchnorm._BatchNorm, *OTHER_NORMS)


def is_batch_norm(module: object) -> bool:
    """Whether it is a batch norm: torch's of any kind, or a frozen one of torchvision or timm."""
    frozen = any(kind.__name__.startswith("FrozenBatchNorm") for kind in type(module).__mro__)
    return isinstance(module, nn.modules.batchnorm._BatchNorm) or frozen


@dataclass(frozen=True)
class Chosen:
    """What was asked for: kinds, and patterns of names with * and ?, as `choose` reads them."""

    patterns: tuple[str, ...]

    def name(self, name: str) -> bool:
        """Whether a pattern fits this name."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns if pattern not in names.LAYER_KINDS)

    def kind(self, kinds: Sequence[str]) -> bool:
        """Whether any of these kinds was asked for."""
        return any(kind in self.patterns for kind in kinds)


def kinds(module: nn.Module) -> tuple[str, ...]:
    """The kinds that a module has by itself; whether a norm is a bottleneck shows in a forward pass."""
    tests = {
        names.NONLINEARITY: of_module(module) is not None,
        names.CONVOLUTION: isinstance(module, CONVOLUTIONS),
        names.LINEAR_LAYER: isinstance(module, nn.Linear),
        names.NORM: isinstance(module, NORM_TYPES) or is_batch_norm(module),
        names.BLOCK_KIND: _holds_several(module) and not any(_holds_several(inner) for inner in _inside(module)),
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
    patterns = (layers,) if isinstance(layers, str) else tuple(layers)
    known = [name for name, _ in model.named_modules() if name]
    allowed = f"allowed: {', '.join(names.LAYER_KINDS)}, or names with * and ?"
    for pattern in patterns:
        there = pattern in names.LAYER_KINDS or CALLED in pattern or fnmatch.filter(known, pattern.partition("#")[0])
        if not there:
            example = known[-1] if known else "none"
            raise InputError(f"layers: {pattern!r} is no layer of this model; {allowed}, such as {example}")
    if not patterns:
        raise InputError(f"layers: none given; {allowed}")
    return Chosen(patterns)


def narrows(module: nn.Module) -> bool:
    """Whether it is a 1x1 convolution to fewer channels."""
    return isinstance(module, nn.Conv2d) and pointwise(module) and module.out_channels < module.in_channels


def pointwise(module: nn.Module) -> bool:
    """Whether Lemma 2 can speak of it: a linear map at each position alone, all channels to all channels."""
    if isinstance(module, CONVOLUTIONS):
        padded = not isinstance(module.padding, str) and any(module.padding)
        plain = set(module.kernel_size) == {1} and module.groups == 1 and not padded
        return plain and (not isinstance(module, TRANSPOSED) or set(module.stride) == {1})
    return isinstance(module, nn.Linear)


def first_tensor(value: object) -> Tensor | None:
    """The tensor that a module was given or gave: itself, or the first one inside."""
    return next(tensors(value), None)


def input_axis(operator: nn.Module, x: Tensor) -> int:
    """The place of the channels in the input of a convolution or linear layer."""
    return x.dim() - 1 - (len(operator.kernel_size) if isinstance(operator, CONVOLUTIONS) else 0)
