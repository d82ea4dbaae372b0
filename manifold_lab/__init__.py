"""How much information an activation destroys on a low-dimensional manifold, and what that costs.

The one-page public API; loads neither matplotlib nor torchvision.
"""

from manifold_lab import metrics, theory
from manifold_lab.activations import ACTIVATIONS, Activation, custom, named
from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError
from manifold_lab.core.random_streams import stream
from manifold_lab.core.statistics import Estimate, ResultRow
from manifold_lab.metrics.active_rows import ActiveRows, active_rows
from manifold_lab.random_layer.embeddings import LAWS, Embedding, draw_embedding
from manifold_lab.random_layer.layer import DECODERS, RandomLayer
from manifold_lab.random_layer.manifolds import MANIFOLDS, ManifoldSpec, Points, sample
from manifold_lab.random_layer.monte_carlo import MonteCarlo, layers, measure_layer
from manifold_lab.random_layer.planar_exact import Cones, plane_curve, reconstruct

__all__ = [
    "ACTIVATIONS",
    "DECODERS",
    "LAWS",
    "MANIFOLDS",
    "Activation",
    "ActiveRows",
    "Cones",
    "Embedding",
    "Estimate",
    "InputError",
    "ManifoldSpec",
    "MonteCarlo",
    "Points",
    "RandomLayer",
    "ResultRow",
    "active_rows",
    "custom",
    "draw_embedding",
    "key",
    "layers",
    "measure_layer",
    "metrics",
    "named",
    "plane_curve",
    "reconstruct",
    "sample",
    "stream",
    "theory",
]
