"""Figure 7: active channels layer by layer, at step 0 and trained, against what Lemma 2 asks for.

Paper    Sandler et al. 2018, arXiv:1801.04381, Figure 7, Lemma 2
Claims   at step 0 half of the channels are active, tightly; trained, the mean is unchanged, the spread much
         larger; all but two layers stay above the threshold. Ours: channels that never varied are found from outside
Run      python -m experiments.fig7_activations run --images imagenet_samples.npz --weights mobilenet_v2-b0353104.pth
Differs  The paper does not say which 17 sites it draws, on which images, or with how many seeds. All 35 ReLU6 sites
         are here; 17 are marked: one per block, its expansion (in the t = 1 block, which has none, the depthwise),
         as there are 17 blocks and the line that the paper draws, 1/6, is an expansion's. Active is 0 < y < 6.
         Lemma 2's own threshold is the input channels of the 1x1 convolution before: none for stem and depthwise
         outputs, 1/4 for the last convolution. At step 0 norms use their batch's statistics, as they do in training.
         The sites of a network are all there are of it, no sample: claims of Figure 7b hold or fail for this
         checkpoint on these images, and their intervals are over the networks at step 0. "Dramatically" is not
         defined there: that the spread grows decides, and whether it doubles stands beside it. The trainings on
         CIFAR-10 are the short ones of Figure 6a's linear arm, measured at step 0 and whenever they are evaluated;
         below five of them nothing is decided. `--smoke` needs no data
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing.fig7_activations import draw_network, draw_training, seeds, spread
from manifold_lab.core import statistics
from manifold_lab.models.specs import DIGITS
from manifold_lab.report import plots
from manifold_lab.report.tables import ClaimResult, DataFrame, Estimate, Record, estimated_claim, pick
from manifold_lab.sweeps import ablation, probe_run
from manifold_lab.sweeps.comparison import FEWEST
from manifold_lab.sweeps.probe_run import INITIAL, STAGES, TRAINED, TRAINING, ProbedTraining, ProbeRun, ProbeSource
from manifold_lab.sweeps.runner import Measure
from manifold_lab.sweeps.store import Run
from manifold_lab.sweeps.study import Caption, Headline, Study, captioned_figure, headline
from manifold_lab.training import RECIPES

SAME = 0.05
"""A mean that moves by less, in fractions of the channels, counts as unchanged."""
IMAGES, SMOKE_IMAGES, SEEDS = 1000, 20, 3
COLUMNS = ("network", "data", "seed", "images", "layer", "drawn", "pictures", "channels", "threshold", "active_min",
           "active_q05", "active_q25", "active_mean", "active_q50", "active_q75", "active_q95", "active_max",
           "fraction_min", "fraction_mean", "fraction_max", "below_threshold", "low_share", "high_share",
           "never_active", "always_saturated", "constant_input", "silent_norm", "both", "first_below")  # fmt: skip


def trainings(smoke: bool, seeds: int = SEEDS) -> tuple[ProbedTraining, ...]:
    """The first seeds of Figure 6a's linear arm at width 0.35, step for step, measured in between."""
    if smoke:
        recipe = dataclasses.replace(RECIPES["smoke"], images=1_000, evaluate_every=500)
        return tuple(ProbedTraining(DIGITS, recipe, "digits", seed, 50) for seed in range(seeds))
    base = ablation.cifar_setting(0.35).of_length(ablation.SHORT_IMAGES)
    return tuple(ProbedTraining(base.network, base.recipe, base.data, seed) for seed in range(seeds))


def on_images(source: ProbeSource) -> tuple[tuple[probe_run.Spec, ...], Measure]:
    """Three seeds at step 0, the trained network, and the trainings, measured on these images."""
    spec, count = source.sized(IMAGES, SMOKE_IMAGES)
    wanted = [*((INITIAL, seed) for seed in range(SEEDS)), (TRAINED, 0)]
    networks = [ProbeRun(kind, seed, spec, source.digest, count) for kind, seed in wanted]
    return (*networks, *trainings(source.images is None)), probe_run.measure_on(source)


def rows(runs: Sequence[Run]) -> list[Record]:
    """One line per network, moment of its training, and site; sites in the order of execution."""
    found = (row | {"drawn": int(drawn(row["layer"]))} for row in probe_run.layer_rows(runs))
    return [{name: row.get(name) for name in COLUMNS} for row in found]


def drawn(layer: str) -> bool:
    """Whether the paper seems to draw it: each block's expansion, and in the first, without one, the depthwise."""
    return layer.endswith("expand.act") or layer == "blocks.0.depthwise.act"


