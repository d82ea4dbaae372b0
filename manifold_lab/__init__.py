"""How much information an activation destroys on a low-dimensional manifold, and what that costs.

The one-page public API. Each name is imported when it is first used, so that importing the package loads no library.
"""

import sys
from typing import TYPE_CHECKING

from manifold_lab.core.lazy import lazy_imports
from manifold_lab.core.starting import stop_at_once

if TYPE_CHECKING:
    from manifold_lab import metrics, models, theory
    from manifold_lab.activations import ACTIVATIONS, Activation, custom, named
    from manifold_lab.core.config import key
    from manifold_lab.core.errors import InputError
    from manifold_lab.core.random_streams import stream
    from manifold_lab.core.statistics import Estimate, ResultRow
    from manifold_lab.metrics.active_rows import ActiveRows, active_rows
    from manifold_lab.models.mobilenet import build
    from manifold_lab.models.specs import NetworkSpec
    from manifold_lab.probe import Probe
    from manifold_lab.random_layer.embeddings import Embedding, draw_embedding
    from manifold_lab.random_layer.layer import RandomLayer
    from manifold_lab.random_layer.manifolds import Points, sample
    from manifold_lab.random_layer.monte_carlo import layers, measure_layer
    from manifold_lab.random_layer.planar_exact import Cones, plane_curve, reconstruct
    from manifold_lab.random_layer.specs import DECODERS, LAWS, MANIFOLDS, ManifoldSpec, MonteCarlo
    from manifold_lab.spiral.result import SpiralResult, measure_spiral
    from manifold_lab.sweeps.compare import compare
    from manifold_lab.sweeps.study import Study

if sys.argv[:1] == ["-m"]:  # so only while python -m looks for one of our modules
    stop_at_once()

__all__, __getattr__ = lazy_imports(__name__)
