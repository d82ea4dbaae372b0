"""Figures as pure functions of published tables; style as values, one colour and one name per meaning."""

import math
import string
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure

from manifold_lab.core.errors import one_of
from manifold_lab.core.files import Writer
from manifold_lab.core.shown import DataFrame
from manifold_lab.core.statistics import Estimate
from manifold_lab.report.arm_styles import BLUE, VERMILION, Style
from manifold_lab.report.styles import DEFAULT_STYLE, FORMATS, STYLES

OURS: dict[str, Any] = {
    "text.usetex": False,  # no TeX needed
    "figure.constrained_layout.use": False,  # but where a figure asks for it
    "font.family": ["STIXGeneral"],  # a Times that matplotlib brings along: the same on every machine and at any time
    "mathtext.fontset": "stix",
    "pdf.fonttype": 42,  # fonts embedded as text, as venues ask
    "svg.hashsalt": "manifold_lab",
    "savefig.dpi": 300,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "lines.linewidth": 0.9,
    "hatch.linewidth": 0.4,
}
THEORY, MEASURED, LOST_COLOUR, GAP, GHOST = "0.25", BLUE, VERMILION, "#F5B895", "0.8"
ALONG = mpl.colors.ListedColormap(mpl.colormaps["viridis"](np.linspace(0, 0.88, 256)), "along")
"""Position along the curve: dark to light, so that it reads in grey; the palest end is left out on white paper."""
UPPER_BOUND: Any = mpl.markers.CARETDOWN
DATA_NAMES = {"cifar10": "CIFAR-10", "digits": "digits"}
"""Data sets as a figure names them."""


_VENUE: ContextVar[str] = ContextVar("venue", default=DEFAULT_STYLE)


@contextmanager
def venue(name: str) -> Iterator[None]:
    """Make another venue's style the one that `style` takes by default.

    Raises:
        InputError: for an unknown style.
    """
    token = _VENUE.set(one_of("style", name, STYLES))
    try:
        yield
    finally:
        _VENUE.reset(token)


def style(name: str = "") -> AbstractContextManager[None]:
    """Draw within a venue's style, by default that of `venue`; nothing stays set afterwards."""
    settings: Any = STYLES[name or _VENUE.get()]() | OURS
    return mpl.rc_context(settings)


def shaped(height: float, share: float = 1.0) -> Figure:
    """A figure as wide as a share of the venue's text, and this high in inches, that arranges itself."""
    return Figure(figsize=(share * mpl.rcParams["figure.figsize"][0], height), layout="constrained")


def letter(axes: Iterable[Axes], names: Iterable[str]) -> None:
    """What each panel shows, behind its letter where there are several; the same way in every figure."""
    panels = list(zip(axes, names, strict=True))
    for place, (ax, name) in enumerate(panels):
        mark = panel_mark(place) * (len(panels) > 1)
        ax.set_title(mark + name, loc="left", pad=3, fontsize="medium")


def handles_of(axes: Iterable[Axes]) -> list[Artist | Container]:
    """What one legend of several panels shows: every label once."""
    return list({label: handle for ax in axes
                 for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}.values())  # fmt: skip


def panel_mark(place: int) -> str:
    """The letter of a panel, before its name; panels beyond the alphabet have none."""
    return f"({string.ascii_lowercase[place]}) " if place < len(string.ascii_lowercase) else ""


def data_name(data: str) -> str:
    """A data set as figures name it."""
    return DATA_NAMES.get(data, data)


