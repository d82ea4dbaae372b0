"""A network as data: the frozen spec, what it allows, and the plan of blocks that follows from it.

(expansion t, channels c, repeats n, stride s) are rows of Table 2 of MobileNetV2 (arXiv:1801.04381).
"""

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manifold_lab.activations import ACTIVATIONS, LEAK
from manifold_lab.core.config import check_types
from manifold_lab.core.errors import InputError, above, one_of, within
from manifold_lab.core.shown import Shown

StageRow = tuple[int | float, int, int, int]

TABLE_2: tuple[StageRow, ...] = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
V1_ROWS: tuple[StageRow, ...] = ((1, 64, 1, 1), (1, 128, 2, 2), (1, 256, 2, 2), (1, 512, 6, 2), (1, 1024, 2, 2))
SHORTCUTS = ("bottleneck", "expansion", "none", "projected")
BLOCKS = ("inverted", "classic", "separable", "sandglass")
PLACEMENTS = ("branch", "sum")
ACTIVATED = ("bottleneck_activation", "expansion_activation", "depthwise_activation", "outer_activation")
CHOICES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(ACTIVATED, ("linear", *ACTIVATIONS)), "block": BLOCKS, "shortcut": SHORTCUTS,
    "norm": ("batch", "group", "none"), "padding": ("symmetric", "tensorflow"),
}  # fmt: skip
"""The names that a field of a spec can have."""
LIMITS: dict[str, tuple[int | float, int | float]] = {
    "width": (0.001, 10),
    "resolution": (1, 4096),
    "num_classes": (1, 10**6),
    "in_channels": (1, 4096),
    "stem_channels": (1, 10**5),
    "stem_stride": (1, 2),
    "last_channels": (0, 10**5),
    "round_to": (1, 1024),
    "expansion": (0.001, 100),
    "channels": (1, 10**5),
    "repeats": (1, 100),
    "stride": (1, 2),
    "blocks": (1, 100),
    "channels of a block": (1, 10**6),
    "slope": (1e-6, 1),
    "noise": (0, 100),
    "gain": (1e-6, 1),
    "shift": (-100, 100),
}
"""Least and most of every number of a spec: far beyond the paper's, and where counting it still takes seconds."""


@dataclass(frozen=True)
class Stage:
    """One block of the plan: its channels, and which shortcuts it takes part in.

    `shortcut` is the one from its input to its output: identity, projected or none. `gives_wide` says that the next
    block adds this one's depthwise output to its own expansion.
    """

    expansion: int | float
    inputs: int
    hidden: int
    outputs: int
    stride: int
    expands: bool
    shortcut: str
    gives_wide: bool = False


@dataclass(frozen=True, repr=False)
class Intervention(Shown):
    """What else is done to the output of every bottleneck, to separate the causes of what its activation costs.

    The default does nothing: the network is then the same, bit for bit, as without this class.

    Args:
        slope: left slope of a `leaky_relu` behind the bottleneck.
        noise: variance of the Gaussian noise added behind the activation, in training and in evaluation, as a multiple
            of the variance of each channel.
        noise_shared: one draw per image and channel instead of one per position.
        gain: factor on the first half of the channels.
        shift: initial bias of the projection's norm.
        renormed: whether a norm of its own follows the activation.
        placement: `branch`, before the shortcut's addition, or `sum`, behind it, in blocks that have one.
    """

    slope: int | float = LEAK
    noise: int | float = 0.0
    noise_shared: bool = False
    gain: int | float = 1.0
    shift: int | float = 0.0
    renormed: bool = False
    placement: str = "branch"

    def __post_init__(self) -> None:
        """Refuse values outside their domain."""
        check_types(self)
        for name in ("slope", "noise", "gain", "shift"):
            within(name, getattr(self, name), *LIMITS[name])
        one_of("placement", self.placement, PLACEMENTS)
        if self.noise_shared and not self.noise:
            raise InputError("noise_shared: there is no noise to share; give noise above 0")


