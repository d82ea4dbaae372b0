"""Closed forms, with the paper's numbering: what should be lost (Sandler et al. 2018, arXiv:1801.04381, Appendix A).

Throughout, y = ReLU(Tx) with T of shape (ambient m, inputs n); c is the number of active rows at a point and k the
intrinsic dimension of the manifold on which x lies.
"""

from typing import TYPE_CHECKING

from manifold_lab.core.lazy import lazy_imports

if TYPE_CHECKING:
    from manifold_lab.theory.bias import (
        basis_bias,
        facet_bias,
        is_omnidirectional,
        largest_planar_bias,
        spanning_margin,
    )
    from manifold_lab.theory.certificates import Certificate, RectifiedLayer, certify
    from manifold_lab.theory.counting import (
        BoundChain,
        active_probability,
        collapsed_fraction,
        dimension_loss_of,
        expected_collapsed_pairs,
        inactive_pairs,
        information_dimension_loss,
        log2_collapsed_fraction,
        paper_bounds,
        poisson_binomial,
        preserved_fraction,
        preserved_of,
    )
    from manifold_lab.theory.frames import frame_algorithm, frame_bounds, frame_rate
    from manifold_lab.theory.geometry import (
        arc_cosine_kernel,
        expected_log_volume,
        infinite_width_distance,
        inverse_stability_bounds,
        pullback_coefficients,
        smallest_cell_singular_value,
    )
    from manifold_lab.theory.injectivity import (
        VERTEX_LIMIT,
        fewest_active_found,
        injectivity_lower_bound,
        injectivity_probability,
        is_injective,
        tukey_depth,
    )
    from manifold_lab.theory.readability import channel_r2, noise_for
    from manifold_lab.theory.reconstruction import (
        affine_r2,
        best_scale,
        exact_decoder_error,
        gain,
        pinv_error,
        pinv_variance,
    )

__all__, __getattr__ = lazy_imports(__name__)
