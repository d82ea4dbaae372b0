"""Figure 1: what the picture shows, and what was lost.

Paper    Sandler et al. 2018, arXiv:1801.04381, Figure 1 and its caption
Claims   m = 2, 3: points of the manifold collapse into each other; m = 15, 30: information is kept, but the
         transformation is "highly non-convex" (not well defined as said: a map into R^m has no convexity; measured is
         whether the curve can be decoded linearly)
Run      python -m experiments.fig1_spiral publish
Differs  the paper shows one draw and gives neither the law of T, nor the curve, nor the inverse: ours are iid N(0, 1),
         an Archimedean spiral of three turns, and the pseudo-inverse, over many draws
"""

import functools

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.core import statistics
from manifold_lab.core.statistics import Estimate
from manifold_lab.random_layer import monte_carlo
from manifold_lab.random_layer.monte_carlo import layers
from manifold_lab.random_layer.specs import PAPER_DIMS, MonteCarlo
from manifold_lab.report import plots, results_table, tables
from manifold_lab.report.tables import ClaimResult, DataFrame, estimate_in, estimated_claim, estimates_in, pick
from manifold_lab.sweeps.study import MAIN, Headline, captioned_figure, computed_study

QUANTITY = "preserved_fraction"
AFFINE = ("median", "affine")
"""The statistic and the decoder of the linear reading of "non-convex"."""
KEPT, DECODED = 0.99, 0.01
"""The share of points that must have one preimage, and the share of |x|² that a decoder may get wrong."""
LEVELS = tuple(np.linspace(0, 1, 101).round(2).tolist())
"""Quantile levels at which the distribution over draws is published."""


def panels(smoke: bool) -> dict[str, list[tables.Record]]:
    """The rows of every panel: its estimates, then the share of recoverable points over draws as quantiles."""
    found = []
    for dim in PAPER_DIMS:
        (layer,) = layers(MonteCarlo((dim,), draws=200 if smoke else 10_000), torch.device("cpu"))
        measured = monte_carlo.measure_layer(layer)
        found += [tables.record(row) for row in results_table.rows(layer, measured)]
        found += distribution(dim, measured["preserved_fraction"])
    return {MAIN: found}


def distribution(dim: int, values: np.ndarray) -> list[tables.Record]:
    """The share of recoverable points over draws, as quantiles, whose level stands where an interval has its own."""
    found = np.quantile(values, LEVELS)
    same = dict.fromkeys(tables.RESULT_COLUMNS) | {"quantity": QUANTITY, "statistic": "quantile", "dim": dim}
    return [same | {"level": str(level), "estimate": float(value)} for level, value in zip(LEVELS, found, strict=True)]


HEADLINE = Headline(
    "panels_show_relu", "The panels of Figure 1 show mostly what ReLU loses",
    "Figure 1's error at 15 dimensions is the decoder's, not ReLU's",
    "Whether Figure 1's error is ReLU's or the decoder's is undecided",
)  # fmt: skip


def draw_distribution(ax: Axes, table: DataFrame) -> None:
    """The share of points that can be recovered, over draws, from its quantiles."""
    import seaborn  # noqa: PLC0415  (two seconds that few figures need)

    seaborn.violinplot(table.astype({"dim": str}), x="dim", y="estimate", ax=ax, color="#9DC3DF", inner="quart",
                       cut=0, linewidth=0.7, density_norm="width", bw_adjust=0.5)  # fmt: skip
    ax.set(xlabel="dim m of the embedding", ylabel="recoverable share of the curve", ylim=(-0.02, 1.02))


def draw_blame(ax: Axes, table: DataFrame) -> None:
    """Bars: which part of pinv's error falls on points that the ReLU lost, which on points that it kept."""
    shares = pick(table, quantity="decoder_share", statistic="mean")
    share, place = shares["estimate"].to_numpy(), np.arange(len(shares))
    ax.bar(place, share, 0.7, color=plots.MEASURED, label="recoverable points: the decoder's doing")
    ax.bar(place, 1 - share, 0.7, bottom=share, color=plots.GAP, hatch="///", lw=0, label="points that ReLU lost")
    plots.draw_intervals(ax, place, estimates_in(shares), fmt="none", color="black", elinewidth=0.7, capsize=2)
    ax.set_xticks(place, shares["dim"].map(str))
    ax.set(xlabel="dim m of the embedding", ylabel="share of pinv's error", ylim=(0, 1.32), yticks=[0, 0.5, 1])
    ax.legend(frameon=False, loc="upper left")


def draw(figure: Figure, table: DataFrame) -> str:
    """The two panels."""
    left, right = figure.subplots(1, 2)
    draw_distribution(left, pick(table, quantity=QUANTITY, statistic="quantile"))
    draw_blame(right, table)
    plots.letter((left, right), ("recoverable, over draws", "where pinv's error lies"))
    draws = table["n"].max()
    return (
        f"Spirals of three turns, ReLU, {draws:,.0f} draws of T per dim. (a): density with median and quartiles. "
        f"(b): means with {statistics.PERCENT} intervals."
    )


def found(table: DataFrame, quantity: str, dim: int, statistic: str = "mean", decoder: str = "") -> Estimate:
    """One published estimate."""
    return estimate_in(pick(table, quantity=quantity, dim=dim, statistic=statistic, decoder=decoder).iloc[0])


claim = functools.partial(estimated_claim, place="Figure 1")
"""A claim of this study."""


def claims(table: DataFrame) -> list[ClaimResult]:
    """The caption's claims, each against one number and its interval."""
    judged = []
    for dim in (2, 3):
        pairs = found(table, "collapsed_pairs", dim)
        judged.append(claim(f"collapse/{dim}", "m = 2, 3: points collapse into each other",
                            f"share of pairs of points with one image, m = {dim}",
                            pairs, pairs.exceeds(0)))  # fmt: skip
    for dim in (15, 30):
        kept, affine = found(table, "preserved_fraction", dim), found(table, "reconstruction_error", dim, *AFFINE)
        judged.append(claim(f"kept/{dim}", "m = 15 to 30: the information is kept",
                            f"share of points with one preimage, m = {dim}", kept, kept.exceeds(KEPT)))  # fmt: skip
        judged.append(claim(f"linearly_decodable/{dim}", "m = 15 to 30: an affine map gives the spiral back to "
                            '1 % of |x|² (the caption: "highly non-convex")',
                            f"median error of the best affine map, m = {dim}",
                            affine, affine.below(DECODED)))  # fmt: skip
    spoiled = found(table, "decoder_share", 15)
    judged.append(claim("panels_show_relu", "the panels show what ReLU does (not what the decoder does)",
                        "share of pinv's error on recoverable points, m = 15",
                        spoiled, spoiled.below(0.5)))  # fmt: skip
    return judged


FIGURE = captioned_figure(draw, claims, HEADLINE, 2.7)
STUDY = computed_study(name="fig1_spiral", card=__doc__, tables=panels, figure=FIGURE, claims=claims)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
