"""Training steps on a CPU: three passes in place of torch's own, the same to rounding, and bit for bit from run to run.

Batch norm and the activation behind it become one compiled function, which goes through a batch once where torch does
it thrice; a 1x1 convolution of small maps becomes a product of matrices: both for 32-bit channels-last batches on one
thread. The gradient in the weights of a depthwise 3x3 convolution becomes sums of products where torch's own takes far
longer than the rest: on maps of 1x1 and 2x2. Whatever else is asked for is left to torch: other precisions, layouts and
devices, evaluation, a pass without gradients, modules with hooks or a replaced forward, compilation and tracing.
"""

import functools
import importlib
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.modules import module as torch_modules
from torch.utils import _python_dispatch

WORTH = 1 << 14
"""Numbers of a batch from which on a compiled pass pays."""
SMALL = 1 << 13
"""Positions of a batch up to which a 1x1 convolution is faster as a product of matrices."""
LANES = 128
"""Numbers that a norm's loops run over at most, where several positions are taken together."""
LINEAR_ENDS = (1.0, math.inf)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_on = [True]


@contextmanager
def plain_layers() -> Iterator[None]:
    """Leave everything to torch inside the context."""
    _on.append(False)
    try:
        yield
    finally:
        _on.pop()


def _is_on() -> bool:
    """Whether anything may be taken from torch: a compiler is to see torch's own functions only."""
    return not torch.compiler.is_compiling() and _on[-1]


def is_untouched(layer: nn.Module) -> bool:
    """Whether calling a module is calling its class's forward and nothing else."""
    own = any(getattr(layer, name) for name in HOOKS)
    anywhere = any(getattr(torch_modules, f"_global{name}") for name in HOOKS)
    return not (own or anywhere or "forward" in vars(layer))


def is_fast(x: Any) -> bool:
    """Whether compiled passes may take a batch."""
    return (
        _is_on()
        and type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.ndim == 4
        and x.numel() >= WORTH
        and x.is_contiguous(memory_format=torch.channels_last)
        and torch.get_num_threads() == 1
        and _is_plain_step()
    )


def _is_plain_step() -> bool:
    """Whether gradients are recorded, and nothing else looks on or works with other numbers."""
    others = (
        torch.is_autocast_enabled("cpu"),
        torch.jit.is_tracing(),
        torch._C._are_functorch_transforms_active(),
        _python_dispatch._get_current_dispatch_mode() is not None,
        forward_ad._current_level >= 0,
    )
    return torch.is_grad_enabled() and not any(others)


def norm_and_activation(norm: nn.Module, act: nn.Module, x: Tensor) -> Tensor:
    """`act(norm(x))`, as one pass where it can be.

    `act.ends` is the slope below zero and the largest value of an activation that is the identity between; None, or no
    such property, for any other.
    """
    if not (is_fast(x) and _is_plain_norm(norm)):
        return act(norm(x))
    ends = getattr(act, "ends", None) if is_untouched(act) else None
    y: Tensor = NormActivation.apply(x, norm.weight, norm.bias, norm, ends or LINEAR_ENDS)
    return y if ends else act(y)


def _is_plain_norm(norm: nn.Module) -> bool:
    """Whether it is a batch norm that learns from the batch and follows it, as torch's is by default."""
    if type(norm) is not nn.BatchNorm2d or not norm.training or not is_untouched(norm):
        return False
    return norm.affine and norm.running_mean is not None and norm.momentum is not None


