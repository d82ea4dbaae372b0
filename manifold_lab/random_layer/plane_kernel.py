"""The compiled walk around the plane that decodes every point of a batch of layers, cone by cone."""

import math
from typing import Any

import numpy as np

from manifold_lab.core.compiled import compiled

fused = compiled(error_model="numpy", fastmath={"contract"})


@fused
def decode_plane(layers: Any, slopes: tuple[float, float], curve: Any, result: Any) -> None:
    """Decode every point of the plane by the linear inverse, going round by angle with one 2 x 2 matrix.

    Args:
        layers: T (draws, ambient, 2) and its linear inverse (draws, 2, ambient).
        slopes: of the activation, left and right of 0.
        curve: angles (points), sorted, coordinates (2, points) in their order, and that order.
        result: (draws, points, 2), written.
    """
    angle, (u, v), order = curve
    order = order.view(np.uint64)  # so that no place is taken for one from the end
    points, rows = len(angle), layers[0].shape[1]
    begins = first_of_buckets(angle)
    latest, earlier, step = np.full(points + 1, -1), np.empty(2 * rows, np.int64), np.empty((2 * rows, 4))
    for draw in range(len(result)):
        a, b, c, d = edges((layers[0][draw], layers[1][draw]), slopes, (angle, begins), (latest, earlier, step))
        decoded, first = result[draw], 0
        while first < points:
            edge = latest[first]
            latest[first] = -1
            while edge >= 0:
                a, b, c, d = a + step[edge, 0], b + step[edge, 1], c + step[edge, 2], d + step[edge, 3]
                edge = earlier[edge]
            last = first + 1
            while last < points and latest[last] < 0:
                last += 1
            for place in range(first, last):
                point = order[place]
                decoded[point, 0] = a * u[place] + b * v[place]
                decoded[point, 1] = c * u[place] + d * v[place]
            first = last
        latest[points] = -1


@fused
def first_of_buckets(angle: Any) -> Any:
    """For as many equal parts of the turn as there are angles: how many angles lie before each, and all of them."""
    begins = np.empty(len(angle) + 2, np.int64)
    place = 0
    for bucket in range(len(angle)):
        while place < len(angle) and (angle[place] + np.pi) * (len(angle) / (2 * np.pi)) < bucket:
            place += 1
        begins[bucket] = place
    begins[len(angle) :] = len(angle)
    return begins


@fused
def edges(layer: Any, slopes: tuple[float, float], curve: Any, found: Any) -> Any:
    """The matrix of the first cone; the step at every edge is kept in a list for the point that it lies before.

    An edge switches a row from left to right slope or back, as half a turn begins or ends in which <row, x> > 0.
    """
    (matrix, inverse), (left, right), (latest, earlier, step) = layer, slopes, found
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for row in range(len(matrix)):
        u, v, p, q = matrix[row, 0], matrix[row, 1], inverse[0, row], inverse[1, row]
        start = math.atan2(v, u) - np.pi / 2
        start += 2 * np.pi if start < -np.pi else 0.0
        weight = right if start >= 0 else left
        a, b, c, d = a + weight * p * u, b + weight * p * v, c + weight * q * u, d + weight * q * v
        end = start - np.pi if start >= 0 else start + np.pi
        for edge, at, change in ((2 * row, start, right - left), (2 * row + 1, end, left - right)):
            step[edge, 0], step[edge, 1] = change * p * u, change * p * v
            step[edge, 2], step[edge, 3] = change * q * u, change * q * v
            place = before(curve, at)
            earlier[edge], latest[place] = latest[place], edge
    return a, b, c, d


@fused
def before(curve: Any, at: float) -> int:
    """How many angles lie before one: by halving within its bucket, whose neighbours rounding may have moved it to."""
    angle, begins = curve
    bucket = min(max(int((at + np.pi) * (len(angle) / (2 * np.pi))), 0), len(angle) - 1)
    low, high = begins[max(bucket - 1, 0)], begins[bucket + 2]
    while low < high:
        middle = (low + high) // 2
        if angle[middle] < at:
            low = middle + 1
        else:
            high = middle
    return low
