"""Does ReLU6 in a bottleneck cost accuracy where it loses information? Intrinsic dimension k against channels n.

Paper    Sandler et al. 2018, arXiv:1801.04381, sections 3.2 and 6 and Figure 6a; Theorem 1 for a manifold instead of a
         volume (Sauer, Yorke and Casdagli 1991): a point stays unique where P(Binomial(n, 1/2) >= k + 1)
Claims   ReLU6 in the bottleneck costs accuracy where most points are lost, none where all but 1 % are kept, and more
         where more are lost
Run      python -m experiments.ext_phase run
Differs  no pictures: a k-sphere, turned into R^16, in 8 classes that depend on all of its coordinates. One block of
         MobileNetV2, 64 channels to n, without a shortcut, so that nothing passes but through the narrow tensor, and
         with ReLU6 on nothing else that is narrow. Theory's one half is that of random rows without bias; here the rows
         are trained and the norm before the ReLU6 has a learned bias, so that channels may stay above zero and nothing
         is lost. At n <= k the linear bottleneck loses points as well: an equal accuracy says nothing there. Of 20
         intervals at 95 % one misses zero by chance
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats as scipy_stats

from manifold_lab import ablation, plots, stats, theory, trial
from manifold_lab.contrast import POINTS
from manifold_lab.data import ManifoldTask
from manifold_lab.manifolds import ManifoldSpec
from manifold_lab.netspec import NetworkSpec
from manifold_lab.plots import pick
from manifold_lab.store import DONE, Cell
from manifold_lab.study import Study, main
from manifold_lab.tables import Claim, Lines, number
from manifold_lab.train import Recipe
from manifold_lab.trial import Trial

NAME = "ext_phase"
COMMAND = f"python -m experiments.{NAME}"
ARMS = {name: ablation.change(bottleneck_activation=name) for name in ("linear", "relu6")}
INTRINSIC, CHANNELS, SEEDS = (1, 2, 4, 8), (2, 4, 8, 16, 32), 5
"""Each twice the one before, as the figure's axes have them."""
AMBIENT, CLASSES, WIDE = 16, 8, 64
LOST, KEPT = 0.5, 0.99
"""Preserved fractions below which a cell counts as one of loss, and above which as one without."""
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


