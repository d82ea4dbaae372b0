"""Layer by layer through any torch network: what is active, invertible, of which dimension, and what can be had back.

`Probe` watches a network while it runs and keeps no activation; `MEASURES` says what there is to see, and what each
measure does not see.
"""

from typing import TYPE_CHECKING

from manifold_lab.core.lazy import lazy_imports

if TYPE_CHECKING:
    from manifold_lab.probe.curve import Curve, information_along
    from manifold_lab.probe.hooks import Probe
    from manifold_lab.probe.layer import LayerRecord, Sampling
    from manifold_lab.probe.measures import MEASURES, LayerRow
    from manifold_lab.probe.names import LAYER_KINDS

__all__, __getattr__ = lazy_imports(__name__)
