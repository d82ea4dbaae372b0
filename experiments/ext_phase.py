"""Does ReLU6 in a bottleneck cost accuracy where it loses information? Intrinsic dimension k against channels n.

Paper    Sandler et al. 2018, arXiv:1801.04381, sections 3.2 and 6 and Figure 6a; Theorem 1 for a manifold instead of a
         volume (Sauer, Yorke and Casdagli 1991): a point stays unique where P(Binomial(n, 1/2) >= k + 1)
Claims   ReLU6 in the bottleneck costs accuracy where most points are lost, none where all but 1 % are kept, and more
         where more are lost
Run      python -m experiments.ext_phase run
Differs  no images: a k-sphere, turned into R^16, in 8 classes that depend on all of its coordinates. One block of
         MobileNetV2, 64 channels to n, without a shortcut, so that nothing passes but through the narrow tensor, and
         with ReLU6 on nothing else that is narrow. Theory's one half is that of random rows without bias; here the rows
         are trained and the norm before the ReLU6 has a learned bias, so that channels can stay above zero: what the
         trained rows keep, by the same count, is in panel (c). At n <= k the linear bottleneck loses points as well: an
         equal accuracy says nothing there. Of 20 intervals at 95 % one misses zero by chance
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments.drawing.ext_phase import KEPT, LOST, draw_heat, heat_panels, preserved
from manifold_lab import activations, data, metrics
from manifold_lab.core import contrasts, resampling, statistics
from manifold_lab.core.resampling import rank_correlation
from manifold_lab.data import DataOptions, ManifoldTask
from manifold_lab.models.specs import NetworkSpec
from manifold_lab.models.weights import open_weights
from manifold_lab.random_layer.manifolds import ManifoldSpec
from manifold_lab.report import deciding, plots
from manifold_lab.report.tables import ClaimResult, DataFrame, Estimate, Record, estimated_claim
from manifold_lab.sweeps import ablation, training_run
from manifold_lab.sweeps.comparison import FEWEST, POINTS
from manifold_lab.sweeps.store import DIVERGED, DONE, FAILED, Run
from manifold_lab.sweeps.study import Caption, Headline, Study, captioned_figure
from manifold_lab.sweeps.training_run import TrainingRun
from manifold_lab.training import Recipe

PLACE = "Section 3.2 (ours)"
ARMS = {name: ablation.variant(bottleneck_activation=name) for name in ("linear", "relu6")}
INTRINSIC, CHANNELS = (1, 2, 4, 8), (2, 4, 8, 16, 32)
"""Each twice the one before, as the figure's axes have them."""
SEEDS, MORE_SEEDS = 5, 10
"""Of every cell, and of those where a linear bottleneck keeps every point, n > k."""
AMBIENT, CLASSES, WIDE = 16, 8, 64
MARGIN = 1.0
"""Points of accuracy that count as nothing."""


def task(k: int, points: int = 8000) -> ManifoldTask:
    """Which of eight classes, of four random centres each, a point of the k-sphere is nearest to."""
    return ManifoldTask(ManifoldSpec("sphere", inputs=k + 1), AMBIENT, classes=CLASSES, points=points, centres=4)


def base(n: int) -> NetworkSpec:
    """One block from 64 channels to n; the stem before it and the convolution behind it are wide."""
    return NetworkSpec(
        rows=((1, n, 1, 1),), shortcut="none", resolution=1, num_classes=CLASSES, in_channels=AMBIENT,
        stem_channels=WIDE, stem_stride=1, last_channels=2 * WIDE, dropout=0.0, round_to=1,
    )  # fmt: skip


def grid(smoke: bool) -> tuple[TrainingRun, ...]:
    """Every k and n in both arms, seeds outermost, the telling cells more often; for smoke a corner, for a moment."""
    recipe = Recipe(images=3_200 if smoke else 32_000, batch_size=64)
    return tuple(
        TrainingRun(of(base(n)), recipe, "manifold", seed, task(k, 2000 if smoke else 8000), arm, f"{k} {n}")
        for seed in range(2 if smoke else MORE_SEEDS)
        for k in INTRINSIC[: 2 if smoke else None]
        for n in CHANNELS[: 2 if smoke else None]
        if seed < SEEDS or n > k
        for arm, of in ARMS.items()
    )


def rows(runs: Sequence[Run]) -> list[Record]:
    """One line per run that ended, whichever way."""
    return [_row(run) for run in runs if run.numbers or run.state in (DIVERGED, FAILED)]


