"""Intrinsic dimension from distances to nearest neighbours; one pass of neighbours serves every estimator.

None of them sees folding or partial collapse (a folded curve is still one-dimensional), and all read high dimensions
low: 2,000 points of a 50-dimensional Gaussian give about 31. Exact duplicates, which collapse makes, are set apart.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from manifold_lab.core.errors import InputError


@dataclass(frozen=True)
class Neighbours:
    """Sorted distances of each distinct point to its nearest others; `duplicates` is the share of points dropped."""

    distance: Float[np.ndarray, "points k"]
    duplicates: float


def neighbours(points: Float[Tensor, "points channels"], k: int) -> Neighbours:
    """Find the k nearest neighbours of every distinct point, by brute force.

    Raises:
        InputError: if there are not more than k distinct points.
    """
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415  (two seconds that only some users need)

    cloud = points.cpu().numpy()
    distinct = np.unique(cloud, axis=0)
    if len(distinct) <= k:
        raise InputError(f"k: {k} neighbours need more than {k} distinct points; there are {len(distinct)}")
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(distinct)
    distance, _ = search.kneighbors()
    return Neighbours(distance.astype(np.float64), 1 - len(distinct) / len(cloud))


def two_nn(found: Neighbours, discard: float = 0.1) -> float:
    """Slope of -log(1 - F) against log(r2 / r1) through the origin, the largest ratios left out.

    Facco et al. 2017, Scientific Reports 7:12140. The dimension at the scale of the nearest neighbour.
    """
    log_ratio = np.sort(np.log(found.distance[:, 1] / found.distance[:, 0]))
    count = len(log_ratio)
    kept = int(count * (1 - discard))
    survival = -np.log1p(-np.arange(1, kept + 1) / count)
    return float(log_ratio[:kept] @ survival / (log_ratio[:kept] @ log_ratio[:kept]))


def maximum_likelihood(found: Neighbours, k: int) -> float:
    """Levina and Bickel's estimate from k neighbours, averaged by its inverse (MacKay and Ghahramani 2005)."""
    distance = found.distance[:, :k]
    inverse = np.log(distance[:, -1:] / distance[:, :-1]).sum(1) / (k - 1)
    return float(1 / inverse.mean())


def likelihood_error(found: Neighbours, k: int) -> float:
    """Standard error of `maximum_likelihood` (for k = 2, of TwoNN's slope, nearly), as if the points were independent.

    By the delta method from the spread over points. Does not see the estimators' bias, which is larger.
    """
    distance = found.distance[:, :k]
    inverse = np.log(distance[:, -1:] / distance[:, :-1]).sum(1) / (k - 1)
    return float(inverse.std(ddof=1) / np.sqrt(len(inverse)) / inverse.mean() ** 2)


def scale_scan(found: Neighbours) -> dict[int, float]:
    """Dimension against scale: for n1 = 1, 2, 4, ... the likelihood of r_{2 n1} / r_{n1}, as long as they reach.

    GRIDE, Denti et al. 2022, Scientific Reports 12:20005. A dimension that falls with scale is noise, one that rises
    is curvature or several sheets.
    """
    reach = found.distance.shape[1]
    order = [2**i for i in range(reach.bit_length()) if 2 ** (i + 1) <= reach]
    return {n1: _gride(np.log(found.distance[:, 2 * n1 - 1] / found.distance[:, n1 - 1]), n1) for n1 in order}


def _gride(log_ratio: np.ndarray, n1: int) -> float:
    def slope(d: float) -> float:
        pull = log_ratio / -np.expm1(-d * log_ratio) if n1 > 1 else 0 * log_ratio
        return float(np.mean(1 / d + (n1 - 1) * pull - (2 * n1 - 1) * log_ratio))

    from scipy import optimize  # noqa: PLC0415

    positive = log_ratio[log_ratio > 0].mean()
    return float(optimize.brentq(slope, 1e-3 / positive, 1e3 / positive))