@dataclass(frozen=True, repr=False)
class NetworkSpec(Shown):
    """What a network is; the defaults are the paper's MobileNetV2 1.0 at 224, and every ablation is one word away.

    Args:
        rows: of Table 2, each four numbers: expansion t, channels c, repeats n, stride s of the first.
        block: inverted (the paper's), classic (wide, narrow, wide) or separable (MobileNetV1's).
        bottleneck_activation: behind the projection: linear (the paper's), or an activation by name.
        expansion_activation: behind the 1x1 expansion.
        depthwise_activation: behind the 3x3 convolution in the middle.
        shortcut: what it joins: bottleneck (the paper's), expansion, none, or projected.
        width: multiplier of all channels.
        resolution: pixels of an image's side.
        num_classes: outputs of the classifier.
        in_channels: of an image.
        stem_channels: of the first convolution, before the multiplier.
        stem_stride: of the first convolution.
        last_channels: of the last convolution; 0 leaves it out.
        dropout: share of features dropped before the classifier, in training.
        round_to: channels are multiples of this.
        norm: batch, group or none.
        norm_epsilon: added to a norm's variance.
        padding: symmetric, or tensorflow (SAME).
        outer_activation: of the stem and the last convolution, which belong to no block.
        intervention: what else is done to every bottleneck's output.
    """

    rows: tuple[StageRow, ...] = TABLE_2
    block: str = "inverted"
    bottleneck_activation: str = "linear"
    expansion_activation: str = "relu6"
    depthwise_activation: str = "relu6"
    shortcut: str = "bottleneck"
    width: int | float = 1.0
    resolution: int = 224
    num_classes: int = 1000
    in_channels: int = 3
    stem_channels: int = 32
    stem_stride: int = 2
    last_channels: int = 1280
    dropout: float = 0.2
    round_to: int = 8
    norm: str = "batch"
    norm_epsilon: float = 1e-5
    padding: str = "symmetric"
    outer_activation: str = "relu6"
    intervention: Intervention = field(default_factory=Intervention)

    def __post_init__(self) -> None:
        """Refuse what cannot be built, naming the field and what is allowed."""
        check_types(self)
        for name, allowed in CHOICES.items():
            one_of(name, getattr(self, name), allowed)
        for name in filter(self.__dict__.__contains__, LIMITS):
            within(name, getattr(self, name), *LIMITS[name])
        above("norm_epsilon", self.norm_epsilon, 0)
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout: {self.dropout} is not allowed; it must be at least 0 and below 1")
        self._check_rows()
        self._check_plan(stages(self))
        self._check_intervention(stages(self))

    def _check_rows(self) -> None:
        if not self.rows:
            raise InputError("rows: none given; give one or more of (expansion, channels, repeats, stride)")
        for row in self.rows:
            for name, value in zip(("expansion", "channels", "repeats", "stride"), row, strict=True):
                within(f"rows: {name} in {row}", value, *LIMITS[name])
            if row[1] * self.width < 1:
                raise InputError(f"width: {self.width} leaves no channel of {row[1]}; it must be at least 1/{row[1]}")
        within("rows: blocks in all", sum(repeats for _, _, repeats, _ in self.rows), *LIMITS["blocks"])

    def _check_plan(self, plan: list[Stage]) -> None:
        for stage in plan:
            if stage.hidden < 1:
                raise InputError(
                    f"rows: expansion {stage.expansion:g} leaves no channel of {stage.inputs}; it is too low"
                )
            within("rows: channels in the middle of a block", stage.hidden, *LIMITS["channels of a block"])
        if self.expansion_activation != NetworkSpec.expansion_activation and not any(one.expands for one in plan):
            raise InputError(
                f"expansion_activation: {self.expansion_activation} has no place; no {self.block} block of these rows "
                f"expands; allowed: {NetworkSpec.expansion_activation}"
            )
        if self.shortcut == "expansion" and self.block != "inverted":
            raise InputError(f"shortcut: expansion needs block inverted; {self.block} has no expansion")
        joined = any(stage.shortcut != "none" or stage.gives_wide for stage in plan)
        if self.shortcut != "none" and not joined:
            raise InputError(f"shortcut: {self.shortcut} joins nothing with these rows; allowed: none")

    def _check_intervention(self, plan: list[Stage]) -> None:
        made = self.intervention
        if made.slope != LEAK and self.bottleneck_activation != "leaky_relu":
            raise InputError(
                f"slope: {made.slope} is not used by bottleneck_activation {self.bottleneck_activation}; "
                "allowed with leaky_relu only"
            )
        if (made.shift or made.renormed) and self.norm == "none":
            raise InputError("intervention: shift and renormed need a norm; norm is none")
        if made.placement == "sum" and self.block == "sandglass":
            raise InputError("placement: sum is wide, no bottleneck, in block sandglass; allowed: branch")
        if made.placement == "sum" and all(stage.shortcut == "none" for stage in plan):
            raise InputError("placement: sum needs a shortcut between bottlenecks; these blocks have none")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.in_channels, self.resolution, self.resolution

    @property
    def last_width(self) -> int:
        """Channels of the last convolution: widened above 1.0, never narrowed."""
        return rounded_channels(self.last_channels * max(1.0, self.width), self.round_to)


