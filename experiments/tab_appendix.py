"""Appendix A's lemmas, and the errata that need a computation of their own.

Paper    Sandler et al. 2018, arXiv:1801.04381, Appendix A, sections 3.2 and 6.4, Figures 1 and 6a
Claims   Lemma 1, Lemma 2, what follows Theorem 1; linear bottlenecks are strictly less powerful; "several percent"
Run      python -m experiments.tab_appendix
Differs  proofs are checked on random points and matrices, preimages by linear programs; Figure 6a's numbers are the
         paper's own, read off the figure to about 0.05 points
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from manifold_lab import activations, metrics, theory
from manifold_lab.core import statistics
from manifold_lab.core.cli import destination, run_cli
from manifold_lab.core.errors import at_least
from manifold_lab.core.files import check_folder, publish, text
from manifold_lab.core.random_streams import stream
from manifold_lab.core.statistics import Estimate
from manifold_lab.metrics.active_rows import active_rows
from manifold_lab.random_layer import decoders, embeddings
from manifold_lab.report import plots, tables
from manifold_lab.report.plots import column, pick
from manifold_lab.report.tables import ClaimResult, number

STEM = "tab_appendix"
COMMAND = f"python -m experiments.{STEM}"
FIGURE_6A = {"linear": 71.06, "relu6": 70.44}
"""Mean of the last million steps, in percent, digitised."""
TABLE_4 = 72.0
POINT = 1e-9
"""A box of preimages no longer than this is a point: the linear programs' tolerance."""
ROUNDING = 1e-12
CORNERS = ((1.0, -1.0), (90, 210, 330))
"""Lemma 2's counterexamples at x = 0: the rows of B in one dimension, the angles of B's rows in two."""
HEAD = {
    "place": "where", "says": "claim", "measure": "computed", "estimate": "value", "interval": "95 % interval",
    "n": "n", "verdict": "verdict",
}  # fmt: skip
CAPTION = (
    "Appendix A of arXiv:1801.04381 and errata of the paper, each checked by a computation: random points of the unit "
    "ball and Gaussian B unless it says otherwise."
)


@dataclass(frozen=True)
class Run:
    """Appendix A and the errata, computed."""

    draws: int = 4000
    """Random matrices per row, each with a point of its own."""
    smoke: bool = False
    """A hundred draws."""
    out: Path | None = None
    """Folder for the tables and the figure; by default figures, with --smoke out."""


def sample(draws: int, ambient: int, inputs: int) -> tuple[Tensor, Tensor]:
    """A Gaussian B and a point of the unit ball for every draw: draws x ambient x inputs, draws x 1 x inputs."""
    rng = stream(0, STEM, ambient, inputs)
    matrix = embeddings.draw_embedding("gaussian", (draws, ambient, inputs), rng).matrix
    x = torch.randn((draws, 1, inputs), generator=rng, dtype=torch.float64)
    radius = torch.rand((draws, 1, 1), generator=rng, dtype=torch.float64) ** (1 / inputs)
    return matrix, radius * x / x.norm(dim=-1, keepdim=True)


def kept(matrix: Tensor, active: Tensor) -> Estimate:
    """Share of points with one preimage, by the rank of their active rows."""
    preserved = metrics.preserved(active_rows(matrix, active))
    return statistics.proportion(int(preserved.sum()), preserved.numel())


def lemma_1(draws: int) -> Iterator[ClaimResult]:
    """An image is interior where a step along any axis, either way, leads to what ReLU leaves alone: an image too."""
    matrix, x = sample(draws, 3, 3)
    before = x @ matrix.mT
    step = 1e-6 * torch.cat([torch.eye(3), -torch.eye(3)]).double()
    near = torch.relu(before) + step
    interior = (torch.relu(near) == near).all((1, 2))
    same = (torch.relu(before) == before).all((1, 2)) & interior
    found = statistics.proportion(int(same.sum()), int(interior.sum()))
    yield judged("Lemma 1", "Lemma 1: where an image is interior, ReLU was the identity",
                 "share of interior images, m = n = 3", found, found.value == 1)  # fmt: skip
    square = sample(draws, 8, 8)
    share = kept(square[0], square[1] @ square[0].mT > 0)
    yield judged("Section 3.2", "a set that fills all m = n dimensions does not keep complete information",
                 "share of points with one preimage, m = n = 8", share, share.high < 0.5)  # fmt: skip


