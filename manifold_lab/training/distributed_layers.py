"""A network whose batch is spread over several processes, as if one of them had it whole.

Gradients are averaged by torch's DistributedDataParallel. Two kinds of layers look beyond a single image, and act
here on the global batch: batch norm takes its mean and variance over it (as torch's SyncBatchNorm does, which is for
GPUs only), and dropout draws the mask of the whole of it and takes its own part.
"""

import contextlib
import functools
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from manifold_lab.core.errors import InputError
from manifold_lab.data.interface import part
from manifold_lab.training.distributed import Ranks


@contextlib.contextmanager
def shared_batch(model: nn.Module, ranks: Ranks, batch_size: int) -> Iterator[nn.Module]:
    """The model for training steps of a global batch; it is given back as it was."""
    if ranks.size == 1:
        yield model
        return
    whole = next((type(layer).__name__ for layer in model.modules() if getattr(layer, "whole_batch", False)), None)
    if whole is not None:
        raise InputError(f"processes: {whole} needs the whole batch in one process; train this network in one")
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    dropouts = [layer for layer in model.modules() if isinstance(layer, nn.Dropout)]
    for norm in norms:
        norm.forward = functools.partial(_normalised, norm)  # type: ignore[method-assign]
    for dropout in dropouts:
        dropout.forward = functools.partial(_dropped, dropout, ranks, batch_size)  # type: ignore[method-assign]
    try:
        with warnings.catch_warnings():  # newer releases of torch name the same option otherwise
            warnings.simplefilter("ignore", FutureWarning)
            parallel = DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
        yield parallel
    finally:
        for layer in (*norms, *dropouts):
            del layer.forward


def _dropped(layer: nn.Dropout, ranks: Ranks, batch_size: int, x: Tensor) -> Tensor:
    """Dropout by this process's part of the global batch's mask."""
    if not layer.training or layer.p == 0:
        return x
    kept = functional.dropout(x.new_ones(batch_size, *x.shape[1:]), layer.p)
    return x * kept[part(batch_size, ranks.share)]


def _normalised(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Batch norm over the global batch in training, and as ever in evaluation."""
    if not norm.training:
        return type(norm).forward(norm, x)
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    mean, variance, count = _moments(wide)
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            share = 1 / norm.num_batches_tracked if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, share)
            norm.running_var.lerp_(variance * (count / (count - 1)), share)
    scale = torch.rsqrt(variance + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -mean * scale if norm.bias is None else norm.bias - mean * scale
    scale, shift = (values.view(1, -1, *(1,) * (x.ndim - 2)) for values in (scale, shift))
    return torch.addcmul(shift, wide, scale).to(x.dtype)


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and number of values per channel over all processes, from each one's own (Chan et al. 1979)."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    own = torch.stack([x.mean(axes), x.var(axes, correction=0), x.new_full((x.shape[1],), x.numel() / x.shape[1])])
    means, variances, counts = _Gathered.apply(own).unbind(1)
    count = counts.sum(0)
    mean = (means * counts).sum(0) / count
    variance = ((variances + (means - mean) ** 2) * counts).sum(0) / count
    return mean, variance, count


class _Gathered(torch.autograd.Function):
    """A tensor of every process, stacked; the gradient of one's own is the sum of what all of them have of it."""

    @staticmethod
    def forward(_ctx: Any, own: Tensor) -> Tensor:
        every = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(every, own)
        return torch.stack(every)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        distributed.all_reduce(gradient)
        return gradient[distributed.get_rank()]
