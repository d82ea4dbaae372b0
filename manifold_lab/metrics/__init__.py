"""Information lost, measured: pure functions of tensors, per point first, that know no theory.

What a metric does *not* see stands in its docstring.
"""

from manifold_lab.metrics.activity import (
    active_count,
    collapsed_pairs,
    dimension_loss,
    preserved,
    preserved_on_manifold,
)
from manifold_lab.metrics.dimension import Neighbours, maximum_likelihood, neighbours, scale_scan, two_nn
from manifold_lab.metrics.information import known_channel_information
from manifold_lab.metrics.neighbourhood import (
    continuity,
    information_imbalance,
    knn_r2,
    linear_r2,
    trustworthiness,
)
from manifold_lab.metrics.spectrum import effective_rank, participation_ratio

__all__ = [
    "Neighbours",
    "active_count",
    "collapsed_pairs",
    "continuity",
    "dimension_loss",
    "effective_rank",
    "information_imbalance",
    "knn_r2",
    "known_channel_information",
    "linear_r2",
    "maximum_likelihood",
    "neighbours",
    "participation_ratio",
    "preserved",
    "preserved_on_manifold",
    "scale_scan",
    "trustworthiness",
    "two_nn",
]
