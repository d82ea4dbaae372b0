"""Layer by layer through any torch network: what is active, invertible, of which dimension, and what can be had back.

`Probe` watches a network while it runs and keeps no activation; `MEASURES` says what there is to see, and what each
measure does not see.
"""

from manifold_lab.layerwise.layer import Layer, Sampling
from manifold_lab.layerwise.measures import MEASURES, Row
from manifold_lab.layerwise.sites import KINDS
from manifold_lab.layerwise.watch import Probe

__all__ = ["KINDS", "MEASURES", "Layer", "Probe", "Row", "Sampling"]
