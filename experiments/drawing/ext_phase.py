"""The panels of `experiments.ext_phase`: a value per intrinsic dimension and channels, with theory's lines."""

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from manifold_lab import theory

LOST, KEPT = 0.5, 0.99
"""Preserved fractions below which a cell counts as one of loss, and above which as one without."""


def preserved(k: int, n: int) -> float:
    """Theory's fraction of points that keep one preimage on the manifold."""
    return float(theory.preserved_fraction(n, k + 1))


def crossing(k: int, level: float) -> float:
    """The channels, between whole numbers on a straight line, at which the preserved fraction of k reaches a level."""
    n = np.arange(k, 12 * k + 30)
    return float(np.interp(level, [preserved(k, int(one)) for one in n], n))


def draw_lines(ax: Axes, k: Sequence[int], n: Sequence[int]) -> None:
    """Theory's lines on axes whose cells double."""
    fine = np.arange(1, 2 * max(k) + 1)
    y = np.log2(fine / k[0]) + 0.5
    for level, dashes in ((LOST, "-"), (KEPT, "--")):
        x = np.log2(np.array([crossing(int(one), level) for one in fine]) / n[0]) + 0.5
        ax.plot(x, y, dashes, color="black", lw=0.9, label=f"theory: {level:.0%} of points kept")
    ax.plot(
        np.log2((fine + 1) / n[0]) + 0.5, y, ":", color="black", lw=0.9, label="n = k + 1: with less, linear loses too"
    )
    ax.set(xlim=(0, len(n)), ylim=(0, len(k)))


def draw_heat(ax: Axes, cells: Mapping[tuple[int, int], tuple[float, str]], looks: Mapping[str, object]) -> None:
    """A value, and how it is written, per k and n, and theory's lines."""
    import seaborn  # noqa: PLC0415  (two seconds that only this figure needs)

    k, n = (sorted({place[axis] for place in cells}) for axis in (0, 1))
    value, told = (
        np.array([[cells.get((row, column), (math.nan, ""))[part] for column in n] for row in k]) for part in (0, 1)
    )
    halo = {"color": "black", "path_effects": [withStroke(linewidth=1.8, foreground="white")], "zorder": 4}
    halo["size"] = mpl.rcParams["xtick.labelsize"]
    seaborn.heatmap(value, ax=ax, annot=told, fmt="", annot_kws=halo, cbar=False, linewidths=0.4, **looks)
    ax.set_xticks(np.arange(len(n)) + 0.5, map(str, n), rotation=0)
    ax.set_yticks(np.arange(len(k)) + 0.5, map(str, k), rotation=0)
    ax.set(xlabel="bottleneck channels n", ylabel="intrinsic dimension k")
    draw_lines(ax, k, n)
