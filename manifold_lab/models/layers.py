"""The layers that every network of this package is made of: a convolution that pads itself, an activation by name."""

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from manifold_lab.activations import ACTIVATIONS, Activation, named
from manifold_lab.models import fast

LINEAR = "linear"


class Convolution(nn.Conv2d):
    """A convolution that pads itself: symmetrically, or as TensorFlow's SAME does (more to the right and bottom)."""

    def __init__(self, channels: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1, same: bool = False):
        padding = 0 if same else (kernel - 1) // 2
        super().__init__(*channels, kernel, stride, padding, groups=groups, bias=False)
        self.same = same

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs high wide"]:
        """Pad and convolve."""
        return fast.convolution(self, self.pad(x))

    def pad(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch inputs high wide"]:
        """What has to be padded before `self.padding` does the rest: all of it for TensorFlow's SAME, else nothing."""
        if not self.same:
            return x
        pads = [self._same(size) for size in (x.shape[3], x.shape[2])]
        return functional.pad(x, [end for total in pads for end in (total // 2, total - total // 2)])

    def _same(self, size: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)


class Activate(nn.Module):
    """An activation by name, never in place: what a hook saw stays what it was.

    Args:
        name: `linear`, or a name of `activations`.
        activation: that activation, where its parameters are not the usual ones.
    """

    def __init__(self, name: str, activation: Activation | None = None):
        super().__init__()
        self.name = name
        self.activation = activation or named("identity" if name == LINEAR else name)
        self.function = self.activation.function

    def forward(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Apply it."""
        return self.function(u)

    def extra_repr(self) -> str:
        """Its name, for print(model)."""
        return self.name

    @property
    def ends(self) -> tuple[float, float] | None:
        """Slope below zero, and largest value, of a function that is the identity between; None for any other."""
        activation = self.activation
        if self.function is not activation.function or activation.name not in ACTIVATIONS:
            return None
        if activation.rectifies and activation.window:
            return 0.0, activation.window[1]
        left, right = activation.slopes or (-1.0, 1.0)
        return (float(left), math.inf) if 0 <= left <= 1 and right == 1 else None
