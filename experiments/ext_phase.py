"""Does ReLU6 in a bottleneck cost accuracy where it loses information? Intrinsic dimension k against channels n.

Paper    Sandler et al. 2018, arXiv:1801.04381, sections 3.2 and 6 and Figure 6a; Theorem 1 for a manifold instead of a
         volume (Sauer, Yorke and Casdagli 1991): a point stays unique where P(Binomial(n, 1/2) >= k + 1)
Claims   ReLU6 in the bottleneck costs accuracy where most points are lost, none where all but 1 % are kept, and more
         where more are lost
Run      python -m experiments.ext_phase run
Differs  no pictures: a k-sphere, turned into R^16, in 8 classes that depend on all of its coordinates. One block of
         MobileNetV2, 64 channels to n, without a shortcut, so that nothing passes but through the narrow tensor, and
         with ReLU6 on nothing else that is narrow. Theory's one half is that of random rows without bias; here the rows
         are trained and the norm before the ReLU6 has a learned bias, so that channels can stay above zero: what the
         trained rows keep, by the same count, is in panel (c). At n <= k the linear bottleneck loses points as well: an
         equal accuracy says nothing there. Of 20 intervals at 95 % one misses zero by chance
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy import stats as scipy_stats

from manifold_lab import activations, data, metrics, theory
from manifold_lab.core import statistics
from manifold_lab.data import DataOptions, ManifoldTask
from manifold_lab.models.specs import NetworkSpec
from manifold_lab.models.weights import open_weights
from manifold_lab.random_layer.manifolds import ManifoldSpec
from manifold_lab.report import plots
from manifold_lab.report.plots import column, pick
from manifold_lab.report.tables import ClaimResult, Lines, number
from manifold_lab.sweeps import ablation, training_run
from manifold_lab.sweeps.comparison import POINTS
from manifold_lab.sweeps.store import DIVERGED, DONE, FAILED, Cell
from manifold_lab.sweeps.study import Study, main
from manifold_lab.sweeps.training_run import TrainingRun
from manifold_lab.training import Recipe

NAME = "ext_phase"
COMMAND = f"python -m experiments.{NAME}"
ARMS = {name: ablation.variant(bottleneck_activation=name) for name in ("linear", "relu6")}
INTRINSIC, CHANNELS, SEEDS = (1, 2, 4, 8), (2, 4, 8, 16, 32), 5
"""Each twice the one before, as the figure's axes have them."""
AMBIENT, CLASSES, WIDE = 16, 8, 64
LOST, KEPT = 0.5, 0.99
"""Preserved fractions below which a cell counts as one of loss, and above which as one without."""
WORST = 10
"""Points of accuracy at which the figure's colours end."""
MARGIN = 1.0
"""Points of accuracy that count as nothing."""
Pairs = dict[tuple[int, int], dict[str, dict[int, float]]]
"""Test accuracy in percent by (k, n), arm and seed."""


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
    """Every k and n in both arms, seeds outermost; for smoke a corner, trained for a moment."""
    recipe = Recipe(images=3_200 if smoke else 32_000, batch_size=64)
    return tuple(
        TrainingRun(of(base(n)), recipe, "manifold", seed, task(k, 2000 if smoke else 8000), arm, f"{k} {n}")
        for seed in range(2 if smoke else SEEDS)
        for k in INTRINSIC[: 2 if smoke else None]
        for n in CHANNELS[: 2 if smoke else None]
        for arm, of in ARMS.items()
    )


def preserved(k: int, n: int) -> float:
    """Theory's fraction of points that keep one preimage on the manifold."""
    return float(theory.preserved_fraction(n, k + 1))


def rows(cells: Sequence[Cell]) -> list[dict[str, str]]:
    """One line per run that ended, whichever way."""
    return [_row(cell) for cell in cells if cell.numbers or cell.state in (DIVERGED, FAILED)]


def _row(cell: Cell) -> dict[str, str]:
    k, n = map(int, cell.spec.group.split())
    facts = {"k": k, "n": n, "arm": cell.spec.arm, "seed": cell.spec.seed, "state": cell.state}
    return {name: str(value) for name, value in facts.items()} | {
        "test_accuracy": number(cell.numbers.get("test_accuracy")),
        "preserved": number(preserved(k, n)),
        **{name: number(value) for name, value in activity(cell, k).items()},
    }


@torch.no_grad()
def activity(cell: Cell, k: int) -> dict[str, float | None]:
    """Of a trained ReLU6 bottleneck on test points: the share of values inside 0 to 6, and of points that are kept.

    Kept, for channels in general position, are the points at which more than k channels are inside.
    """
    if cell.state != DONE or cell.spec.arm != "relu6":
        return {"active": None, "trained": None}
    network = open_weights(cell.folder / training_run.WEIGHTS)
    shown = data.load("manifold", seed=cell.spec.seed, options=DataOptions(resolution=1, task=cell.spec.task))
    y = torch.cat([network.blocks[0](network.stem(x))[0] for x, _ in shown.evaluation("test", 500)]).flatten(1)
    active = activations.named("relu6").is_active(y)
    kept = metrics.active_count(active) > k
    return {"active": float(active.double().mean()), "trained": float(kept.double().mean())}


