"""Back through the layers of a network: exactly where the active outputs determine the input, else by a search.

A layer is undone by least squares on its active outputs. Where these do not determine the input, an image with the same
activations can be sought (`image_search`). A search that fails proves nothing: a control that starts near the truth,
and images that match and differ, tell what was lost.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from manifold_lab.activations import Activation
from manifold_lab.core.errors import InputError
from manifold_lab.probe.inverse import undone
from manifold_lab.probe.tracing import Chain, effective
from manifold_lab.theory.bias import INDEPENDENT

EXACT, FOUND, LOST, NOT_DECIDED = STATUSES = ("exact", "found", "lost", "not decided")
"""Solved layer by layer; found by a search; another input with the same output was found; none of these."""
KEPT = 0.01
"""Share of an image's variance up to which an error counts as none."""
DIFFERENT = 0.05
"""Share of an image's variance by which another image differs at least; in between a search may have stopped early."""
MATCHED = 1e-2
"""Relative difference of two outputs up to which they count as one."""
DENSE = 512
"""Inputs up to which eigenvalues are found densely."""
EDGE = 1e-9
"""By so much of the largest output an output has to be off the ends of what an activation gives, to count as active."""
ROUNDING = "rounding"
VERIFIED = 1e-6
"""Relative difference of the outputs of what was found, above which rounding has spoilt it."""
SHIFT, REFINED = 1e-10, 8
"""What is added to the Gram matrix, relative to its largest number, and steps that take its effect away again."""


@dataclass(frozen=True)
class Layer:
    """A convolution, the batch norm behind it, if any, and an activation: one step of the way back.

    Args:
        operator: with zero padding, the same on both sides.
        norm: in evaluation mode.
        activation: where it can be read back it is, elsewhere its outputs are left out.
    """

    operator: nn.Conv2d
    norm: nn.Module | None
    activation: Activation

    def __call__(self, x: Float[Tensor, "images channels height width"]) -> Float[Tensor, "images outputs high wide"]:
        """The layer's outputs."""
        u = self.operator(x)
        return self.activation.function(u if self.norm is None else self.norm(u))


@dataclass(frozen=True)
class Step:
    """One layer of a network by name, and the channels, height and width of its input.

    Without a layer it is something that has no inverse by itself, such as a shortcut's sum.
    """

    name: str
    layer: Layer | None
    size: tuple[int, int, int]


@dataclass(frozen=True)
class Undone:
    """Inputs of a layer by least squares on its active outputs.

    Args:
        x: in float64; what it was where `spans`, elsewhere nothing.
        singular_value: the smallest of the active rows, image by image; 0 where they do not span.
    """

    x: Float[Tensor, "images channels height width"]
    singular_value: Float[Tensor, " images"]

    @property
    def spans(self) -> Bool[Tensor, " images"]:
        """Whether the active outputs determine the input."""
        return self.singular_value > 0


def undo(layer: Layer, y: Float[Tensor, "images outputs high wide"], size: tuple[int, int, int]) -> Undone:
    """The inputs of a layer from its outputs.

    Args:
        layer: what was applied.
        y: its outputs; float64 gives inputs to more than seven digits.
        size: channels, height and width of an input.

    Raises:
        InputError: for a norm that uses the statistics of each batch, or a convolution that is not its weights'.
    """
    active, u = _active(layer.activation, y.detach().cpu().double())
    if int(active.flatten(1).sum(1).max()) < math.prod(size):  # too few, wherever they are
        return Undone(torch.zeros(len(y), *size, dtype=torch.float64), torch.zeros(len(y), dtype=torch.float64))
    matrix, offset = _affine(layer, size)
    known = torch.where(active, u - offset.view(-1, 1, 1), 0).flatten(1).numpy()
    found = [_solved(matrix, *one) for one in zip(active.flatten(1).numpy(), known, strict=True)]
    x = np.stack([one for one, _ in found]).reshape(len(y), *size)
    return Undone(torch.from_numpy(x), torch.tensor([least for _, least in found], dtype=torch.float64))