def captioned(
    figure: Figure, title: str, caption: str, legend: Sequence[Artist | Container] = (), ncols: int = 4
) -> Figure:
    """The figure with its message above and, below, data, n and intervals; arranged once, for all formats.

    Args:
        figure: drawn, its panels named.
        title: one short sentence.
        caption: what is drawn, of how many, and what the intervals are.
        legend: of all panels together, between them and the caption: artists with labels.
        ncols: columns of the legend.
    """
    width, rows = figure.get_figwidth(), -(-len(legend) // ncols)
    figure.suptitle(evenly_wrapped(title, int(17 * width)), size="large", x=0.01, ha="left")
    room = "\n" * (rows + 1) if legend else ""
    below = figure.supxlabel(room + textwrap.fill(caption, int(25 * width)), size="small", color="0.3")
    fixed_layout(figure)
    if legend:
        top = below.get_window_extent().transformed(figure.transFigure.inverted()).y1
        figure.legend(handles=legend, loc="upper center", bbox_to_anchor=(0.5, top), ncols=ncols, frameon=False)
    return figure


def evenly_wrapped(words: str, width: int) -> str:
    r"""A text in as few lines as fit into a width, none much shorter than the others.

    >>> evenly_wrapped("one word alone is not left behind", 30)
    'one word alone is\nnot left behind'
    """
    fewest = len(textwrap.wrap(words, width))
    narrowest = next((narrow for narrow in range(1, width) if len(textwrap.wrap(words, narrow)) <= fewest), width)
    return textwrap.fill(words, narrowest)


def fixed_layout(figure: Figure) -> Figure:
    """Arrange the figure once, for all formats."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine(None)  # where "none" is an engine, for which every figure is drawn once more
    return figure


def writer(figure: Figure, style_name: str) -> Writer:
    """A writer of the figure in the format that the file's name ends in; equal figures give equal bytes."""

    def write(path: Path) -> None:
        dates = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
        with style(style_name):
            figure.savefig(path, metadata=dates[path.suffix[1:]])

    return write


def figure_files(
    figure: Figure, stem: str, style_name: str = "", formats: Sequence[str] = FORMATS
) -> dict[str, Writer]:
    """The figure in each format; by default as an experiment publishes it: to look at, for papers, and for the page."""
    return {f"{stem}.{kind}": writer(figure, style_name) for kind in formats}


def draw_point(ax: Axes, at: tuple[int | float, Estimate], style: Style, label: str | None = None) -> None:
    """One estimate with its interval, where there is one."""
    (x, found), (colour, mark) = at, style
    ends = None if math.isnan(found.low) else [[found.value - found.low], [found.high - found.value]]
    ax.errorbar(x, found.value, ends, fmt=mark, color=colour, ms=4, elinewidth=0.8, label=label)


def draw_intervals(ax: Axes, x: Any, found: Sequence[Estimate], **style: Any) -> None:
    """Estimates with their intervals, where there are any, against x.

    Args:
        ax: what is drawn into.
        x: a place for each of them.
        found: the estimates.
        style: of `Axes.errorbar`.
    """
    value, low, high = np.array([(one.value, one.low, one.high) for one in found]).reshape(-1, 3).T
    ends = np.nan_to_num(np.stack([value - low, high - value])).clip(0)
    ax.errorbar(x, value, ends, **style)


def draw_estimates(ax: Axes, rows: DataFrame, style: Style, label: str, floor: float = 0.0) -> None:
    """Points with intervals against dim, the spread over draws behind; a caret where only a bound is above `floor`."""
    colour, mark = style
    dim, value, low, high = (rows[name].to_numpy(float) for name in ("dim", "estimate", "low", "high"))
    seen = value > floor if floor else np.ones_like(value, dtype=bool)
    error = np.stack([value - np.maximum(low, floor), high - value])[:, seen].clip(0)
    ax.errorbar(
        dim[seen], value[seen], error, fmt=mark, color=colour, markersize=2.8, elinewidth=0.7, label=label, zorder=3
    )
    if (~seen).any():
        ax.scatter(dim[~seen], high[~seen], marker=UPPER_BOUND, s=9, color=colour, linewidths=0.6, zorder=3)
    q05, q95 = (np.maximum(rows[name].to_numpy(float), floor) for name in ("q05", "q95"))
    ax.fill_between(dim, q05, q95, color=colour, alpha=0.13, linewidth=0, zorder=1)


def draw_theory(ax: Axes, rows: DataFrame, label: str | None = None) -> None:
    """The closed form of each row, where there is one."""
    known = rows.dropna(subset="theory")
    ax.plot(known["dim"], known["theory"], "-", color=THEORY, label=label, zorder=2)


def log_axis(ax: Axes) -> None:
    """A log axis with plain-text labels, which draw many times faster than typeset ones."""
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(lambda value, _position: "1" if value == 1 else f"1e{math.log10(value):.0f}")
