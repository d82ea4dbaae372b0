"""The panels of `experiments.ext_inversion`: images in the frame of what became of them, errors over depth."""

import base64
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Patch

from manifold_lab.core import statistics
from manifold_lab.probe.inversion import EXACT, FOUND, LOST, NOT_DECIDED
from manifold_lab.report import plots
from manifold_lab.report.arm_styles import ARM_STYLES, label_of
from manifold_lab.report.tables import DataFrame, Series, pick, unique
from manifold_lab.sweeps.inversion_run import NEAR, STEM

FRAMES = {EXACT: plots.MEASURED, FOUND: "black", LOST: plots.LOST_COLOUR, NOT_DECIDED: "0.7"}
IMAGE = STEM - 1
"""In place of a block: the image itself."""
FEWEST_FOR_BARS = 3
FLOOR = 1e-6
"""Errors below are drawn here: they are exact to the eye, and searches in float32 reach no further."""


def pixels(row: Series) -> np.ndarray:
    """The image of a row, height x width, with colours where it has them."""
    size = tuple(map(int, row["size"].split("x")))
    held = np.frombuffer(base64.b64decode(row["pixels"]), np.uint8).reshape(size)
    return held[0] if size[0] == 1 else held.transpose(1, 2, 0)


def place_name(block: int) -> str:
    """A place as an axis names it."""
    return {IMAGE: "image", STEM: "stem"}.get(block, f"block {block}")


def draw_images(figure: SubFigure, table: DataFrame, arms: Sequence[str]) -> None:
    """A row an image and arm, a column a place; of each arm the first network."""
    mine = table[table["seed"] == table.groupby("arm")["seed"].transform("first")]
    mine = mine.fillna({"block": IMAGE}).astype({"block": int})
    images, places = (unique(mine[mine["arm"].isin(arms)], name) for name in ("image", "block"))
    rows = [(image, arm) for image in images for arm in arms]
    for axes, (image, arm) in zip(figure.subplots(len(rows), len(places), squeeze=False), rows, strict=True):
        for ax, place in zip(axes, places, strict=True):
            draw_image(ax, pick(mine, image=image, arm=arm, block=place).iloc[0])
        axes[0].set_ylabel(label_of(arm).replace(", ", "\n"), rotation=0, ha="right", va="center")
    for ax, place in zip(figure.axes, places, strict=False):
        ax.set_title(place_name(place), fontsize="medium", pad=3)


def draw_image(ax: Axes, row: Series) -> None:
    """One image in the frame of what became of it; a picture, no panel with axes."""
    ax.set_label("<picture>")
    ax.imshow(pixels(row), cmap="gray", interpolation="nearest", vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(visible=row["status"] in FRAMES, color=FRAMES.get(row["status"]), linewidth=1.4)


def frame_legend() -> list[Patch]:
    """What the frames of images mean."""
    labels = {EXACT: "exact, by least squares", FOUND: "found by a search",
             LOST: "lost: another image has the same output", NOT_DECIDED: "not decided"}  # fmt: skip
    return [
        Patch(facecolor="none", edgecolor=FRAMES[status], linewidth=1.4, label=text) for status, text in labels.items()
    ]


def over_depth(ax: Axes, table: DataFrame) -> None:
    """Errors of every arm: a symbol a network, a line their mean with its interval, dashed the controls."""
    arms = unique(table, "arm")
    for place, arm in enumerate(arms):
        mine = pick(table, arm=arm)
        by_block = [pick(mine, block=block) for block in sorted(unique(table, "block"))]
        at = np.arange(len(by_block)) + (place - (len(arms) - 1) / 2) * 0.08
        draw_arm(ax, at, by_block, ARM_STYLES[arm])
    ax.axhline(NEAR, color="0.4", lw=0.5, ls=":")
    numbers = table.groupby("block")["outputs"].first()
    ax.set_xticks(range(len(numbers)), [tick(*one) for one in numbers.items()])
    ax.set(
        xlabel=f"sought from the output of block; an image has {table['inputs'].iloc[0]:,} numbers",
        ylabel="share of the image's variance",
        ylim=(FLOOR / 2, 4),
    )
    plots.log_axis(ax)
    ax.legend(frameon=False, loc="lower right")


def tick(block: int, outputs: int) -> str:
    """A place, and how many numbers it gives for those of the image."""
    return f"{place_name(block).removeprefix('block ')}\n{outputs:,}"


def draw_arm(ax: Axes, at: np.ndarray, mine: Sequence[DataFrame], style: tuple[str, str]) -> None:
    """One arm; below FLOOR at FLOOR."""
    colour, mark = style
    found = [statistics.mean(np.log10(by_network(one, "error"))) for one in mine]
    value, low, high = (10 ** np.array([getattr(one, part) for one in found]) for part in ("value", "low", "high"))
    shown = np.array([one.n >= FEWEST_FOR_BARS for one in found])  # Student's interval of two would cover the axis
    ends = np.nan_to_num(np.stack([value - low, np.minimum(high, 3) - value])).clip(0)
    ax.errorbar(at, value, ends * shown, fmt="-", color=colour, lw=0.9, elinewidth=0.7)
    ax.plot(at, [geometric(by_network(one, "control_error")) for one in mine], "--", color=colour, lw=0.6)
    ax.plot([], [], mark, ls="-", color=colour, mfc="white", ms=3, lw=0.9, label=label_of(mine[0]["arm"].iloc[0]))
    for x, one in zip(at, mine, strict=True):
        values, exact = by_network(one, "error"), (one["status"] == EXACT).all()
        ax.plot([x] * len(values), values, mark, color=colour, mfc=colour if exact else "white", ms=3, mew=0.7)


def by_network(table: DataFrame, name: str) -> np.ndarray:
    """Of every network the geometric mean over images, not below FLOOR."""
    return np.array([geometric(mine.to_numpy()) for _, mine in table.groupby("seed", sort=False)[name]])


def geometric(values: np.ndarray) -> float:
    """The geometric mean, of values not below FLOOR."""
    return float(np.exp(np.log(values.clip(FLOOR)).mean()))