def paired(lines: Lines) -> Pairs:
    """The runs that finished, without the seeds of which a cell has one arm alone."""
    found: Pairs = {}
    for k, n in sorted({(int(line["k"]), int(line["n"])) for line in lines}):
        mine = pick(lines, k=str(k), n=str(n), state=DONE)
        arms = {
            arm: {int(line["seed"]): POINTS * float(line["test_accuracy"]) for line in pick(mine, arm=arm)}
            for arm in ARMS
        }
        shared = set.intersection(*(set(scores) for scores in arms.values()))
        found[k, n] = {arm: {seed: scores[seed] for seed in sorted(shared)} for arm, scores in arms.items()}
    return found


Region = Callable[[int, int], bool]


def lossy(k: int, n: int) -> bool:
    """Where theory sees most points lost."""
    return preserved(k, n) < LOST


def lossy_by_relu(k: int, n: int) -> bool:
    """Where theory sees most points lost that a linear bottleneck keeps."""
    return lossy(k, n) and n > k


def safe(k: int, n: int) -> bool:
    """Where theory sees nearly none lost."""
    return preserved(k, n) > KEPT


REGIONS: dict[str, Region] = {
    "most points are lost (preserved fraction below 1/2)": lossy,
    "most points are lost, though not to a linear bottleneck (n > k)": lossy_by_relu,
}


def cost(pairs: Pairs, region: Region) -> statistics.Paired | None:
    """Linear minus ReLU6, of accuracies averaged over a region's cells, over the seeds that all of them have."""
    cells = [pair for place, pair in pairs.items() if region(*place)]
    seeds = _shared(cells)
    if not seeds:
        return None
    first, second = (
        {seed: float(np.mean([cell[arm][seed] for cell in cells])) for seed in seeds} for arm in ("linear", "relu6")
    )
    return statistics.paired(first, second)


def _shared(cells: Sequence[Mapping[str, Mapping[int, float]]]) -> list[int]:
    return sorted(set.intersection(*(set(cell["linear"]) for cell in cells))) if cells else []


def ranks(pairs: Pairs) -> statistics.Paired | None:
    """Spearman's correlation over cells, in each seed, of theory's lost fraction and the cost, where n > k."""
    mine = {place: pair for place, pair in pairs.items() if place[1] > place[0]}
    lost = [1 - preserved(*place) for place in mine]
    found = {}
    for seed in _shared(list(mine.values())):
        costs = [pair["linear"][seed] - pair["relu6"][seed] for pair in mine.values()]
        if len(costs) > 2 and np.ptp(costs) > 0 and np.ptp(lost) > 0:
            found[seed] = float(scipy_stats.spearmanr(lost, costs).statistic)
    return statistics.paired(found, dict.fromkeys(found, 0.0)) if found else None


def training(lines: Lines) -> statistics.Paired | None:
    """Share of points kept, trained minus theory for random rows, over the cells where that sees most lost and n > k.

    Averaged over these cells, for the seeds that all of them have.
    """
    mine = [line for line in lines if line["trained"] and lossy_by_relu(int(line["k"]), int(line["n"]))]
    cells = {(line["k"], line["n"]) for line in mine}
    by_seed = {seed: pick(mine, seed=seed) for seed in dict.fromkeys(line["seed"] for line in mine)}
    whole = {int(seed): found for seed, found in by_seed.items() if len(found) == len(cells)}
    first, second = (
        {seed: float(column(found, name).mean()) for seed, found in whole.items()} for name in ("trained", "preserved")
    )
    return statistics.paired(first, second) if whole else None


def claims(lines: Lines) -> list[ClaimResult]:
    """Cost where theory sees loss, none where it sees none, more with more loss; and what training makes of it."""
    pairs = paired(lines)
    found = [
        _claim(f"ReLU6 in the bottleneck costs accuracy where {words}", cost(pairs, region))
        for words, region in REGIONS.items()
    ]
    none = f"ReLU6 costs nothing, to {MARGIN:g} point, where nearly none are lost (preserved fraction above {KEPT})"
    found.append(_claim(none, cost(pairs, safe), below=MARGIN))
    measure = "Spearman's correlation of lost fraction and cost over the cells with n > k, mean over seeds"
    found.append(_claim("the more points theory sees lost, the more ReLU6 costs", ranks(pairs), measure))
    measure = "share of points with more than k active channels, trained − theory, mean over the cells, paired by seed"
    says = "where random rows would lose most points (n > k), trained ones keep more"
    return [*found, _claim(says, training(lines), measure)]


