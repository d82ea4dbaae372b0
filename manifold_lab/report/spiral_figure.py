"""Drawing Figure 1 and the statistics behind it, from published tables."""

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from manifold_lab.core.shown import DataFrame, Series
from manifold_lab.random_layer.figure1 import INPUT
from manifold_lab.random_layer.specs import DECODERS
from manifold_lab.report import plots
from manifold_lab.report.arm_styles import BLACK, DECODER_STYLES
from manifold_lab.report.plots import ALONG, GAP, GHOST, LOST_COLOUR, MEASURED, THEORY, UPPER_BOUND
from manifold_lab.report.results_table import TYPICAL, asked_dims
from manifold_lab.report.tables import percent, pick, plain, unique

ERROR = r"$\Sigma\,|\hat x - x|^2\, /\, \Sigma\,|x|^2$"
LOST_EVERY = 6
"""One cross for this many lost points: more would run into a bar."""
PER_BLOCK = 6
DECODERS_DRAWN = tuple(decoder for decoder in DECODER_STYLES if decoder != "pinv_gain")
QUANTITIES_DRAWN = ("preserved_fraction", "injective", "information_dimension_loss", "mutual_information")
"""What the panels of statistics show, besides errors."""


def draw_points(ax: Axes, rows: DataFrame, ghost: DataFrame, curve: bool) -> None:
    """One panel: the input in grey behind, what was kept coloured along the manifold, what was lost as crosses."""
    x, lost = rows[["x1", "x2"]].to_numpy(), rows["preserved"].to_numpy() == 0
    behind, position = ghost[["x1", "x2"]].to_numpy(), rows["position"].to_numpy()
    joined: dict[str, Any] = {"lw": 0.6} if curve else {"marker": ".", "ms": 0.9, "mew": 0, "lw": 0}
    ax.plot(*behind.T, color=GHOST, zorder=1, **joined)
    if curve:
        pieces = list(_pieces(~lost))
        along = [position[piece].mean() for piece in pieces]
        strokes = LineCollection([x[piece] for piece in pieces], array=along, cmap=ALONG, capstyle="round", lw=1.5)
        strokes.set(clim=(0, 1), zorder=3)
        ax.add_collection(strokes)
    else:
        ax.scatter(
            x[~lost, 0], x[~lost, 1], s=2.2, c=position[~lost], cmap=ALONG, vmin=0, vmax=1, linewidths=0, zorder=3
        )
    ax.plot(*behind[lost].T, ".", ms=1.4, mew=0, color=GAP, zorder=2)
    ax.plot(x[lost, 0], x[lost, 1], "x", ms=1.8, mew=0.35, color=LOST_COLOUR, zorder=2, markevery=LOST_EVERY)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color="0.7")


def _pieces(kept: np.ndarray, length: int = 8) -> Iterator[slice]:
    """Short stretches of consecutive points that were kept, each overlapping the next by a point."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(int)))
    for start, stop in edges.reshape(-1, 2):
        for first in range(start, max(stop - 1, start + 1), length):
            yield slice(first, min(first + length + 1, stop))


def _figures_text(numbers: DataFrame, dim: int, decoder: str) -> str:
    """What a panel says of its own draw."""
    first = pick(numbers, statistic=TYPICAL, dim=dim)
    error = pick(first, quantity="reconstruction_error", decoder=decoder)
    text = f"error {plain(error['estimate'].item())}" if len(error) else ""
    kept = pick(first, quantity="preserved_fraction")
    if decoder == "exact" and len(kept):
        text += f"\nrecoverable {percent(kept['estimate'].item())}"
    return text


def draw_figure(points: DataFrame, numbers: DataFrame, style_name: str) -> Figure:
    """Figure 1: input and one panel per dim, decoded the paper's way above and exactly below."""
    ghost, decoded = points[points["decoder"] == INPUT], points[points["decoder"] != INPUT]
    dims, ways = list(map(int, unique(decoded, "dim"))), unique(decoded, "decoder")
    curve = bool(numbers["intrinsic"].iloc[0] == 1)
    blocks = [dims[i : i + PER_BLOCK] for i in range(0, len(dims), PER_BLOCK)]
    with plots.style(style_name):
        width = mpl.rcParams["figure.figsize"][0]
        across = max(map(len, blocks)) + 1
        height = len(blocks) * len(ways) * (width / across + 0.28) + 0.6
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(len(blocks) * len(ways), across, squeeze=False)
        for ax in axes.flat:
            ax.set_axis_off()
        for block, shown in enumerate(blocks):
            for row, way in enumerate(ways):
                panels = axes[block * len(ways) + row]
                for place, (ax, dim) in enumerate(zip(panels[1:], shown, strict=False), start=1 + block * PER_BLOCK):
                    ax.set_axis_on()
                    draw_points(ax, pick(decoded, dim=dim, decoder=way), ghost, curve)
                    ax.set_title(f"{plots.panel_mark(place)}dim {dim}" if row == 0 else "", pad=3)
                    ax.set_xlabel(
                        _figures_text(numbers, dim, way), labelpad=2, fontsize=mpl.rcParams["legend.fontsize"]
                    )
                panels[1].set_ylabel(DECODERS[way], labelpad=3)
        axes[0, 0].set_axis_on()
        draw_points(axes[0, 0], ghost, ghost, curve)
        axes[0, 0].set_title(f"{plots.panel_mark(0)}input", pad=3)
        _legend(figure, axes[1, 0] if len(ways) > 1 else axes[0, 0], curve)
        return plots.captioned(figure, figure_title(numbers, dims), figure_caption(numbers))


