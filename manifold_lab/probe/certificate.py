"""Is a layer's input determined by its output, on these data, and how stable is the way back?"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from manifold_lab import theory
from manifold_lab.activations import Activation
from manifold_lab.probe.inverse import DECOMPOSED
from manifold_lab.probe.layer import LayerRecord, LayerRow
from manifold_lab.probe.layer_types import CONVOLUTIONS
from manifold_lab.probe.tracing import effective
from manifold_lab.theory.bias import INDEPENDENT, margin_of, unit_rows
from manifold_lab.theory.certificates import CERTIFIED, NOT_DECIDED, REFUTED, RectifiedLayer, certify, find_twins

COLUMNS = ("certified", "certificate_points", "least_singular_value", "stability", "margin", "margin_median",
           "data_radius", "ball", "verdict")  # fmt: skip
MAP_LIMIT = 1024
"""Inputs of one channel of a depthwise convolution above which its linear map is not decomposed."""


def certificate(layer: LayerRecord) -> LayerRow:
    """Injectivity of convolution, batch norm and ReLU (or ReLU6) together, at sampled positions and on their ball.

    `certified`: the share of positions where the active rows span the input, so that no other input has the same output
    (Lemma 2: sufficient, and necessary at almost every point). `least_singular_value` of the active rows over these
    positions (0 where one is not certified), and `stability` made of it: a lower bound on |output change| / |input
    change|, as far as the active rows between the positions are no worse. Both are estimates from the sample, no
    certificate for other inputs. `margin`: how far, in units of the input, a position can move in any direction with n
    independent rows still active (the smallest and the median over positions, negative where one is not certified).
    `data_radius` and `ball`: the ball around the sample's mean that holds the sample, and whether the layer is
    injective on all of it: certified, refuted by two inputs with one output, or not decided (above a few inputs).

    A k x k convolution is judged by patches, each from its own outputs alone: sufficient, and not necessary, as
    neighbouring patches overlap; its ball is not decided. A depthwise convolution has a problem of its own for each
    channel, from whole map to whole map: `certified` is the share of channels that were active at every position of
    all images and have an invertible map. A strided 1x1 convolution is judged at the positions that it takes. Inputs
    are any vectors, also those that the layers before cannot give; data of lower dimension can keep more
    (`preservation`). Does not see smooth activations, nor maps that change with the batch.

    Source: Haider, Ehler and Balazs, arXiv:2307.09672 and arXiv:2406.15856.
    """
    activation = layer.activation
    if not isinstance(activation, Activation) or layer.chain.operator is None or not layer.chain.plain:
        return {}
    if not layer.chain.fixed or not activation.rectifies:
        return layer.unmeasured("certificate: the map before it is not fixed and piecewise linear")
    if getattr(layer.chain.operator, "groups", 1) == 1:
        return _of_positions(layer)
    return _of_channels(layer)


@dataclass(frozen=True)
class _Positions:
    """Sampled positions of a layer without groups, in float64."""

    rectified: RectifiedLayer
    active: Tensor
    """Rows strictly between the clips, positions x channels, as the network had them."""
    before: Tensor
    """What the activation was given, positions x channels."""
    inputs: Tensor | None
    """What the operator was given, positions x inputs; None where patches were not kept."""

    @cached_property
    def spans(self) -> Tensor:
        """Whether the active rows span the input."""
        return _smallest(unit_rows(self.rectified.matrix), self.active) > INDEPENDENT

    def singular(self) -> Tensor:
        """The smallest singular value of the active rows; 0 where they do not span."""
        return torch.where(self.spans, _smallest(self.rectified.matrix, self.active), 0)

    def margins(self) -> Tensor:
        """How far each position can move; see `theory.bias.spanning_margin`, here with ReLU6's upper clip."""
        lengths = self.rectified.matrix.norm(dim=1)
        room = torch.minimum(self.before, self.rectified.high - self.before)
        return margin_of(self.rectified.matrix, torch.where(lengths > 0, room / lengths, -math.inf))


