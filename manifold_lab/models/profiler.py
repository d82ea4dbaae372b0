"""What a torch network costs, watched on a real forward pass: parameters, multiply-adds, shapes, memory.

A multiply-add (MAdd) is one multiplication with its addition: convolutions and linear layers, without biases; norms are
stated apart, as one MAdd per element. Hooks always go away, also when the forward pass fails.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from manifold_lab.core.errors import InputError
from manifold_lab.core.hooks import attached
from manifold_lab.models.layers import Activate

COUNTING_CONVENTION = (
    "MAdds: multiply-adds of convolutions and linear layers for one image, twice that are FLOPs; norms are counted "
    "apart, one per element, and not included."
)
"""What every table of costs says in its caption."""
OPERATOR_LAYERS = (nn.Conv2d, nn.Linear)
NORM_LAYERS = (nn.BatchNorm2d, nn.GroupNorm)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerProfile:
    """One module as a forward pass met it: shapes without the batch, parameters, MAdds per image."""

    name: str
    module: nn.Module
    inputs: Shape
    outputs: Shape

    @property
    def parameters(self) -> int:
        """Its own parameters, biases included."""
        return sum(parameter.numel() for parameter in self.module.parameters(recurse=False))

    @property
    def madds(self) -> int:
        """Products summed over all outputs: 0 for anything but a convolution or a linear layer."""
        if not isinstance(self.module, OPERATOR_LAYERS):
            return 0
        return math.prod(self.outputs) * math.prod(self.module.weight.shape[1:])

    @property
    def norm_madds(self) -> int:
        """Scale and shift of a norm, one per element."""
        return self.output_elements if isinstance(self.module, NORM_LAYERS) else 0

    @property
    def elements(self) -> int:
        """Numbers that go in and come out: what Equation 2 charges the operator with, without its weights."""
        return self.input_elements + self.output_elements

    @property
    def input_elements(self) -> int:
        """Numbers that go in."""
        return math.prod(self.inputs)

    @property
    def output_elements(self) -> int:
        """Numbers that come out."""
        return math.prod(self.outputs)


@contextmanager
def _idle(model: nn.Module) -> Iterator[None]:
    """Within the context norms and activations give back what they are given; hooks on them still run."""
    found = [module for module in model.modules() if isinstance(module, (*NORM_LAYERS, Activate))]
    try:
        for module in found:
            vars(module)["forward"] = nn.Identity().forward
        yield
    finally:
        for module in found:
            vars(module).pop("forward", None)


def profile(
    model: nn.Module, shape: Sequence[int], kinds: tuple[type[nn.Module], ...] = OPERATOR_LAYERS + NORM_LAYERS
) -> list[LayerProfile]:
    """One forward pass of a batch of one, of this shape, in evaluation mode, wherever the model's parameters live.

    A model on the meta device is walked through without computing anything, and with norms and activations that do
    nothing: they keep shapes, and would take nearly all of the time. Training mode is put back.

    Raises:
        InputError: if no module of these kinds was reached.
    """
    seen: list[LayerProfile] = []

    def note(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        out = output[0] if isinstance(output, tuple) else output
        seen.append(LayerProfile(name, module, tuple(inputs[0].shape[1:]), tuple(out.shape[1:])))

    like, training = next(model.parameters()), model.training
    wanted = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    hooks = (module.register_forward_hook(functools.partial(note, name)) for name, module in wanted)
    try:
        with attached(hooks), torch.no_grad(), _idle(model if like.is_meta else nn.Identity()):
            model.eval()(torch.zeros((1, *shape), dtype=like.dtype, device=like.device))
    finally:
        model.train(training)
    if not seen:
        raise InputError(f"model: no {' or '.join(kind.__name__ for kind in kinds)} was reached by the forward pass")
    return seen


@dataclass(frozen=True)
class Cost:
    """Totals of one forward pass of one image."""

    parameters: int
    norm_parameters: int
    madds: int
    norm_madds: int


def cost(seen: Sequence[LayerProfile]) -> Cost:
    """Sum up what was watched."""
    norms = [one for one in seen if isinstance(one.module, NORM_LAYERS)]
    return Cost(
        sum(one.parameters for one in seen),
        sum(one.parameters for one in norms),
        sum(one.madds for one in seen),
        sum(one.norm_madds for one in norms),
    )
