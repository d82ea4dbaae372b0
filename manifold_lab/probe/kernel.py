"""The loop that counts, compiled at its first use; the code is kept for later processes wherever there is room."""

from typing import Any

import numba
import numpy as np

from manifold_lab.core.compiled import compiled


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
