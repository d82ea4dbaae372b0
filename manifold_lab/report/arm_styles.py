"""Colour and marker of every arm and decoder, the same in every figure.

Six colours, told apart by lightness alone: in grey, and under every kind of colour blindness. A colour and a marker
together name one arm. The paper's own network is a blue circle whatever it is compared with.
"""

from collections.abc import Mapping

Style = tuple[str, str]
"""Colour and marker."""

BLACK, WINE, BLUE, VERMILION, SKY, YELLOW = "#1C1C1C", "#6A1B4D", "#005A9C", "#CC5200", "#45A0D6", "#D9AE00"
"""From dark to light, in steps of CIE's lightness."""
PAPER: Style = (BLUE, "o")
ARM_STYLES: Mapping[str, Style] = {
    # the paper's own network, by what it is compared with
    "linear": PAPER, "bottleneck": PAPER, "inverted": PAPER, "both": PAPER,
    # the activation of the bottleneck
    "relu6": (VERMILION, "s"), "relu": (YELLOW, "v"), "leaky_relu": (WINE, "D"), "gelu": (BLACK, "^"),
    "hardswish": (SKY, "P"), "silu": (BLACK, "x"), "tanh": (VERMILION, "h"),
    # the shortcut
    "expansion": (VERMILION, "D"), "none": (YELLOW, "^"), "projected": (WINE, "X"),
    # the block
    "classic": (VERMILION, "v"), "separable": (SKY, "^"), "sandglass": (WINE, "P"),
    # where ReLU6 stands in the block
    "depthwise only": (BLACK, "v"), "expansion only": (SKY, "v"), "neither": (YELLOW, "X"),
    # the interventions on the bottleneck
    "leaky_0.5": (WINE, "<"), "leaky_0.1": (WINE, ">"),
    "noise_0.961": (SKY, "<"), "noise_0.804": (SKY, ">"), "noise_0.734": (SKY, "D"), "noise_0.734_shared": (SKY, "X"),
    "half_gain": (YELLOW, "p"), "abs": (BLACK, "o"),
    "renormed": (VERMILION, "P"), "shift": (VERMILION, "<"), "after_sum": (VERMILION, ">"),
}  # fmt: skip
ARM_WORDS: Mapping[str, str] = {
    "leaky_0.5": "leaky 0.5", "leaky_0.1": "leaky 0.1",
    "noise_0.961": "noise, as leaky 0.5", "noise_0.804": "noise, as leaky 0.1",
    "noise_0.734": "noise, as ReLU",
    "noise_0.734_shared": "the same, one for an image", "half_gain": "half the channels × 0.1", "abs": "|u|",
    "renormed": "relu6, then a norm", "shift": "relu6, bias from 2", "after_sum": "relu6 behind the sum",
}  # fmt: skip
"""Arms as a figure names them, where their own name is a key."""
LESION_STYLES: Mapping[str, Style] = {
    "relu6_bottleneck": ARM_STYLES["relu6"],
    "no_shortcut": ARM_STYLES["none"],
    "linear_expansion": ARM_STYLES["depthwise only"],
}
"""A lesion looks like the arm that is trained with the same change."""
DECODER_STYLES: Mapping[str, Style] = {
    "pinv": (VERMILION, "o"),
    "pinv_gain": (YELLOW, "s"),
    "pinv_scale": (WINE, "s"),
    "affine": (BLACK, "D"),
    "exact": (BLUE, "^"),
    "preimage": (SKY, "*"),
}
OTHER_STYLES: tuple[Style, ...] = tuple(
    zip((BLUE, VERMILION, BLACK, SKY, WINE, YELLOW) * 2, "os^DvPX<>phd", strict=True)
)
"""Of arms that have no style of their own."""


def styles_of(arms: Mapping[str, object]) -> dict[str, Style]:
    """The styles of these arms, in their order."""
    return {arm: ARM_STYLES[arm] for arm in arms}


def label_of(arm: str) -> str:
    """An arm as a figure names it."""
    return ARM_WORDS.get(arm, arm)