def extents(matrix: Tensor, x: Tensor) -> np.ndarray:
    """Longest side of the box around all preimages of each draw's point within [-1, 1]^n."""
    found = []
    for rows, point in zip(matrix.numpy(), x[:, 0].numpy(), strict=True):
        before = rows @ point
        low, high = np.where(before > 0, before, -np.inf), np.maximum(before, 0)
        box = (-np.ones(len(point)), np.ones(len(point)))
        found.append(decoders.preimage(rows, low[None], high[None], box).extent[0])
    return np.array(found)


def lemma_2(draws: int) -> Iterator[ClaimResult]:
    """Preimages by linear programs, against the rank of the active rows."""
    matrix, x = sample(min(draws, 400), 5, 3)
    ranked = metrics.preserved(active_rows(matrix, x @ matrix.mT > 0))[:, 0].numpy()
    alone = extents(matrix, x) < POINT
    one = statistics.proportion(int((alone & ranked).sum()), int(ranked.sum()))
    more = statistics.proportion(int((~alone & ~ranked).sum()), int((~ranked).sum()))
    line, plane = torch.tensor(CORNERS[0])[:, None], torch.deg2rad(torch.tensor(CORNERS[1], dtype=torch.float64))
    corners = (line.double(), torch.stack([torch.cos(plane), torch.sin(plane)], dim=1))
    lonely = sum(extents(rows[None], torch.zeros(1, 1, rows.shape[1])).item() < POINT for rows in corners)
    twins = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [-1.0, 0.5]]], dtype=torch.float64)
    length = extents(twins, torch.tensor([[[0.5, 0.0]]], dtype=torch.float64)).item()
    yield judged("Lemma 2", "Lemma 2, if: n independent active rows leave one preimage",
                 "share of such points, n = 3, m = 5", one, one.value == 1)  # fmt: skip
    yield judged("Lemma 2", "Lemma 2, only if, almost everywhere: fewer leave more than one",
                 "share of such points, n = 3, m = 5", more, more.value == 1)  # fmt: skip
    yield judged("Lemma 2", "Lemma 2, only if, everywhere: fewer leave more than one",
                 f"of {len(corners)} chosen points with no active row, those with one preimage all the same",
                 statistics.counted(lonely), lonely == 0)  # fmt: skip
    yield judged("Lemma 2 (ours)", "rank, not count: two parallel active rows do not give a point of the plane back",
                 "length of the preimage within the unit box", statistics.counted(length), length > POINT)  # fmt: skip


def points(draws: int) -> list[dict[str, str]]:
    """What the figure shows: images of one B in the plane, and the preimages' length beside the active rows."""
    matrix, x = sample(min(draws, 400), 2, 2)
    before = x @ matrix[:1].mT
    images = torch.relu(before)[:, 0].tolist()
    inside = (before > 0).all(-1)[:, 0].tolist()
    found = [{"kind": "image", "a": number(a), "b": number(b), "identity": str(int(same))}
             for (a, b), same in zip(images, inside, strict=True)]  # fmt: skip
    matrix, x = sample(min(draws, 400), 5, 3)
    active, length = (x @ matrix.mT > 0).sum(-1)[:, 0].tolist(), extents(matrix, x).tolist()
    return found + [{"kind": "preimage", "a": str(count), "b": number(round(size, 9)), "identity": ""}
                    for count, size in zip(active, length, strict=True)]  # fmt: skip


