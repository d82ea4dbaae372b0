"""The loop that counts, compiled at its first use; the code is kept for later processes wherever there is room."""

from typing import Any

import numba
import numpy as np

from manifold_lab.core.compiled import compiled

LOOKS = 1024
"""Positions between two looks at which channels are still worth following."""


@compiled()
def count(x: Any, low: Any, high: Any, of_rows: Any, of_columns: Any) -> int:
    """Of a matrix, how many numbers of every row and every column are inside the window, and how many at `high`.

    Written into `of_rows` (2, rows) and `of_columns` (2, columns); returns how many are not finite.
    """
    odd: Any = 0
    active, above = np.zeros(x.shape[1], np.int32), np.zeros(x.shape[1], np.int32)
    for i in range(x.shape[0]):
        active_row, above_row, odd_row = np.int32(0), np.int32(0), np.int32(0)
        for j in range(x.shape[1]):
            value = x[i, j]
            is_above = np.int32(value >= high)
            is_active = np.int32(value > low) - is_above
            active[j] += is_active
            above[j] += is_above
            active_row += is_active
            above_row += is_above
            odd_row += np.int32(value - value != 0)
        of_rows[0, i], of_rows[1, i] = active_row, above_row
        odd += odd_row
    of_columns[0], of_columns[1] = active, above
    return odd


@compiled(parallel=True)
def count_in_parts(x: Any, low: Any, high: Any, of_rows: Any, of_columns: Any, odd: Any) -> None:
    """The same with shares of the rows in threads of their own, as many as `of_columns` (parts, 2, columns) has."""
    parts = len(of_columns)
    for part in numba.prange(parts):
        start, end = len(x) * part // parts, len(x) * (part + 1) // parts
        odd[part] = count(x[start:end], low, high, of_rows[:, start:end], of_columns[part])


@compiled()
def deviate(x: Any, reference: Any, limit: Any, sums: Any) -> None:
    """Of a matrix, follow every column as long as it stays within `limit` of its reference.

    Added to `sums` (3, columns): a column that left has more than 0 first; the sums of the deviations and of their
    squares behind say nothing of it. Columns that have left before are followed only where that is cheaper.
    """
    gone, total, square = sums
    left = np.empty(x.shape[1], np.int64)
    for start in range(0, x.shape[0], LOOKS):
        count = 0
        for j in range(x.shape[1]):
            left[count] = j
            count += gone[j] == 0.0
        for i in range(start, min(start + LOOKS, x.shape[0]) if count else start):
            if 4 * count < x.shape[1]:
                for place in range(count):
                    far = np.float64(x[i, left[place]]) - reference[left[place]]
                    total[left[place]] += far
                    square[left[place]] += far * far
                    gone[left[place]] += 0.0 if abs(far) <= limit else 1.0
            else:
                for j in range(x.shape[1]):
                    far = np.float64(x[i, j]) - reference[j]
                    total[j] += far
                    square[j] += far * far
                    gone[j] += 0.0 if abs(far) <= limit else 1.0


@compiled(fastmath={"reassoc", "contract"})
def deviate_along(x: Any, reference: Any, limit: Any, sums: Any) -> None:
    """The same of the rows of a matrix."""
    for j in range(len(x)):
        start, gone, total, square = 0, sums[0, j], 0.0, 0.0
        while start < x.shape[1] and gone == 0.0:
            for i in range(start, min(start + LOOKS, x.shape[1])):
                far = np.float64(x[j, i]) - reference[j]
                total += far
                square += far * far
                gone += 0.0 if abs(far) <= limit else 1.0
            start += LOOKS
        sums[0, j] = gone
        sums[1, j] += total
        sums[2, j] += square


@compiled(parallel=True)
def deviate_in_parts(x: Any, reference: Any, limit: Any, along: bool, sums: Any) -> None:
    """Columns, or rows where `along`, with shares of the matrix in threads of their own, as many as `sums` has parts.

    `sums` is (parts, 3, columns) or (parts, 3, rows).
    """
    parts = len(sums)
    for part in numba.prange(parts):
        start, end = len(x) * part // parts, len(x) * (part + 1) // parts
        if along:
            deviate_along(x[start:end], reference[start:end], limit, sums[part, :, start:end])
        else:
            deviate(x[start:end], reference, limit, sums[part])
