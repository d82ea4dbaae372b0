"""Theorem 1: how much of a volume in R^n keeps one preimage, and where the paper's bound on it fails.

Paper    Sandler et al. 2018, arXiv:1801.04381, Appendix A, Theorem 1 and the chain of bounds after it
Claims   the preserved fraction is N / 2^m = P(Binomial(m, 1/2) >= n); the lost one is at most 2^(-m/2)
Run      python -m experiments.thm1_preserved publish
Differs  a fresh T and a fresh point of the unit sphere for every draw; Lemma 2 by rank, not by count. The fraction is
         said to be the theorem's where tests show it to be within 5 points of it in every cell (equivalence), apart
         for cells where nearly everything or nothing is kept, which cannot tell the law from another
"""

import math
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.stats import binomtest

from manifold_lab import activations, metrics, theory
from manifold_lab.core import contrasts, statistics
from manifold_lab.core.random_streams import stream
from manifold_lab.core.statistics import FAILS, HOLDS, LEVEL, Estimate
from manifold_lab.metrics.active_rows import active_rows
from manifold_lab.models import specs
from manifold_lab.random_layer import manifolds
from manifold_lab.random_layer.manifolds import ManifoldSpec
from manifold_lab.report import plots
from manifold_lab.report.printed import counted_claims
from manifold_lab.report.tables import ClaimResult, DataFrame, Record, estimates_in, markdown, pick
from manifold_lab.sweeps.study import MAIN, Headline, captioned_figure, computed_study

MARGIN = 0.05
"""How near a measured fraction must be to the theorem's to agree; cells nearer than this to 0 or 1 stand apart."""
TELLING = 2500
"""Draws of a cell that can tell: as many as two one-sided tests at that margin need in each of a dozen cells."""
INPUTS = (2, 4, 8, 16, 24, 32, 64, 96, 160)
EXPANSIONS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 10.0, 14.0, 18.0, 22.0)
MEASURED = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
"""Beyond these expansions no feasible number of draws shows a loss: the closed form alone is drawn."""
LARGEST = 80_000
"""Matrices with more entries are not measured either: their singular values would take minutes per cell."""
MOBILENET = 6.0
"""MobileNetV2's expansion factor t = m / n."""
SHOWN = (2, 3, 4, 8, 16, 24, 32, 160)
"""The input dimensions n that figures of random layers tell apart."""
LOOKS = {
    n: (mpl.colors.to_hex(plots.ALONG(shade)), mark)
    for n, shade, mark in zip(SHOWN, np.linspace(0, 1, len(SHOWN)), "osD^vPX*", strict=True)
}
"""Their colour and marker, darker where n is smaller: the same in all these figures."""
EXPANDED = {stage.inputs for stage in specs.stages(specs.V2) if stage.expands}
"""The input dimensions n of its expansions."""


@dataclass(frozen=True)
class Spec:
    """One input dimension n and one expansion m / n."""

    inputs: int
    expansion: float
    draws: int
    """Each with its own T and its own point."""
    seed: int = 0

    @property
    def ambient(self) -> int:
        """The dimension m."""
        return round(self.expansion * self.inputs)


def grid(smoke: bool) -> tuple[Spec, ...]:
    """Most draws where the law is neither near 0 nor near 1; of the others fewer above n = 32, where they cost more."""
    inputs = INPUTS[: 4 if smoke else None]
    return tuple(Spec(n, t, 100 if smoke else draws(n, t)) for n in inputs for t in EXPANSIONS)


def draws(inputs: int, expansion: float) -> int:
    """Draws of a cell."""
    law = float(theory.preserved_fraction(round(expansion * inputs), inputs))
    return TELLING if not saturated(law) else 1000 if inputs <= 32 else 200


def saturated(law: float) -> bool:
    """Whether a fraction is nearer to 0 or 1 than the margin."""
    return not MARGIN <= law <= 1 - MARGIN


def measured(spec: Spec) -> Estimate | None:
    """The fraction of draws whose point keeps one preimage, where draws can show a loss."""
    inputs, ambient = spec.inputs, spec.ambient
    if spec.expansion not in MEASURED or inputs * ambient > LARGEST:
        return None
    points = manifolds.sample(ManifoldSpec("sphere", inputs=inputs), spec.draws, stream(spec.seed, "points", inputs)).x
    generator, relu = stream(spec.seed, "embedding", inputs, ambient), activations.named("relu")
    kept = 0
    for x in points.split(50):
        matrix = torch.randn((len(x), ambient, inputs), generator=generator, dtype=x.dtype)
        y = relu((matrix @ x[..., None]).mT)
        kept += int(metrics.preserved(active_rows(matrix, relu.is_active(y))).sum())
    return statistics.proportion(kept, spec.draws)


