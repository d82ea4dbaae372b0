"""How much information an activation destroys on a low-dimensional manifold, and what that costs.

The one-page public API; loads neither matplotlib nor torchvision.
"""

from manifold_lab import metrics, theory
from manifold_lab.activations import ACTIVATIONS, Activation, custom, named
from manifold_lab.core.config import key, stream
from manifold_lab.core.errors import InputError
from manifold_lab.core.statistics import Estimate, Row
from manifold_lab.metrics.active_rows import ActiveRows, active_rows
from manifold_lab.random_layer.embeddings import LAWS, Embedding, draw
from manifold_lab.random_layer.layer import DECODERS, Channel
from manifold_lab.random_layer.manifolds import KINDS, ManifoldSpec, Points, sample
from manifold_lab.random_layer.monte_carlo import Survey, layers, measure
from manifold_lab.random_layer.planar_exact import Cones, plane_curve, reconstruct

__all__ = [
    "ACTIVATIONS",
    "DECODERS",
    "KINDS",
    "LAWS",
    "Activation",
    "ActiveRows",
    "Channel",
    "Cones",
    "Embedding",
    "Estimate",
    "InputError",
    "ManifoldSpec",
    "Points",
    "Row",
    "Survey",
    "active_rows",
    "custom",
    "draw",
    "key",
    "layers",
    "measure",
    "metrics",
    "named",
    "plane_curve",
    "reconstruct",
    "sample",
    "stream",
    "theory",
]
