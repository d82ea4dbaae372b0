"""Figure 7: active channels layer by layer, at step 0 and trained, against what Lemma 2 asks for.

Paper    Sandler et al. 2018, arXiv:1801.04381, Figure 7, Lemma 2
Claims   at step 0 half of the channels are active, tightly; trained, the mean is unchanged, the spread much
         larger; all but two layers stay above the threshold. Ours: channels that never varied are found from outside
Run      python -m experiments.fig7_activations --pictures imagenet_samples.npz --weights mobilenet_v2-b0353104.pth
Differs  The paper does not say which 17 sites it draws, on which pictures, or with how many seeds. All 35 ReLU6 sites
         are here; 17 are marked: one per block, its expansion (in the t = 1 block, which has none, the depthwise),
         as there are 17 blocks and the line that the paper draws, 1/6, is an expansion's. Active is 0 < y < 6.
         Lemma 2's own threshold is the input channels of the 1x1 convolution before: none for stem and depthwise
         outputs, 1/4 for the last convolution. At step 0 norms use their batch's statistics, as they do in training.
         The trainings on CIFAR-10 are the short ones of Figure 6a's linear arm, looked into at step 0 and whenever
         they are evaluated. `--smoke` needs no data
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.core import provenance, statistics
from manifold_lab.core.cli import destination, run_cli
from manifold_lab.core.errors import InputError, at_least
from manifold_lab.core.files import check_folder, csv_text, publish, text
from manifold_lab.core.statistics import Estimate
from manifold_lab.models.specs import DIGITS, V2
from manifold_lab.report import layer_figure, plots, tables
from manifold_lab.report.plots import LOST_COLOUR, MEASURED, column, pick
from manifold_lab.report.tables import ClaimResult, Lines
from manifold_lab.sweeps import ablation, store
from manifold_lab.sweeps.probe_run import INITIAL, TRAINED, TRAINING, Look, ProbeSource, Training, looked, regular
from manifold_lab.sweeps.store import Cell
from manifold_lab.training import RECIPES

STEM = "fig7_activations"
SAME = 0.05
"""A mean that moves by less, in fractions of the channels, is told to be unchanged."""
COMMAND = f"python -m experiments.{STEM}"
SMALL = dataclasses.replace(DIGITS, in_channels=3, resolution=32)
COLUMNS = ("network", "data", "seed", "images", "layer", "drawn", "pictures", "channels", "threshold", "active_min",
           "active_q05", "active_q25", "active_mean", "active_q50", "active_q75", "active_q95", "active_max",
           "fraction_min", "fraction_mean", "fraction_max", "below_threshold", "low_share", "high_share",
           "never_active", "always_saturated", "constant_input", "silent_norm", "both", "first_below")  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Figure 7 for MobileNetV2: at step 0, with published weights, and along trainings on CIFAR-10."""

    pictures: Path | None = None
    """Labelled pictures: an .npz of jpeg, offsets and labels; needed but for --smoke."""
    weights: Path | None = None
    """A checkpoint of MobileNetV2 1.0; without one the published weights are fetched by name."""
    count: int = 1000
    """Of the pictures, so many at most."""
    batch: int = 20
    """Pictures at a time."""
    only: str = ""
    """Run one part alone and publish nothing: initial, trained or training."""
    smoke: bool = False
    """Small networks on random pictures and digits, to see that it runs."""
    runs: Path = Path("runs")
    """Folder of what has been measured."""
    out: Path | None = None
    """Folder for the csv files and the figure; by default figures, with --smoke out."""


def looks(options: Run) -> list[Look]:
    """Three seeds at step 0, and the trained network.

    Raises:
        InputError: if no pictures are named.
    """
    if options.pictures is None and not options.smoke:
        raise InputError("pictures: none given; name an .npz of jpeg, offsets and labels with --pictures, or --smoke")
    spec, count = (SMALL, 20) if options.smoke else (V2, options.count)
    digest = source(options).digest
    return [*(Look(INITIAL, seed, spec, digest, count) for seed in range(3)), Look(TRAINED, 0, spec, digest, count)]


