"""Networks of another kind at the same price, so that a comparison of blocks is one at matched multiply-adds."""

import dataclasses
import functools
import math
from collections.abc import Iterator

from scipy.optimize import bisect

from manifold_lab.core.errors import InputError
from manifold_lab.models import profiler
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import NetworkSpec

FACTORS = (0.5, 16.0)
"""The factors on the channels that are looked through."""
PRECISION = 1e-3
"""A relative step of channels below which no rounding to whole channels changes any more."""
TOLERANCE = 0.01
"""How far, relatively, matched multiply-adds may lie from their target."""


def spec_cost(spec: NetworkSpec) -> profiler.Cost:
    """What one image costs, counted on a forward pass of shapes alone."""
    return profiler.cost(profiler.profile(build(spec), spec.image_shape))


@functools.cache
def madds(spec: NetworkSpec) -> int:
    """Multiply-adds of one image."""
    return spec_cost(spec).madds


def at_madds(spec: NetworkSpec, target: int) -> NetworkSpec:
    """The spec with the channels of its rows and stem scaled until its counted multiply-adds are `target` to TOLERANCE.

    Width and last convolution stay as they are. All channels are scaled by one factor, in whole multiples of
    `round_to`; where that step is too coarse, in steps of one channel; where that is too, rows of the scaled spec are
    moved by single channels.

    Raises:
        InputError: if no factor within `FACTORS` reaches the target, or nothing comes within TOLERANCE of it.
    """
    tried: list[tuple[float, NetworkSpec]] = []
    for found in _nearer(spec, target):
        tried.append((abs(madds(found) / target - 1), found))
        if tried[-1][0] <= TOLERANCE:
            return found
    off, best = min(tried, key=lambda one: one[0])
    raise InputError(
        f"madds: {target:,} is not met; the nearest that whole channels allow is {madds(best):,}, {off:.1%} off, and "
        f"{TOLERANCE:.0%} is allowed"
    )


def _nearer(spec: NetworkSpec, target: int) -> Iterator[NetworkSpec]:
    """Ever finer matches."""
    yield _scaled_to(spec, target)
    near = _scaled_to(dataclasses.replace(spec, round_to=1), target)
    yield near
    yield _nudged(near, target)


def _scaled_to(spec: NetworkSpec, target: int) -> NetworkSpec:
    """The best of one factor for all channels."""
    low, high = (madds(scaled(spec, factor)) for factor in FACTORS)
    if not low <= target <= high:
        raise InputError(f"madds: {target:,} is out of reach of this spec; it must be within {low:,} to {high:,}")
    place = bisect(lambda factor: madds(scaled(spec, factor)) - target, *FACTORS, rtol=PRECISION, xtol=PRECISION)
    near = [scaled(spec, place * (1 + step)) for step in (-2 * PRECISION, 0.0, 2 * PRECISION)]
    return min(near, key=lambda one: abs(madds(one) - target))


def _nudged(spec: NetworkSpec, target: int) -> NetworkSpec:
    """Single rows moved by one channel, the best move first, for as long as that brings the target nearer."""
    best, off = spec, abs(madds(spec) - target)
    while off > TOLERANCE * target:
        moves = [(abs(madds(move) - target), place, move) for place, move in enumerate(_moves(best))]
        nearest, _, move = min(moves)
        if nearest >= off:
            break
        best, off = move, nearest
    return best


def _moves(spec: NetworkSpec) -> Iterator[NetworkSpec]:
    """Every spec that has one channel more or less in one row or the stem."""
    step = math.ceil(1 / spec.width)
    for sign in (-step, step):
        if spec.stem_channels + sign > 0:
            yield dataclasses.replace(spec, stem_channels=spec.stem_channels + sign)
        for place, (t, c, n, s) in enumerate(spec.rows):
            if c + sign >= step:
                rows = (*spec.rows[:place], (t, c + sign, n, s), *spec.rows[place + 1 :])
                yield dataclasses.replace(spec, rows=rows)


def scaled(spec: NetworkSpec, factor: float) -> NetworkSpec:
    """The spec with its rows' and stem's channels multiplied, before any rounding; its width leaves one of each."""
    least = math.ceil(1 / spec.width)
    rows = tuple((t, max(least, round(c * factor)), n, s) for t, c, n, s in spec.rows)
    return dataclasses.replace(spec, rows=rows, stem_channels=max(1, round(spec.stem_channels * factor)))
