"""Activations that a network writes out, such as x * relu6(x + 3) / 6, known by what they do to the numbers."""

import torch
from torch import Tensor

from manifold_lab.activations import Activation
from manifold_lab.probe.activation_types import SMOOTH

WRITTEN_OUT = ("ReLU", "SiLU", "Hardswish", "GELU", "GELUTanh", "QuickGELU", "Mish", "HardMish")
"""Activations that are products of their input with another function of it, the best known first."""
COMPARED = 1024
"""Numbers of a tensor that are compared."""
ROUNDINGS = 16
"""By so many roundings of its input's size, or of one, an output may differ from the activation's."""


def recognised(u: Tensor, y: Tensor) -> tuple[str, Activation] | None:
    """The kind and the activation that makes y of u, number by number, where there is one that is known.

    On a sample of the numbers, which must have both signs: on one side alone many activations are alike.
    """
    if u is y or u.shape != y.shape or not (u.is_floating_point() and y.is_floating_point()) or not u.numel():
        return None
    before, after = even_numbers(u), even_numbers(y)
    allowed = ROUNDINGS * max(torch.finfo(x.dtype).eps for x in (u, y)) * before.abs().clamp_min(1)
    if not (bool((before < 0).any()) and bool((before > 0).any())):
        return None
    excess = {kind: float(((SMOOTH[kind].function(before) - after).abs() / allowed).max()) for kind in WRITTEN_OUT}
    best = min(excess, key=lambda kind: excess[kind])
    return (best, SMOOTH[best]) if excess[best] <= 1 else None


def even_numbers(x: Tensor) -> Tensor:
    """Numbers at even distances in a tensor, in float64."""
    count = min(x.numel(), COMPARED)
    places = torch.arange(count, device=x.device) * x.numel() // count
    return x.detach()[torch.unravel_index(places, x.shape)].double()