def source(options: Run) -> ProbeSource:
    """Where things are; for smoke, nowhere."""
    return ProbeSource(None if options.smoke else options.pictures, options.weights, options.batch, options.runs)


def trainings(smoke: bool) -> list[Training]:
    """Three seeds: those of Figure 6a's linear arm at width 0.35, step for step, with looks in between."""
    if smoke:
        recipe = dataclasses.replace(RECIPES["smoke"], images=1_000, evaluate_every=500)
        return [Training(DIGITS, recipe, "digits", seed, 50) for seed in range(3)]
    setting = ablation.cifar_setting(0.35)
    recipe = dataclasses.replace(setting.recipe, images=ablation.SHORT_IMAGES)
    return [Training(setting.network, recipe, setting.data, seed) for seed in range(3)]


def rows(cells: Sequence[Cell]) -> list[dict[str, str]]:
    """One line per network, moment of its training, and site; sites in the order of execution."""
    found = []
    for cell in cells:
        kind, on = (cell.spec.kind, "") if isinstance(cell.spec, Look) else (TRAINING, cell.spec.data)
        for row in regular(cell.spec, store.history(cell)):
            known = {"network": kind, "data": on, "seed": str(cell.spec.seed), "images": ""}
            known["drawn"] = str(int(drawn(row["layer"])))
            found.append({name: {**known, **row}.get(name, "") for name in COLUMNS})
    return found


def drawn(layer: str) -> bool:
    """Whether the paper seems to draw it: each block's expansion, and in the first, without one, the depthwise."""
    return layer.endswith("expand.act") or layer == "blocks.0.depthwise.act"


def spread(lines: Lines) -> np.ndarray:
    """The 5 to 95 % band over positions, as a fraction of the channels, site by site."""
    return (column(lines, "active_q95") - column(lines, "active_q05")) / column(lines, "channels")


def seeds(lines: Lines) -> list[str]:
    """The seeds that there are."""
    return sorted({line["seed"] for line in lines}, key=int)


def claims(lines: Lines) -> list[ClaimResult]:
    """Figure 7's claims, at the 17 marked sites, and what was found beside them."""
    marked = pick(lines, drawn="1")
    initial = [pick(marked, network=INITIAL, seed=seed) for seed in seeds(pick(marked, network=INITIAL))]
    trained = pick(marked, network=TRAINED)
    every = pick(lines, network=TRAINED)
    return [
        half(initial), tight(initial), unchanged(initial, trained), wider(initial, trained), *above(trained, every),
        *along(pick(marked, network=TRAINING)), dead(every),
    ]  # fmt: skip


def half(initial: Sequence[Lines]) -> ClaimResult:
    """The mean at step 0, over seeds."""
    found = statistics.mean(np.array([column(one, "fraction_mean").mean() for one in initial]))
    verdict = None if np.isnan(found.low) else found.low > 0.45 and found.high < 0.55
    return ClaimResult("Figure 7a", "at step 0 half of the channels are active (within 0.05)",
                 "fraction active, mean over the 17 sites, over seeds", found, statistics.verdict(verdict), COMMAND)  # fmt: skip  # noqa: E501


def tight(initial: Sequence[Lines]) -> ClaimResult:
    """The band at step 0, over seeds."""
    found = statistics.mean(np.array([spread(one).mean() for one in initial]))
    verdict = None if np.isnan(found.low) else found.high < 0.25
    says = "at step 0 tightly around the mean (90 % of positions within a quarter of the channels)"
    return ClaimResult("Figure 7a", says,
                 "5 to 95 % band over positions, fraction, mean over the 17 sites, over seeds", found,
                 statistics.verdict(verdict), COMMAND)  # fmt: skip