def _row(run: Run) -> Record:
    k, n = map(int, run.spec.group.split())
    known = {"k": k, "n": n, "arm": run.spec.arm, "seed": run.spec.seed, "state": run.state}
    accuracy = run.numbers.get("test_accuracy")
    return known | {"test_accuracy": accuracy, "preserved": preserved(k, n), **activity(run, k)}


@torch.no_grad()
def activity(run: Run, k: int) -> dict[str, float | None]:
    """Of a trained ReLU6 bottleneck on test points: the share of values inside 0 to 6, and of points that are kept.

    Kept, for channels in general position, are the points at which more than k channels are inside.
    """
    if run.state != DONE or run.spec.arm != "relu6":
        return {"active": None, "trained": None}
    network = open_weights(run.folder / training_run.WEIGHTS)
    shown = data.load("manifold", seed=run.spec.seed, options=DataOptions(resolution=1, task=run.spec.task))
    y = torch.cat([network.blocks[0](network.stem(x))[0] for x, _ in shown.evaluation("test", 500)]).flatten(1)
    active = activations.named("relu6").is_active(y)
    kept = metrics.active_count(active) > k
    return {"active": float(active.double().mean()), "trained": float(kept.double().mean())}


def paired(table: DataFrame) -> DataFrame:
    """Test accuracy in percent of both arms, by k, n and seed; of a run that did not finish none."""
    points = POINTS * table["test_accuracy"].where(table["state"] == DONE)
    by_arm = table.assign(points=points).pivot(index=["k", "n", "seed"], columns="arm", values="points")
    return by_arm.reindex(columns=list(ARMS)).reset_index()


Region = Callable[[int, int], bool]


def lossy_by_relu(k: int, n: int) -> bool:
    """Where theory sees most points lost that a linear bottleneck keeps."""
    return preserved(k, n) < LOST and n > k


REGIONS: dict[str, tuple[str, Region]] = {
    "costs_where_lost": ("most points are lost (preserved fraction below 1/2)", lambda k, n: preserved(k, n) < LOST),
    "costs_where_relu_loses": ("most points are lost, though not to a linear bottleneck (n > k)", lossy_by_relu),
}
"""By the claim's name: where, in words, and which cells."""


def within(table: DataFrame, region: Region) -> DataFrame:
    """The rows of a region's cells."""
    return table[np.array([region(k, n) for k, n in zip(table["k"], table["n"], strict=True)], bool)]


def mean_change(table: DataFrame, first: str, second: str) -> statistics.Paired | None:
    """One column minus another, averaged over the cells, over the seeds that all cells have."""
    by_seed = table.dropna(subset=[first, second]).groupby("seed")[[first, second]]
    whole = by_seed.mean()[by_seed.size() == len(table[["k", "n"]].drop_duplicates())].to_dict()
    return statistics.paired(whole[first], whole[second]) if whole[first] else None


def cost(pairs: DataFrame, region: Region) -> statistics.Paired | None:
    """Linear minus ReLU6, mean over a region's cells."""
    return mean_change(within(pairs, region), *ARMS)


def costs_by_cell(pairs: DataFrame) -> DataFrame:
    """Linear minus ReLU6 where n > k: a row a cell, a column a seed."""
    gaps = pairs.assign(gap=pairs["linear"] - pairs["relu6"])
    return within(gaps, lambda k, n: n > k).pivot(index=["k", "n"], columns="seed", values="gap")


def ranks(cells: DataFrame) -> tuple[Estimate, float | None]:
    """Spearman's correlation of theory's lost fraction and `costs_by_cell`, mean over the seeds that all cells have.

    Returns:
        It, with an interval by resampling cells, and the p-value of permuting them.
    """
    lost, costs = np.array([1 - preserved(*place) for place in cells.index]), cells.dropna(axis=1).to_numpy().T
    if not len(costs) or len(lost) < 3:
        return statistics.NO_RUNS, None

    def mean_correlation(order: np.ndarray, pairing: np.ndarray | slice = slice(None)) -> float:
        found = [rank_correlation(lost[order], cost[order][pairing]) for cost in costs]
        return float(np.mean(found))

    rng, pairs_of = np.random.default_rng(0), functools.partial(mean_correlation, np.arange(len(lost)))
    return (
        resampling.resampled(len(lost), mean_correlation, rng),
        resampling.permutation_p(len(lost), pairs_of, rng),
    )


