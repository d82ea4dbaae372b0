"""Intrinsic dimension from distances to nearest neighbours; one pass of neighbours serves every estimator.

None of them sees folding or partial collapse (a folded curve is still one-dimensional), and all read high dimensions
low: 2,000 points of a 50-dimensional Gaussian give about 31. Exact duplicates, which collapse makes, are set apart.
Estimates depend on ratios of distances alone, so that a cloud has the same at every scale; where all neighbours of
every point are equally far, as on a grid, the likelihood grows without end and the estimates are infinite.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from manifold_lab.core import domain
from manifold_lab.core.errors import InputError

CHUNK = 1 << 22
"""Numbers of differences between points that are held at a time."""
CANCELLED = 1e-5
"""Neighbours nearer than this share of the cloud's size are not told apart by differences of squares."""


@dataclass(frozen=True)
class Neighbours:
    """Sorted distances of each distinct point to its nearest others; `duplicates` is the share of points dropped."""

    distance: Float[np.ndarray, "points k"]
    duplicates: float

    def __post_init__(self) -> None:
        """Refuse what is none.

        Raises:
            InputError: for distances that are not finite, above zero and sorted, or a share outside of [0, 1).
        """
        found = domain.array("distance", self.distance, ndim=2)
        domain.number("duplicates", self.duplicates, 0, 1)
        if not found.size or not (found > 0).all() or (np.diff(found, axis=1) < 0).any():
            raise InputError("distance: distances of distinct points are needed, above 0 and sorted for every point")


def neighbours(points: Float[Tensor, "points channels"], k: int) -> Neighbours:
    """Find the k nearest neighbours of every distinct point, by brute force.

    Distances are taken between the neighbours found, not from differences of squares, and at a scale where squares
    neither vanish nor overflow; they are those of the points at their own scale where float64 can hold these.

    Raises:
        InputError: for points that are not finite, or if there are not more than k distinct ones.
    """
    domain.whole("k", k, 1)
    scaled, exponent = domain.unit_scale(domain.tensor("points", points, "points channels").detach().double())
    cloud = scaled.cpu().numpy()
    distinct = np.unique(cloud, axis=0)
    if len(distinct) <= k:
        raise InputError(f"k: {k} neighbours need more than {k} distinct points; there are {len(distinct)}")
    distance = _nearest(distinct, k)
    own = np.ldexp(distance, exponent)
    kept = own if np.isfinite(own).all() and (own > np.finfo(np.float64).tiny).all() else distance
    return Neighbours(kept, 1 - len(distinct) / len(cloud))


