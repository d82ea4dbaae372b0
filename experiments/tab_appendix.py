"""Appendix A's lemmas, and the errata that need a computation of their own.

Paper    Sandler et al. 2018, arXiv:1801.04381, Appendix A, sections 3.2 and 6.4, Figures 1 and 6a
Claims   Lemma 1, Lemma 2, what follows Theorem 1; only a low-dimensional set keeps its information; linear bottlenecks
         are strictly less powerful; "several percent"
Run      python -m experiments.tab_appendix publish
Differs  proofs are checked on random points and matrices, preimages by linear programs: "all" means that the interval
         lies above 98 %. Figure 6a's numbers are the paper's own, read off the figure to about 0.05 points
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.rules.tab_appendix import LAW, POINT, ROUNDING, STATEMENTS
from manifold_lab import activations, metrics
from manifold_lab.core import statistics
from manifold_lab.core.random_streams import stream
from manifold_lab.core.statistics import Estimate
from manifold_lab.metrics.active_rows import active_rows
from manifold_lab.random_layer import decoders, embeddings
from manifold_lab.report import plots
from manifold_lab.report.tables import (
    ClaimResult,
    DataFrame,
    Document,
    Record,
    Series,
    estimate_in,
    estimated_claim,
    pick,
)
from manifold_lab.sweeps.study import MAIN, Headline, captioned_figure, computed_study

NAME = "tab_appendix"
POINTS = "points"
"""The part of the csv files that has what the figure shows."""
FIGURE_6A = {"linear": 71.06, "relu6": 70.44}
"""Mean of the last million steps, in percent, digitised."""
INPUTS, BOX = 3, 2.0
"""Of Lemma 2's panel: the dimension n, and the side of the box [-1, 1]^n within which preimages are sought."""
RADIUS = 10
"""Of the ball whose points ReLU6 meets: within the unit ball hardly any channel reaches 6."""
CORNERS = ((1.0, -1.0), (90, 210, 330))
"""Lemma 2's counterexamples at x = 0: the rows of B in one dimension, the angles of B's rows in two."""
HEAD = {
    "place": "where", "says": "claim", "measure": "computed", "estimate": "value", "interval": "95 % interval",
    "n": "n", "verdict": "verdict",
}  # fmt: skip
CAPTION = (
    "Appendix A of arXiv:1801.04381 and errata of the paper, each checked by a computation: random points of the unit "
    "ball and Gaussian B unless it says otherwise. n: of them; 95 % intervals of what is estimated, none of what is "
    "computed exactly."
)


def tables(smoke: bool) -> dict[str, list[Record]]:
    """The lines of both files, by so many random matrices per row, each with a point of its own."""
    draws, found = 100 if smoke else 4000, dict[str, Estimate]()
    for part in (lemma_1, lemma_2, theorem_1, decoder, texts):
        found |= part(draws)
    return {MAIN: [line(name, found[name]) for name in STATEMENTS], POINTS: points(draws)}


def sample(draws: int, ambient: int, inputs: int) -> tuple[Tensor, Tensor]:
    """A Gaussian B and a point of the unit ball for every draw: draws x ambient x inputs, draws x 1 x inputs."""
    rng = stream(0, NAME, ambient, inputs)
    matrix = embeddings.draw_embedding("gaussian", (draws, ambient, inputs), rng).matrix
    x = torch.randn((draws, 1, inputs), generator=rng, dtype=torch.float64)
    radius = torch.rand((draws, 1, 1), generator=rng, dtype=torch.float64) ** (1 / inputs)
    return matrix, radius * x / x.norm(dim=-1, keepdim=True)


def kept(matrix: Tensor, active: Tensor) -> Estimate:
    """Share of points with one preimage, by the rank of their active rows."""
    preserved = metrics.preserved(active_rows(matrix, active))
    return statistics.proportion(int(preserved.sum()), preserved.numel())


def lemma_1(draws: int) -> dict[str, Estimate]:
    """An image is interior where a step along any axis, either way, leads to what ReLU leaves alone: an image too."""
    matrix, x = sample(draws, 3, 3)
    before = x @ matrix.mT
    step = 1e-6 * torch.cat([torch.eye(3), -torch.eye(3)]).double()
    near = torch.relu(before) + step
    interior = (torch.relu(near) == near).all((1, 2))
    same = (torch.relu(before) == before).all((1, 2)) & interior
    square = sample(draws, 8, 8)
    return {
        "lemma_1": statistics.proportion(int(same.sum()), int(interior.sum())),
        "full_dimension_lost": kept(square[0], square[1] @ square[0].mT > 0),
    }


