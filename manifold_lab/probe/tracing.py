"""Which 1x1 convolution and batch norm stand before an activation, found by watching one forward pass.

A module's input is traced to the module that gave that very tensor, so that it does not matter how a network is
written: in sequence, in attributes, with a norm that holds its activation (timm's BatchNormAct2d). A tensor that was
changed in place in between, such as by a shortcut's sum, is not taken for the norm's output.
"""

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from manifold_lab.probe import layer_types
from manifold_lab.probe.activation_types import of_module


@dataclass(frozen=True)
class Chain:
    """The operator before a layer (None where unknown) and the batch norm between, with their names."""

    operator: nn.Module | None = None
    norm: nn.Module | None = None
    operator_name: str = ""
    plain: bool = True
    """Whether there is nothing else in between."""

    @property
    def inputs(self) -> int | None:
        """The n of Lemma 2: input channels of a 1x1 convolution (or linear layer); None where it has no say."""
        if self.operator is None or not self.plain or not layer_types.pointwise(self.operator) or self.by_example:
            return None
        return int(getattr(self.operator, "in_channels", 0) or getattr(self.operator, "in_features", 0))

    @property
    def by_example(self) -> bool:
        """Whether the norm between takes its statistics from each example, so that the whole is no affine map."""
        return isinstance(self.norm, layer_types.OTHER_NORMS)

    @property
    def fixed(self) -> bool:
        """Whether norm and operator are one fixed affine map: not so in training mode, where the batch has a say."""
        return self.norm is None or (layer_types.is_batch_norm(self.norm) and batch_norm_scale(self.norm) is not None)


def batch_norm_scale(norm: nn.Module) -> Tensor | None:
    """What a batch norm multiplies each channel with, in float64; None where it uses the statistics of the batch."""
    variance, weight = getattr(norm, "running_var", None), getattr(norm, "weight", None)
    if variance is None or (norm.training and isinstance(norm, layer_types.NORM_TYPES)):
        return None
    scale = (variance.detach().double() + norm.eps).rsqrt()
    return scale if weight is None else scale * weight.detach().double()


def effective(chain: Chain) -> tuple[Tensor, Tensor]:
    """The matrix and the offset of the operator with its batch norm folded in, in float64.

    W' = diag(g / sqrt(v + eps)) W and b' = g (b - mean) / sqrt(v + eps) + beta.
    """
    operator, norm = chain.operator, chain.norm
    assert operator is not None and isinstance(operator.weight, Tensor)
    weight = operator.weight.detach().flatten(1).double()
    weight = weight.t() if isinstance(operator, layer_types.TRANSPOSED) else weight
    bias = operator.bias.detach().double() if isinstance(operator.bias, Tensor) else weight.new_zeros(len(weight))
    if norm is None:
        return weight, bias
    scale, mean, beta = batch_norm_scale(norm), norm.running_mean, norm.bias
    assert scale is not None and isinstance(mean, Tensor)
    offset = scale * (bias - mean.detach().double())
    return scale[:, None] * weight, offset + (beta.detach().double() if isinstance(beta, Tensor) else 0)


class Tracer:
    """Remembers, within one forward pass, where tensors come from."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[weakref.ref[Tensor], Tensor, Chain]] = {}
        self.inside: list[tuple[nn.Module, Chain]] = []

    def enter(self, module: nn.Module, x: Tensor | None) -> Chain:
        """What stands before a module that is about to act on `x`."""
        chain = self._origin(x)
        if chain is None and self.inside:
            chain = self.inside[-1][1]  # an activation inside a norm acts on what that norm has made
        if layer_types.is_batch_norm(module) or isinstance(module, layer_types.NORM_TYPES):
            before = chain if chain is not None and chain.norm is None else Chain()
            self.inside.append((module, Chain(before.operator, module, before.operator_name, before.plain)))
        return chain or Chain()

    def leave(self, module: nn.Module, name: str, y: Tensor | None, activates: bool = False) -> None:
        """Note what a module has made."""
        if self.inside and self.inside[-1][0] is module:
            _, chain = self.inside.pop()
            activated = any(True for _ in module.children())
            self._note(y, None if activated else chain)
        elif isinstance(module, layer_types.OPERATOR_TYPES):
            self._note(y, Chain(module, None, name))
        elif activates or of_module(module) is not None:
            self._note(y, None)

    def _note(self, y: Tensor | None, chain: Chain | None) -> None:
        if y is None:
            return
        self.made.pop(id(y), None)
        if chain is not None:
            self.made[id(y)] = (weakref.ref(y), _sample(y), chain)

    def _origin(self, x: Tensor | None) -> Chain | None:
        """The chain of the module that made this tensor, unless something has changed it since."""
        if x is None or id(x) not in self.made:
            return None
        found, sample, chain = self.made[id(x)]
        return chain if found() is x and torch.equal(sample, _sample(x)) else None


def _sample(x: Tensor) -> Tensor:
    """A few of a tensor's numbers, copied: enough to see that something was added to it."""
    flat = x.detach()
    while flat.dim() > 2:
        flat = flat[..., flat.shape[-1] // 2]
    return flat[:4].nan_to_num()
