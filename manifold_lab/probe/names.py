"""What the probe's options can be, by name, known before torch is loaded."""

from manifold_lab.models.specs import NETWORKS

NONLINEARITY, BOTTLENECK, CONVOLUTION, LINEAR_LAYER, NORM, BLOCK_KIND = LAYER_KINDS = (
    "nonlinearity", "bottleneck", "convolution", "linear", "norm", "block",
)  # fmt: skip
"""What layers can be asked for by. `bottleneck`: the norm behind a 1x1 convolution to fewer channels, before any
activation. `block`: the smallest modules that hold several convolutions or linear layers."""
MEASURE_NAMES = (
    "active", "rank", "certificate", "spectrum", "dimension", "preservation", "recovery", "information",
)  # fmt: skip
"""The names of `measures.MEASURES`."""
POSITIONS = 2000
"""Positions kept of a layer, where not told otherwise."""
PER_IMAGE = 64
"""Positions of every image that a covariance is made from, where not told otherwise; 0 stands for all."""
CURVE_POINTS, PIXEL_SPACE = 200, "pixel"
"""Of the curve that information is measured along, where not told otherwise."""
PUBLISHED, NOISE = "published", "random"
"""Words in place of a file of weights and of data."""
TIMM, TORCHVISION = "timm:", "torchvision:"
HELP = f"a preset ({', '.join(NETWORKS)}), {TIMM}NAME, {TORCHVISION}NAME, MODULE:CALLABLE, or the key of a stored run"
