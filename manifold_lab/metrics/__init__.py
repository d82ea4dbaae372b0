"""Information lost, measured: pure functions of tensors, per point first, that know no theory.

What a metric does *not* see stands in its docstring.
"""

from typing import TYPE_CHECKING

from manifold_lab.core.lazy import lazy_imports

if TYPE_CHECKING:
    from manifold_lab.metrics.activity import (
        active_count,
        collapsed_pairs,
        dimension_loss,
        preserved,
        preserved_on_manifold,
    )
    from manifold_lab.metrics.dimension import (
        Neighbours,
        likelihood_error,
        maximum_likelihood,
        neighbours,
        scale_scan,
        two_nn,
    )
    from manifold_lab.metrics.information import known_channel_information
    from manifold_lab.metrics.neighbourhood import continuity, information_imbalance, knn_r2, linear_r2, trustworthiness
    from manifold_lab.metrics.spectrum import (
        covariance_shares,
        directions_for,
        effective_rank,
        effective_rank_of,
        participation_ratio,
        participation_ratio_of,
    )

__all__, __getattr__ = lazy_imports(__name__)