def figure_title(numbers: DataFrame, dims: Sequence[int]) -> str:
    """What the activation loses at the least and the largest dim, on average over draws."""
    mean = pick(numbers, quantity="preserved_fraction", statistic="mean")
    mean = mean[mean["dim"].isin((min(dims), max(dims)))].sort_values("dim")
    on = f"a {numbers['manifold'].iloc[0]}"
    if not len(mean):
        return f"{activation_name(numbers)} on {on}"
    lost = [
        f"{'at most ' * bool(row.note)}{percent(1 - row.estimate)} at dim {row.dim:.0f}" for row in mean.itertuples()
    ]
    return f"{activation_name(numbers)} loses {' and '.join(lost)} of {on}'s points"


def activation_name(numbers: DataFrame) -> str:
    """The activation as papers write it, where they have a spelling."""
    name = numbers["activation"].iloc[0]
    return {"relu": "ReLU", "relu6": "ReLU6", "gelu": "GELU", "silu": "SiLU", "elu": "ELU"}.get(name, name)


def figure_caption(numbers: DataFrame) -> str:
    """Which draw is shown, of how many, and what the numbers in the title are."""
    draws = pick(numbers, quantity="reconstruction_error")["n"].iloc[0]
    return (
        f"Each dim shows its typical draw: of {draws:,} draws of T the one nearest to the middle by share of "
        "points kept and pinv's error, both. Numbers below a panel are that draw's; those of the title are means over "
        "all draws."
    )


def _legend(figure: Figure, ax: Axes, curve: bool) -> None:
    if curve:
        _direction(figure, ax)
    if ax.axison:
        return
    handles = [
        mpl.lines.Line2D([], [], color=GHOST, lw=0.8, label="input"),
        mpl.lines.Line2D([], [], color=GAP, lw=1.4, label="lost: where it was"),
        mpl.lines.Line2D([], [], color=LOST_COLOUR, marker="x", ms=2.5, mew=0.5, lw=0, label="lost: where it is put"),
    ]
    ax.legend(handles=handles, loc="center left", frameon=False, bbox_to_anchor=(-0.05, 0.42), handlelength=1)
    ax.text(0, 0.08, f"error: {ERROR}", fontsize=mpl.rcParams["legend.fontsize"], transform=ax.transAxes)


def _direction(figure: Figure, ax: Axes) -> None:
    """The colours from the start of a curve to its end; other manifolds have neither."""
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), ALONG)
    inset = ax.inset_axes((0.04, 0.86, 0.92, 0.07)) if not ax.axison else ax.inset_axes((0.04, -0.2, 0.92, 0.06))
    bar = figure.colorbar(scale, cax=inset, orientation="horizontal", ticks=[0, 1])
    bar.ax.set_xticklabels(["start", "end"])
    bar.ax.tick_params(length=0, pad=1)
    bar.outline.set_visible(False)


def _of(numbers: DataFrame, quantity: str, statistic: str = "mean", decoder: str = "") -> DataFrame:
    return pick(numbers, quantity=quantity, statistic=statistic, decoder=decoder).sort_values("dim", kind="stable")


def draw_preserved(ax: Axes, numbers: DataFrame) -> None:
    """(a) Share of points with one preimage, and of draws that have one everywhere."""
    for quantity, statistic, colour, mark, label in (
        ("preserved_fraction", "mean", MEASURED, "o", "points with one preimage"),
        ("injective", "probability", BLACK, "s", "draws injective everywhere"),
    ):
        rows = _of(numbers, quantity, statistic)
        if len(rows):
            plots.draw_estimates(ax, rows, (colour, mark), label)
            plots.draw_theory(ax, rows, "theory" if quantity == "preserved_fraction" else None)
    ax.set(ylim=(-0.04, 1.04), ylabel="fraction")
    ax.legend(frameon=False, loc="lower right")