def draw(lines: tables.Lines, shown: tables.Lines) -> Figure:
    """Lemma 1 as a picture, Lemma 2 as counts against lengths, and Theorem 1 where its assumptions fail."""
    with plots.style("cvpr2024"):
        figure = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 2.3), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        images = pick(shown, kind="image")
        for same, colour, label in (("1", plots.MEASURED, "identity"), ("0", plots.LOST_COLOUR, "clipped")):
            mine = pick(images, identity=same)
            left.plot(column(mine, "a"), column(mine, "b"), ".", ms=3, mew=0, color=colour, label=label)
        left.set(xlabel="$y_1$", ylabel="$y_2$", title="(a) images of a disc, m = n = 2")
        left.legend(frameon=False)
        preimages = pick(shown, kind="preimage")
        active = column(preimages, "a")
        spread = active + np.linspace(-0.3, 0.3, len(active))
        middle.axvline(2.5, color=plots.GHOST, lw=0.8)
        middle.plot(spread, column(preimages, "b"), ".", ms=3, mew=0, color=plots.MEASURED)
        middle.set(xlabel="active rows of 5, n = 3", ylabel="length of the preimage", title="(b) Lemma 2")
        draw_conditions(right, lines)
        return plots.fixed_layout(figure)


def draw_conditions(ax: Axes, lines: tables.Lines) -> None:
    """Preserved share under the theorem's assumptions, and without them."""
    wanted = {"ReLU": "N / 2^m is", "ReLU6": "Theorem 1 with ReLU6", "bias": "Theorem 1 with a bias"}
    for place, (name, start) in enumerate(wanted.items()):
        (line,) = [line for line in lines if line["says"].startswith(start)]
        value, low, high = (float(line[key]) for key in ("estimate", "low", "high"))
        if name == "ReLU":  # where the row has the collapsed share
            value, low, high = 1 - value, 1 - high, 1 - low
        plots.draw_point(ax, (place, Estimate(value, low, high, int(line["n"]))), (plots.MEASURED, "o"))
    ax.axhline(float(theory.preserved_fraction(5, 2)), color=plots.THEORY, lw=0.8, label="N / 2$^m$")
    ax.set_xticks(range(len(wanted)), list(wanted))
    ax.set(xlim=(-0.5, 2.5), ylim=(0, 1.05), ylabel="preserved share, n = 2, m = 5", title="(c) Theorem 1")
    ax.legend(frameon=False, loc="lower right")


def theorem_1(draws: int) -> Iterator[ClaimResult]:
    """What N / 2^m is, and that it is another fraction under ReLU6 and under a bias."""
    matrix, x = sample(draws, 5, 2)
    law = float(theory.preserved_fraction(5, 2))
    found = kept(matrix, x @ matrix.mT > 0)
    lost = Estimate(1 - found.value, 1 - found.high, 1 - found.low, found.n)
    yield judged("After Theorem 1", "N / 2^m is the collapsed fraction (erratum 6)",
                 f"collapsed share at n = 2, m = 5, where N / 2^m = {law}", lost, lost.covers(law))  # fmt: skip
    relu6 = activations.named("relu6")
    clipped = kept(matrix, relu6.is_active(relu6(10 * x @ matrix.mT)))
    yield judged("Theorem 1", "Theorem 1 with ReLU6: the preserved fraction stays N / 2^m (erratum 9)",
                 f"preserved share of a ball of radius 10 at n = 2, m = 5, where N / 2^m = {law}", clipped,
                 clipped.covers(law))  # fmt: skip
    biased = kept(matrix, x @ matrix.mT + 1 > 0)
    yield judged("Theorem 1", "Theorem 1 with a bias: the preserved fraction stays N / 2^m (erratum 9)",
                 f"preserved share at n = 2, m = 5 with a bias of 1, where N / 2^m = {law}", biased,
                 biased.covers(law))  # fmt: skip


