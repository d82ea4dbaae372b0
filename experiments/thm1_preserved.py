"""Theorem 1: how much of a volume in R^n keeps one preimage, and where the paper's bound on it fails.

Paper    Sandler et al. 2018, arXiv:1801.04381, Appendix A, Theorem 1 and the chain of bounds after it
Claims   the preserved fraction is N / 2^m = P(Binomial(m, 1/2) >= n); the lost one is at most 2^(-m/2)
Run      python -m experiments.thm1_preserved
Differs  a fresh T and a fresh point of the unit sphere for every draw; Lemma 2 by rank, not by count
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab import activations, metrics, theory
from manifold_lab.core import statistics
from manifold_lab.core.random_streams import stream
from manifold_lab.metrics.active_rows import active_rows
from manifold_lab.models import specs
from manifold_lab.random_layer import manifolds
from manifold_lab.random_layer.manifolds import ManifoldSpec
from manifold_lab.report import plots, tables
from manifold_lab.report.plots import column, pick
from manifold_lab.report.tables import ClaimResult, number
from manifold_lab.sweeps.store import Cell, Result
from manifold_lab.sweeps.study import Study, main

COMMAND = "python -m experiments.thm1_preserved"
INPUTS = (2, 4, 8, 16, 24, 32, 64, 96, 160)
EXPANSIONS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 10.0, 14.0, 18.0, 22.0)
MEASURED = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
"""Beyond these expansions no feasible number of draws shows a loss: the closed form alone is drawn."""
LARGEST = 80_000
"""Matrices with more entries are not measured either: their singular values would take minutes per cell."""
MOBILENET = 6.0
"""MobileNetV2's expansion factor t = m / n."""
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
    """Fewer draws above n = 32, where they cost more."""
    draws = 100 if smoke else 1000
    return tuple(
        Spec(n, t, draws if n <= 32 else draws // 5) for n in INPUTS[: 4 if smoke else None] for t in EXPANSIONS
    )


def measure(spec: Spec, _folder: Path) -> Result:
    """The fraction of draws whose point keeps one preimage, where draws can show a loss."""
    inputs, ambient = spec.inputs, spec.ambient
    if spec.expansion not in MEASURED or inputs * ambient > LARGEST:
        return Result({})
    points = manifolds.sample(ManifoldSpec("sphere", inputs=inputs), spec.draws, stream(spec.seed, "points", inputs)).x
    generator, relu = stream(spec.seed, "embedding", inputs, ambient), activations.named("relu")
    kept = 0
    for x in points.split(50):
        matrix = torch.randn((len(x), ambient, inputs), generator=generator, dtype=x.dtype)
        y = relu((matrix @ x[..., None]).mT)
        kept += int(metrics.preserved(active_rows(matrix, relu.is_active(y))).sum())
    return Result(asdict(statistics.proportion(kept, spec.draws)))


def rows(cells: Sequence[Cell]) -> list[dict[str, str]]:
    """One line per cell: the measured fraction where it is measured, the closed form and the paper's bound."""
    return [_row(cell.spec, cell.numbers) for cell in cells]


def _row(spec: Spec, numbers: Mapping[str, float]) -> dict[str, str]:
    chain = theory.paper_bounds(spec.ambient, spec.inputs)
    return {
        "inputs": str(spec.inputs),
        "dim": str(spec.ambient),
        "expansion": number(spec.expansion),
        "estimate": number(numbers.get("value")),
        "low": number(numbers.get("low")),
        "high": number(numbers.get("high")),
        "n": str(numbers.get("n", "")),
        "theory": number(float(theory.preserved_fraction(spec.ambient, spec.inputs))),
        "log2_lost": number(chain.exact),
        "log2_bound": number(chain.last),
        "bound": statistics.verdict(chain.last_step_holds),
    }


def draw_curves(ax: Axes, lines: tables.Lines) -> None:
    """Preserved fraction against expansion, one curve per n."""
    shown = [n for n in ("2", "8", "32", "160") if pick(lines, inputs=n)]
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(shown)))
    for n, shade, mark in zip(shown, shades, "osD^", strict=False):
        mine = pick(lines, inputs=n)
        done = [line for line in mine if line["estimate"]]
        value = column(done, "estimate")
        ends = np.stack([value - column(done, "low"), column(done, "high") - value]).clip(0)
        ax.errorbar(column(done, "expansion"), value, ends, fmt=mark, color=shade, ms=3, elinewidth=0.8, label=n)
        ax.plot(column(mine, "expansion"), column(mine, "theory"), color=shade, lw=0.8)
    ax.axvline(MOBILENET, color="0.6", lw=0.6, ls=":")
    ax.text(MOBILENET + 0.1, 0.03, "MobileNetV2", rotation=90, color="0.4", fontsize=mpl.rcParams["legend.fontsize"])
    ax.set(xlabel="expansion m / n", ylabel="preserved fraction", xlim=(0.8, 6.6), ylim=(-0.03, 1.03))
    ax.legend(title="n", frameon=False, loc="center right", bbox_to_anchor=(0.87, 0.35))
    ax.set_title("(a)", loc="left", pad=3)


