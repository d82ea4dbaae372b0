"""The compiled pass over the points of a batch of layers, from outputs y to sums of errors.

Points are taken in blocks that stay in the cache. Within a block every loop runs over neighbouring points of contiguous
buffers, a fixed number of them, so that the compiler turns it into vector instructions: the n x n Gram matrix of each
point's active rows, its factors L D L', the least-squares solution. Where fewer than n rows are active, it is the Gram
matrix of these rows with each other instead. A point whose pivots are too far apart for either is left to the caller,
who has a singular value decomposition for it.
"""

from typing import Any

import numpy as np

from manifold_lab.core.compiled import compiled

BLOCK = 64
"""Points at a time: with them the Gram matrices of R^8 stay in a cache of 32 KiB."""
PIVOT = 1e-8
"""Least pivot over the largest that counts as well conditioned: solutions are then right to about 1e-7, and their
squared error to 1e-14."""
(CROSS, SQUARE, ENERGY, KEPT_CROSS, KEPT_SQUARE, KEPT_ENERGY, KEPT, ON_MANIFOLD, LOST_DIMENSION, EXACT) = range(10)
"""Columns of the sums over points. x_hat.x, |x_hat|^2 and |x|^2 for x_hat decoded by the linear inverse, over all
points and over preserved ones; points preserved in R^n and on the manifold; dimensions lost; |x_hat - x|^2 of the
least-squares decoder on the active rows."""

fused = compiled(error_model="numpy", fastmath={"contract"})


@fused
def sum_over_points(points: Any, layers: Any, intrinsic: int, sums: Any, marks: Any, unsure: Any) -> None:
    """Add every draw's points up.

    Args:
        points: x (inputs, points); the images y and T x + bias as read back from them, each (draws, ambient, points).
        layers: T (draws, ambient, inputs), its linear inverse (draws, inputs, ambient), and three numbers: the bias,
            and between which outputs y are active.
        intrinsic: dimension k of the manifold.
        sums: (draws, 10), written by the columns above.
        marks: (draws, points), written: one number for each image, equal for equal images.
        unsure: (draws, points), written: points whose conditioning is bad, left out of the sums that need a solution.
    """
    inputs, total = points[0].shape
    work, few, four = buffers(inputs)
    weights = 1.5 + np.sin(np.arange(1.0, layers[0].shape[1] + 4.0))
    for draw in range(len(sums)):
        for start in range(0, total, BLOCK):
            at = (draw, start, min(start + BLOCK, total))
            accumulate(points, layers, at, work, (*four, weights))
            marks[draw, start : at[2]] = work[4][: at[2] - start]
            if work[3].max() >= inputs:
                factor(work[0], work[5])
                solve(work[0], work[1])
            if work[3][: at[2] - start].min() < inputs:
                solve_few(points, layers, at, work, few)
            add_block(points[0], work, intrinsic, at, sums[draw], unsure)