def extents(matrix: Tensor, x: Tensor) -> np.ndarray:
    """Longest side of the box around all preimages of each draw's point within [-1, 1]^n."""
    found = []
    for rows, point in zip(matrix.numpy(), x[:, 0].numpy(), strict=True):
        before = rows @ point
        low, high = np.where(before > 0, before, -np.inf), np.maximum(before, 0)
        box = (-np.ones(len(point)), np.ones(len(point)))
        found.append(decoders.preimage(rows, low[None], high[None], box).extent[0])
    return np.array(found)


def lemma_2(draws: int) -> dict[str, Estimate]:
    """Preimages by linear programs, against the rank of the active rows."""
    matrix, x = sample(min(draws, 400), 5, INPUTS)
    ranked = metrics.preserved(active_rows(matrix, x @ matrix.mT > 0))[:, 0].numpy()
    alone = extents(matrix, x) < POINT
    line, plane = torch.tensor(CORNERS[0])[:, None], torch.deg2rad(torch.tensor(CORNERS[1], dtype=torch.float64))
    corners = (line.double(), torch.stack([torch.cos(plane), torch.sin(plane)], dim=1))
    lonely = sum(extents(rows[None], torch.zeros(1, 1, rows.shape[1])).item() < POINT for rows in corners)
    twins = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [-1.0, 0.5]]], dtype=torch.float64)
    length = extents(twins, torch.tensor([[[0.5, 0.0]]], dtype=torch.float64)).item()
    return {
        "lemma_2_if": statistics.proportion(int((alone & ranked).sum()), int(ranked.sum())),
        "lemma_2_only_if": statistics.proportion(int((~alone & ~ranked).sum()), int((~ranked).sum())),
        "lemma_2_everywhere": statistics.counted(lonely),
        "rank_not_count": statistics.counted(length),
    }


def points(draws: int) -> list[Record]:
    """What the figure shows: images of one B in the plane, and the preimages' length beside the active rows."""
    matrix, x = sample(min(draws, 400), 2, 2)
    before = x @ matrix[:1].mT
    images = torch.relu(before)[:, 0].tolist()
    inside = (before > 0).all(-1)[:, 0].tolist()
    found = [{"kind": "image", "a": a, "b": b, "identity": int(same)}
             for (a, b), same in zip(images, inside, strict=True)]  # fmt: skip
    matrix, x = sample(min(draws, 400), 5, INPUTS)
    active, length = (x @ matrix.mT > 0).sum(-1)[:, 0].tolist(), extents(matrix, x).tolist()
    return found + [{"kind": "preimage", "a": count, "b": round(size, 9), "identity": None}
                    for count, size in zip(active, length, strict=True)]  # fmt: skip


HEADLINE = Headline(
    "theorem_1", "Theorem 1's fraction holds beyond its assumptions too",
    "Theorem 1 needs its assumptions: ReLU6 and a bias change the fraction",
    "Whether Theorem 1's fraction holds beyond its assumptions is undecided",
)  # fmt: skip


def draw(figure: Figure, published: dict[str, DataFrame]) -> str:
    """Lemma 1 as a picture, Lemma 2 as counts against lengths, and Theorem 1 where its assumptions fail."""
    table, shown = published[MAIN], published[POINTS]
    left, middle, right = figure.subplots(1, 3)
    images = pick(shown, kind="image")
    for same, colour, label in ((1, plots.MEASURED, "identity"), (0, plots.LOST_COLOUR, "clipped")):
        mine = pick(images, identity=same)
        left.plot(mine["a"], mine["b"], ".", ms=3, mew=0, color=colour, label=label)
    left.set(xlabel="$y_1$", ylabel="$y_2$")
    left.legend(frameon=False)
    preimages = pick(shown, kind="preimage")
    draw_preimages(middle, preimages)
    draw_conditions(right, table)
    names = ("Lemma 1: a disc in the plane", f"Lemma 2: preimages, n = {INPUTS}, m = 5", "Theorem 1: n = 2, m = 5")
    plots.letter((left, middle, right), names)
    draws = pick(table, claim="theorem_1_relu6")["n"].item()
    return (
        f"Random Gaussian T. (a): {len(images)} points behind ReLU; (b): {len(preimages)} draws, lengths cut by "
        f"the box at {BOX:g} in {(preimages['b'] >= BOX).sum()} of them; "
        f"(c): {draws:,.0f} draws, bars {statistics.PERCENT} intervals (smaller than the marks)."
    )


def draw_preimages(ax: Axes, table: DataFrame) -> None:
    """The length of every draw's preimage, by how many rows are active."""
    active = table["a"].to_numpy()
    spread = active + np.linspace(-0.3, 0.3, len(active))  # the same on every drawing, which a random jitter is not
    ax.plot(spread, table["b"], ".", ms=3, mew=0, color=plots.MEASURED)
    ax.axvline(INPUTS - 0.5, color="0.6", lw=0.8, ls=":", label=f"n = {INPUTS} or more →")
    ax.set(xlabel="active rows", ylabel="longest side within $[-1, 1]^n$")
    ax.legend(frameon=False, loc="upper right")


