"""Does the manifold of interest fit into the bottleneck? Intrinsic dimension at every bottleneck against its channels.

Paper    Sandler et al. 2018, arXiv:1801.04381, section 3.2: the manifold of interest lies in a low-dimensional subspace
Claims   The paper assumes it and measures nothing. If it is so, the dimension k of what flows through a bottleneck is
         well below its n channels; and 2k + 1 channels are enough to hold any k-manifold without self-crossing
Run      python -m experiments.ext_dimension run --images imagenet_samples.npz --weights mobilenet_v2-b0353104.pth
Differs  k is that of single positions (what a 1x1 convolution sees) and, apart, of whole maps, in 8,192 coordinates
         drawn once where a map has more. TwoNN and MLE of 20 neighbours read high dimensions low: of 1,500 points of a
         Gaussian, MLE of 20 neighbours reads 10 dimensions as 9.0 and 20 as 15.0, of 5 neighbours as 9.4 and 16.2 (with
         5 neighbours these networks were not run); TwoNN of 2,000 points reads 50 as 32. They see the scale of the
         nearest neighbours only (the scan says how much that matters), and cannot tell a manifold from noise around
         one. Bottlenecks of a network are all there are of it, no sample: claims hold or fail for this checkpoint on
         these images. Its intervals take points as independent, those of untrained networks are over their seeds;
         both leave the bias out. The published curves (Ansuini et al. 2019, arXiv:1905.12784, read off its plots) are
         TwoNN on whole maps of other networks, about 2,000 images, with the input near 31: an orientation
"""

import functools
import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from manifold_lab.core import contrasts, statistics
from manifold_lab.probe import Sampling
from manifold_lab.probe.names import BOTTLENECK
from manifold_lab.report import deciding, plots
from manifold_lab.report.tables import ClaimResult, DataFrame, Estimate, Record, estimated_claim, pick, unique
from manifold_lab.sweeps import probe_run
from manifold_lab.sweeps.probe_run import INITIAL, TRAINED, ProbeRun, ProbeSource
from manifold_lab.sweeps.runner import Measure
from manifold_lab.sweeps.store import Run
from manifold_lab.sweeps.study import Caption, Headline, Study, captioned_figure

IMAGES, SMOKE_IMAGES = 1000, 40
LAST = "dropout"
"""The layer that gives the pooled features before the classifier."""
SEEDS = 3
SCALES = (1, 2, 4, 8)
KINDS = ("", "_pictures")
COLUMNS = ("network", "seed", "layer", "channels", "pictures", *(
    f"{name}{kind}" for kind in KINDS for name in
    ("two_nn", "two_nn_error", "mle", "mle_error", *(f"scale_{n1}" for n1 in SCALES), "duplicates", "points")
))  # fmt: skip
PEAK, END = (66, 120), (12.4, 25.2)
"""TwoNN on whole maps as Ansuini et al. 2019 draw it: peaks of ImageNet networks, and their last hidden layers."""
STYLES = {TRAINED: (plots.MEASURED, "trained"), INITIAL: (plots.LOST_COLOUR, "untrained")}
ESTIMATORS = {"mle": "MLE of 20 neighbours, which reads 20 dimensions as 15", "two_nn": "TwoNN"}


def on_images(source: ProbeSource) -> tuple[tuple[ProbeRun, ...], Measure]:
    """The trained network, and untrained ones of several seeds, measured on these images."""
    spec, count = source.sized(IMAGES, SMOKE_IMAGES)
    sampling = Sampling(positions=4000, pictures=1000, coordinates=8192)
    wanted = [(TRAINED, 0), *((INITIAL, seed) for seed in range(SEEDS))]
    networks = tuple(ProbeRun(kind, seed, spec, source.digest, count, (BOTTLENECK, LAST), ("dimension",), sampling)
                     for kind, seed in wanted)  # fmt: skip
    return networks, probe_run.measure_on(source)


def rows(runs: Sequence[Run]) -> list[Record]:
    """One line per network and layer."""
    return [{name: row.get(name) for name in COLUMNS} for row in probe_run.layer_rows(runs)]


def blocks(table: DataFrame) -> DataFrame:
    """The bottlenecks alone."""
    return table[table["layer"] != LAST]


