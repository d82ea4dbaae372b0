"""The compiled pass over the points of a batch of layers, from outputs y to sums of errors.

Points are taken in blocks that stay in the cache. Within a block every loop runs over neighbouring points, so that the
compiler turns it into vector instructions: the n x n Gram matrix of each point's active rows, its factors L D L', the
least-squares solution. Where fewer than n rows are active, they are made orthogonal one by one instead. A point whose
pivots are too far apart for either is left to the caller, who has a singular value decomposition for it.
"""

from typing import Any

import numpy as np

from manifold_lab.core.compiled import compiled

BLOCK = 128
"""Points at a time."""
PIVOT = 1e-6
"""Least pivot over the largest that counts as well conditioned: solutions are then right to about 1e-8, and their
squared error to 1e-16."""
(CROSS, SQUARE, ENERGY, KEPT_CROSS, KEPT_SQUARE, KEPT_ENERGY, KEPT, ON_MANIFOLD, LOST_DIMENSION, EXACT) = range(10)
"""Columns of the sums over points. x_hat.x, |x_hat|^2 and |x|^2 for x_hat decoded by the linear inverse, over all
points and over preserved ones; points preserved in R^n and on the manifold; dimensions lost; |x_hat - x|^2 of the
least-squares decoder on the active rows."""

fused = compiled(error_model="numpy", fastmath={"contract"})


