"""MobileNetV2, its ablations and its rivals from one declarative spec (arXiv:1801.04381, Tables 1 and 2, Figure 6).

Where the paper leaves a choice open:

- The bottleneck's activation acts on the projection's output after its batch norm and *before* the shortcut's sum, as
  in any convolution, norm and activation: a block adds something rectified to its input.
- A bottleneck's interventions (`NetworkSpec.intervention`) stand around its activation in this order: gain, activation,
  norm of its own, noise. Placed at the sum all of them act on the sum, in blocks with a shortcut, and nowhere else.
- The shortcut between expansions is the classical residual over the narrow part: from a block's depthwise output, after
  its activation, to the next block's expanded tensor, after its activation, wherever channels and resolution agree.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lab.activations import leaky_relu
from manifold_lab.core.errors import InputError
from manifold_lab.core.lazy import lazy_function
from manifold_lab.core.random_streams import stream, stream_seed
from manifold_lab.core.shown import Axes, DataFrame, frame
from manifold_lab.models.fast import norm_and_activation
from manifold_lab.models.interventions import ChannelGain, ChannelNoise
from manifold_lab.models.layers import LINEAR, Activate, Convolution
from manifold_lab.models.specs import NetworkSpec, Stage, stages

NO_NUMBERS = "shapes only: built without a generator; give build a seed, as in build(spec, 0), or a torch.Generator"
_cost_lines = lazy_function("manifold_lab.report.network_table.cost_lines")
_plot_costs = lazy_function("manifold_lab.report.interactive.plot_costs")


class ConvNormAct(nn.Module):
    """Convolution, norm, activation."""

    def __init__(self, spec: NetworkSpec, conv: Convolution, activation: nn.Module):
        super().__init__()
        self.conv = conv
        self.norm = make_norm(spec, conv.out_channels)
        self.act = activation

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs high wide"]:
        """All three in a row."""
        return norm_and_activation(self.norm, self.act, self.conv(x))


def make_norm(spec: NetworkSpec, channels: int) -> nn.Module:
    """The norm of a spec: batch, group (as many groups as divide the channels, at most 8) or none."""
    if spec.norm == "batch":
        return nn.BatchNorm2d(channels, eps=spec.norm_epsilon)
    if spec.norm == "group":
        return nn.GroupNorm(math.gcd(channels, 8), channels, eps=spec.norm_epsilon)
    return nn.Identity()


def make_bottleneck(spec: NetworkSpec, channels: int) -> nn.Module:
    """What acts on a bottleneck's output: its activation, and around it what the spec's intervention adds."""
    made, name = spec.intervention, spec.bottleneck_activation
    activate = Activate(name, leaky_relu(made.slope) if name == "leaky_relu" else None)
    parts: list[nn.Module] = [ChannelGain(channels, made.gain)] if made.gain != 1 else []
    parts.append(activate)
    if made.renormed:
        parts.append(make_norm(spec, channels))
    if made.noise:
        parts.append(ChannelNoise(channels, made.noise, made.noise_shared))
    return nn.Sequential(*parts) if len(parts) > 1 else activate


class Block(nn.Module):
    """One block of any kind: optional 1x1 in, 3x3 in the middle, 1x1 out, and whichever shortcuts the spec gives it.

    `inverted` has a depthwise convolution between a wide expansion and a narrow, by default linear, projection;
    `classic` a full one between a narrow reduction and a wide output; `separable` no 1x1 in.
    """

    def __init__(self, spec: NetworkSpec, stage: Stage):
        super().__init__()
        self.stage, self.shift = stage, spec.intervention.shift
        self.sum_act: nn.Module | None
        self._add_layers(spec, stage)
        self.bridge = None
        if stage.shortcut == "projected":
            bridge = Convolution((stage.inputs, stage.outputs), 1, stage.stride)
            self.bridge = ConvNormAct(spec, bridge, Activate(LINEAR))

    def _add_layers(self, spec: NetworkSpec, stage: Stage) -> None:
        same, hidden = spec.padding == "tensorflow", stage.hidden
        self.expand = None
        if stage.expands:
            conv = Convolution((stage.inputs, hidden), 1)
            self.expand = ConvNormAct(spec, conv, Activate(spec.expansion_activation))
        groups = 1 if spec.block == "classic" else hidden
        middle = Convolution((hidden, hidden), 3, stage.stride, groups, same)
        self.depthwise = ConvNormAct(spec, middle, Activate(spec.depthwise_activation))
        at_sum = spec.intervention.placement == "sum"
        behind = Activate(LINEAR) if at_sum else make_bottleneck(spec, stage.outputs)
        self.project = ConvNormAct(spec, Convolution((hidden, stage.outputs), 1), behind)
        self.sum_act = make_bottleneck(spec, stage.outputs) if at_sum and stage.shortcut != "none" else None

    def forward(
        self,
        x: Float[Tensor, "batch inputs height width"],
        wide: Float[Tensor, "batch hidden height width"] | None = None,
    ) -> tuple[Float[Tensor, "batch outputs high low"], Float[Tensor, "batch hidden high low"] | None]:
        """The block's output, and its depthwise output where the next block adds that to its own expansion."""
        hidden = x if self.expand is None else self.expand(x)
        if wide is not None:
            hidden = hidden + wide
        hidden = self.depthwise(hidden)
        y = self.join(x, self.project(hidden))
        return y, hidden if self.stage.gives_wide else None

    def join(
        self, x: Float[Tensor, "batch inputs height width"], y: Float[Tensor, "batch outputs high low"]
    ) -> Float[Tensor, "batch outputs high low"]:
        """Add the shortcut between bottlenecks, if there is one."""
        if self.bridge is not None:
            y = self.bridge(x) + y
        elif self.stage.shortcut == "identity":
            y = x + y
        return y if self.sum_act is None else self.sum_act(y)

    @property
    def bottleneck(self) -> nn.Module:
        """The module whose input and output are what the bottleneck's activation meets and what it leaves."""
        return self.project.act if self.sum_act is None else self.sum_act