def draw_conditions(ax: Axes, table: DataFrame) -> None:
    """Preserved share under the theorem's assumptions, and without them."""
    wanted = {"ReLU": "collapsed_fraction", f"ReLU6,\nradius {RADIUS}": "theorem_1_relu6",
              "ReLU,\nbias 1": "theorem_1_bias"}  # fmt: skip
    for place, (name, wanted_claim) in enumerate(wanted.items()):
        found = estimate(pick(table, claim=wanted_claim).iloc[0])
        if name == "ReLU":  # where the row has the collapsed share
            found = Estimate(1 - found.value, 1 - found.high, 1 - found.low, found.n)
        plots.draw_point(ax, (place, found), (plots.MEASURED, "o"))
    ax.axhline(LAW, color=plots.THEORY, lw=0.8, label="N / 2$^m$")
    ax.set_xticks(range(len(wanted)), list(wanted))
    ax.set(xlim=(-0.5, 2.5), ylim=(0, 1.05), ylabel="preserved share", xlabel="activation")
    ax.legend(frameon=False, loc="lower right")


def theorem_1(draws: int) -> dict[str, Estimate]:
    """What N / 2^m is, and that it is another fraction under ReLU6 and under a bias."""
    matrix, x = sample(draws, 5, 2)
    found, relu6 = kept(matrix, x @ matrix.mT > 0), activations.named("relu6")
    return {
        "collapsed_fraction": Estimate(1 - found.value, 1 - found.high, 1 - found.low, found.n),
        "theorem_1_relu6": kept(matrix, relu6.is_active(relu6(RADIUS * x @ matrix.mT))),
        "theorem_1_bias": kept(matrix, x @ matrix.mT + 1 > 0),
    }


def decoder(draws: int) -> dict[str, Estimate]:
    """The pseudo-inverse against x / 2, at a width where nothing is lost."""
    matrix, x = sample(min(draws, 100), 2000, 2)
    inverse, before = embeddings.pseudo_inverse(matrix), x @ matrix.mT
    x_hat = decoders.linear_decode(inverse, torch.relu(before))
    half = x / 2 + before.abs() @ inverse.mT / 2
    error = statistics.mean(((x_hat - x).square().sum(-1) / x.square().sum(-1))[:, 0].numpy())
    return {
        "pinv_gives_back": error,
        "pinv_identity": statistics.counted(round(float((x_hat - half).abs().max()), 12)),
    }


def texts(draws: int) -> dict[str, Estimate]:
    """Section 6.4's remark on power, and the paper's text against its numbers."""
    z = torch.randn(25 * draws, generator=stream(0, NAME, "bottleneck"), dtype=torch.float64)
    through = activations.named("relu6")(z / 4 + 3)
    back = ((through - 3) * 4 - z).abs() < ROUNDING
    whole = back[: len(z) // 8 * 8].view(-1, 8).all(1)
    return {
        "only_low_dimension": statistics.proportion(int(whole.sum()), len(whole)),
        "acts_linearly": statistics.proportion(int(back.sum()), len(z)),
        "several_percent": statistics.counted(round(FIGURE_6A["linear"] - FIGURE_6A["relu6"], 2)),
        "same_baseline": statistics.counted(FIGURE_6A["linear"]),
    }


def line(name: str, found: Estimate) -> Record:
    """A claim as a row of the table."""
    place, says, measured, holds = STATEMENTS[name]
    sampled = found.low < found.high
    known = {"claim": name, "place": place, "says": says, "measure": measured, "estimate": found.value}
    sample = (found.low, found.high, found.n) if sampled else (None, None, None)
    return known | dict(zip(("low", "high", "n"), sample, strict=True)) | {
        "interval": f"{found.low:.4g} to {found.high:.4g}" if sampled else "counted",
        "verdict": statistics.verdict(holds(found)),
    }  # fmt: skip


def estimate(row: Series) -> Estimate:
    """A published row's number."""
    return statistics.counted(row["estimate"]) if math.isnan(row["n"]) else estimate_in(row)


def claims(published: dict[str, DataFrame]) -> Sequence[ClaimResult]:
    """Every row of the table, judged by its rule."""
    made = []
    for _, row in published[MAIN].iterrows():
        found, (place, says, measured, holds) = estimate(row), STATEMENTS[row["claim"]]
        made.append(estimated_claim(row["claim"], says, measured, found, holds(found), place=place))
    return made


STUDY = computed_study(
    name=NAME,
    card=__doc__,
    tables=tables,
    figure=captioned_figure(draw, claims, HEADLINE, 2.8),
    claims=claims,
    table=lambda published: Document(CAPTION, HEAD, published[MAIN]),
    parts=(MAIN, POINTS),
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
