"""The panels of ext_inversion: images that came back beside each other, and errors over depth."""

import base64
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Patch

from manifold_lab.core import statistics
from manifold_lab.probe.inversion import EXACT, FOUND, LOST, NOT_DECIDED
from manifold_lab.report.arm_styles import ARM_STYLES, words_of
from manifold_lab.report.plots import LOST_COLOUR, MEASURED, column, log_axis, pick
from manifold_lab.report.tables import Lines
from manifold_lab.sweeps.inversion_run import NEAR

FRAMES = {EXACT: MEASURED, FOUND: "black", LOST: LOST_COLOUR, NOT_DECIDED: "0.7"}
FLOOR = 1e-6
"""Errors below are drawn here: they are exact to the eye, and of searches in float32 no more can be told."""


def pixels(line: dict[str, str]) -> np.ndarray:
    """The image of a line, height x width, with colours where it has them."""
    size = tuple(map(int, line["size"].split("x")))
    held = np.frombuffer(base64.b64decode(line["pixels"]), np.uint8).reshape(size)
    return held[0] if size[0] == 1 else held.transpose(1, 2, 0)


def place_name(block: str) -> str:
    """A place as an axis names it."""
    return {"": "image", "-1": "stem"}.get(block, f"block {block}")


def draw_images(figure: SubFigure, lines: Lines, arms: Sequence[str]) -> None:
    """A row an image and arm, a column a place; of each arm the first network."""
    seeds = {arm: pick(lines, arm=arm)[0]["seed"] for arm in arms}
    mine = [line for line in lines if line["arm"] in arms and line["seed"] == seeds[line["arm"]]]
    images, places = (list(dict.fromkeys(line[name] for line in mine)) for name in ("image", "block"))
    rows = [(image, arm) for image in images for arm in arms]
    for axes, (image, arm) in zip(figure.subplots(len(rows), len(places), squeeze=False), rows, strict=True):
        for ax, place in zip(axes, places, strict=True):
            draw_image(ax, pick(mine, image=image, arm=arm, block=place)[0])
        axes[0].set_ylabel(words_of(arm).replace(", ", "\n"), rotation=0, ha="right", va="center")
    for ax, place in zip(figure.axes, places, strict=False):
        ax.set_title(place_name(place), fontsize="medium", pad=3)


def draw_image(ax: Axes, line: dict[str, str]) -> None:
    """One image in the frame of what became of it; a picture, no panel with axes."""
    ax.set_label("<picture>")
    ax.imshow(pixels(line), cmap="gray", interpolation="nearest", vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(visible=line["status"] in FRAMES, color=FRAMES.get(line["status"]), linewidth=1.4)


def frame_legend() -> list[Patch]:
    """What the frames of images mean."""
    words = {EXACT: "exact, by least squares", FOUND: "found by a search",
             LOST: "lost: another image has the same output", NOT_DECIDED: "not decided"}  # fmt: skip
    return [
        Patch(facecolor="none", edgecolor=FRAMES[status], linewidth=1.4, label=text) for status, text in words.items()
    ]


def over_depth(ax: Axes, lines: Lines) -> None:
    """Errors of every arm: a symbol a network, a line their mean with its interval, dashed the controls."""
    places, arms = sorted({int(line["block"]) for line in lines}), list(dict.fromkeys(line["arm"] for line in lines))
    for place, arm in enumerate(arms):
        at = np.arange(len(places)) + (place - (len(arms) - 1) / 2) * 0.08
        draw_arm(ax, at, [pick(lines, arm=arm, block=str(one)) for one in places], ARM_STYLES[arm])
    ax.axhline(NEAR, color="0.4", lw=0.5, ls=":")
    ax.set_xticks(range(len(places)), [tick(pick(lines, block=str(place))[0]) for place in places])
    ax.set(
        xlabel=f"sought from the output of block; an image has {int(lines[0]['inputs']):,} numbers",
        ylabel="share of the image's variance",
        ylim=(FLOOR / 2, 4),
    )
    log_axis(ax)
    ax.legend(frameon=False, loc="lower right")


def tick(line: dict[str, str]) -> str:
    """A place, and how many numbers it gives for those of the image."""
    return f"{place_name(line['block']).removeprefix('block ')}\n{int(line['outputs']):,}"


def draw_arm(ax: Axes, at: np.ndarray, mine: Sequence[Lines], look: tuple[str, str]) -> None:
    """One arm; below FLOOR at FLOOR."""
    colour, mark = look
    found = [statistics.mean(np.log10(by_network(one, "error"))) for one in mine]
    value, low, high = (10 ** np.array([getattr(one, part) for one in found]) for part in ("value", "low", "high"))
    ends = np.nan_to_num(np.stack([value - low, np.minimum(high, 3) - value])).clip(0)
    ax.errorbar(at, value, ends, fmt="-", color=colour, lw=0.9, elinewidth=0.7, label=words_of(mine[0][0]["arm"]))
    ax.plot(at, [geometric(by_network(one, "control_error")) for one in mine], "--", color=colour, lw=0.6)
    for x, one in zip(at, mine, strict=True):
        values, exact = by_network(one, "error"), all(line["status"] == EXACT for line in one)
        ax.plot([x] * len(values), values, mark, color=colour, mfc=colour if exact else "white", ms=3, mew=0.7)


def by_network(lines: Lines, name: str) -> np.ndarray:
    """Of every network the geometric mean over images, not below FLOOR."""
    seeds = dict.fromkeys(line["seed"] for line in lines)
    return np.array([geometric(column(pick(lines, seed=seed), name)) for seed in seeds])


def geometric(values: np.ndarray) -> float:
    """The geometric mean, of values not below FLOOR."""
    return float(np.exp(np.log(values.clip(FLOOR)).mean()))