def unchanged(initial: Sequence[Lines], trained: Lines) -> ClaimResult:
    """The mean, trained less step 0, over sites."""
    before = np.mean([column(one, "fraction_mean") for one in initial], axis=0)
    found = statistics.mean(column(trained, "fraction_mean") - before)
    return ClaimResult("Figure 7b", f"trained, the mean is unchanged (within {SAME:g})", "change of the fraction active, mean over sites",  # noqa: E501
                 found, statistics.verdict(found.within(SAME)), COMMAND)  # fmt: skip


def wider(initial: Sequence[Lines], trained: Lines) -> ClaimResult:
    """The ratio of the bands, over sites."""
    before = np.mean([spread(one) for one in initial], axis=0)
    found = statistics.median(spread(trained) / np.where(before > 0, before, np.nan))
    return ClaimResult("Figure 7b", "trained, the spread has grown dramatically (at least doubled)",
                 "5 to 95 % band, trained / step 0, median over sites", found,
                 statistics.verdict(found.exceeds(2)), COMMAND)  # fmt: skip


def above(trained: Lines, every: Lines) -> list[ClaimResult]:
    """Layers whose minimum is below the threshold: of those marked, and of all that have one; and how often."""
    found = []
    for lines, what in ((trained, "marked layers"), (every, "layers")):
        having = [line for line in lines if line["threshold"]]
        below = [line for line in having if float(line["below_threshold"]) > 0]
        where = f"of {len(having)} {what} with a threshold, those with a position below"
        where += f", {lines[0]['pictures']} pictures"
        found.append(ClaimResult("Figure 7b", "all but two layers stay above the threshold", where,
                           statistics.counted(len(below)), statistics.verdict(len(below) == 2), COMMAND))  # fmt: skip
        often = max((float(line["below_threshold"]) for line in having), default=0.0)
        says = "where a layer falls below the threshold it is a rare position (below 1 %)"
        found.append(ClaimResult("Figure 7b", says, f"largest share of a layer's positions below, {what}",
                           statistics.counted(often), statistics.verdict(often < 0.01), COMMAND))  # fmt: skip
    return found


def along(lines: Lines) -> list[ClaimResult]:
    """What a training changes from step 0 to its end, over seeds: the mean, which should stay, and the band."""
    mean, band = (change(lines, of) for of in (lambda one: column(one, "fraction_mean"), spread))
    where, on = "end − step 0, mean over the 17 sites, over seeds", "as a network is trained (CIFAR-10, width 0.35"
    return [
        ClaimResult("Figure 7", f"the mean is unchanged {on}; within {SAME:g})", f"fraction active, {where}", mean,
              statistics.verdict(mean.within(SAME)), COMMAND),
        ClaimResult("Figure 7", f"the spread grows {on})", f"5 to 95 % band, fraction, {where}", band,
              statistics.verdict(band.exceeds(0)), COMMAND),
    ]  # fmt: skip


def change(lines: Lines, of: Callable[[Lines], np.ndarray]) -> Estimate:
    """A number of every site at the end of a training less that at step 0, mean over sites, over seeds."""
    found = []
    for seed in seeds(lines):
        mine = pick(lines, seed=seed)
        moments = sorted({int(line["images"]) for line in mine})
        begin, end = (of(pick(mine, images=str(moment))).mean() for moment in (moments[0], moments[-1]))
        found.append(float(end - begin))
    return statistics.mean(np.array(found))


def dead(every: Lines) -> ClaimResult:
    """Channels whose norm never varied against those whose input is constant, channel by channel."""
    norms, constant, both = (int(column(every, name).sum()) for name in ("silent_norm", "constant_input", "both"))
    return ClaimResult("Dead channels (ours)", "channels with a constant input here are exactly those with running_var < 1e-10",  # noqa: E501
                 f"in both, of {norms} by the norms and {constant} by looking", statistics.counted(both),
                 statistics.verdict(norms == constant == both), COMMAND)  # fmt: skip