def _matrix(x: Tensor) -> Any:
    """A channels-last batch as the rows that a norm's loops take, without a copy."""
    channels, together = x.shape[1], 1
    positions = x.numel() // channels
    while 2 * together * channels <= LANES and positions % (2 * together) == 0:
        together *= 2
    lanes = together * channels
    return x.detach().as_strided((positions // together, lanes), (lanes, 1)).numpy()


class NormActivation(torch.autograd.Function):
    """Batch norm over a batch, then y = z for 0 < z < top, slope z below, top above; ends are slope and top."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d, ends: tuple[float, float]
    ) -> Tensor:
        """Compute y, and move the running statistics as torch's batch norm does."""
        assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
        y, found = torch.empty_like(x), np.empty((4, x.shape[1]), np.float32)
        vectors = (weight, bias, norm.running_mean, norm.running_var)
        learned = tuple([part.detach().numpy() for part in vectors])
        numbers = (norm.eps, norm.momentum, *ends)
        _kernel().forward(_matrix(x), learned, numbers, _matrix(y), found)
        norm.num_batches_tracked.add_(1)
        ctx.save_for_backward(x, weight, bias)
        ctx.found, ctx.numbers = found, numbers
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients in x, weight and bias."""
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_again((x, weight, bias), ctx.numbers, dy), None, None
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx, vectors = torch.empty_like(x), (torch.empty_like(weight), torch.empty_like(bias))
        gradients = (_matrix(dx), vectors[0].numpy(), vectors[1].numpy())
        _kernel().backward(_matrix(x), _matrix(dy), ctx.found, ctx.numbers, gradients)
        return dx, *vectors, None, None


@functools.cache
def _kernel() -> Any:
    """The compiled passes, whose compiler is loaded by those who need it."""
    return importlib.import_module("manifold_lab.models.norm_kernel")


def _again(
    inputs: tuple[Tensor, Tensor, Tensor], numbers: tuple[float, float, float, float], dy: Tensor
) -> list[Tensor | None]:
    """Gradients in x, weight and bias by torch's own functions, which can be differentiated again."""
    epsilon, _, slope, top = numbers
    y = functional.batch_norm(inputs[0], None, None, *inputs[1:], training=True, eps=epsilon)
    if slope != 1:
        y = functional.hardtanh(y, 0.0, top) if slope == 0 else functional.leaky_relu(y, slope)
    found = iter(torch.autograd.grad(y, [one for one in inputs if one.requires_grad], dy, create_graph=True))
    return [next(found) if one.requires_grad else None for one in inputs]


def convolution(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """The convolution of a batch that needs no further padding."""
    if layer.bias is not None or not layer.training or not _is_on():
        return nn.Conv2d.forward(layer, x)
    if _is_pointwise(layer) and is_fast(x) and x.numel() // x.shape[1] <= SMALL:
        weight = layer.weight.permute(0, 2, 3, 1).flatten(1)  # so that its gradient lies in memory as it does
        return functional.linear(x.permute(0, 2, 3, 1), weight).permute(0, 3, 1, 2)
    if not (_is_depthwise(layer) and _is_tiny(x, layer.stride[0]) and _is_plain_step()):
        return nn.Conv2d.forward(layer, x)
    y: Tensor = TinyDepthwise.apply(x, layer.weight, layer.stride[0])
    return y


def _is_pointwise(layer: nn.Conv2d) -> bool:
    """Whether it is a matrix for every position."""
    shape = (layer.kernel_size, layer.stride, layer.padding, layer.groups)
    return shape == ((1, 1), (1, 1), (0, 0), 1)


def _is_depthwise(layer: nn.Conv2d) -> bool:
    """Whether it is depthwise, 3x3, with one pixel of padding, and no more."""
    shape = (layer.kernel_size, layer.padding, layer.dilation, layer.padding_mode)
    depthwise = layer.groups == layer.in_channels == layer.out_channels
    return depthwise and shape == ((3, 3), (1, 1), (1, 1), "zeros") and layer.stride in ((1, 1), (2, 2))


def _is_tiny(x: Any, stride: int) -> bool:
    """Whether torch's gradient in the weights is slow: on a CPU, for maps of 1x1, 2x2, and 3x3 with stride 2."""
    return type(x) is Tensor and x.device.type == "cpu" and x.ndim == 4 and max(x.shape[2:]) <= 1 + stride


class TinyDepthwise(torch.autograd.Function):
    """A depthwise 3x3 convolution with one pixel of padding: its gradient in each weight is a sum of products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """Convolve, as torch does."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return functional.conv2d(x, weight, None, stride, 1, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients in x and weight; both can be differentiated again."""
        (x, weight), stride = ctx.saved_tensors, ctx.stride
        dx = torch.ops.aten.convolution_backward(
            dy, x, weight, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], x.shape[1], [True, False, False]
        )[0]
        # as the weight lies in memory: DDP asks for it
        dw = torch.empty_like(weight).copy_(_tap_gradients(x, dy, stride))
        return dx, dw, None


def _tap_gradients(x: Tensor, dy: Tensor, stride: int) -> Tensor:
    """Gradients in the weights (channels, 1, 3, 3): each sums over the pixels whose tap is no padding."""
    found = []
    for down, right in itertools.product(range(-1, 2), repeat=2):
        rows = _inside(x.shape[2], dy.shape[2], stride, down)
        columns = _inside(x.shape[3], dy.shape[3], stride, right)
        found.append((x[:, :, rows[0], columns[0]] * dy[:, :, rows[1], columns[1]]).sum((0, 2, 3)))
    return torch.stack(found, 1).view(-1, 1, 3, 3)


def _inside(inputs: int, outputs: int, stride: int, shift: int) -> tuple[slice, slice]:
    """The inputs that a tap meets, and the outputs that they belong to."""
    first = 1 if shift < 0 else 0
    last = max(first, min(outputs, (inputs - 1 - shift) // stride + 1))
    return slice(first * stride + shift, max(0, last * stride + shift - stride + 1), stride), slice(first, last)
