"""MobileNetV2, its ablations and its rivals: specs, networks, weights, costs, memory, lesions."""

from typing import TYPE_CHECKING

from manifold_lab.core.lazy import lazy_imports

if TYPE_CHECKING:
    from manifold_lab.models.mobilenet import build
    from manifold_lab.models.specs import NETWORKS, NetworkSpec
    from manifold_lab.models.weights import fetch_weights, load_weights, mobilenet_v2, save_weights

__all__, __getattr__ = lazy_imports(__name__)