@fused
def buffers(inputs: int) -> Any:
    """What a block of points is computed in.

    For all points: Gram matrices, right-hand sides that become solutions, linear decodings, numbers of active rows,
    marks, and the least pivot over the largest. For those with few active rows: their Gram matrices, right-hand sides,
    the rows, their number, the least pivot, and a solution. And four rows of T x at a time: active or not, as read
    back, and y.
    """
    least = max(inputs - 1, 1)
    row = (np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK))
    work = (
        np.empty((inputs * (inputs + 1) // 2, BLOCK)), np.empty((inputs, BLOCK)), np.empty((inputs, BLOCK)),
        row[0], row[1], row[2],
    )  # fmt: skip
    few = (
        np.empty((least * (least + 1) // 2, BLOCK)), np.empty((least, BLOCK)), np.empty((least * inputs, BLOCK)),
        np.empty(BLOCK, np.int64), row[3], np.empty(BLOCK),
    )  # fmt: skip
    on = (np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK))
    value = (np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK))
    return work, few, (on, value, (np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)))


@fused
def accumulate(points: Any, layers: Any, at: Any, work: Any, four: Any) -> None:
    """Over the rows of T, four at a time: Gram matrix and right-hand side of each point, its linear decoding."""
    matrix, inverse, numbers = layers
    gram, right, decoded, count, marks, _ = work
    on, value, y, weights = four
    ambient, inputs = matrix.shape[1:]
    gram[:], right[:], decoded[:], count[:], marks[:] = 0, 0, 0, 0, 0
    ones, rows, back = np.ones(4), np.zeros((inputs, 4)), np.zeros((inputs, 4))
    for first in range(0, ambient, 4):
        for k in range(4):
            load_row(points, numbers, at, first + k, (on[k], value[k], y[k]))
            for i in range(inputs):
                rows[i, k] = matrix[at[0], first + k, i] if first + k < ambient else 0.0
                back[i, k] = inverse[at[0], i, first + k] if first + k < ambient else 0.0
        add(count, on, ones, ones)
        add(marks, y, weights[first : first + 4], ones)
        place = 0
        for i in range(inputs):
            add(right[i], value, rows[i], ones)
            add(decoded[i], y, back[i], ones)
            for j in range(i + 1 if ambient >= inputs else 0):
                add(gram[place], on, rows[i], rows[j])
                place += 1


@fused
def load_row(points: Any, numbers: Any, at: Any, row: int, into: Any) -> None:
    """One row of a block: whether each output is active, T x as read back where it is, and y less the bias."""
    _, images, values = points
    draw, start, end = at
    on, value, y = into
    bias, low, high = numbers
    width = end - start if row < images.shape[1] else 0
    if width:
        seen, read = images[draw, row, start:end], values[draw, row, start:end]
        for p in range(width):
            inside = (seen[p] > low) & (seen[p] < high)
            on[p] = 1.0 if inside else 0.0
            value[p] = read[p] - bias if inside else 0.0
            y[p] = seen[p] - bias
    for p in range(width, BLOCK):
        on[p], value[p], y[p] = 0.0, 0.0, 0.0


@fused
def add(total: Any, parts: Any, one: Any, other: Any) -> None:
    """Add four parts, each times two factors."""
    a, b, c, d = one[0] * other[0], one[1] * other[1], one[2] * other[2], one[3] * other[3]
    first, second, third, fourth = parts
    for p in range(BLOCK):
        total[p] += (a * first[p] + b * second[p]) + (c * third[p] + d * fourth[p])


@fused
def factor(gram: Any, share: Any) -> None:
    """Replace every point's Gram matrix by L and, on the diagonal, D; `share` gets the least pivot over the largest."""
    inputs = int(np.sqrt(2 * len(gram)))
    for i in range(inputs):
        row = i * (i + 1) // 2
        for j in range(i + 1):
            other = j * (j + 1) // 2
            for k in range(j):
                pivot = k * (k + 1) // 2 + k
                for p in range(BLOCK):
                    gram[row + j, p] -= gram[row + k, p] * gram[other + k, p] * gram[pivot, p]
            if j < i:
                for p in range(BLOCK):
                    gram[row + j, p] /= gram[other + j, p]
    for p in range(BLOCK):
        least, most = gram[0, p], gram[0, p]
        for i in range(1, inputs):
            found = gram[i * (i + 1) // 2 + i, p]
            least, most = min(least, found), max(most, found)
        share[p] = least / most


@fused
def solve(gram: Any, right: Any) -> None:
    """Solve L D L' x = right for every point, in place."""
    inputs = len(right)
    for i in range(inputs):
        for j in range(i):
            for p in range(BLOCK):
                right[i, p] -= gram[i * (i + 1) // 2 + j, p] * right[j, p]
    for i in range(inputs - 1, -1, -1):
        for p in range(BLOCK):
            right[i, p] /= gram[i * (i + 1) // 2 + i, p]
        for j in range(i + 1, inputs):
            for p in range(BLOCK):
                right[i, p] -= gram[j * (j + 1) // 2 + i, p] * right[j, p]


@fused
def solve_few(points: Any, layers: Any, at: Any, work: Any, few: Any) -> None:
    """Smallest solution and pivots of the points where fewer than n rows are active: R' z with R R' z = right.

    R are the active rows, brought to length one; a point with fewer of them than another has further equations z = 0.
    """
    _, solution, _, count, _, share = work
    gram, right, rows, number, least, one = few
    inputs = len(solution)
    gather_active(points, layers, at, count, few)
    most = max(number.max(), 1)
    place = 0
    for i in range(most):
        for j in range(i + 1):
            gram[place] = 0
            for k in range(inputs):
                for p in range(BLOCK):
                    gram[place, p] += rows[i * inputs + k, p] * rows[j * inputs + k, p]
            place += 1
        for p in range(BLOCK):
            gram[place - 1, p] += 1.0 if i >= number[p] else 0.0
    factor(gram[:place], least)
    solve(gram, right[:most])
    for i in range(inputs):
        one[:] = 0
        for j in range(most):
            for p in range(BLOCK):
                one[p] += rows[j * inputs + i, p] * right[j, p]
        for p in range(BLOCK):
            solution[i, p] = one[p] if count[p] < inputs else solution[i, p]
    for p in range(BLOCK):
        share[p] = least[p] if count[p] < inputs else share[p]


@fused
def gather_active(points: Any, layers: Any, at: Any, count: Any, few: Any) -> None:
    """The active rows of every point that has fewer than n, brought to length one, and what they must give."""
    x, images, values = points
    matrix, _, (bias, low, high) = layers
    draw, start, end = at
    _, right, rows, number, _, _ = few
    inputs = len(x)
    right[:], rows[:], number[:] = 0, 0, 0
    for p in range(end - start):
        row = 0 if count[p] < inputs else images.shape[1]
        while row < images.shape[1] and number[p] < count[p]:
            if low < images[draw, row, start + p] < high:
                square = 0.0
                for i in range(inputs):
                    square += matrix[draw, row, i] * matrix[draw, row, i]
                scale = 1 / np.sqrt(square)
                for i in range(inputs):
                    rows[number[p] * inputs + i, p] = matrix[draw, row, i] * scale
                right[number[p], p] = (values[draw, row, start + p] - bias) * scale
                number[p] += 1
            row += 1


@fused
def add_block(x: Any, work: Any, intrinsic: int, at: Any, sums: Any, unsure: Any) -> None:
    """Add a block of points to the sums of its draw."""
    _, solution, decoded, count, _, share = work
    draw, start, end = at
    inputs = len(x)
    for p in range(end - start):
        cross, square, energy, error = 0.0, 0.0, 0.0, 0.0
        for i in range(inputs):
            true = x[i, start + p]
            cross += decoded[i, p] * true
            square += decoded[i, p] * decoded[i, p]
            energy += true * true
            error += (solution[i, p] - true) ** 2
        sums[CROSS] += cross
        sums[SQUARE] += square
        sums[ENERGY] += energy
        sums[ON_MANIFOLD] += count[p] >= min(inputs, intrinsic + 1)
        sums[LOST_DIMENSION] += max(intrinsic - count[p], 0.0)
        unsure[draw, start + p] = not share[p] > PIVOT  # true for NaN too
        if unsure[draw, start + p]:
            continue
        sums[EXACT] += error
        if count[p] >= inputs:
            sums[KEPT] += 1
            sums[KEPT_CROSS] += cross
            sums[KEPT_SQUARE] += square
            sums[KEPT_ENERGY] += energy


@compiled()
def equal_pairs(marks: Any, y: Any, pairs: Any) -> None:
    """Add up, for each draw, the ordered pairs of points that have exactly the same image y (draws, ambient, points).

    Equal images have equal marks, by which an open hash table finds the first point of each image.
    """
    draws, points = marks.shape
    slots = 16
    while slots < 2 * points:
        slots *= 2
    first, seen = np.empty(slots, np.int64), np.empty(slots, np.int64)
    for draw in range(draws):
        first[:] = -1
        bits = (marks[draw] + 0.0).view(np.uint64)  # one zero, not two
        for point in range(points):
            slot = np.int64((bits[point] * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & (slots - 1)
            while first[slot] >= 0 and not same_image(marks[draw], y[draw], first[slot], point):
                slot = (slot + 1) & (slots - 1)
            if first[slot] < 0:
                first[slot], seen[slot] = point, 0
            pairs[draw] += 2 * seen[slot]
            seen[slot] += 1


@compiled()
def same_image(marks: Any, y: Any, one: int, other: int) -> bool:
    """Whether two points have the same image y (ambient, points)."""
    row = 0
    same = marks[one] == marks[other]
    while same and row < len(y):
        same = y[row, one] == y[row, other]
        row += 1
    return same