def undo_all(steps: Sequence[Step], y: Float[Tensor, "images outputs high wide"]) -> tuple[Undone, list[str]]:
    """The inputs of layers in a row from the last one's outputs, layer by layer, until no image is determined.

    Args:
        steps: the first layer first.
        y: the last one's outputs.

    Returns:
        The inputs of the last layer that was tried, of each image with the worst layer's singular value; and for each
        image the name of the first layer on the way back whose input is not determined, or ROUNDING where what was
        found has other outputs; empty where the whole way is exact.

    Raises:
        InputError: as `undo`.
    """
    least, stopped = torch.full((len(y),), torch.inf, dtype=torch.float64), [""] * len(y)
    outputs = y
    for step in reversed(steps):
        if step.layer is None:
            least = torch.zeros_like(least)
        else:
            one = undo(step.layer, y, step.size)
            y, least = one.x, torch.minimum(least, one.singular_value)
        stopped = [name or ("" if determined else step.name)
                   for name, determined in zip(stopped, (least > 0).tolist(), strict=True)]  # fmt: skip
        if not bool(least.any()):
            return Undone(y, least), stopped
    spoilt = (mismatch(_through(steps, y), outputs) > VERIFIED).tolist()
    return Undone(y, least), [name or ROUNDING * bad for name, bad in zip(stopped, spoilt, strict=True)]


@torch.no_grad()
def _through(steps: Sequence[Step], x: Tensor) -> Tensor:
    """The outputs of layers in a row."""
    for step in steps:
        assert step.layer is not None
        x = step.layer(x.to(step.layer.operator.weight))
    return x


def _active(activation: Activation, y: Tensor) -> tuple[Tensor, Tensor]:
    """Which outputs are surely active, also where they are the inputs of a layer that was undone, and their inputs."""
    inside, u = undone(activation, y)
    edge, (low, high) = EDGE * y.abs().max(), activation.outputs
    inside &= (y - low > edge) & (high - y > edge)
    return inside, torch.where(inside, u, 0)


def _affine(layer: Layer, size: tuple[int, int, int]) -> tuple[scipy.sparse.csr_array, Tensor]:
    """The linear map of a whole image, norm folded in, as a sparse matrix, and the offset of every channel."""
    chain = Chain(layer.operator, layer.norm)
    if not chain.fixed:
        raise InputError("layer: its norm uses the statistics of each batch; call eval() first")
    weight, offset = (part.detach().cpu() for part in effective(chain))
    matrix = convolution_matrix(layer.operator, weight, size)
    _check(layer, matrix, offset, size)
    return matrix, offset


def convolution_matrix(
    operator: nn.Conv2d, weight: Float[Tensor, "outputs taps"], size: tuple[int, int, int]
) -> scipy.sparse.csr_array:
    """A convolution of whole images without its bias: outputs x inputs, both counted as channel, row, column.

    Args:
        operator: its kernel, stride, padding, dilation and groups.
        weight: in place of its own, a row an output channel.
        size: channels, height and width of an input.
    """
    channels, height, width = size
    numbers = torch.arange(1.0, height * width + 1, dtype=torch.float64).view(1, 1, height, width)
    around: tuple[int, ...] = () if isinstance(operator.padding, str) else operator.padding
    if not around:
        raise InputError(f"layer: padding {operator.padding!r} is not allowed; give it as numbers")
    taken = functional.unfold(numbers, operator.kernel_size, operator.dilation, around, operator.stride)[0].long()
    taps, places = taken.shape
    each, outputs = channels // operator.groups, len(weight)
    group = torch.arange(outputs) // (outputs // operator.groups)
    source = group[:, None, None, None] * each + torch.arange(each)[None, :, None, None]
    column = source * (height * width) + taken[None, None] - 1
    row = torch.arange(outputs * places).view(outputs, 1, 1, places).expand_as(column)
    value = weight.reshape(outputs, each, taps, 1).expand_as(column)
    inside = (taken > 0).expand_as(column)
    entries = value[inside].numpy(), (row[inside].numpy(), column[inside].numpy())
    return scipy.sparse.csr_array(entries, shape=(outputs * places, channels * height * width))


