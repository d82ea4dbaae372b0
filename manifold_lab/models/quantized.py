"""A trained network in int8: post-training quantisation, run by the processor's own int8 kernels.

Weights are quantised per channel and activations per tensor, with the ranges that torch's default observers find on
images shown for calibration; a convolution takes its ReLU with it, a ReLU6 is an operator of its own.
"""

import copy
import warnings
from collections.abc import Iterable

import torch
import torch.fx
from jaxtyping import config as jaxtyping_config
from torch import Tensor, nn
from torch.nn import functional

from manifold_lab.core.errors import InputError
from manifold_lab.models.fold import folded
from manifold_lab.models.mobilenet import Network

ENGINES = ("x86", "fbgemm", "qnnpack")
"""Kernels by preference; which there are depends on the processor."""


def int8_engine() -> str:
    """The int8 kernels of this processor.

    Raises:
        InputError: where torch has none for it.
    """
    found = [engine for engine in ENGINES if engine in torch.backends.quantized.supported_engines]
    if not found:
        raise InputError(f"int8: this build of torch has no int8 kernels; one of {', '.join(ENGINES)} is needed")
    return found[0]


@torch.no_grad()
def quantized(network: Network, images: Iterable[Tensor]) -> nn.Module:
    """The network in int8, a model of its own on the CPU; the given one stays as it is.

    Args:
        network: a trained one, in evaluation mode.
        images: batches for calibration, normalised as the network's inputs are.

    Raises:
        InputError: for a network in training mode, no images, or a processor without int8 kernels.
    """
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx  # noqa: PLC0415  (a second)

    engine, shown = int8_engine(), list(images)
    if not shown:
        raise InputError("int8: no images to calibrate on; give at least one batch")
    torch.backends.quantized.engine = engine
    plain = _graph(folded(copy.deepcopy(network).cpu()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch will move these functions to another package
        ready = quantize_fx.prepare_fx(plain, get_default_qconfig_mapping(engine), (shown[0],))
        for x in shown:
            ready(x)
        return quantize_fx.convert_fx(ready)


def _graph(network: Network) -> torch.fx.GraphModule:
    """The network as a graph in which every convolution is followed by its ReLU in the form that torch can fuse."""
    checked = jaxtyping_config.jaxtyping_disable
    jaxtyping_config.update("jaxtyping_disable", True)  # what is traced is no tensor, which checks of shapes refuse
    try:
        traced = torch.fx.symbolic_trace(network)
    finally:
        jaxtyping_config.update("jaxtyping_disable", checked)
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and isinstance(traced.get_submodule(str(node.target)), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
        elif node.op == "call_method" and node.target == "relu":
            node.op, node.target = "call_function", functional.relu
    traced.recompile()
    return traced