def from_fields(fields: Mapping[str, Any]) -> NetworkSpec:
    """The spec whose `dataclasses.asdict` went through JSON.

    Raises:
        TypeError: for fields that no spec has.
    """
    made = {**fields, "rows": tuple(map(tuple, fields["rows"]))}
    if "intervention" in fields:
        made["intervention"] = Intervention(**fields["intervention"])
    return NetworkSpec(**made)


def rounded_channels(channels: int | float, multiple: int) -> int:
    """The nearest multiple, at least one, and never more than 10 % below.

    >>> rounded_channels(24 * 0.35, 8), rounded_channels(32 * 0.35, 8), rounded_channels(160 * 1.4, 8)
    (8, 16, 224)
    """
    nearest = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return nearest + multiple if nearest < 0.9 * channels else nearest


def stages(spec: NetworkSpec) -> list[Stage]:
    """The blocks of a spec, in order; a stage's stride is that of its first block."""
    plan: list[Stage] = []
    inputs = rounded_channels(spec.stem_channels * spec.width, spec.round_to)
    for expansion, channels, repeats, stride in spec.rows:
        outputs = rounded_channels(channels * spec.width, spec.round_to)
        for repeat in range(repeats):
            plan.append(_stage(spec, expansion, (inputs, outputs), stride if repeat == 0 else 1))
            inputs = outputs
    return _with_wide(spec, plan)


def _stage(spec: NetworkSpec, expansion: int | float, channels: tuple[int, int], stride: int) -> Stage:
    inputs, outputs = channels
    if spec.block in ("classic", "sandglass"):
        hidden, expands = max(1, round(outputs / expansion)), True
    elif spec.block == "separable":
        hidden, expands = inputs, False
    else:
        hidden, expands = round(inputs * expansion), expansion != 1
    fits = stride == 1 and inputs == outputs
    straight = "identity" if fits and spec.shortcut in ("bottleneck", "projected") else "none"
    shortcut = "projected" if spec.shortcut == "projected" and not fits else straight
    return Stage(expansion, inputs, hidden, outputs, stride, expands, shortcut)


def _with_wide(spec: NetworkSpec, plan: list[Stage]) -> list[Stage]:
    """Mark the blocks whose depthwise output fits the next block's expansion."""
    if spec.shortcut != "expansion":
        return plan
    fits = [a.hidden == b.hidden and b.expands for a, b in itertools.pairwise(plan)] + [False]
    return [dataclasses.replace(stage, gives_wide=gives) for stage, gives in zip(plan, fits, strict=True)]


V2 = NetworkSpec()
V1 = NetworkSpec(
    rows=V1_ROWS, block="separable", bottleneck_activation="relu6", shortcut="none", last_channels=0, dropout=0.001
)
V1_TENSORFLOW = dataclasses.replace(V1, padding="tensorflow", norm_epsilon=1e-3)
CIFAR = NetworkSpec(resolution=32, num_classes=10, stem_stride=1)
CIFAR_LARGE_MAPS = dataclasses.replace(CIFAR, rows=(TABLE_2[0], (6, 24, 2, 1), *TABLE_2[2:]))
"""As the common repositories train it: stride 1 in the stage of 24 channels too, so that the last maps are 4x4."""
TINY_IMAGENET = NetworkSpec(resolution=64, num_classes=200, stem_stride=1)
DIGITS = NetworkSpec(
    rows=((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 2, 2)),
    width=0.35, resolution=8, num_classes=10, in_channels=1, stem_stride=1, last_channels=128,
)  # fmt: skip
NETWORKS = {
    "mobilenet_v2": V2,
    "mobilenet_v1": V1,
    "mobilenet_v1_tensorflow": V1_TENSORFLOW,
    "cifar": CIFAR,
    "cifar_large_maps": CIFAR_LARGE_MAPS,
    "tiny_imagenet": TINY_IMAGENET,
    "digits": DIGITS,
}
"""Presets, not forks: each is the same spec with other words."""
