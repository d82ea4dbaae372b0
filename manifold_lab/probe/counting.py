"""How many numbers of each position and of each channel lie in a window: one pass over the memory of a batch."""

import functools
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from manifold_lab.probe.layer_types import Window

WORTH_SHARING = 1 << 16
"""Numbers from which on a second thread pays."""


class Tally(NamedTuple):
    """What was counted of one batch: numbers strictly inside the window (active), and at its high end or above."""

    active_positions: Int64[Tensor, " positions"]
    active: Int64[Tensor, " channels"]
    high: Int64[Tensor, " channels"]
    bad: Bool[Tensor, " channels"]
    """Channels with NaN or infinite numbers."""


def tally(x: Float[Tensor, "positions channels"], window: Window) -> Tally:
    """Count a batch, exactly.

    On a CPU by a compiled loop that reads every number once, along its memory: torch's own comparisons and sums would
    read and write it five times. Elsewhere, by them.
    """
    window = rounded_window(window, x.dtype)
    if x.device.type != "cpu":
        return _compared(x, window)
    matrix = as_array(x)
    along = matrix if matrix.strides[1] <= matrix.strides[0] else matrix.T
    *counts, odd = _shared(along, window, torch.get_num_threads() if x.numel() > WORTH_SHARING else 1)
    active_rows, active_columns, high_rows, high_columns = (torch.from_numpy(count) for count in counts)
    bad = ~torch.isfinite(x).all(0) if odd else torch.zeros(x.shape[1], dtype=torch.bool)
    if along is matrix:
        return Tally(active_rows, active_columns, high_columns, bad)
    return Tally(active_columns, active_rows, high_rows, bad)


def as_array(x: Tensor) -> np.ndarray:
    """A matrix as the compiled loops take it: what they have no type for as float32."""
    return (x if x.dtype in (torch.float32, torch.float64) else x.float()).numpy()


def deviations(
    x: Float[Tensor, "positions channels"], reference: Float[Tensor, " channels"], limit: float,
    gone: Bool[Tensor, " channels"],
) -> Float[Tensor, "3 channels"]:  # fmt: skip
    """Of every channel, whether it left `limit` around its reference, and the sums of deviations and their squares.

    In float64; on a CPU by a compiled loop. The sums say nothing of a channel that left, here or, by `gone`, before.
    """
    if x.device.type == "cpu":
        return torch.from_numpy(_followed(x, reference.double().numpy(), limit, gone.numpy()))
    far = x - reference
    left = gone | ~(far.abs() <= limit).all(0)
    return torch.stack([left.double(), *(part.sum(0, dtype=torch.float64) for part in (far, far * far))])


def _followed(given: Tensor, reference: np.ndarray, limit: float, gone: np.ndarray) -> np.ndarray:
    """The same; each part of a large matrix has its thread."""
    from manifold_lab.probe import kernel  # noqa: PLC0415

    matrix, threads = as_array(given), torch.get_num_threads()
    parts = threads if given.numel() > WORTH_SHARING else 1
    sums = np.zeros((parts, 3, len(gone)))
    sums[:, 0] = gone
    along = matrix.strides[1] > matrix.strides[0]
    x = matrix.T if along else matrix
    if parts > 1:
        kernel.deviate_in_parts(x, reference, limit, along, sums)
        _keep_threads(threads)
    else:
        (kernel.deviate_along if along else kernel.deviate)(x, reference, limit, sums[0])
    return np.asarray(sums.sum(0))


def _keep_threads(threads: int) -> None:
    """Set torch's threads as they were: numba's threads are torch's here, and it has set their number."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@functools.cache
def rounded_window(window: Window, kind: torch.dtype) -> Window:
    """The ends of a window as an activation in this precision gives them: a clip at 2.3 is 2.296875 in bfloat16."""
    low, high = torch.tensor(window, dtype=torch.float64).to(kind).tolist()
    return low, high


def _compared(x: Tensor, window: Window) -> Tally:
    active, high = (x > window[0]) & (x < window[1]), x >= window[1]
    return Tally(active.sum(1), active.sum(0), high.sum(0), ~torch.isfinite(x).all(0))


def _shared(x: np.ndarray, window: Window, parts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Active in rows and columns, high in rows and columns, and how many are not finite; each part has its thread."""
    from manifold_lab.probe import kernel  # noqa: PLC0415  its compiler is needed by few and large

    rows, columns = x.shape
    of_rows, of_columns = np.empty((2, rows), np.int64), np.empty((parts, 2, columns), np.int64)
    low, high = (x.dtype.type(end) for end in window)
    if parts == 1:
        odd = kernel.count(x, low, high, of_rows, of_columns[0])
    else:
        each, threads = np.zeros(parts, np.int64), torch.get_num_threads()
        kernel.count_in_parts(x, low, high, of_rows, of_columns, each)
        odd = each.sum()
        _keep_threads(threads)
    active, high_ones = of_columns.sum(0)
    return of_rows[0], active, of_rows[1], high_ones, int(odd)