def row(spec: Spec) -> Record:
    """The measured fraction where it is measured, the closed form and the paper's bound."""
    found, chain = measured(spec), theory.paper_bounds(spec.ambient, spec.inputs)
    return {
        "inputs": spec.inputs,
        "dim": spec.ambient,
        "expansion": spec.expansion,
        "estimate": found and found.value,
        "low": found and found.low,
        "high": found and found.high,
        "n": found and found.n,
        "theory": float(theory.preserved_fraction(spec.ambient, spec.inputs)),
        "log2_lost": chain.exact,
        "log2_bound": chain.last,
        "bound": statistics.verdict(chain.last_step_holds),
    }


def draw_curves(ax: Axes, table: DataFrame) -> None:
    """Preserved fraction against expansion, one curve per n."""
    for n in [n for n in (2, 8, 32, 160) if n in set(table["inputs"])]:
        shade, mark = LOOKS[n]
        done = pick(table, inputs=n).dropna(subset="estimate")
        plots.draw_intervals(ax, done["expansion"], estimates_in(done), fmt=mark, color=shade, ms=3, elinewidth=0.8,
                             label=str(n))  # fmt: skip
        every = np.arange(n, round(1.1 * MOBILENET * n) + 1)
        ax.plot(every / n, [float(theory.preserved_fraction(int(m), n)) for m in every], color=shade, lw=0.8)
    ax.axvline(MOBILENET, color="0.6", lw=0.6, ls=":")
    ax.text(MOBILENET + 0.1, 0.03, "MobileNetV2", rotation=90, color="0.4", fontsize=mpl.rcParams["legend.fontsize"])
    ax.set(xlabel="expansion m / n", ylabel="preserved fraction", xlim=(0.8, 6.6), ylim=(-0.03, 1.03))
    ax.legend(title="n", frameon=False, loc="center right", bbox_to_anchor=(0.87, 0.35))


def draw_bound(ax: Axes, table: DataFrame) -> None:
    """log10 of the lost fraction over n and expansion; crosses where the paper's last bound is broken."""
    import seaborn  # noqa: PLC0415  (two seconds that only this figure needs)

    wide = table.pivot(index="inputs", columns="expansion", values=["log2_lost", "bound"])
    lost, broken = wide["log2_lost"].astype(float) * math.log10(2), wide["bound"] == FAILS
    bar = {"label": "lost fraction, log10", "shrink": 0.9, "extend": "min"}
    seaborn.heatmap(lost.to_numpy(), ax=ax, cmap="viridis", vmin=-30, vmax=0, cbar_kws=bar, linewidths=0.4)
    y, x = np.nonzero(broken)
    ax.plot(x + 0.5, y + 0.5, "x", color="white", ms=4, mew=1.6)
    ax.plot(x + 0.5, y + 0.5, "x", color="black", ms=4, mew=0.7)
    if MOBILENET in lost:
        own = (lost.columns.get_loc(MOBILENET), 0)
        ax.add_patch(Rectangle(own, 1, len(lost), fill=False, ec=plots.LOST_COLOUR, lw=1.5, clip_on=False, zorder=5))
    ax.set_xticks(np.arange(lost.shape[1]) + 0.5, [f"{t:g}" for t in lost.columns], rotation=0)
    ax.set_yticks(np.arange(len(lost)) + 0.5, map(str, lost.index), rotation=0)
    ax.set(xlabel="expansion m / n", ylabel="input dimension n")


HEADLINE = Headline(
    "bound", "At the paper's own expansions the bound on what is lost holds",
    "At the paper's own expansions more is lost than its bound allows",
)  # fmt: skip


def draw(figure: Figure, table: DataFrame) -> str:
    """The two panels."""
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    draw_curves(left, table)
    draw_bound(right, table)
    plots.letter(
        (left, right), ("measured, and the law at every m as lines", r"×: more is lost than the bound $2^{-m/2}$")
    )
    drawn = table["n"]
    return (
        f"Volumes in n dimensions, ReLU: marks are fractions of {drawn.min():,.0f} to {drawn.max():,.0f} draws of "
        f"T and a point, bars exact {statistics.PERCENT} intervals; (b) is the closed form; framed: "
        "MobileNetV2's expansion."
    )