def _smallest(matrix: Tensor, active: Tensor) -> Tensor:
    """Smallest singular value of the active rows, position by position; by Gram matrices, as in `inverse`."""
    found = [torch.linalg.eigvalsh((matrix.mT * one.double()) @ matrix)[0] for one in active]
    return torch.stack(found).clamp_min(0).sqrt()


def _never(outputs: int, inputs: int, what: str) -> LayerRow:
    """Fewer outputs than inputs: not injective around any input."""
    return {"certified": 0.0, "least_singular_value": 0.0, "stability": 0.0, "ball": REFUTED,
            "verdict": f"not injective on any open set: {outputs} outputs {what} for {inputs} inputs"}  # fmt: skip


def _of_positions(layer: LayerRecord) -> LayerRow:
    matrix, bias = (part.cpu() for part in effective(layer.chain))
    outputs, inputs = matrix.shape
    operator, patches = layer.chain.operator, layer.chain.inputs is None
    if patches and isinstance(operator, CONVOLUTIONS):
        whole = outputs * math.prod(layer.shape[1:])
        fed = operator.in_channels * math.prod(_input_size(operator, layer.shape[1:]))
        if whole < fed:
            return _never(whole, fed, "of a map")
        if outputs < inputs:
            return {"certified": 0.0, "ball": NOT_DECIDED, "verdict": f"not decided: a patch alone has {outputs} "
                    f"outputs for {inputs} inputs, but patches overlap"}  # fmt: skip
    if outputs < inputs:
        return _never(outputs, inputs, "at a position")
    if len(layer.sample.parts) < 2:
        return {}
    assert layer.window is not None
    y, x = (part[:DECOMPOSED].cpu().double() for part in layer.sample.parts[:2])
    active = (y > 0) & (y < layer.window[1])
    at = _Positions(RectifiedLayer(matrix, bias, layer.window[1]), active, x if patches else x @ matrix.mT + bias,
                    None if patches else x)  # fmt: skip
    share, margins = float(at.spans.double().mean()), at.margins()
    least = float(at.singular().min())
    found: LayerRow = {"certified": share, "certificate_points": len(y), "margin": float(margins.min()),
                       "margin_median": float(margins.median()), "least_singular_value": least}  # fmt: skip
    found |= {"stability": theory.inverse_stability_bounds(least)[0]} | _ball(at)
    if at.rectified.high < math.inf and found["stability"]:
        found["stability"] = _with_clip(float(found["stability"]), at, found.get("data_radius"))
    return found | {"verdict": _verdict(found, inputs, patches)}


def _with_clip(stability: float, at: _Positions, radius: float | int | str | None) -> float | None:
    """The bound for ReLU6: a row can switch twice between two inputs, but then its output changes by the whole 6.

    So |output change| is at least the smaller of 6 and stability times |input change|, which is at most a diameter.
    """
    if not bool((at.before >= at.rectified.high).any()):
        return stability
    return min(stability, at.rectified.high / (2 * float(radius))) if radius else None


def _ball(at: _Positions) -> LayerRow:
    """The ball that holds the sample, and what is known of the layer on it."""
    if at.inputs is None:
        return {"ball": NOT_DECIDED}
    centre = at.inputs.mean(0)
    away = at.inputs - centre
    radius = float(away.norm(dim=1).max())
    if radius == 0:
        return {}
    rectified = at.rectified.around(centre)
    known: LayerRow = {"data_radius": radius}
    for x in away[~at.spans][:8]:
        if find_twins(rectified, x * (1 - 1e-6), radius) is not None:
            return known | {"ball": REFUTED}
    return known | {"ball": certify(rectified, radius).verdict}