def draw(lines: Lines) -> Figure:
    """Above counts, below fractions; step 0, trained; to the right the training on CIFAR-10."""
    with plots.style("cvpr2024"):
        figure = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 4.1), layout="constrained")
        axes = figure.subplots(2, 3, width_ratios=(1, 1, 0.72))
        for place, (kind, title) in enumerate(
            ((INITIAL, "step 0, first of {n} seeds"), (TRAINED, "trained on ImageNet"))
        ):
            mine = pick(lines, network=kind)
            one = pick(mine, seed=seeds(mine)[0])
            for ax, fraction in zip(axes[:, place], (False, True), strict=True):
                layer_figure.draw_active(ax, one, fraction)
                mark(ax, one)
            axes[0, place].set_title(title.format(n=len(seeds(mine))), loc="left")
            layer_figure.name_layers(axes[1, place], one)
        draw_training(axes[:, 2], pick(lines, network=TRAINING, drawn="1"))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        known = dict(zip(labels, handles, strict=True))
        figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=6, frameon=False)
        count = pick(lines, network=TRAINED)[0]["pictures"]
        figure.supxlabel(f"{count} ImageNet pictures at 224; bands are over all positions; dots: the 17 sites that the "
                         "paper probably draws", size="small")  # fmt: skip
        return plots.fixed_layout(figure)


def mark(ax: Axes, lines: Lines) -> None:
    """Ticks at every site, and a dot below the axis at the marked ones."""
    there = [place for place, line in enumerate(lines) if line["drawn"] == "1"]
    ax.plot(there, [-0.02] * len(there), ".", color="black", ms=2.5, transform=ax.get_xaxis_transform(), clip_on=False,
            label="probably drawn in the paper")  # fmt: skip
    ax.set_xticks(range(len(lines)), [])
    ax.tick_params(length=1.5)


def draw_training(axes: Sequence[Axes], lines: Lines) -> None:
    """Mean and band over pictures seen, a line per seed."""
    for seed in seeds(lines):
        mine = pick(lines, seed=seed)
        moments = sorted({int(line["images"]) for line in mine})
        at = [pick(mine, images=str(moment)) for moment in moments]
        axes[0].plot(
            np.array(moments) / 1000, [column(one, "fraction_mean").mean() for one in at], color=MEASURED, lw=0.8
        )
        axes[1].plot(np.array(moments) / 1000, [spread(one).mean() for one in at], color=LOST_COLOUR, lw=0.8)
    axes[0].set(ylabel="active, fraction, mean", ylim=(0, 1))
    axes[0].set_title(f"training on {lines[0]['data']}, {len(seeds(lines))} seeds", loc="left")
    axes[1].set(ylabel="5 to 95 % band, fraction", xlabel="pictures seen, thousands", ylim=(0, None))


def run(options: Run) -> None:
    """Measure what is missing, judge, publish."""
    out = destination(options.out, options.smoke)
    check_folder(out)
    at_least("batch", options.batch, 1)
    at_least("count", options.count, 1)
    wanted: list[Look | Training] = [*looks(options), *trainings(options.smoke)]
    kinds = {INITIAL, TRAINED, TRAINING}
    if options.only and options.only not in kinds:
        raise InputError(f"only: {options.only!r} is unknown; allowed: {', '.join(sorted(kinds))}")
    place = source(options)
    cells = [looked(spec, place, STEM) for spec in wanted if options.only in ("", getattr(spec, "kind", TRAINING))]
    if options.only:
        return
    found = rows(cells)
    content = csv_text(found, COLUMNS)
    read = tables.read_csv(content)
    told = provenance.joined(cell.provenance for cell in cells)
    publish(
        out,
        {
            f"{STEM}.csv": text(content),
            **tables.claims_file(STEM, claims(read), told),
            **plots.figure_files(draw(read), STEM),
        },
    )


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, f"experiments.{STEM}"))