def _claim(says: str, found: statistics.Paired | None, measure: str = "", below: float | None = None) -> ClaimResult:
    """A claim that a mean difference is above zero, or below a bound."""
    above = found.exceeds(below or 0) if found else None
    verdict = statistics.verdict(above if above is None or below is None else not above)
    estimate = found.difference if found else statistics.NO_RUNS
    measure = measure or "points of test accuracy, linear − ReLU6, mean over the cells, paired by seed"
    return ClaimResult("Section 3.2 (ours)", says, measure, estimate, verdict, COMMAND)


def crossing(k: int, level: float) -> float:
    """The channels, between whole numbers on a straight line, at which the preserved fraction of k reaches a level."""
    n = np.arange(k, 12 * k + 30)
    return float(np.interp(level, [preserved(k, int(one)) for one in n], n))


def draw_lines(ax: Axes, k: Sequence[int], n: Sequence[int]) -> None:
    """Theory's lines on axes whose cells double."""
    fine = np.arange(1, 2 * max(k) + 1)
    y = np.log2(fine / k[0]) + 0.5
    for level, dashes in ((LOST, "-"), (KEPT, "--")):
        x = np.log2(np.array([crossing(int(one), level) for one in fine]) / n[0]) + 0.5
        ax.plot(x, y, dashes, color="black", lw=0.9, label=f"theory: {level:.0%} of points kept")
    ax.plot(
        np.log2((fine + 1) / n[0]) + 0.5, y, ":", color="black", lw=0.9, label="n = k + 1: with less, linear loses too"
    )
    ax.set(xlim=(0, len(n)), ylim=(0, len(k)))


def draw_heat(ax: Axes, cells: Mapping[tuple[int, int], tuple[float, str]], looks: Mapping[str, object]) -> None:
    """A value, and how it is written, per k and n, and theory's lines."""
    import seaborn  # noqa: PLC0415  (two seconds that only this figure needs)

    k, n = (sorted({place[axis] for place in cells}) for axis in (0, 1))
    value, told = (
        np.array([[cells.get((row, column), (math.nan, ""))[part] for column in n] for row in k]) for part in (0, 1)
    )
    halo = {"color": "black", "path_effects": [withStroke(linewidth=1.8, foreground="white")], "zorder": 4}
    halo["size"] = mpl.rcParams["xtick.labelsize"]
    seaborn.heatmap(value, ax=ax, annot=told, fmt="", annot_kws=halo, cbar=False, linewidths=0.4, **looks)
    ax.set_xticks(np.arange(len(n)) + 0.5, map(str, n), rotation=0)
    ax.set_yticks(np.arange(len(k)) + 0.5, map(str, k), rotation=0)
    ax.set(xlabel="bottleneck channels n", ylabel="intrinsic dimension k")
    draw_lines(ax, k, n)


def figure(lines: Lines) -> Figure:
    """Accuracy of the linear bottleneck, what ReLU6 costs, and the points that it loses."""
    pairs = {place: pair for place, pair in paired(lines).items() if pair["linear"]}
    level = {place: _told(float(np.mean(list(pair["linear"].values()))), ".0f") for place, pair in pairs.items()}
    costs = {place: statistics.paired(pair["linear"], pair["relu6"]) for place, pair in pairs.items()}
    told = {place: _told(one.difference.value, ".1f", one.exceeds(0) is not None) for place, one in costs.items()}
    lost = {place: _lost(lines, *place) for place in pairs}
    panels = (
        ("(a) linear bottleneck: test accuracy, %", level, {"cmap": "Greens", "vmin": 0, "vmax": 100}),
        ("(b) linear − ReLU6, points (*: not 0)", told, {"cmap": "RdBu_r", "vmin": -WORST, "vmax": WORST}),
        ("(c) points lost, trained (theory), %", lost, {"cmap": "Oranges", "vmin": 0, "vmax": 140}),
    )
    with plots.style("cvpr2024"):
        figure = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 2.3), layout="constrained")
        axes = figure.subplots(1, 3, sharey=True)
        for ax, (title, shown, looks) in zip(axes, panels, strict=True):
            if shown:
                draw_heat(ax, shown, looks)
            ax.set_title(title, loc="left", pad=3)
            ax.label_outer(remove_inner_ticks=True)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        return plots.fixed_layout(figure)


def _told(value: float, digits: str, starred: bool = False) -> tuple[float, str]:
    """A value as it is written: no zero with a sign."""
    return value, f"{value:z{digits}}{'*' if starred else ''}".replace("-", "−")


def _lost(lines: Lines, k: int, n: int) -> tuple[float, str]:
    mine = [line for line in pick(lines, k=str(k), n=str(n)) if line["trained"]]
    lost = POINTS * (1 - float(column(mine, "trained").mean()))
    return lost, f"{lost:.0f} ({POINTS * (1 - preserved(k, n)):.0f})"


STUDY = Study(NAME, __doc__, grid, training_run.run_training, rows, figure, claims, shelf=training_run.TRAINING_RUNS)

if __name__ == "__main__":
    sys.exit(main(STUDY))