def error_of(table: DataFrame, name: str) -> np.ndarray:
    """The standard errors of a dimension over points."""
    base, whole, _ = name.partition("_pictures")
    return table[f"{base}_error{whole}"].to_numpy()


def intervals(table: DataFrame, name: str, tests: int = 1) -> list[Estimate]:
    """A dimension of every layer: over seeds where there are several, else by its standard error over points.

    Args:
        table: of networks of one kind.
        name: of the column.
        tests: intervals that hold together at 95 %, by Bonferroni's correction.
    """
    level = 1 - (1 - statistics.LEVEL) / tests
    each = [mine for _, mine in table.groupby("seed")]
    values = np.stack([mine[name].to_numpy() for mine in each])
    if len(each) > 1:
        return [contrasts.contrast([(layer, 1.0)], level).estimate for layer in values.T]
    half = norm.isf((1 - level) / 2) * error_of(each[0], name)
    points = each[0]["points_pictures" if "_pictures" in name else "points"]
    return [Estimate(float(value), float(value - wide), float(value + wide), n)
            for value, wide, n in zip(values[0], half, points, strict=True)]  # fmt: skip


def claims(table: DataFrame) -> list[ClaimResult]:
    """Whether k fits into n, trained and untrained, and whether whole maps rise and fall as published."""
    found = []
    for kind in STYLES:
        mine = blocks(pick(table, network=kind))
        if len(mine):
            found += [fits(mine, kind, name) for name in ESTIMATORS]
            found.append(embeds(mine, kind))
    trained = pick(table, network=TRAINED)
    if len(trained) and len(pick(table, network=INITIAL)):
        found.append(lower(table))
    return [*found, *hunched(trained), last(trained)] if len(trained) else found


claim = functools.partial(estimated_claim, place="Section 3.2 (ours)")
"""A claim of this study."""


def below(table: DataFrame, name: str, bounds: Sequence[float]) -> tuple[Estimate, bool | None]:
    """In how many layers the dimension is below its bound, and whether in all.

    Returns:
        The count by values, from those whose interval is below to those whose interval is not above; and true where
        every interval is below, each by itself, false where one is above, of intervals that hold together, else None.
    """
    each = list(zip(intervals(table, name), bounds, strict=True))
    together = zip(intervals(table, name, tests=len(bounds)), bounds, strict=True)
    surely = sum(bool(found.below(bound)) for found, bound in each)
    perhaps = len(bounds) - sum(bool(found.exceeds(bound)) for found, bound in together)
    count = sum(found.value <= bound for found, bound in each)
    whole = True if surely == len(bounds) else None if perhaps == len(bounds) else False
    return Estimate(float(count), float(surely), float(perhaps), len(bounds)), whole


def more(table: DataFrame, name: str, bounds: Sequence[float]) -> str:
    """What would show one layer above its bound, of intervals that hold together; else more of what there is."""
    each = np.stack([mine[name].to_numpy() for _, mine in table.groupby("seed")])
    of, level = "untrained networks", 1 - (1 - statistics.LEVEL) / len(bounds)
    if len(each) < 2:
        return "more positions"
    above = [contrasts.runs_to_decide(float(layer.mean() - bound), float(layer.std(ddof=1)), paired=True, level=level)
             for layer, bound in zip(each.T, bounds, strict=True) if layer.mean() > bound]  # fmt: skip
    counts = [count for count in above if count is not None]
    return deciding.in_words(min(counts), of) if counts else f"more {of}"


def channels_of(table: DataFrame) -> list[float]:
    """The channels of every layer."""
    return pick(table, seed=table["seed"].iloc[0])["channels"].astype(float).tolist()


def fits(mine: DataFrame, kind: str, name: str) -> ClaimResult:
    """Bottlenecks whose dimension, its interval included, is below the channels."""
    count, whole = below(mine, name, channels_of(mine))
    says = f"{STYLES[kind][1]}: what flows through a bottleneck has fewer dimensions than channels"
    measure = f"of {count.n} bottlenecks, those with k below n ({ESTIMATORS[name]})"
    column, name = name, f"fewer_dimensions_than_channels/{kind}/{name}"
    return claim(name, says, measure, count, whole, needed=more(mine, column, channels_of(mine)))