class Sandglass(Block):
    """MobileNeXt's block (Zhou et al. 2020, arXiv:2007.02269): both depthwise convolutions and the shortcut are wide.

    Depthwise 3x3, 1x1 into the bottleneck, 1x1 out of it, depthwise 3x3 with the stride and no activation behind it.
    """

    def _add_layers(self, spec: NetworkSpec, stage: Stage) -> None:
        same, inputs, outputs = spec.padding == "tensorflow", stage.inputs, stage.outputs
        first = Convolution((inputs, inputs), 3, 1, inputs, same)
        self.depthwise = ConvNormAct(spec, first, Activate(spec.depthwise_activation))
        narrow = make_bottleneck(spec, stage.hidden)
        self.project = ConvNormAct(spec, Convolution((inputs, stage.hidden), 1), narrow)
        wide = Activate(spec.expansion_activation)
        self.expand = ConvNormAct(spec, Convolution((stage.hidden, outputs), 1), wide)
        last = Convolution((outputs, outputs), 3, stage.stride, outputs, same)
        self.depthwise_out = ConvNormAct(spec, last, Activate(LINEAR))
        self.sum_act = None

    def forward(
        self,
        x: Float[Tensor, "batch inputs height width"],
        wide: Float[Tensor, "batch hidden height width"] | None = None,
    ) -> tuple[Float[Tensor, "batch outputs high low"], None]:
        """The block's output; it takes part in no shortcut between expansions."""
        assert wide is None and self.expand is not None
        narrow = self.project(self.depthwise(x))
        return self.join(x, self.depthwise_out(self.expand(narrow))), None


class Network(nn.Module):
    """A network from a spec: stem, blocks, last convolution (if any), average pool, dropout, classifier."""

    blocks: Sequence[Block]
    """A ModuleList, of which type checkers do not know what it holds."""

    def __init__(self, spec: NetworkSpec):
        super().__init__()
        self.spec = spec
        plan = stages(spec)
        same, first = spec.padding == "tensorflow", plan[0].inputs
        stem = Convolution((spec.in_channels, first), 3, spec.stem_stride, 1, same)
        self.stem = ConvNormAct(spec, stem, Activate(spec.outer_activation))
        kind = Sandglass if spec.block == "sandglass" else Block
        self.blocks = nn.ModuleList(kind(spec, stage) for stage in plan)  # type: ignore[assignment]
        features, self.last = plan[-1].outputs, None
        if spec.last_channels:
            conv = Convolution((features, spec.last_width), 1)
            self.last, features = ConvNormAct(spec, conv, Activate(spec.outer_activation)), spec.last_width
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(features, spec.num_classes)

    def features(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features high low"]:
        """Everything before the pool.

        Raises:
            InputError: of a network that was built without a generator, for an image with numbers.
        """
        if isinstance(x, Tensor) and self.classifier.weight.is_meta and not x.is_meta:  # a trace has no tensor
            raise InputError(NO_NUMBERS)
        x, wide = self.stem(x), None
        for block in self.blocks:
            x, wide = block(x, wide)
        return x if self.last is None else self.last(x)

    def head(self, x: Float[Tensor, "batch features high low"]) -> Float[Tensor, "batch classes"]:
        """Average pool, dropout, classifier."""
        return self.classifier(self.dropout(x.mean((2, 3))))

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        return self.head(self.features(x))

    def frame(self) -> DataFrame:
        """A row per operator, as a pandas DataFrame: its place in the spec, output, parameters and multiply-adds."""
        return frame(_cost_lines(self))

    def plot(self) -> list[Axes]:
        """Draw multiply-adds, parameters, and numbers in and out of every operator; the three axes."""
        return _plot_costs(self)

    def _repr_html_(self) -> str:
        return self.frame()._repr_html_()


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """The reference's initial weights: Kaiming normal by fan-out for convolutions, N(0, 0.01) for the classifier.

    The standard deviation of the classifier is 0.01; biases are 0, norms 1 and 0. Draws come from `generator`, in the
    order of the modules but for bridges, which are last: networks of equal plans start equal, whatever their shortcuts.
    Interventions draw nothing: the seed of their noise is derived from the generator's own.
    """
    for name, module in sorted(model.named_modules(), key=lambda named: "bridge" in named[0].split(".")):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01, generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, Block) and module.shift:
            nn.init.constant_(module.project.norm.get_parameter("bias"), module.shift)
        elif isinstance(module, ChannelNoise):
            module.seed.fill_(stream_seed(generator.initial_seed(), "noise", name))


def build(spec: NetworkSpec, generator: torch.Generator | int | None = None) -> Network:
    """A network with the reference's initial weights, in channels-last layout, which is the faster one.

    Args:
        spec: what it is.
        generator: what the weights are drawn from, or the seed of one: 0 stands for `stream(0, "weights")`. Without it
            the network is built on the meta device, with shapes and no numbers, to be counted or loaded; a forward
            pass of an image then raises InputError.
    """
    if generator is None:
        with torch.device("meta"):
            return Network(spec)
    if isinstance(generator, int):
        generator = stream(generator, "weights")
    network = Network(spec)
    initialise(network, generator)
    return channels_last(network)


def channels_last(network: Network) -> Network:
    """The same network with its weights laid out channels-last."""
    module: Any = network  # some releases of torch leave this argument out of their annotations
    return module.to(memory_format=torch.channels_last)