def decoder(draws: int) -> Iterator[ClaimResult]:
    """The pseudo-inverse against x / 2, at a width where nothing is lost."""
    matrix, x = sample(min(draws, 100), 2000, 2)
    inverse, before = embeddings.pseudo_inverse(matrix), x @ matrix.mT
    x_hat = decoders.linear_decode(inverse, torch.relu(before))
    half = x / 2 + before.abs() @ inverse.mT / 2
    error = statistics.mean(((x_hat - x).square().sum(-1) / x.square().sum(-1))[:, 0].numpy())
    yield judged("Figure 1", "the pseudo-inverse gives x back once m is large (erratum 12)",
                 "|x̂ − x|² / |x|² at n = 2, m = 2000", error, error.high < 0.01)  # fmt: skip
    gap = float((x_hat - half).abs().max())
    yield judged("Figure 1", "the pseudo-inverse undoes nothing: x̂ = x/2 + pinv(T)|Tx|/2 (erratum 12)",
                 "largest difference of the two sides, to 12 decimals", statistics.counted(round(gap, 12)),
                 gap < ROUNDING)  # fmt: skip


def texts(draws: int) -> Iterator[ClaimResult]:
    """Section 6.4's remark on power, and the paper's words against its numbers."""
    z = torch.randn(25 * draws, generator=stream(0, STEM, "bottleneck"), dtype=torch.float64)
    through = activations.named("relu6")(z / 4 + 3)
    exact = int((((through - 3) * 4 - z).abs() < ROUNDING).sum())
    share = statistics.proportion(exact, len(z))
    yield judged("Section 6.4", "a nonlinear bottleneck can act as a linear one: ReLU6(z/4 + 3), undone, is z",
                 "share of Gaussian z that come back", share, share.value == 1)  # fmt: skip
    cost = FIGURE_6A["linear"] - FIGURE_6A["relu6"]
    yield judged("Section 3.2", "Figure 6a shows several percent, 2 or more (erratum 10)",
                 "points between the arms, digitised", statistics.counted(round(cost, 2)), cost >= 2)  # fmt: skip
    yield judged("Figure 6a", f"Figure 6a's baseline is Table 4's {TABLE_4} (erratum 10)",
                 "top-1 of the linear arm, %, digitised", statistics.counted(FIGURE_6A["linear"]),
                 math.isclose(FIGURE_6A["linear"], TABLE_4, abs_tol=0.05))  # fmt: skip


def judged(place: str, says: str, measure: str, found: Estimate, holds: bool) -> ClaimResult:
    """A claim with its verdict."""
    return ClaimResult(place, says, measure, found, statistics.verdict(bool(holds)), COMMAND)


def line(claim: ClaimResult) -> dict[str, str]:
    """A claim as a row of the table."""
    found = claim.estimate
    sampled = found.low < found.high
    ends = {"low": number(found.low), "high": number(found.high)} if sampled else {"low": "", "high": ""}
    told = {name: getattr(claim, name) for name in ("place", "says", "measure")}
    return told | {"estimate": number(found.value), **ends, "n": str(found.n) if sampled else ""} | {
        "interval": f"{found.low:.4g} to {found.high:.4g}" if sampled else "counted", "verdict": claim.verdict
    }  # fmt: skip


def run(options: Run) -> None:
    """Compute, judge, publish."""
    out = destination(options.out, options.smoke)
    check_folder(out)
    at_least("draws", options.draws, 100)
    draws = 100 if options.smoke else options.draws
    found = [claim for part in (lemma_1, lemma_2, theorem_1, decoder, texts) for claim in part(draws)]
    lines = [line(claim) for claim in found]
    shown = points(draws)
    publish(
        out,
        tables.documents(STEM, CAPTION, HEAD, lines)
        | {f"{STEM}_points.csv": text(tables.to_csv(shown, list(shown[0])))}
        | tables.claims_file(STEM, found)
        | plots.figure_files(draw(lines, shown), STEM),
    )


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, f"experiments.{STEM}"))
