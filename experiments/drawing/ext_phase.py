"""The panels of `experiments.ext_phase`: a value per intrinsic dimension and channels, with theory's regions."""

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from manifold_lab import theory
from manifold_lab.core import statistics
from manifold_lab.report.tables import DataFrame, pick
from manifold_lab.sweeps.comparison import POINTS

LOST, KEPT = 0.5, 0.99
"""Preserved fractions below which a cell counts as one of loss, and above which as one without."""
DECIMALS = 12
"""To which a fraction is more than rounding."""
WORST = 10
"""Points of accuracy at which the figure's colours end."""
Cells = Mapping[tuple[int, int], tuple[float, str]]
"""A value, and how it is written, by k and n."""


def preserved(k: int, n: int) -> float:
    """Theory's fraction of points that keep one preimage on the manifold."""
    return round(float(theory.preserved_fraction(n, k + 1)), DECIMALS)


REGIONS: dict[str, tuple[str, Callable[[int, int], bool]]] = {
    "linear loses too, n ≤ k": (":", lambda k, n: n <= k),
    f"theory: fewer than {100 * LOST:.0f} % of points kept": ("-", lambda k, n: preserved(k, n) < LOST),
    f"theory: at most {100 * KEPT:.0f} % kept": ("--", lambda k, n: preserved(k, n) <= KEPT),
}
"""What lies to the left of each line, which runs between cells: its dashes, and which cells."""


def draw_regions(ax: Axes, k: Sequence[int], n: Sequence[int]) -> None:
    """The right edge of every region, along the edges of cells."""
    for label, (dashes, inside) in REGIONS.items():
        right = [sum(inside(row, column) for column in n) for row in k]
        x = np.repeat(right, 2)
        y = np.repeat(np.arange(len(k) + 1), 2)[1:-1]
        ax.plot(x, y, dashes, color="black", lw=1.3, label=label, clip_on=False, solid_joinstyle="miter")
    ax.set(xlim=(0, len(n)), ylim=(0, len(k)))


def draw_heat(ax: Axes, cells: Cells, style: Mapping[str, object], bold: Sequence[tuple[int, int]] = ()) -> None:
    """A value per k and n as colour and number, in bold where that is asked for, and theory's regions."""
    import seaborn  # noqa: PLC0415  (two seconds that only this figure needs)

    k, n = (sorted({place[axis] for place in cells}) for axis in (0, 1))
    value, labels = (
        np.array([[cells.get((row, column), (math.nan, ""))[part] for column in n] for row in k]) for part in (0, 1)
    )
    size = {"size": mpl.rcParams["xtick.labelsize"]}
    seaborn.heatmap(value, ax=ax, annot=labels, fmt="", annot_kws=size, cbar=False, linewidths=0.4, **style)
    places = [(row, column) for row in k for column in n if (row, column) in cells]
    for text, place in zip(ax.texts, places, strict=False):
        text.set_fontweight("bold" if place in bold else "normal")
    ax.set_xticks(np.arange(len(n)) + 0.5, map(str, n), rotation=0)
    ax.set_yticks(np.arange(len(k)) + 0.5, map(str, k), rotation=0)
    ax.set(xlabel="bottleneck channels n", ylabel="intrinsic dimension k")
    draw_regions(ax, k, n)


def value_label(value: float, digits: str) -> tuple[float, str]:
    """A value as it is written: no zero with a sign."""
    return value, f"{value:z{digits}}".replace("-", "−")


def loss_label(table: DataFrame, k: int, n: int) -> tuple[float, str]:
    """The share of points that trained networks lose, and theory's in brackets, in percent."""
    lost = POINTS * (1 - float(pick(table, k=k, n=n)["trained"].mean()))
    return lost, f"{lost:.0f} ({POINTS * (1 - preserved(k, n)):.0f})"


def heat_panels(
    table: DataFrame, pairs: Mapping[tuple[int, int], Mapping[str, Mapping[int, float]]]
) -> Sequence[tuple[str, Cells, dict[str, object], Sequence[tuple[int, int]]]]:
    """Accuracy of the linear bottleneck, what ReLU6 costs and the points lost: name, values, colours, bold cells.

    Args:
        table: of the study.
        pairs: test accuracies by k and n, arm and seed.
    """
    level = {place: value_label(float(np.mean(list(pair["linear"].values()))), ".0f") for place, pair in pairs.items()}
    costs = {place: statistics.paired(pair["linear"], pair["relu6"]) for place, pair in pairs.items()}
    labels = {place: value_label(one.difference.value, ".1f") for place, one in costs.items()}
    clear = [place for place, one in costs.items() if one.exceeds(0) is not None]
    lost = {place: loss_label(table, *place) for place in pairs}
    return (
        ("linear: test accuracy, %", level, {"cmap": "Greens", "vmin": 0, "vmax": 140}, ()),
        ("linear − ReLU6, points", labels, {"cmap": "RdBu_r", "vmin": -WORST, "vmax": WORST}, clear),
        ("points lost, trained (theory), %", lost, {"cmap": "Oranges", "vmin": 0, "vmax": 140}, ()),
    )