def claims(table: DataFrame) -> list[ClaimResult]:
    """Cost where theory sees loss, none where it sees none, more with more loss; and what training makes of it."""
    pairs = paired(table)
    points = "points of test accuracy, linear − ReLU6, mean over the cells, paired by seed"
    found = [claim(name, f"ReLU6 in the bottleneck costs accuracy where {where}", points, cost(pairs, region))
             for name, (where, region) in REGIONS.items()]  # fmt: skip
    none = (
        f"ReLU6 makes no difference, to {MARGIN:g} point, where nearly none are lost (preserved fraction above {KEPT})"
    )
    kept = cost(pairs, lambda k, n: preserved(k, n) > KEPT)
    found.append(claim("no_difference_where_kept", none, points, kept, margin=MARGIN))
    found.append(ranked(pairs))
    measure = "share of points with more than k active channels, trained − theory, mean over the cells, paired by seed"
    says = "where random rows would lose most points (n > k), trained ones keep more"
    lossy = within(table.dropna(subset="trained"), lossy_by_relu)
    return [*found, claim("trained_keep_more", says, measure, mean_change(lossy, "trained", "preserved"))]


def claim(
    name: str, says: str, measure: str, found: statistics.Paired | None, margin: float | None = None
) -> ClaimResult:
    """A claim that a mean difference is above zero, or nearer to zero than a margin; below `FEWEST` seeds undecided."""
    estimate = found.difference if found else statistics.NO_RUNS
    holds = estimate.exceeds(0) if margin is None else estimate.within(margin)
    decided = holds if estimate.n >= FEWEST else None
    distance = estimate.value if margin is None else margin - abs(estimate.value)
    needed = ""
    if found and decided is None and estimate.n > 1:
        needed = deciding.in_words(contrasts.runs_to_decide(distance, found.spread, paired=True), "seeds", FEWEST)
    p_value = found.p_value if found and margin is None and estimate.n >= FEWEST else None
    return estimated_claim(name, says, measure, estimate, decided, place=PLACE, p_value=p_value, needed=needed)


def ranked(pairs: DataFrame) -> ClaimResult:
    """Whether the cost goes with the lost fraction: by resampling the cells and by permuting them; both decide."""
    cells = costs_by_cell(pairs)
    found, p_value = ranks(cells)
    seeds = cells.notna().sum(axis=1).min()
    holds = found.exceeds(0) if p_value is not None and p_value < 1 - statistics.LEVEL and seeds >= FEWEST else None
    measure = "Spearman's correlation of lost fraction and cost, mean over seeds, by resampling the cells with n > k"
    says = "the more points theory sees lost, the more ReLU6 costs"
    return estimated_claim("costs_more_where_more_lost", says, measure, found, holds, place=PLACE, p_value=p_value,
                           needed=deciding.replicates(found, 0, "such cells"))  # fmt: skip


HEADLINE = Headline(
    "costs_more_where_more_lost", "ReLU6 costs more accuracy where theory sees more points lost",
    "ReLU6 does not cost more accuracy where theory sees more points lost",
    "Whether ReLU6 costs more where theory sees more points lost is undecided",
)  # fmt: skip


def correlation_text(pairs: DataFrame) -> str:
    """The number behind the title."""
    one = ranked(pairs)
    found = one.estimate
    if not found.n or one.p_value is None:
        return ""
    return (
        f"Spearman's ρ of lost share and cost over the {found.n} cells with n > k: {found.value:.2f}, "
        f"{statistics.PERCENT} interval {found.low:.2f} to {found.high:.2f}, p = {one.p_value:.2g}."
    )


def draw(figure: Figure, table: DataFrame) -> Caption:
    """Accuracy of the linear bottleneck, what ReLU6 costs, and the points that it loses."""
    pairs = paired(table)
    cells = {place: pair.set_index("seed").to_dict() for place, pair in pairs.dropna().groupby(["k", "n"])}
    panels = heat_panels(table, cells)
    axes = figure.subplots(1, 3, sharey=True)
    for ax, (_, shown, style, bold) in zip(axes, panels, strict=True):
        if shown:
            draw_heat(ax, shown, style, bold)
        ax.label_outer(remove_inner_ticks=True)
    plots.letter(axes, [name for name, *_ in panels])
    seeds = sorted({len(pair["linear"]) for pair in cells.values()})
    note = (
        f"k-spheres in {AMBIENT} dimensions, {CLASSES} classes; means over {' or '.join(map(str, seeds))} seeds. "
        f"Bold: the paired {statistics.PERCENT} interval leaves 0 out. Left of a line: what it names. "
        f"{correlation_text(pairs)}"
    )
    return note, axes[0].get_lines(), 3


FIGURE = captioned_figure(draw, lambda table: [ranked(paired(table))], HEADLINE, 2.75)
STUDY = Study(name="ext_phase", card=__doc__, grid=grid, measure=training_run.run_training, rows=rows, figure=FIGURE,
              claims=claims, run_folder=training_run.TRAINING_RUNS)  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
