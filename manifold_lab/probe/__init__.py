"""Layer by layer through any torch network: what is active, invertible, of which dimension, and what can be had back.

`Probe` watches a network while it runs and keeps no activation; `MEASURES` says what there is to see, and what each
measure does not see.
"""

from manifold_lab.probe.curve import Curve, information_along
from manifold_lab.probe.hooks import Probe
from manifold_lab.probe.layer import LayerRecord, Sampling
from manifold_lab.probe.layer_types import LAYER_KINDS
from manifold_lab.probe.measures import MEASURES, LayerRow

__all__ = ["LAYER_KINDS", "MEASURES", "Curve", "LayerRecord", "LayerRow", "Probe", "Sampling", "information_along"]
