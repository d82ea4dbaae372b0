"""A trained network made ready to run: batch norms folded into their convolutions, then compiled."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from manifold_lab.core.errors import InputError
from manifold_lab.models.mobilenet import ConvNormAct, Network


def folded(network: Network) -> Network:
    """A copy in evaluation mode whose batch norms are part of their convolutions: the same function to rounding.

    Raises:
        InputError: for a network in training mode, whose statistics still move.
    """
    if network.training:
        raise InputError("fold: the network is in training mode, whose statistics still move; call eval() first")
    twin = copy.deepcopy(network)
    for layer in twin.modules():
        if isinstance(layer, ConvNormAct) and isinstance(layer.norm, nn.BatchNorm2d):
            layer.conv = fuse_conv_bn_eval(layer.conv, layer.norm)
            layer.norm = nn.Identity()
    return twin


def compiled_network(network: Network) -> Callable[[Tensor], Tensor]:
    """The folded network, compiled: the fast way to logits. The first call of every new shape takes its time.

    Raises:
        InputError: as `folded`.
    """
    return torch.compile(folded(network))