def _nearest(points: Float[np.ndarray, "points channels"], k: int) -> Float[np.ndarray, "points k"]:
    """Sorted distances to the k nearest: found by products of matrices, and one by one where these cancel."""
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415  (two seconds that only some users need)

    centred = points - points.mean(0)
    centred = centred / np.abs(centred).max()
    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(centred).kneighbors(return_distance=False)
    distance = _distances(points, index)
    doubtful = np.flatnonzero(distance[:, -1] < CANCELLED * np.abs(points - points.mean(0)).max())
    if not len(doubtful):
        return distance
    every = torch.from_numpy(points)
    for row in np.array_split(doubtful, -(-len(doubtful) * len(points) // CHUNK)):
        apart = torch.cdist(every[row], every, compute_mode="donot_use_mm_for_euclid_dist")
        apart[range(len(row)), row] = torch.inf
        index[row] = apart.topk(k, largest=False).indices.numpy()
    return _distances(points, index)


def _distances(
    points: Float[np.ndarray, "points channels"], index: Int[np.ndarray, "points k"]
) -> Float[np.ndarray, "points k"]:
    """Sorted distances of each point to those of its row of `index`, each scaled by its own largest difference."""
    size = max(1, CHUNK // (index.shape[1] * points.shape[1]))
    parts = []
    for start in range(0, len(points), size):
        difference = np.abs(points[index[start : start + size]] - points[start : start + size, None])
        largest = difference.max(-1)
        parts.append(largest * np.sqrt(((difference / largest[..., None]) ** 2).sum(-1)))
    return np.sort(np.concatenate(parts), axis=1)


def _log_ratio(found: Neighbours, far: int, near: int) -> Float[np.ndarray, " points"]:
    """Log of the distance to the `far`-th neighbour over that to the `near`-th.

    Raises:
        InputError: where the neighbours do not reach so far.
    """
    reach = found.distance.shape[1]
    if far > reach:
        raise InputError(f"k: {far} neighbours are needed and {reach} were found")
    return np.log(found.distance[:, far - 1] / found.distance[:, near - 1])


def two_nn(found: Neighbours, discard: int | float = 0.1) -> float:
    """Slope of -log(1 - F) against log(r2 / r1) through the origin, the largest ratios left out.

    Facco et al. 2017, Scientific Reports 7:12140. The dimension at the scale of the nearest neighbour.

    Raises:
        InputError: for fewer than two neighbours, or a share `discard` that leaves no point.
    """
    domain.number("discard", discard, 0, 1)
    log_ratio = np.sort(_log_ratio(found, 2, 1))
    count = len(log_ratio)
    kept = min(int(count * (1 - discard)), count - 1)  # the last point's survival is zero
    if kept < 1:
        raise InputError(f"discard: {discard} of {count} points leaves none; at least one is needed")
    survival = -np.log1p(-np.arange(1, kept + 1) / count)
    square = log_ratio[:kept] @ log_ratio[:kept]
    return float(log_ratio[:kept] @ survival / square) if square else np.inf


def maximum_likelihood(found: Neighbours, k: int) -> float:
    """Levina and Bickel's estimate from k neighbours, averaged by its inverse (MacKay and Ghahramani 2005).

    Raises:
        InputError: for fewer than two neighbours, or more than were found.
    """
    mean = _inverse_dimension(found, k).mean()
    return float(1 / mean) if mean else np.inf


def likelihood_error(found: Neighbours, k: int) -> float:
    """Standard error of `maximum_likelihood` (for k = 2, of TwoNN's slope, nearly), as if the points were independent.

    By the delta method from the spread over points; nan where the estimate is infinite. Does not see the estimators'
    bias, which is larger.

    Raises:
        InputError: as `maximum_likelihood`.
    """
    inverse = _inverse_dimension(found, k)
    if len(inverse) < 2 or not inverse.mean():
        return np.nan
    return float(inverse.std(ddof=1) / np.sqrt(len(inverse)) / inverse.mean() ** 2)


def _inverse_dimension(found: Neighbours, k: int) -> Float[np.ndarray, " points"]:
    """Mean log of r_k / r_j over the nearer neighbours j of each point."""
    domain.whole("k", k, 2)
    return np.stack([_log_ratio(found, k, j) for j in range(1, k)]).sum(0) / (k - 1)


def scale_scan(found: Neighbours) -> dict[int, float]:
    """Dimension against scale: for n1 = 1, 2, 4, ... the likelihood of r_{2 n1} / r_{n1}, as long as they reach.

    GRIDE, Denti et al. 2022, Scientific Reports 12:20005. A dimension that falls with scale is noise, one that rises
    is curvature or several sheets.
    """
    reach = found.distance.shape[1]
    order = [2**i for i in range(reach.bit_length()) if 2 ** (i + 1) <= reach]
    return {n1: _gride(_log_ratio(found, 2 * n1, n1), n1) for n1 in order}


def _gride(log_ratio: np.ndarray, n1: int) -> float:
    ties = log_ratio == 0
    if ties.all():
        return np.inf

    def slope(d: float) -> float:
        reach = -np.expm1(-d * log_ratio)
        pull = np.where(ties, 1 / d, log_ratio / np.where(ties, 1, reach)) if n1 > 1 else 0 * log_ratio
        return float(np.mean(1 / d + (n1 - 1) * pull - (2 * n1 - 1) * log_ratio))

    from scipy import optimize  # noqa: PLC0415

    centre = log_ratio.mean()
    return float(optimize.brentq(slope, 1e-3 / centre, 1e3 / centre))
