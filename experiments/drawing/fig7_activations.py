"""The panels of `experiments.fig7_activations`: counts and fractions by layer, and along a training."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from manifold_lab.report import layer_figure
from manifold_lab.report.arm_styles import BLACK
from manifold_lab.report.plots import MEASURED, data_name
from manifold_lab.report.tables import DataFrame, pick, unique


def spread(table: DataFrame) -> np.ndarray:
    """The 5 to 95 % band over positions, as a fraction of the channels, site by site."""
    return ((table["active_q95"] - table["active_q05"]) / table["channels"]).to_numpy()


def seeds(table: DataFrame) -> list[int]:
    """The seeds that there are."""
    return sorted(unique(table, "seed"))


def draw_network(axes: Sequence[Axes], table: DataFrame) -> None:
    """One network: counts above, fractions below."""
    for ax, fraction in zip(axes, (False, True), strict=True):
        layer_figure.draw_active(ax, table, fraction)
        mark(ax, table)
        name_blocks(ax, table)


def name_blocks(ax: Axes, table: DataFrame) -> None:
    """Numbers of blocks under the axis, every other block shaded; what comes before and after them is said once."""
    places: dict[int, list[int]] = {}
    for place, layer in enumerate(table["layer"]):
        if layer.startswith("blocks."):
            places.setdefault(int(layer.split(".")[1]), []).append(place)
    for block, mine in places.items():
        if block % 2:
            ax.axvspan(mine[0] - 0.5, mine[-1] + 0.5, color="0.95", lw=0, zorder=0)
    shown = {block: float(np.mean(mine)) for block, mine in places.items() if block % 2 == 0}
    ax.set_xticks(list(shown.values()), [str(block) for block in shown])
    ax.set_xlim(-0.5, len(table) - 0.5)
    ax.set_xlabel(f"activations: stem, blocks {min(places, default=0)} to {max(places, default=0)}, last")


def mark(ax: Axes, table: DataFrame) -> None:
    """A dot below the axis at the sites that the paper probably draws."""
    there = np.flatnonzero(table["drawn"])
    ax.plot(there, [-0.02] * len(there), ".", color="black", ms=2.5, transform=ax.get_xaxis_transform(), clip_on=False,
            label="probably drawn in the paper")  # fmt: skip


def draw_training(axes: Sequence[Axes], table: DataFrame) -> str:
    """Mean and band over images seen, a line per seed; what is trained."""
    for seed in seeds(table):
        mine = pick(table, seed=seed)
        moments = sorted(unique(mine, "images"))
        at = [pick(mine, images=moment) for moment in moments]
        x = np.array(moments) / 1000
        axes[0].plot(x, [one["fraction_mean"].mean() for one in at], color=MEASURED, lw=0.8)
        axes[1].plot(x, [spread(one).mean() for one in at], color=BLACK, lw=0.8)
    axes[0].set(ylabel="active, fraction, mean", xlabel="images seen, thousands", ylim=(0, 1))
    data = data_name(table["data"].iloc[0]) if len(table) else ""
    axes[1].set(ylabel="5 to 95 % band, fraction", xlabel="images seen, thousands", ylim=(0, None))
    return f"{data}, {len(seeds(table))} seeds"
