"""Figure 1: what the picture shows, and what was lost.

Paper    Sandler et al. 2018, arXiv:1801.04381, Figure 1 and its caption
Claims   m = 2, 3: points of the manifold collapse into each other; m = 15, 30: information is kept, but the
         transformation is "highly non-convex"
Run      python -m experiments.fig1_spiral
Differs  the paper shows one draw and gives neither the law of T, nor the curve, nor the inverse: ours are iid N(0, 1),
         an Archimedean spiral of three turns, and the pseudo-inverse, over many draws
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.core import statistics
from manifold_lab.random_layer import monte_carlo
from manifold_lab.random_layer.monte_carlo import layers
from manifold_lab.random_layer.specs import PAPER_DIMS, MonteCarlo
from manifold_lab.report import plots, results_table, tables
from manifold_lab.report.plots import pick
from manifold_lab.report.tables import ClaimResult, number
from manifold_lab.sweeps import store
from manifold_lab.sweeps.store import Cell, Result
from manifold_lab.sweeps.study import Study, main

COMMAND = "python -m experiments.fig1_spiral"
QUANTITY = "preserved_fraction"
LEVELS = tuple(np.linspace(0, 1, 101).round(2).tolist())
"""Quantile levels at which the distribution over draws is published."""


def grid(smoke: bool) -> tuple[MonteCarlo, ...]:
    """One survey per panel."""
    return tuple(MonteCarlo((dim,), draws=200 if smoke else 10_000) for dim in PAPER_DIMS)


def measure(spec: MonteCarlo, _folder: Path) -> Result:
    """The csv lines of a panel: every estimate, then the share of recoverable points over draws as quantiles."""
    (layer,) = layers(spec, torch.device("cpu"))
    measured = monte_carlo.measure_layer(layer)
    lines = [tables.record(row) for row in results_table.rows(layer, measured)]
    return Result({}, lines + distribution(layer.dim, measured["preserved_fraction"]))


def distribution(dim: int, values: np.ndarray) -> list[dict[str, str]]:
    """The share of recoverable points over draws, as quantiles, whose level stands where an interval has its own."""
    found = np.quantile(values, LEVELS)
    same = dict.fromkeys(tables.RESULT_COLUMNS, "") | {"quantity": QUANTITY, "statistic": "quantile", "dim": str(dim)}
    return [same | {"level": str(level), "estimate": number(value)} for level, value in zip(LEVELS, found, strict=True)]


def rows(cells: Sequence[Cell]) -> list[dict[str, str]]:
    """The lines of all panels."""
    return [line for cell in cells for line in store.history(cell)]


def draw_distribution(ax: Axes, lines: tables.Lines) -> None:
    """Cumulative share of draws against the share of points that can be recovered."""
    dims = list(dict.fromkeys(line["dim"] for line in lines))
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(dims)))
    for dim, shade, dashes in zip(dims, shades, ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))), strict=False):
        mine = pick(lines, dim=dim)
        ax.plot(plots.column(mine, "estimate"), plots.column(mine, "level"), color=shade, linestyle=dashes, label=dim)
    ax.set(xlabel="share of the curve that can be recovered", ylabel="share of draws below", xlim=(-0.02, 1.02))
    ax.legend(title="dim", frameon=False, loc="upper left")
    ax.set_title("(a)", loc="left", pad=3)


def draw_blame(ax: Axes, lines: tables.Lines) -> None:
    """Bars: which part of pinv's error falls on points that the ReLU lost, which on points that it kept."""
    shares = pick(lines, quantity="decoder_share", statistic="mean")
    share, place = plots.column(shares, "estimate"), np.arange(len(shares))
    ends = np.abs(np.stack([plots.column(shares, "low"), plots.column(shares, "high")]) - share)
    ax.bar(place, share, 0.7, color=plots.MEASURED, label="recoverable points: the decoder's doing")
    ax.bar(place, 1 - share, 0.7, bottom=share, color=plots.GAP, hatch="///", lw=0, label="points that ReLU lost")
    ax.errorbar(place, share, ends, fmt="none", color="black", elinewidth=0.7, capsize=2)
    ax.set_xticks(place, [line["dim"] for line in shares])
    ax.set(xlabel="dim m of the embedding", ylabel="share of pinv's error", ylim=(0, 1.32), yticks=[0, 0.5, 1])
    ax.legend(frameon=False, loc="upper left")
    ax.set_title("(b)", loc="left", pad=3)


def draw(lines: tables.Lines) -> Figure:
    """The two panels."""
    with plots.style("cvpr2024"):
        figure = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 2.3), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw_distribution(left, pick(lines, quantity=QUANTITY, statistic="quantile"))
        draw_blame(right, lines)
        return plots.fixed_layout(figure)


def claims(lines: tables.Lines) -> list[ClaimResult]:
    """The caption's claims, each against one number and its interval."""

    def found(quantity: str, dim: int, statistic: str = "mean", decoder: str = "") -> statistics.Estimate:
        (line,) = pick(lines, quantity=quantity, dim=str(dim), statistic=statistic, decoder=decoder)
        return statistics.Estimate(float(line["estimate"]), float(line["low"]), float(line["high"]), int(line["n"]))

    pairs, kept, spoiled = found("collapsed_pairs", 3), found("preserved_fraction", 15), found("decoder_share", 15)
    affine = found("reconstruction_error", 15, "median", "affine")
    judged = (
        ("m = 2, 3: points collapse into each other", "pairs of points with one image, m = 3", pairs, pairs.low > 0),
        ("m = 15 to 30: the information is kept", "points with one preimage, m = 15", kept, kept.low > 0.99),
        (
            "m = 15 to 30: the transformation is highly non-convex (no affine map undoes it)",
            "median error of the best affine decoder, m = 15",
            affine,
            affine.low > 0.01,
        ),
        (
            "the picture shows what ReLU does (not what the decoder does)",
            "share of pinv's error on recoverable points, m = 15",
            spoiled,
            spoiled.high < 0.5,
        ),
    )
    return [ClaimResult("Figure 1", *claim[:3], statistics.verdict(claim[3]), COMMAND) for claim in judged]


STUDY = Study("fig1_spiral", __doc__, grid, measure, rows, draw, claims)

if __name__ == "__main__":
    sys.exit(main(STUDY))