def _verdict(found: LayerRow, inputs: int, patches: bool) -> str:
    share, what = float(found["certified"] or 0), "patches" if patches else "positions"
    what = f"{what} from their own outputs" if patches else what
    on_data = f"certified on {'every one' if share == 1 else f'{share:.1%}'} of {found['certificate_points']} {what}"
    ball = found.get("ball")
    rest = {
        CERTIFIED: "and on the whole ball that holds them",
        REFUTED: "two inputs in the ball that holds them have one output",
        NOT_DECIDED: f"others are not decided{', patches overlap' if patches else f' ({inputs} inputs)'}",
        None: "they are all the same",
    }
    return f"{on_data}; {rest[None if ball is None else str(ball)]}"


def _of_channels(layer: LayerRecord) -> LayerRow:
    """A depthwise convolution, channel by channel, from whole maps to whole maps."""
    operator, counts = layer.chain.operator, layer.counts
    if not isinstance(operator, CONVOLUTIONS) or operator.groups != operator.in_channels or counts is None:
        return {"verdict": "not decided: a convolution of several groups with several channels each"}
    if operator.out_channels != operator.in_channels or len(layer.shape) != operator.weight.dim() - 1:
        return {"verdict": "not decided: several outputs of each channel"}
    outputs, inputs = math.prod(layer.shape[1:]), math.prod(_input_size(operator, layer.shape[1:]))
    whole = counts.active == counts.positions
    share, kind = float(whole.double().mean()), f"{outputs} outputs for {inputs} inputs"
    if outputs < inputs:
        return _never(outputs, inputs, "of a channel")
    if not share and outputs == inputs:
        return {"certified": 0.0, "least_singular_value": 0.0, "stability": 0.0, "ball": REFUTED,
                "verdict": f"each channel has an inactive output in some image, and needs all: {kind}"}  # fmt: skip
    if inputs > MAP_LIMIT or outputs > inputs:  # channels with an inactive output need all, unless there are more
        ball = NOT_DECIDED if share == 1 or outputs > inputs else REFUTED
        verdict = f"{share:.1%} of channels: those always active, if their map is invertible; {kind}"
        return {"ball": ball, "verdict": f"at most {verdict}" if outputs == inputs else f"not decided: {kind}"}
    least = _map_singular_values(layer, whole.nonzero().flatten().tolist())
    certified = float((least > 0).sum()) / len(whole)
    verdict = f"certified on all images in {certified:.1%} of channels: those always active, with an invertible map"
    value = float(least.min()) if certified == 1 else 0.0
    return {"certified": certified, "least_singular_value": value, "stability": value,
            "ball": NOT_DECIDED if certified == 1 else REFUTED, "verdict": verdict}  # fmt: skip


def _input_size(operator: nn.modules.conv._ConvNd, size: tuple[int, ...]) -> list[int]:
    """The smallest map that a convolution turns into one of this size."""
    padding = operator.padding
    if padding == "same":
        return list(size)
    pads = (0,) * len(size) if isinstance(padding, str) else padding
    steps = zip(size, operator.stride, operator.dilation, operator.kernel_size, pads, strict=True)
    return [(out - 1) * stride + dilation * (kernel - 1) + 1 - 2 * pad for out, stride, dilation, kernel, pad in steps]


def _map_singular_values(layer: LayerRecord, channels: list[int]) -> Tensor:
    """Smallest singular value of the linear map of each of these channels; 0 where it is not invertible."""
    operator = layer.chain.operator
    assert isinstance(operator, CONVOLUTIONS)
    weight, _ = effective(layer.chain)
    size = _input_size(operator, layer.shape[1:])
    impulses = torch.eye(math.prod(size), dtype=torch.float64, device=weight.device).reshape(-1, 1, *size)
    convolve = (nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d)[len(size) - 1]
    found = []
    for channel in channels:
        kernel = weight[channel].reshape(1, 1, *operator.kernel_size)
        image = convolve(impulses, kernel, None, operator.stride, operator.padding, operator.dilation)
        values = torch.linalg.svdvals(image.flatten(1))
        found.append(torch.where(values[-1] > INDEPENDENT * values[0], values[-1], 0))
    return torch.stack(found).cpu()
