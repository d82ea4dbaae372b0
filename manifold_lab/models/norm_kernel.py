"""Batch norm with the activation behind it, forward and backward: compiled passes over rows of channels.

A batch in channels-last layout is a matrix of positions and channels. Where the channels are few, several positions are
one row of it, so that every loop runs over `lanes` neighbouring numbers, a multiple of the channels. Sums are taken
lane by lane in float32 over a block of rows that stays in the cache, and over blocks in float64.

The activation is y = z where z > 0, slope z elsewhere, and at most `top`: ReLU6 has slope 0 and top 6.
"""

from typing import Any

import numpy as np

from manifold_lab.core.compiled import compiled

BLOCK = 4096
"""Numbers of a block: 16 KiB, half of a core's first cache."""

fused = compiled(nogil=True, error_model="numpy", fastmath={"contract"})


@fused
def forward(x: Any, learned: Any, numbers: Any, y: Any, found: Any) -> None:
    """Normalise over the rows, then activate.

    Args:
        x: (rows, lanes) float32.
        learned: weight, bias, and the running mean and variance, which are moved towards the batch's: (channels,) each.
        numbers: epsilon, momentum, slope and top.
        y: (rows, lanes), written.
        found: (4, channels), written: mean, variance (over the count), and the scale and shift that give z from x.
    """
    (weight, bias, mean, variance), (epsilon, momentum, slope, top) = learned, numbers
    channel_moments(x, found)
    channels, lanes = found.shape[1], x.shape[1]
    count = len(x) * (lanes // channels)
    for c in range(channels):
        scale = weight[c] / np.sqrt(np.float64(found[1, c]) + epsilon)
        found[2, c] = scale
        found[3, c] = bias[c] - found[0, c] * np.float64(scale)
        mean[c] = (1 - momentum) * mean[c] + momentum * found[0, c]
        variance[c] = (1 - momentum) * variance[c] + momentum * (found[1, c] * count / (count - 1.0))
    scales, shifts = spread(found[2], lanes), spread(found[3], lanes)
    low, high = np.float32(slope), np.float32(top)
    for r in range(len(x)):
        row, out = x[r], y[r]
        for i in range(lanes):
            z = row[i] * scales[i] + shifts[i]
            below = low * z
            z = z if z > below else below
            out[i] = high if z > high else z


@fused
def channel_moments(x: Any, found: Any) -> None:
    """Mean and variance of every channel: a block's sums are of distances from the mean before it."""
    rows, lanes = x.shape
    height = max(4, BLOCK // lanes)
    centre, sums, squares = np.zeros(lanes, np.float32), np.empty(lanes, np.float32), np.empty(lanes, np.float32)
    total, power = np.zeros(lanes), np.zeros(lanes)
    add_distances(x[:height], centre, sums, squares)
    for i in range(lanes):
        centre[i] = sums[i] / np.float32(min(height, rows))
    for start in range(0, rows, height):
        end = min(start + height, rows)
        add_distances(x[start:end], centre, sums, squares)
        for i in range(lanes):
            origin, distance = np.float64(centre[i]), np.float64(sums[i])
            total[i] += origin * (end - start) + distance
            power[i] += origin * (origin * (end - start) + 2 * distance) + squares[i]
            centre[i] = total[i] / end
    channels = found.shape[1]
    count = rows * (lanes // channels)
    for c in range(channels):
        mean, square = total[c::channels].sum() / count, power[c::channels].sum() / count
        found[0, c], found[1, c] = mean, max(square - mean * mean, 0.0)


@fused
def add_distances(x: Any, centre: Any, sums: Any, squares: Any) -> None:
    """Sums over the rows of a block of the distances from `centre`, and of their squares."""
    rows, lanes = x.shape
    sums[:], squares[:] = 0, 0
    for r in range(0, rows - 1, 2):
        one, two = x[r], x[r + 1]
        for i in range(lanes):
            first, second = one[i] - centre[i], two[i] - centre[i]
            sums[i] += first + second
            squares[i] += first * first + second * second
    if rows % 2:
        row = x[rows - 1]
        for i in range(lanes):
            first = row[i] - centre[i]
            sums[i] += first
            squares[i] += first * first


@fused
def spread(values: Any, lanes: int) -> Any:
    """Values of channels, once for each of the positions in a row."""
    channels = len(values)
    repeated = np.empty(lanes, np.float32)
    for i in range(lanes):
        repeated[i] = values[i % channels]
    return repeated


@fused
def backward(x: Any, dy: Any, found: Any, numbers: Any, gradients: Any) -> None:
    """Gradients of `forward`, whose `found` and `numbers` these are.

    With g the gradient in z and xhat = (x - mean) / sqrt(variance + epsilon), the gradient in x is
    scale (g - mean(g) - xhat mean(g xhat)) (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Args:
        x: (rows, lanes) float32.
        dy: likewise, the gradient in y.
        found: see `forward`.
        numbers: see `forward`.
        gradients: written, in x (rows, lanes), in weight and in bias (channels,).
    """
    (_, _, slope, top), (dx, dweight, dbias) = numbers, gradients
    channels, lanes = found.shape[1], x.shape[1]
    count = len(x) * (lanes // channels)
    mean, scale, shift = spread(found[0], lanes), spread(found[2], lanes), spread(found[3], lanes)
    ends = (np.float32(slope), np.float32(top))
    total, product = np.zeros(lanes), np.zeros(lanes)
    add_gradients(x, dy, (mean, scale, shift), ends, (total, product))
    straight, level = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for c in range(channels):
        sum_g, sum_gx = 0.0, 0.0
        for i in range(c, lanes, channels):
            sum_g += total[i]
            sum_gx += product[i]
        inverse = 1.0 / np.sqrt(np.float64(found[1, c]) + numbers[0])
        dweight[c], dbias[c] = sum_gx * inverse, sum_g
        straight[c] = -found[2, c] * inverse * inverse * sum_gx / count
        level[c] = -found[2, c] * sum_g / count
    slopes, levels = spread(straight, lanes), spread(level, lanes)
    for r in range(len(x)):
        row, given, out = x[r], dy[r], dx[r]
        for i in range(lanes):
            z = row[i] * scale[i] + shift[i]
            g = through(z, given[i], ends)
            out[i] = g * scale[i] + ((row[i] - mean[i]) * slopes[i] + levels[i])


@fused
def through(z: Any, dy: Any, ends: Any) -> Any:
    """The gradient in z: dy where 0 < z < top, slope dy below, 0 above; at zero as below, at `top` as above."""
    low, high = ends
    below = low * dy if low != 0 else np.float32(0)
    g = below if z <= 0 else dy
    return np.float32(0) if z >= high else g


@fused
def add_gradients(x: Any, dy: Any, lane: Any, ends: Any, totals: Any) -> None:
    """Sums over all rows of g and of g (x - mean)."""
    rows, lanes = x.shape
    mean, scale, shift = lane
    height = max(4, BLOCK // lanes)
    sums, products = np.empty(lanes, np.float32), np.empty(lanes, np.float32)
    for start in range(0, rows, height):
        sums[:], products[:] = 0, 0
        for r in range(start, min(start + height, rows)):
            row, given = x[r], dy[r]
            for i in range(lanes):
                g = through(row[i] * scale[i] + shift[i], given[i], ends)
                sums[i] += g
                products[i] += g * (row[i] - mean[i])
        for i in range(lanes):
            totals[0][i] += sums[i]
            totals[1][i] += products[i]