def embeds(mine: DataFrame, kind: str) -> ClaimResult:
    """Bottlenecks with channels enough for any manifold of that dimension."""
    most = [(n - 1) / 2 for n in channels_of(mine)]
    count, whole = below(mine, "mle", most)
    says = f"{STYLES[kind][1]}: the bottleneck has channels enough for any manifold of its k (2k + 1 ≤ n)"
    measure = f"of {count.n} bottlenecks, those that have ({ESTIMATORS['mle']})"
    return claim(f"enough_channels_to_embed/{kind}", says, measure, count, whole, needed=more(mine, "mle", most))


def lower(table: DataFrame) -> ClaimResult:
    """Trained less untrained, mean over the bottlenecks: over untrained networks and the trained one's points."""
    trained, untrained = (blocks(pick(table, network=kind)) for kind in (TRAINED, INITIAL))
    gaps = [trained["mle"].mean() - mine["mle"].mean() for _, mine in untrained.groupby("seed")]
    gap = statistics.mean(np.array(gaps))
    error = norm.isf((1 - statistics.LEVEL) / 2) * math.hypot(*error_of(trained, "mle")) / len(trained)
    half = math.hypot(gap.high - gap.value, error)
    found = Estimate(gap.value, gap.value - half, gap.value + half, gap.n)
    says = "training lowers the dimension of what flows through bottlenecks, for this checkpoint"
    measure = "MLE of 20 neighbours, trained − untrained, mean over the bottlenecks, over untrained networks"
    return claim("training_lowers_dimension", says, measure, found, found.below(0))


def hunched(trained: DataFrame) -> list[ClaimResult]:
    """Whether the dimension of whole maps is larger within the network than at its first and at its last layer."""
    value, error = trained["two_nn_pictures"].to_numpy(), error_of(trained, "two_nn_pictures")
    peak = 1 + int(value[1:-1].argmax())
    found = []
    for name, phrase, end in (("rise", "rises", 0), ("fall", "falls again", -1)):
        gap, deviation = value[peak] - value[end], math.hypot(error[peak], error[end])
        tests = len(value) - 2  # the peak was chosen among so many
        half = norm.isf((1 - statistics.LEVEL) / 2 / tests) * deviation
        estimate = Estimate(float(gap), float(gap - half), float(gap + half), int(trained["pictures"].iloc[0]))
        measure = f"TwoNN, largest within (layer {peak} of {len(value)}) − {'first' if end == 0 else 'last'} layer"
        says = f"along a trained network the dimension of whole maps {phrase}, for this checkpoint"
        p_value = float(min(1.0, tests * 2 * norm.sf(abs(gap) / deviation)))
        found.append(claim(f"whole_maps_{name}", says, measure, estimate, estimate.exceeds(0),
                           place="Ansuini et al. 2019", p_value=p_value,
                           needed=deciding.replicates(estimate, 0, "images", tests)))  # fmt: skip
    return found


def last(trained: DataFrame) -> ClaimResult:
    """The last hidden layer against the published ones."""
    (found,) = intervals(pick(trained, layer=LAST), "two_nn_pictures")
    middle, half = (END[0] + END[1]) / 2, (END[1] - END[0]) / 2
    says = f"the last hidden layer has {END[0]:g} to {END[1]:g} dimensions, for this checkpoint"
    return claim("last_layer_as_published", says, "TwoNN of the pooled features", found,
                 found.minus(middle).within(half), place="Ansuini et al. 2019")  # fmt: skip


def curve(ax: Axes, table: DataFrame, name: str, kind: str) -> None:
    """A dimension over depth with its interval."""
    found = intervals(table, name)
    value, low, high = (np.array([getattr(one, part) for one in found]) for part in ("value", "low", "high"))
    colour, label = STYLES[kind]
    x = np.arange(len(value))
    dashes, mark = (":", "x") if name.startswith("two") else ("-", "o")
    estimator = "TwoNN" if name.startswith("two") else "MLE"
    ax.plot(x, value, dashes, marker=mark, color=colour, ms=2.3, lw=0.7, label=f"{label}, {estimator}")
    seeds = unique(table, "seed")
    if len(seeds) == 1:
        ax.fill_between(x, np.maximum(low, 0), high, color=colour, alpha=0.12, lw=0, zorder=0)
    for seed in seeds if len(seeds) > 1 else ():
        ax.plot(x, pick(table, seed=seed)[name], dashes, color=colour, lw=0.35, alpha=0.8, zorder=1)