def _check(layer: Layer, matrix: scipy.sparse.csr_array, offset: Tensor, size: tuple[int, int, int]) -> None:
    """Refuse a convolution that does more than its weights say, such as padding by itself."""
    kept = layer.operator.weight
    x = torch.linspace(-1, 1, matrix.shape[1], dtype=kept.dtype, device=kept.device).cos().view(1, *size)
    with torch.no_grad():
        u = layer.operator(x)
        wanted = (u if layer.norm is None else layer.norm(u)).double().cpu().flatten(1)
    found = torch.from_numpy(matrix @ x.double().cpu().flatten().numpy())
    if len(found) == wanted.shape[1]:
        found = found + offset.repeat_interleave(len(found) // len(offset))
        if torch.allclose(found, wanted[0], atol=1e-4 * float(wanted.abs().max()), rtol=0):
            return
    raise InputError("layer: its outputs are not those of its weights; allowed: convolutions with zero padding")


def _solved(
    matrix: scipy.sparse.csr_array, active: Bool[np.ndarray, " outputs"], known: Float[np.ndarray, " outputs"]
) -> tuple[np.ndarray, float]:
    """Least squares on the active rows, and the smallest singular value of these; 0 where they do not span."""
    rows, right, inputs = matrix[active], known[active], matrix.shape[1]
    gram = (rows.T @ rows).tocsc()
    largest = float(gram.diagonal().max())
    if len(right) < inputs or not largest:
        return np.zeros(inputs), 0.0
    shift = SHIFT * largest
    factors = scipy.sparse.linalg.splu((gram + shift * scipy.sparse.eye_array(inputs)).tocsc())
    x = np.zeros(inputs)
    for _ in range(REFINED):
        x = x + factors.solve(rows.T @ (right - rows @ x))
    least = _least(gram, factors, shift)
    return (x, least) if least > INDEPENDENT * largest**0.5 else (np.zeros(inputs), 0.0)


def _least(gram: scipy.sparse.csc_array, factors: scipy.sparse.linalg.SuperLU, shift: float) -> float:
    """The smallest singular value: densely, or by inverse iteration with the factors that are there."""
    inputs = gram.shape[0]
    if inputs <= DENSE:
        return float(max(np.linalg.eigvalsh(gram.toarray())[0], 0.0)) ** 0.5
    inverse = scipy.sparse.linalg.LinearOperator(gram.shape, factors.solve, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(inputs)
    found = scipy.sparse.linalg.eigsh(gram, 1, sigma=-shift, OPinv=inverse, v0=start, return_eigenvectors=False)
    return float(max(found[0], 0.0)) ** 0.5


def unexplained(
    found: Float[Tensor, "images channels height width"], image: Float[Tensor, "images channels height width"]
) -> Float[Tensor, " images"]:
    """Squared error as a share of the image's variance around each channel's mean: 0 exact, 1 for its mean colour."""
    image = image.double()
    centred = image - image.mean((2, 3), keepdim=True)
    return (found.double() - image).square().sum((1, 2, 3)) / centred.square().sum((1, 2, 3))


def mismatch(found: Float[Tensor, "images ..."], y: Float[Tensor, "images ..."]) -> Float[Tensor, " images"]:
    """Distance of two outputs relative to the second one's length."""
    return (found - y).double().flatten(1).norm(dim=1) / y.double().flatten(1).norm(dim=1)


def outcome(exact: bool, search: tuple[float, float], control: tuple[float, float]) -> str:
    """One of STATUSES.

    A search that neither matches nor finds the image says nothing; what is lost is shown by another image that has the
    same output, found by the search or by the control.

    Args:
        exact: whether every layer between is determined by its active outputs.
        search: error (`unexplained`) and mismatch of what the search found.
        control: of what was found from a start near the truth.
    """
    if exact:
        return EXACT
    if search[0] <= KEPT:
        return FOUND
    twins = any(error >= DIFFERENT and apart <= MATCHED for error, apart in (search, control))
    return LOST if twins else NOT_DECIDED