def claims(table: DataFrame) -> list[ClaimResult]:
    """Figure 7's claims, at the 17 marked sites, and what was found beside them."""
    marked = pick(table, drawn=1)
    initial = [mine for _, mine in pick(marked, network=INITIAL).groupby("seed")]
    trained, every = pick(marked, network=TRAINED), pick(table, network=TRAINED)
    found = at_step_0(initial) if initial else []
    found += after_training(initial, trained) if initial and len(trained) else []
    found += [*above(trained, "marked"), *above(every, "every"), dead(every)] if len(trained) else []
    return found + along(pick(marked, network=TRAINING))


claim = functools.partial(estimated_claim, place="Figure 7b")
"""A claim of this study."""


def over(values: Sequence[float]) -> Estimate:
    """The mean over networks with Student's interval."""
    return statistics.mean(np.array(values))


def at_step_0(initial: Sequence[DataFrame]) -> list[ClaimResult]:
    """Mean and band, over seeds."""
    mean = over([one["fraction_mean"].mean() for one in initial])
    band = over([spread(one).mean() for one in initial])
    tight = "at step 0 tightly around the mean (90 % of positions within a quarter of the channels)"
    return [
        claim("half_at_step_0", "at step 0 half of the channels are active (within 0.05)",
              "fraction active, mean over the 17 sites, over seeds", mean, mean.minus(0.5).within(0.05),
              place="Figure 7a"),
        claim("tight_at_step_0", tight, "5 to 95 % band over positions, fraction, mean over the 17 sites, over seeds",
              band, band.below(0.25), place="Figure 7a"),
    ]  # fmt: skip


def after_training(initial: Sequence[DataFrame], trained: DataFrame) -> list[ClaimResult]:
    """What differs between one trained network and those at step 0, over the latter."""
    mean = over([(trained["fraction_mean"].to_numpy() - one["fraction_mean"].to_numpy()).mean() for one in initial])
    before = [np.where(spread(one) > 0, spread(one), np.nan) for one in initial]
    growth = over([float(np.nanmedian(spread(trained) / one)) for one in before])
    on = "for this checkpoint"
    ratio = "5 to 95 % band, trained / step 0, median over the 17 sites, over seeds at step 0"
    return [
        claim("mean_unchanged", f"trained, the mean is unchanged (within {SAME:g}), {on}",
              "change of the fraction active, mean over the 17 sites, over seeds at step 0", mean, mean.within(SAME)),
        claim("spread_grown", f"trained, the spread has grown, {on}", ratio, growth, growth.exceeds(1)),
        claim("spread_doubled", f"trained, the spread has at least doubled, {on}", ratio, growth, growth.exceeds(2)),
    ]  # fmt: skip


def above(table: DataFrame, which: str) -> list[ClaimResult]:
    """Layers whose minimum is below the threshold, where marked after more and more images; and at what share."""
    having, total = table.dropna(subset="threshold"), int(table["pictures"].iloc[0])
    layers = "marked layers" if which == "marked" else "layers"
    found = []
    for images in stages(total) if which == "marked" else (total,):
        below = statistics.counted(layers_below(table, images))
        shown = f"{images:,} image{'s' * (images > 1)}"
        measure = f"of {len(having)} {layers} with a threshold, those with a position below, {shown}"
        name, says = f"all_but_two/{which}/{images}", "all but two layers stay above the threshold, for this checkpoint"
        found.append(claim(name, says, measure, below, below.value == 2))
    often = float(having["below_threshold"].max()) if len(having) else 0.0
    says = "where a layer falls below the threshold it is a rare position (below 1 %), for this checkpoint"
    measure = f"largest share of a layer's positions below, {layers}, {total:,} images"
    return [*found, claim(f"rarely_below/{which}", says, measure, statistics.counted(often), often < 0.01)]


def stages(total: int) -> tuple[int, ...]:
    """After how many images the minimum was compared with the threshold."""
    return (*(stage for stage in STAGES if stage < total), total)


def layers_below(table: DataFrame, images: int) -> int:
    """The layers of which a position fell below the threshold within the first so many images."""
    return int((table["first_below"] <= images).sum())


def along(table: DataFrame) -> list[ClaimResult]:
    """What a training changes from step 0 to its end, over seeds: the mean, which should stay, and the band."""
    if not len(table):
        return []
    mean, band = (change(table, of) for of in (level, spread))
    where, on = "end − step 0, mean over the 17 sites, over seeds", "as a network is trained (CIFAR-10, width 0.35"
    decided = (
        ("training_mean_unchanged", f"the mean is unchanged {on}; within {SAME:g})", f"fraction active, {where}", mean,
         mean.within(SAME)),
        ("training_spread_grows", f"the spread grows {on})", f"5 to 95 % band, fraction, {where}", band,
         band.exceeds(0)),
    )  # fmt: skip
    return [over_trainings(*one) for one in decided]