@fused
def sum_over_points(points: Any, layers: Any, intrinsic: int, sums: Any, marks: Any, unsure: Any) -> None:
    """Add every draw's points up.

    Args:
        points: x (inputs, points); the images y, T x as read back from them, and which of them are active, each
            (draws, ambient, points).
        layers: T (draws, ambient, inputs), its linear inverse (draws, inputs, ambient), and the bias.
        intrinsic: dimension k of the manifold.
        sums: (draws, 10), written by the columns above.
        marks: (draws, points), written: one number for each image, equal for equal images.
        unsure: (draws, points), written: points whose conditioning is bad, left out of the sums that need a solution.
    """
    x, y, value, active = points
    matrix, inverse, bias = layers
    inputs, total = x.shape
    gram = np.empty((inputs * (inputs + 1) // 2, BLOCK))
    solution, decoded = np.empty((inputs, BLOCK)), np.empty((inputs, BLOCK))
    count, on, share = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    for draw in range(len(y)):
        for start in range(0, total, BLOCK):
            end = min(start + BLOCK, total)
            seen = (y[draw, :, start:end], value[draw, :, start:end], active[draw, :, start:end])
            work = (gram, solution, decoded, count, on)
            accumulate(seen, (matrix[draw], inverse[draw], bias), work, marks[draw, start:end])
            factor(gram, share, end - start)
            solve(gram, solution, end - start)
            finish(
                (x[:, start:end], seen[1], seen[2]), matrix[draw], (solution, decoded, count, share), intrinsic,
                sums[draw], unsure[draw, start:end],
            )  # fmt: skip


@fused
def accumulate(seen: Any, layer: Any, work: Any, marks: Any) -> None:
    """Over the rows of T: Gram matrix and right-hand side of each point, its linear decoding, its active rows."""
    y, value, active = seen
    matrix, inverse, bias = layer
    gram, right, decoded, count, on = work
    ambient, width = y.shape
    inputs = matrix.shape[1]
    gram[:], right[:], decoded[:], count[:], marks[:] = 0, 0, 0, 0, 0
    for row in range(ambient):
        weight = 1.5 + np.sin(row + 1.0)
        for p in range(width):
            on[p] = 1.0 if active[row, p] else 0.0
            count[p] += on[p]
            marks[p] += weight * y[row, p]
        place = 0
        for i in range(inputs):
            entry, back = matrix[row, i], inverse[i, row]
            for p in range(width):
                right[i, p] += entry * (value[row, p] if active[row, p] else 0.0)
                decoded[i, p] += back * (y[row, p] - bias)
            for j in range(i + 1):
                product = entry * matrix[row, j]
                for p in range(width):
                    gram[place, p] += product * on[p]
                place += 1


@fused
def factor(gram: Any, share: Any, width: int) -> None:
    """Replace every point's Gram matrix by L and, on the diagonal, D; `share` gets the least pivot over the largest."""
    inputs = int(np.sqrt(2 * len(gram)))
    for i in range(inputs):
        row = i * (i + 1) // 2
        for j in range(i + 1):
            other = j * (j + 1) // 2
            for k in range(j):
                pivot = k * (k + 1) // 2 + k
                for p in range(width):
                    gram[row + j, p] -= gram[row + k, p] * gram[other + k, p] * gram[pivot, p]
            if j < i:
                for p in range(width):
                    gram[row + j, p] /= gram[other + j, p]
    for p in range(width):
        least, most = gram[0, p], gram[0, p]
        for i in range(1, inputs):
            found = gram[i * (i + 1) // 2 + i, p]
            least, most = min(least, found), max(most, found)
        share[p] = least / most


@fused
def solve(gram: Any, right: Any, width: int) -> None:
    """Solve L D L' x = right for every point, in place."""
    inputs = len(right)
    for i in range(inputs):
        for j in range(i):
            for p in range(width):
                right[i, p] -= gram[i * (i + 1) // 2 + j, p] * right[j, p]
    for i in range(inputs - 1, -1, -1):
        for p in range(width):
            right[i, p] /= gram[i * (i + 1) // 2 + i, p]
        for j in range(i + 1, inputs):
            for p in range(width):
                right[i, p] -= gram[j * (j + 1) // 2 + i, p] * right[j, p]


@fused
def finish(seen: Any, matrix: Any, found: Any, intrinsic: int, sums: Any, unsure: Any) -> None:
    """Add a block of points to the sums of its draw."""
    x, value, active = seen
    solution, decoded, count, share = found
    inputs, width = x.shape
    basis, along = np.empty((inputs, inputs)), np.empty(inputs)
    for p in range(width):
        cross, square, energy = 0.0, 0.0, 0.0
        for i in range(inputs):
            cross += decoded[i, p] * x[i, p]
            square += decoded[i, p] * decoded[i, p]
            energy += x[i, p] * x[i, p]
        sums[CROSS] += cross
        sums[SQUARE] += square
        sums[ENERGY] += energy
        sums[ON_MANIFOLD] += count[p] >= min(inputs, intrinsic + 1)
        sums[LOST_DIMENSION] += max(intrinsic - count[p], 0.0)
        full = count[p] >= inputs
        if full:
            unsure[p] = not share[p] > PIVOT  # true for NaN too
        else:
            unsure[p] = not project(matrix, value[:, p], active[:, p], (basis, along), solution[:, p])
        if unsure[p]:
            continue
        for i in range(inputs):
            sums[EXACT] += (solution[i, p] - x[i, p]) ** 2
        if full:
            sums[KEPT] += 1
            sums[KEPT_CROSS] += cross
            sums[KEPT_SQUARE] += square
            sums[KEPT_ENERGY] += energy


@fused
def project(matrix: Any, value: Any, active: Any, work: Any, solution: Any) -> bool:
    """Smallest solution where fewer than n rows are active, by Gram and Schmidt; whether they are independent."""
    basis, along = work
    inputs, rank = matrix.shape[1], 0
    solution[:] = 0
    for row in range(len(matrix)):
        if not active[row]:
            continue
        left, before = value[row], 0.0
        for i in range(inputs):
            basis[rank, i] = matrix[row, i]
            before += matrix[row, i] * matrix[row, i]
        for k in range(rank):
            overlap = 0.0
            for i in range(inputs):
                overlap += basis[rank, i] * basis[k, i]
            for i in range(inputs):
                basis[rank, i] -= overlap * basis[k, i]
            left -= overlap * along[k]
        after = 0.0
        for i in range(inputs):
            after += basis[rank, i] * basis[rank, i]
        if not after > PIVOT * before:
            return False
        along[rank] = left / np.sqrt(after)
        for i in range(inputs):
            basis[rank, i] /= np.sqrt(after)
            solution[i] += along[rank] * basis[rank, i]
        rank += 1
    return True


@compiled()
def equal_pairs(marks: Any, order: Any, y: Any, pairs: Any) -> None:
    """Add up, for each draw, the ordered pairs of points that have exactly the same image y (draws, ambient, points).

    Equal images have equal marks, so that the `order` that sorts the marks makes them neighbours.
    """
    for draw in range(len(y)):
        run = 1
        for place in range(1, order.shape[1]):
            one, other = order[draw, place - 1], order[draw, place]
            same = marks[draw, one] == marks[draw, other]
            row = 0
            while same and row < y.shape[1]:
                same = y[draw, row, one] == y[draw, row, other]
                row += 1
            if same:
                run += 1
            else:
                pairs[draw] += run * (run - 1)
                run = 1
        pairs[draw] += run * (run - 1)


@compiled()
def apply_maps(cones: Any, points: Any, result: Any) -> None:
    """Apply to each point of the plane the 2 x 2 matrix of the cone that it lies in.

    Args:
        cones: the number of points before each edge (draws, edges), the matrices row by row (4, draws, edges + 1).
        points: coordinates (2, points) in the order of angles, and that order.
        result: (draws, points, 2), written.
    """
    edges, maps = cones
    coordinates, order = points
    for draw in range(len(edges)):
        first = 0
        for cone in range(maps.shape[2]):
            last = edges[draw, cone] if cone < edges.shape[1] else len(order)
            a, b, c, d = maps[0, draw, cone], maps[1, draw, cone], maps[2, draw, cone], maps[3, draw, cone]
            for place in range(first, last):
                u, v, point = coordinates[0, place], coordinates[1, place], order[place]
                result[draw, point, 0] = a * u + b * v
                result[draw, point, 1] = c * u + d * v
            first = last