def scan(ax: Axes, table: DataFrame) -> None:
    """Dimension by scale, of every bottleneck of the trained network."""
    import seaborn  # noqa: PLC0415  (two seconds that only this figure needs)

    mine = blocks(pick(table, network=TRAINED))
    value = mine[[f"scale_{n1}" for n1 in SCALES]].to_numpy()
    bar = {"label": "dimension of positions (GRIDE)", "shrink": 0.9}
    seaborn.heatmap(value, ax=ax, cmap="viridis", vmin=0, cbar_kws=bar, linewidths=0.3, annot=True, fmt=".0f",
                    annot_kws={"size": mpl.rcParams["legend.fontsize"]})  # fmt: skip
    ax.set_xticks(np.arange(len(SCALES)) + 0.5, [f"{n1} : {2 * n1}" for n1 in SCALES], rotation=0)
    ax.set_yticks(np.arange(0, len(mine), 4) + 0.5, map(str, range(0, len(mine), 4)), rotation=0)
    ax.set(xlabel="scale: neighbours compared", ylabel="block")


HEADLINE = Headline(
    "fewer_dimensions_than_channels/trained",
    "What flows through a trained bottleneck has fewer dimensions than channels",
    "In some trained bottleneck what flows through it has no fewer dimensions than channels",
    "Whether every trained bottleneck has fewer dimensions than channels is undecided",
)


def draw(figure: Figure, table: DataFrame) -> Caption:
    """Positions against channels; by scale; whole maps against published curves."""
    kinds = [kind for kind in STYLES if kind in set(table["network"])]
    one = pick(table, network=table["network"].iloc[0], seed=table["seed"].iloc[0])
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 0.8, 1.1))
    draw_positions(left, table, kinds, blocks(one)["channels"].to_numpy())
    scan(middle, table)
    draw_maps(right, table, kinds, len(one) - 1)
    plots.letter((left, middle, right), ("single positions", "by scale, trained", "whole maps"))
    networks = pick(table, network=INITIAL)["seed"].nunique()
    note = (
        f"MobileNetV2 1.0 on {one['pictures'].iloc[0]:,} ImageNet images, 4,000 positions of them. Bands: "
        f"{statistics.PERCENT} intervals over points, of the trained network; untrained: the mean of {networks} "
        "networks, and each as a thin line. Both estimators read high dimensions low. Published: Ansuini et al. "
        "2019, other networks."
    )
    return note, plots.handles_of((left, right))


def draw_positions(ax: Axes, table: DataFrame, kinds: Sequence[str], channels: np.ndarray) -> None:
    """Dimension of single positions beside the channels."""
    ax.step(np.arange(len(channels)), channels, where="mid", color="0.3", lw=0.8, label="channels n")
    for kind in kinds:
        mine = blocks(pick(table, network=kind))
        curve(ax, mine, "mle", kind)
        curve(ax, mine, "two_nn", kind)
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="block", ylabel="dimension, channels", xticks=range(0, len(channels), 4))


def draw_maps(ax: Axes, table: DataFrame, kinds: Sequence[str], last_layer: int) -> None:
    """Dimension of whole maps beside what was published of other networks."""
    for kind in kinds:
        mine = pick(table, network=kind)
        curve(ax, mine, "mle_pictures", kind)
        curve(ax, mine, "two_nn_pictures", kind)
    ax.fill_between([0.2 * last_layer, 0.45 * last_layer], *PEAK, color="0.6", alpha=0.25, lw=0,
                    label="published peaks, TwoNN")  # fmt: skip
    ax.fill_between([last_layer - 0.4, last_layer + 0.4], *END, color="0.3", alpha=0.45, lw=0,
                    label="published last layers, TwoNN")  # fmt: skip
    ax.set(xlabel="block; last: pooled features", ylabel="dimension", xticks=range(0, last_layer, 4))
    ax.set_ylim(bottom=0)


FIGURE = captioned_figure(draw, claims, HEADLINE, 3.4)
STUDY = Study(name="ext_dimension", card=__doc__, on_images=on_images, rows=rows, figure=FIGURE, claims=claims)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