def margin_tests(kept: int, draws: int, law: float) -> tuple[float, float]:
    """P-values that the fraction is within the margin of the law (two one-sided exact tests), and that it is not."""
    low, high = max(law - MARGIN, 0.0), min(law + MARGIN, 1.0)
    above, under = (float(binomtest(kept, draws, low, side).pvalue) for side in ("greater", "less"))
    below, over = (float(binomtest(kept, draws, high, side).pvalue) for side in ("less", "greater"))
    inside = max(above if low > 0 else 0.0, below if high < 1 else 0.0)
    return inside, min(under if low > 0 else 1.0, over if high < 1 else 1.0)


def agreement(table: DataFrame) -> tuple[Estimate, str, float]:
    """Whether every cell is within the margin of the law.

    It holds where every cell is shown to be, by the largest p-value of all, which needs no correction. It fails where a
    cell is shown not to be, after Holm's correction.

    Returns:
        The largest difference between a fraction and the law, the verdict, and the p-value that decides it.
    """
    if not len(table):
        return statistics.NO_RUNS, statistics.verdict(None, statistics.NO_RUNS), math.nan
    cells = [(round(row.estimate * row.n), int(row.n), row.theory) for row in table.itertuples()]
    inside, outside = zip(*(margin_tests(*cell) for cell in cells), strict=True)
    apart = min(contrasts.holm({str(at): p_value for at, p_value in enumerate(outside)}).values())
    kept, n, law = max(cells, key=lambda cell: abs(cell[0] / cell[1] - cell[2]))
    found = statistics.proportion(kept, n)
    difference = Estimate(found.value - law, found.low - law, found.high - law, n)
    if apart < 1 - LEVEL:
        return difference, FAILS, apart
    return difference, statistics.verdict(max(inside) < 1 - LEVEL or None), max(inside)


def claims(table: DataFrame) -> list[ClaimResult]:
    """Theorem 1 by equivalence of every measured cell; the bound by the cells of MobileNetV2's expansions."""
    measured = table.dropna(subset="estimate")
    apart = measured["theory"].map(saturated)
    groups = {
        "preserved_fraction": "the law is between 5 and 95 %",
        "preserved_fraction_saturated": "the law is below 5 % or above 95 %, which says little",
    }
    judged = []
    for name, which in groups.items():
        cells = measured[apart == name.endswith("saturated")]
        difference, verdict, p_value = agreement(cells)
        says = "the preserved fraction is P(Binomial(m, 1/2) >= n)"
        what = f"largest difference over {len(cells)} cells where {which}; all within {MARGIN} by two one-sided tests"
        place = "Theorem 1" if name == "preserved_fraction" else "Theorem 1 (saturated cells)"
        judged.append(ClaimResult(name, place, says, what, difference, verdict, p_value=p_value))
    own = pick(table[table["inputs"].isin(EXPANDED)], expansion=MOBILENET)
    within = len(pick(own, bound=HOLDS))
    bound = counted_claims([
        ("bound", "After Theorem 1", "the lost fraction is at most 2^(-m/2), at the paper's own m = 6n",
         f"of {len(own)} input dimensions n of MobileNetV2's expansions, those where it is", within,
         within == len(own)),
    ])  # fmt: skip
    return judged + bound


def bound_table(table: DataFrame) -> str:
    """The paper's last bound beside the exact value, at the network's own expansion."""
    head = ("n", "m = 6n", "log2 of the lost fraction, exact", "the bound, -m/2", "the bound")
    own = pick(table, expansion=MOBILENET)[["inputs", "dim", "log2_lost", "log2_bound", "bound"]]
    return markdown(head, [[*(f"{value:.6g}" for value in row[:-1]), row[-1]] for row in own.itertuples(index=False)])


STUDY = computed_study(
    name="thm1_preserved",
    card=__doc__,
    tables=lambda smoke: {MAIN: [row(spec) for spec in grid(smoke)]},
    figure=captioned_figure(draw, claims, HEADLINE, 3.0),
    claims=claims,
    text=bound_table,
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
