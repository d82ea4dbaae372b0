"""Inference of a block in chunks of its expanded channels, so that the expanded tensor never exists whole.

Section 5.1 of MobileNetV2 (arXiv:1801.04381): F(x) = sum_i (A_i . N . B_i)(x). Equal to the unsplit block up to the
order of summation, at the same multiply-adds: every chunk keeps all inputs and outputs, unlike a grouped convolution.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from manifold_lab.core.errors import InputError, at_least
from manifold_lab.models.mobilenet import Block, ConvNormAct, Network, Sandglass


def chunks(channels: int, parts: int) -> list[slice]:
    """`channels` cut into at most `parts` runs of equal length, the last one shorter where it does not divide."""
    at_least("parts", parts, 1)
    length = -(-channels // parts)
    return [slice(start, min(start + length, channels)) for start in range(0, channels, length)]


def split_block(
    block: Block, x: Float[Tensor, "batch inputs height width"], parts: int
) -> Float[Tensor, "batch outputs high low"]:
    """The block's output, `parts` chunks of its expanded channels one after the other.

    Raises:
        InputError: for a block that mixes its expanded channels (a full 3x3 convolution, a group norm), one whose
            expanded tensor a shortcut needs whole, or one in training mode.
    """
    _check(block)
    conv, total = block.project.conv, None
    for part in chunks(block.stage.hidden, parts):
        inner = x[:, part] if block.expand is None else _part(block.expand, x, part, grouped=False)
        inner = _part(block.depthwise, inner, part, grouped=True)
        if total is None:
            batch, _, height, width = inner.shape
            total = inner.new_zeros((batch * height * width, block.stage.outputs))
        total.addmm_(inner.movedim(1, -1).flatten(0, -2), conv.weight[:, part].flatten(1).T)  # no second output held
    assert total is not None
    if conv.bias is not None:
        total += conv.bias
    y = total.view(batch, height, width, -1).movedim(-1, 1)
    return block.join(x, block.project.act(block.project.norm(y)))


def _part(layer: ConvNormAct, x: Tensor, part: slice, grouped: bool) -> Tensor:
    """Some output channels of a convolution, norm and activation; a depthwise one has as many inputs."""
    conv, norm = layer.conv, layer.norm
    bias = None if conv.bias is None else conv.bias[part]
    groups = part.stop - part.start if grouped else 1
    y = functional.conv2d(conv.pad(x), conv.weight[part], bias, conv.stride, conv.padding, groups=groups)
    if isinstance(norm, nn.BatchNorm2d):
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None
        y = functional.batch_norm(y, mean[part], variance[part], norm.weight[part], norm.bias[part], eps=norm.eps)
    return layer.act(y)


def _check(block: Block) -> None:
    if block.training:
        raise InputError("split: the block is in training mode, whose statistics need it whole; call eval() first")
    if isinstance(block, Sandglass) or block.depthwise.conv.groups != block.stage.hidden:
        raise InputError("split: this block's 3x3 convolution mixes channels; only inverted and separable ones split")
    if isinstance(block.depthwise.norm, nn.GroupNorm):
        raise InputError("split: a group norm mixes expanded channels; use norm batch or none")
    if block.stage.gives_wide:
        raise InputError("split: a shortcut between expansions needs the expanded tensor whole")


def split_forward(
    network: Network, x: Float[Tensor, "batch channels height width"], parts: int
) -> Float[Tensor, "batch classes"]:
    """Logits, every block split.

    Raises:
        InputError: as `split_block`.
    """
    with torch.no_grad():
        x = network.stem(x)
        for block in network.blocks:
            x = split_block(block, x, parts)
        return network.head(x if network.last is None else network.last(x))