def grid(smoke: bool) -> tuple[Trial, ...]:
    """Every k and n in both arms, seeds outermost; for smoke a corner, trained for a moment."""
    recipe = Recipe(images=3_200 if smoke else 32_000, batch_size=64)
    return tuple(
        Trial(of(base(n)), recipe, "manifold", seed, task(k, 2000 if smoke else 8000), arm, f"{k} {n}")
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
    return [_row(cell) for cell in cells if cell.numbers or cell.state in ("diverged", "failed")]


def _row(cell: Cell) -> dict[str, str]:
    k, n = map(int, cell.spec.group.split())
    facts = {"k": k, "n": n, "arm": cell.spec.arm, "seed": cell.spec.seed, "state": cell.state}
    return {name: str(value) for name, value in facts.items()} | {
        "test_accuracy": number(cell.numbers.get("test_accuracy")),
        "preserved": number(preserved(k, n)),
    }


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
REGIONS: dict[str, Region] = {
    "most points are lost (preserved fraction below 1/2)": lambda k, n: preserved(k, n) < LOST,
    "most points are lost, though not to a linear bottleneck (n > k)": lambda k, n: preserved(k, n) < LOST and n > k,
}
SAFE: Region = lambda k, n: preserved(k, n) > KEPT  # noqa: E731  (a row like those above)


def cost(pairs: Pairs, region: Region) -> stats.Paired | None:
    """Linear minus ReLU6, of accuracies averaged over a region's cells, over the seeds that all of them have."""
    cells = [pair for place, pair in pairs.items() if region(*place)]
    seeds = _shared(cells)
    if not seeds:
        return None
    first, second = (
        {seed: float(np.mean([cell[arm][seed] for cell in cells])) for seed in seeds} for arm in ("linear", "relu6")
    )
    return stats.paired(first, second)


def _shared(cells: Sequence[Mapping[str, Mapping[int, float]]]) -> list[int]:
    return sorted(set.intersection(*(set(cell["linear"]) for cell in cells))) if cells else []


def ranks(pairs: Pairs) -> stats.Paired | None:
    """Spearman's correlation over cells, in each seed, of theory's lost fraction and the cost, where n > k."""
    mine = {place: pair for place, pair in pairs.items() if place[1] > place[0]}
    lost = [1 - preserved(*place) for place in mine]
    found = {}
    for seed in _shared(list(mine.values())):
        costs = [pair["linear"][seed] - pair["relu6"][seed] for pair in mine.values()]
        if len(costs) > 2 and np.ptp(costs) > 0 and np.ptp(lost) > 0:
            found[seed] = float(scipy_stats.spearmanr(lost, costs).statistic)
    return stats.paired(found, dict.fromkeys(found, 0.0)) if found else None


def claims(lines: Lines) -> list[Claim]:
    """Cost where theory sees loss, none where it sees none, and more of it with more loss."""
    pairs = paired(lines)
    regions = [cost(pairs, region) for region in REGIONS.values()]
    found = [
        _claim(f"ReLU6 in the bottleneck costs accuracy where {words}", one, one.exceeds(0) if one else None)
        for words, one in zip(REGIONS, regions, strict=True)
    ]
    safe, order = cost(pairs, SAFE), ranks(pairs)
    beyond = safe.exceeds(MARGIN) if safe else None
    says = f"ReLU6 costs nothing, to {MARGIN:g} point, where nearly none are lost (preserved fraction above {KEPT})"
    found.append(_claim(says, safe, None if beyond is None else not beyond))
    measure = "Spearman's correlation of lost fraction and cost over the cells with n > k, mean over seeds"
    says = "the more points theory sees lost, the more ReLU6 costs"
    return [*found, _claim(says, order, order.exceeds(0) if order else None, measure)]


def _claim(says: str, found: stats.Paired | None, holds: bool | None, measure: str = "") -> Claim:
    estimate = found.difference if found else stats.Estimate(math.nan, math.nan, math.nan, 0)
    measure = measure or "points of test accuracy, linear − ReLU6, mean over the cells, paired by seed"
    return Claim("Section 3.2 (ours)", says, measure, estimate, stats.verdict(holds), COMMAND)


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
        ax.plot(x, y, dashes, color="black", lw=1.2, label=f"{level:g} of points preserved")
    ax.plot(np.log2((fine + 1) / n[0]) + 0.5, y, ":", color="black", lw=1.2, label="n = k + 1")
    ax.set(xlim=(0, len(n)), ylim=(0, len(k)))


def draw_heat(ax: Axes, pairs: Pairs, words: Mapping[tuple[int, int], str], looks: Mapping[str, object]) -> None:
    """One value per k and n, the first number of its words, and theory's lines."""
    import seaborn  # noqa: PLC0415  (two seconds that only this figure needs)

    k, n = (sorted({place[axis] for place in pairs}) for axis in (0, 1))
    told = np.array([[words.get((row, column), "") for column in n] for row in k])
    value = np.array([[float(text.rstrip("*").replace("−", "-") or "nan") for text in row] for row in told])
    size = mpl.rcParams["xtick.labelsize"]
    seaborn.heatmap(value, ax=ax, annot=told, fmt="", annot_kws={"size": size}, cbar=False, linewidths=0.4, **looks)
    ax.set_xticks(np.arange(len(n)) + 0.5, map(str, n), rotation=0)
    ax.set_yticks(np.arange(len(k)) + 0.5, map(str, k), rotation=0)
    ax.set(xlabel="bottleneck channels n", ylabel="intrinsic dimension k")
    draw_lines(ax, k, n)


def figure(lines: Lines) -> Figure:
    """Accuracy of the linear bottleneck, what ReLU6 costs, and the fraction that theory sees lost."""
    pairs = {place: pair for place, pair in paired(lines).items() if pair["linear"]}
    level = {place: f"{np.mean(list(pair['linear'].values())):.0f}" for place, pair in pairs.items()}
    told = {place: _cost_words(pair) for place, pair in pairs.items()}
    lost = {place: f"{POINTS * (1 - preserved(*place)):.0f}" for place in pairs}
    panels = (
        ("(a) linear bottleneck: test accuracy, %", level, {"cmap": "Greens", "vmin": 0, "vmax": 100}),
        ("(b) linear − ReLU6, points", told, {"cmap": "RdBu_r", "vmin": -12, "vmax": 12}),
        ("(c) theory: points lost, %", lost, {"cmap": "Oranges", "vmin": 0, "vmax": 140}),
    )
    with plots.style("cvpr2024"):
        figure = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 2.3), layout="constrained")
        axes = figure.subplots(1, 3, sharey=True)
        for ax, (title, words, looks) in zip(axes, panels, strict=True):
            draw_heat(ax, pairs, words, looks)
            ax.set_title(title, loc="left", pad=3)
            ax.label_outer()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        return plots.laid_out(figure)


def _cost_words(pair: Mapping[str, Mapping[int, float]]) -> str:
    """The mean, with a star where its interval excludes zero."""
    found = stats.paired(pair["linear"], pair["relu6"])
    star = "" if found.exceeds(0) is None else "*"
    return f"{found.difference.value:.1f}{star}".replace("-", "−")


STUDY = Study(NAME, __doc__, grid, trial.measure, rows, figure, claims, trial.SHELF)

if __name__ == "__main__":
    sys.exit(main(STUDY))
