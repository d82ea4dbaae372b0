"""The panels of `experiments.fig7_activations`: counts and fractions by layer, and along a training."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from manifold_lab.report import layer_figure
from manifold_lab.report.arm_styles import BLACK
from manifold_lab.report.plots import MEASURED, column, data_name, pick
from manifold_lab.report.tables import Lines


def spread(lines: Lines) -> np.ndarray:
    """The 5 to 95 % band over positions, as a fraction of the channels, site by site."""
    return (column(lines, "active_q95") - column(lines, "active_q05")) / column(lines, "channels")


def seeds(lines: Lines) -> list[str]:
    """The seeds that there are."""
    return sorted({line["seed"] for line in lines}, key=int)


def draw_network(axes: Sequence[Axes], lines: Lines) -> None:
    """One network: counts above, fractions below."""
    for ax, fraction in zip(axes, (False, True), strict=True):
        layer_figure.draw_active(ax, lines, fraction)
        mark(ax, lines)
        name_blocks(ax, lines)


def name_blocks(ax: Axes, lines: Lines) -> None:
    """Numbers of blocks under the axis, every other block shaded; what comes before and after them is said once."""
    places: dict[int, list[int]] = {}
    for place, line in enumerate(lines):
        if line["layer"].startswith("blocks."):
            places.setdefault(int(line["layer"].split(".")[1]), []).append(place)
    for block, mine in places.items():
        if block % 2:
            ax.axvspan(mine[0] - 0.5, mine[-1] + 0.5, color="0.95", lw=0, zorder=0)
    shown = {block: float(np.mean(mine)) for block, mine in places.items() if block % 2 == 0}
    ax.set_xticks(list(shown.values()), [str(block) for block in shown])
    ax.set_xlim(-0.5, len(lines) - 0.5)
    ax.set_xlabel(f"activations: stem, blocks {min(places, default=0)} to {max(places, default=0)}, last")


def mark(ax: Axes, lines: Lines) -> None:
    """A dot below the axis at the sites that the paper probably draws."""
    there = [place for place, line in enumerate(lines) if line["drawn"] == "1"]
    ax.plot(there, [-0.02] * len(there), ".", color="black", ms=2.5, transform=ax.get_xaxis_transform(), clip_on=False,
            label="probably drawn in the paper")  # fmt: skip


def draw_training(axes: Sequence[Axes], lines: Lines) -> str:
    """Mean and band over images seen, a line per seed; what is trained."""
    for seed in seeds(lines):
        mine = pick(lines, seed=seed)
        moments = sorted({int(line["images"]) for line in mine})
        at = [pick(mine, images=str(moment)) for moment in moments]
        x = np.array(moments) / 1000
        axes[0].plot(x, [column(one, "fraction_mean").mean() for one in at], color=MEASURED, lw=0.8)
        axes[1].plot(x, [spread(one).mean() for one in at], color=BLACK, lw=0.8)
    axes[0].set(ylabel="active, fraction, mean", xlabel="images seen, thousands", ylim=(0, 1))
    data = data_name(lines[0]["data"]) if lines else ""
    axes[1].set(ylabel="5 to 95 % band, fraction", xlabel="images seen, thousands", ylim=(0, None))
    return f"{data}, {len(seeds(lines))} seeds"