def draw_loss(ax: Axes, numbers: DataFrame) -> None:
    """(b) Share of the information dimension that is lost."""
    rows = _of(numbers, "information_dimension_loss")
    if not len(rows):
        ax.text(0.5, 0.5, "not defined here", transform=ax.transAxes, ha="center", color="0.5")
        return
    smallest = rows["theory"].min() if rows["theory"].notna().any() else 1e-9
    plots.draw_estimates(ax, rows, (MEASURED, "o"), "measured", floor=1e-12)
    plots.draw_theory(ax, rows, "theory")
    if (rows["estimate"] <= 1e-12).any():
        ax.plot([], [], linestyle="", marker=UPPER_BOUND, ms=4, color=MEASURED, label="none lost: upper bound")
    plots.log_axis(ax)
    ax.set(ylim=(max(smallest / 3, 1e-12), 2), ylabel="information dimension lost")
    ax.legend(frameon=False, loc="lower left")


def draw_errors(ax: Axes, numbers: DataFrame) -> None:
    """(c) What each decoder gets wrong on average, with theory; a decoder without a mean at a dim has no mark there."""
    floor = 1e-6
    for decoder in DECODERS_DRAWN:
        (colour, mark), means = DECODER_STYLES[decoder], _of(numbers, "reconstruction_error", "mean", decoder)
        if len(means):
            plots.draw_estimates(ax, means, (colour, mark), DECODERS[decoder], floor)
            plots.draw_theory(ax, means)
    plots.log_axis(ax)
    ax.set(ylim=(floor, 4), ylabel=f"error, {ERROR}")
    ax.legend(frameon=False, loc="lower left")


def draw_information(ax: Axes, numbers: DataFrame) -> None:
    """(d) Mutual information at the stated noise, below that of the points themselves."""
    rows = _of(numbers, "mutual_information")
    plots.draw_estimates(ax, rows, (MEASURED, "o"), f"after the activation ({rows['n'].iloc[0]} draws)")
    for value in pick(numbers, quantity="input_information")["estimate"]:
        ax.axhline(value, color=THEORY, linestyle="--", label="the points themselves")
    ax.set_ylim(bottom=0)
    ax.set_ylabel("mutual information, " + rows["unit"].iloc[0].replace("sigma", r"$\sigma$ ="))
    ax.legend(frameon=False, loc="lower right")


def draw_statistics(numbers: DataFrame, style_name: str) -> Figure:
    """The four panels of statistics over draws, against dim on a log axis."""
    dims, shown = numbers["dim"].dropna(), asked_dims(numbers)
    with plots.style(style_name):
        width = mpl.rcParams["figure.figsize"][0]
        figure = Figure(figsize=(width, 0.66 * width), layout="constrained")
        axes = figure.subplots(2, 2, sharex=True)
        parts = (draw_preserved, draw_loss, draw_errors, draw_information)
        for ax, draw in zip(axes.flat, parts, strict=True):
            draw(ax, numbers)
            ax.set_xscale("log")
            ax.set_xlim(0.9 * dims.min(), 1.12 * dims.max())
            ax.set_xticks(shown, [str(dim) for dim in shown])
            ax.minorticks_off()
        for ax in axes[1]:
            ax.set_xlabel("dim m of the embedding")
        plots.letter(axes.flat, ("what is kept", "dimension lost", "decoders' errors", "information"))
        return plots.captioned(figure, statistics_title(numbers), statistics_caption(numbers))


def statistics_title(numbers: DataFrame) -> str:
    """How often theory is within a mean's interval, of the drawn means that it says."""
    means = numbers["statistic"].isin(("mean", "probability")) & is_drawn(numbers)
    known = numbers[means].dropna(subset=["theory", "low"])
    if not len(known):
        return "No closed form is known for these draws"
    within, level = known["theory"].between(known["low"], known["high"]).sum(), known["level"].iloc[0]
    return f"Theory's values lie in {within} of {len(known)} intervals of {100 * level:.0f} % measured over draws"


def is_drawn(numbers: DataFrame) -> Series:
    """Which rows a panel of the statistics shows."""
    errors = numbers["quantity"] == "reconstruction_error"
    return (errors & numbers["decoder"].isin(DECODERS_DRAWN)) | numbers["quantity"].isin(QUANTITIES_DRAWN)


def statistics_caption(numbers: DataFrame) -> str:
    """What marks, bands and lines are, and over how many draws."""
    errors = pick(numbers, quantity="reconstruction_error").dropna(subset="level")
    medians, means = (set(pick(numbers, statistic=one, decoder="pinv")["dim"]) for one in ("median", "mean"))
    heavy = ", ".join(f"{dim:.0f}" for dim in sorted(medians - means))
    without = f" At dim {heavy} pinv's error has no mean." if heavy else ""
    first = errors.iloc[0]
    return (
        f"{activation_name(errors)} on a {first['manifold']}. Marks: means over {first['n']:,} draws of T with "
        f"{100 * first['level']:.0f} % intervals; bands: 5 to 95 % of the draws; lines: theory.{without}"
    )