def over_trainings(name: str, says: str, measure: str, found: Estimate, holds: bool | None) -> ClaimResult:
    """A claim over trained networks: below `FEWEST` of them undecided, whatever the interval."""
    decided, needed = (holds, "") if found.n >= FEWEST else (None, "" if holds is None else f"{FEWEST} trainings")
    return claim(name, says, measure, found, decided, place="Figure 7", needed=needed)


def level(table: DataFrame) -> np.ndarray:
    """The mean share of active channels, site by site."""
    return table["fraction_mean"].to_numpy()


def change(table: DataFrame, of: Callable[[DataFrame], np.ndarray]) -> Estimate:
    """A number of every site at the end of a training less that at step 0, mean over sites, over seeds."""
    ends = [[of(pick(mine, images=moment)).mean() for moment in (mine["images"].max(), mine["images"].min())]
            for _, mine in table.groupby("seed")]  # fmt: skip
    return over([last - first for last, first in ends])


def dead(every: DataFrame) -> ClaimResult:
    """Channels whose norm never varied against those whose input is constant, channel by channel."""
    norms, constant, both = (int(every[name].sum()) for name in ("silent_norm", "constant_input", "both"))
    return claim("dead_channels",
                 "channels with a constant input here are exactly those with running_var < 1e-10",
                 f"in both, of {norms} by the norms and {constant} by their inputs", statistics.counted(both),
                 norms == constant == both, place="Dead channels (ours)")  # fmt: skip


def message(found: Sequence[ClaimResult]) -> str:
    """What training changes: decided of the checkpoint; of the networks trained here only the value is told."""
    by_name = {one.id: one.estimate for one in found}
    change = by_name.get("mean_unchanged", statistics.NO_RUNS).value
    moved = f"{'rises' if change > 0 else 'falls'} by {abs(change):.2f}"
    messages = Headline(
        "mean_unchanged", "Trained on ImageNet, the mean share of active channels stays as it was",
        f"Trained on ImageNet, the mean share of active channels {moved}",
        "Whether training on ImageNet changes the mean share of active channels is undecided",
    )  # fmt: skip
    ours = by_name.get("training_mean_unchanged", statistics.NO_RUNS)
    beside = f"; on CIFAR-10 it changes by {ours.value:.3f} (n = {ours.n})".replace("-0", "−0") if ours.n else ""
    return headline(found, messages) + beside


def draw(figure: Figure, table: DataFrame) -> Caption:
    """Above counts, below fractions; step 0, trained; to the right the training on CIFAR-10."""
    axes = figure.subplots(2, 3, width_ratios=(1, 1, 0.72))
    kinds = {INITIAL: "step 0, first of {n} seeds", TRAINED: "trained on ImageNet"}
    names = []
    for place, (kind, title) in enumerate(kinds.items()):
        mine = pick(table, network=kind)
        if len(mine):
            draw_network(axes[:, place], pick(mine, seed=seeds(mine)[0]))
        names.append(title.format(n=len(seeds(mine))))
    names.append(draw_training(axes[:, 2], pick(table, network=TRAINING, drawn=1)))
    plots.letter(axes.flat, [*names, *["the same, as fractions"] * 2, "its spread"])
    return caption(table), plots.handles_of(axes[0, :2])


def caption(table: DataFrame) -> str:
    """What bands and dots are, and how the count below the threshold depends on the number of images."""
    trained = pick(table, network=TRAINED)
    total = int(trained["pictures"].iloc[0]) if len(trained) else 0
    after = ", ".join(f"{images:,}" for images in stages(total))
    drawn = pick(trained, drawn=1)
    below = ", ".join(str(layers_below(drawn, images)) for images in stages(total))
    having = trained["threshold"].count()
    moved = change(pick(table, network=TRAINING, drawn=1), level)
    change_text = f"{moved.value:.3f} ({moved.low:.3f} to {moved.high:.3f}; n = {moved.n})".replace("-0", "−0")
    return (
        f"{total:,} ImageNet images at 224; bands are over all positions; dots: the {len(drawn)} sites that the paper "
        f"probably draws, of which {below} fell below the threshold after {after} images; of all {having} sites with a "
        f"threshold {layers_below(trained, total)} did (triangles). (c): end minus step 0 is {change_text}, "
        f"{statistics.PERCENT} interval."
    )


STUDY = Study(
    name="fig7_activations",
    card=__doc__,
    on_images=on_images,
    rows=rows,
    figure=captioned_figure(draw, claims, message, 4.6),
    claims=claims,
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
