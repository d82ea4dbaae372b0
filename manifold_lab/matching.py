"""Networks of another kind at the same price, so that a comparison of blocks is one at matched multiply-adds."""

import dataclasses

from scipy.optimize import bisect

from manifold_lab import probes
from manifold_lab.errors import InputError
from manifold_lab.mobilenet import build
from manifold_lab.netspec import NetworkSpec

FACTORS = (0.5, 16.0)
"""The factors on the channels that are looked through."""
PRECISION = 1e-3
"""A relative step of channels below which no rounding to whole channels changes any more."""


def cost(spec: NetworkSpec) -> probes.Cost:
    """What one picture costs, counted on a forward pass."""
    return probes.cost(probes.watch(build(spec), (spec.in_channels, spec.resolution, spec.resolution)))


def madds(spec: NetworkSpec) -> int:
    """Multiply-adds of one picture."""
    return cost(spec).madds


def at_madds(spec: NetworkSpec, target: int) -> NetworkSpec:
    """The spec with the channels of its rows and stem scaled so that its counted multiply-adds come nearest `target`.

    Width and last convolution stay as they are. Channels are whole multiples of `round_to`: the match is as near as
    one step of them allows.

    Raises:
        InputError: if no factor within `FACTORS` reaches the target.
    """
    low, high = (madds(scaled(spec, factor)) for factor in FACTORS)
    if not low <= target <= high:
        raise InputError(f"madds: {target:,} is out of reach of this spec; it must be within {low:,} to {high:,}")
    place = bisect(lambda factor: madds(scaled(spec, factor)) - target, *FACTORS, rtol=PRECISION, xtol=PRECISION)
    near = [scaled(spec, place * (1 + step)) for step in (-2 * PRECISION, 0.0, 2 * PRECISION)]
    return min(near, key=lambda one: abs(madds(one) - target))


def scaled(spec: NetworkSpec, factor: float) -> NetworkSpec:
    """The spec with its rows' and stem's channels multiplied, before any rounding."""
    rows = tuple((t, max(1, round(c * factor)), n, s) for t, c, n, s in spec.rows)
    return dataclasses.replace(spec, rows=rows, stem_channels=max(1, round(spec.stem_channels * factor)))