def draw_bound(ax: Axes, lines: tables.Lines) -> None:
    """log10 of the lost fraction over n and expansion; crosses where the paper's last bound is broken."""
    import seaborn  # noqa: PLC0415  (two seconds that only this figure needs)

    rows = list(dict.fromkeys(line["inputs"] for line in lines))
    across = list(dict.fromkeys(line["expansion"] for line in lines))
    lost = np.array([column(pick(lines, inputs=n), "log2_lost") for n in rows]) * math.log10(2)
    broken = np.array([[line["bound"] == "fails" for line in pick(lines, inputs=n)] for n in rows])
    bar = {"label": "lost fraction, log10", "shrink": 0.9}
    seaborn.heatmap(lost, ax=ax, cmap="viridis", vmin=-30, vmax=0, cbar_kws=bar, linewidths=0.4)
    y, x = np.nonzero(broken)
    ax.plot(x + 0.5, y + 0.5, "x", color="white", ms=4, mew=1.6)
    ax.plot(x + 0.5, y + 0.5, "x", color="black", ms=4, mew=0.7)
    ax.set_xticks(np.arange(len(across)) + 0.5, across, rotation=0)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows, rotation=0)
    ax.set(xlabel="expansion m / n     (× : more is lost than 2^(-m/2))", ylabel="n")
    ax.set_title("(b)", loc="left", pad=3)


def draw(lines: tables.Lines) -> Figure:
    """The two panels."""
    with plots.style("cvpr2024"):
        figure = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 2.5), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
        draw_curves(left, lines)
        draw_bound(right, lines)
        return plots.fixed_layout(figure)


def claims(lines: tables.Lines) -> list[ClaimResult]:
    """Theorem 1 by the share of measured cells that agree; the bound by the cells of MobileNetV2's expansions."""
    measured = [line for line in lines if line["estimate"]]
    agree = sum(float(line["low"]) <= float(line["theory"]) <= float(line["high"]) for line in measured)
    theorem = statistics.proportion(agree, len(measured))
    own = [line for line in pick(lines, expansion=number(MOBILENET)) if int(line["inputs"]) in EXPANDED]
    within = sum(line["bound"] == "holds" for line in own)
    return [
        ClaimResult(
            "Theorem 1",
            "the preserved fraction is P(Binomial(m, 1/2) >= n)",
            f"cells whose {statistics.LEVEL:.0%} interval holds the theory's value",
            theorem,
            statistics.verdict(theorem.high >= statistics.LEVEL),
            COMMAND,
        ),
        ClaimResult(
            "After Theorem 1",
            "the lost fraction is at most 2^(-m/2), at the paper's own m = 6n",
            f"of {len(own)} input dimensions n of MobileNetV2's expansions, those where it is",
            statistics.counted(within),
            statistics.verdict(within == len(own) if own else None),
            COMMAND,
        ),
    ]


STUDY = Study("thm1_preserved", __doc__, grid, measure, rows, draw, claims)

if __name__ == "__main__":
    sys.exit(main(STUDY))
