"""How much information an activation destroys on a low-dimensional manifold, and what that costs.

The one-page public API; loads neither matplotlib nor torchvision.
"""

from manifold_lab import metrics, theory
from manifold_lab.activations import ACTIVATIONS, Activation, custom, named
from manifold_lab.active_rows import ActiveRows, active_rows
from manifold_lab.channel import DECODERS, Channel
from manifold_lab.cones import Cones, plane_curve, reconstruct
from manifold_lab.embeddings import LAWS, Embedding, draw
from manifold_lab.errors import InputError
from manifold_lab.manifolds import KINDS, ManifoldSpec, Points, sample
from manifold_lab.spec import key, stream
from manifold_lab.stats import Estimate, Row
from manifold_lab.survey import Survey, layers, measure

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
