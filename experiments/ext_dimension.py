"""Does the manifold of interest fit into the bottleneck? Intrinsic dimension at every bottleneck against its channels.

Paper    Sandler et al. 2018, arXiv:1801.04381, section 3.2: the manifold of interest lies in a low-dimensional subspace
Claims   The paper assumes it and measures nothing. If it is so, the dimension k of what flows through a bottleneck is
         well below its n channels; and 2k + 1 channels are enough to hold any k-manifold without self-crossing
Run      python -m experiments.ext_dimension --pictures imagenet_samples.npz --weights mobilenet_v2-b0353104.pth
Differs  k is that of single positions (what a 1x1 convolution sees) and, apart, of whole maps, in 8,192 coordinates
         drawn once where a map has more. TwoNN and MLE of 20 neighbours read high dimensions low (2,000 points of 50
         dimensions read about 31), see the scale of the nearest neighbours only (the scan says how much that
         matters), and cannot
         tell a manifold from noise around one. The trained network's intervals take points as independent, those of
         untrained ones are over their seeds; both leave the bias out. The
         published curves (Ansuini et al. 2019, arXiv:1905.12784, read off its plots) are TwoNN on whole maps of
         other networks,
         about 2,000 pictures, with the input near 31: an orientation
"""

import dataclasses
import sys
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
from manifold_lab.probe import Sampling
from manifold_lab.probe.layer_types import BOTTLENECK
from manifold_lab.report import plots, tables
from manifold_lab.report.plots import LOST_COLOUR, MEASURED, column, pick
from manifold_lab.report.tables import ClaimResult, Lines
from manifold_lab.sweeps import store
from manifold_lab.sweeps.probe_run import INITIAL, TRAINED, Look, ProbeSource, looked

STEM = "ext_dimension"
COMMAND = f"python -m experiments.{STEM}"
SMALL = dataclasses.replace(DIGITS, in_channels=3, resolution=32)
LAST = "dropout"
"""The layer that gives the pooled features before the classifier."""
SEEDS = 3
WIDE = 1.96
"""Standard errors on either side of an interval."""
SCALES = (1, 2, 4, 8)
KINDS = ("", "_pictures")
COLUMNS = ("network", "seed", "layer", "channels", "pictures", *(
    f"{name}{kind}" for kind in KINDS for name in
    ("two_nn", "two_nn_error", "mle", "mle_error", *(f"scale_{n1}" for n1 in SCALES), "duplicates", "points")
))  # fmt: skip
PEAK, END, UNTRAINED = (66, 120), (12.4, 25.2), (31, 38)
"""TwoNN on whole maps as Ansuini et al. 2019 draw it: peaks of ImageNet networks, their last hidden layers, and an
untrained VGG-16 all along."""
LOOKS = {TRAINED: (MEASURED, "trained"), INITIAL: (LOST_COLOUR, "untrained")}


@dataclass(frozen=True)
class Run:
    """Intrinsic dimension at every bottleneck of MobileNetV2 1.0, trained and untrained."""

    pictures: Path | None = None
    """Labelled pictures: an .npz of jpeg, offsets and labels; needed but for --smoke."""
    weights: Path | None = None
    """A checkpoint of MobileNetV2 1.0; without one the published weights are fetched by name."""
    count: int = 1000
    """Of the pictures, so many at most."""
    batch: int = 20
    """Pictures at a time."""
    smoke: bool = False
    """A small network on random pictures, to see that it runs."""
    runs: Path = Path("runs")
    """Folder of what has been measured."""
    out: Path | None = None
    """Folder for the csv files and the figure; by default figures, with --smoke out."""


def looks(options: Run, source: ProbeSource) -> list[Look]:
    """The trained network, and untrained ones of several seeds.

    Raises:
        InputError: if no pictures are named.
    """
    if options.pictures is None and not options.smoke:
        raise InputError("pictures: none given; name an .npz of jpeg, offsets and labels with --pictures, or --smoke")
    spec, count = (SMALL, 40) if options.smoke else (V2, options.count)
    sampling = Sampling(positions=4000, pictures=1000, coordinates=8192)
    wanted = [(TRAINED, 0), *((INITIAL, seed) for seed in range(SEEDS))]
    return [Look(kind, seed, spec, source.digest, count, (BOTTLENECK, LAST), ("dimension",), sampling)
            for kind, seed in wanted]  # fmt: skip


def rows(found: list[store.Cell]) -> list[dict[str, str]]:
    """One line per network and layer."""
    known = [(cell.spec, row) for cell in found for row in store.history(cell)]
    return [{name: {**row, "network": look.kind, "seed": str(look.seed)}.get(name, "") for name in COLUMNS}
            for look, row in known]  # fmt: skip


def blocks(lines: Lines) -> Lines:
    """The bottlenecks alone."""
    return [line for line in lines if line["layer"] != LAST]


def interval(lines: Lines, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A dimension and the ends of its interval: over seeds where there are several, else by its standard error."""
    seeds = sorted({line["seed"] for line in lines})
    each = [pick(lines, seed=seed) for seed in seeds]
    values = np.stack([column(one, name) for one in each])
    if len(seeds) > 1:
        ends = [statistics.mean(row) for row in values.T]
        return values.mean(0), np.array([one.low for one in ends]), np.array([one.high for one in ends])
    base, _, kind = name.partition("_pictures")
    error = column(each[0], f"{base}_error{'_pictures' if '_pictures' in name else kind}")
    return values[0], values[0] - WIDE * error, values[0] + WIDE * error


def claims(lines: Lines) -> list[ClaimResult]:
    """Whether k fits into n, trained and untrained, and whether whole maps rise and fall as published."""
    found = []
    for kind in LOOKS:
        mine = blocks(pick(lines, network=kind))
        found += [fits(mine, kind, name, words) for name, words in (("mle", "MLE"), ("two_nn", "TwoNN"))]
        found.append(embeds(mine, kind))
    return [*found, lower(lines), hunched(lines), last(lines)]


def fits(mine: Lines, kind: str, name: str, words: str) -> ClaimResult:
    """Bottlenecks whose dimension, its interval included, is below the channels."""
    high, channels = interval(mine, name)[2], column(mine, "channels")[: len(interval(mine, name)[2])]
    count = int((high < channels).sum())
    return ClaimResult("Section 3.2 (ours)", f"{LOOKS[kind][1]}: what flows through a bottleneck has fewer dimensions than channels",  # noqa: E501
                 f"of {len(high)} bottlenecks, those with k below n ({words}, interval included)",
                 statistics.counted(count), statistics.verdict(count == len(high)), COMMAND)  # fmt: skip


def embeds(mine: Lines, kind: str) -> ClaimResult:
    """Bottlenecks with channels enough for any manifold of that dimension."""
    value = interval(mine, "mle")[0]
    channels = column(mine, "channels")[: len(value)]
    count = int((2 * value + 1 <= channels).sum())
    return ClaimResult("Section 3.2 (ours)", f"{LOOKS[kind][1]}: the bottleneck has channels enough for any manifold of its k (2k + 1 ≤ n)",  # noqa: E501
                 f"of {len(value)} bottlenecks, those that have (MLE)", statistics.counted(count),
                 statistics.verdict(count == len(value)), COMMAND)  # fmt: skip


def lower(lines: Lines) -> ClaimResult:
    """Trained less untrained, over bottlenecks."""
    before, after = (interval(blocks(pick(lines, network=kind)), "mle")[0] for kind in (INITIAL, TRAINED))
    gap = statistics.mean(after - before)
    verdict = None if np.isnan(gap.low) or gap.covers(0) else gap.high < 0
    says = "training lowers the dimension of what flows through bottlenecks, in this network"
    measure = "MLE, trained − untrained, mean over its bottlenecks"
    return ClaimResult("Section 3.2 (ours)", says, measure, gap, statistics.verdict(verdict), COMMAND)


def hunched(lines: Lines) -> ClaimResult:
    """Whether whole maps reach their largest dimension within the network and fall after it."""
    value, low, high = interval(pick(lines, network=TRAINED), "two_nn_pictures")
    peak = int(value.argmax())
    inside = 0 < peak < len(value) - 1 and high[0] < low[peak] and high[-1] < low[peak]
    return ClaimResult("Ansuini et al. 2019", "along a trained network the dimension of whole maps rises, then falls",
                 f"peak (TwoNN), at layer {peak} of {len(value)}",
                 Estimate(float(value[peak]), float(low[peak]), float(high[peak]), int(float(lines[0]["pictures"]))),
                 statistics.verdict(inside), COMMAND)  # fmt: skip


def last(lines: Lines) -> ClaimResult:
    """The last hidden layer against the published ones."""
    mine = [line for line in pick(lines, network=TRAINED) if line["layer"] == LAST]
    value, low, high = (float(part[0]) for part in interval(mine, "two_nn_pictures"))
    return ClaimResult("Ansuini et al. 2019", f"the last hidden layer has {END[0]:g} to {END[1]:g} dimensions",
                 "TwoNN of the pooled features", Estimate(value, low, high, int(float(mine[0]["pictures"]))),
                 statistics.verdict(None if low < END[1] < high or low < END[0] < high else END[0] <= value <= END[1]),
                 COMMAND)  # fmt: skip


def curve(ax: Axes, lines: Lines, name: str, kind: str) -> None:
    """A dimension over depth with its interval."""
    value, low, high = interval(lines, name)
    colour, label = LOOKS[kind]
    x = np.arange(len(value))
    dashes, mark = (":", "x") if name.startswith("two") else ("-", "o")
    estimator = "TwoNN" if name.startswith("two") else "MLE"
    ax.plot(x, value, dashes, marker=mark, color=colour, ms=2.3, lw=0.7, label=f"{label}, {estimator}")
    if kind == TRAINED:
        ax.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    else:
        ax.errorbar(x, value, (value - low, high - value), fmt="none", ecolor=colour, elinewidth=0.5, alpha=0.6)


def scan(ax: Axes, lines: Lines) -> None:
    """Dimension against scale for every bottleneck of the trained network, early dark, late pale."""
    mine = blocks(pick(lines, network=TRAINED))
    for place, line in enumerate(mine):
        values = [float(line[f"scale_{n1}"]) if line[f"scale_{n1}"] else np.nan for n1 in SCALES]
        ax.plot(SCALES, values, ".-", ms=2, lw=0.6, color=plots.ALONG(place / max(1, len(mine) - 1)))
    ax.set_xscale("log", base=2)
    ax.set_xticks(SCALES, [f"{n1} : {2 * n1}" for n1 in SCALES])
    ax.set(xlabel="scale: neighbours compared", ylabel="dimension (GRIDE)", ylim=(0, None))
    ax.set_title("trained, by scale: first block dark, last pale", loc="left")


def draw(lines: Lines) -> Figure:
    """Positions against channels; by scale; whole maps against published curves."""
    with plots.style("cvpr2024"):
        figure = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 2.9), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        for kind in LOOKS:
            mine = blocks(pick(lines, network=kind))
            curve(left, mine, "mle", kind)
            curve(left, mine, "two_nn", kind)
            curve(right, pick(lines, network=kind), "two_nn_pictures", kind)
            curve(right, pick(lines, network=kind), "mle_pictures", kind)
        channels = column(blocks(pick(lines, network=TRAINED)), "channels")
        left.step(np.arange(len(channels)), channels, where="mid", color="0.3", lw=0.8, label="n, channels")
        left.set_yscale("log", base=2)
        left.yaxis.set_major_formatter("{x:g}")
        left.set(xlabel="block", ylabel="dimension of positions")
        scan(middle, lines)
        ends = len(column(pick(lines, network=TRAINED), "channels")) - 1
        right.fill_between([0.2 * ends, 0.45 * ends], *PEAK, color="0.6", alpha=0.25, lw=0, label="published peaks")
        right.fill_between([ends - 0.4, ends + 0.4], *END, color="0.3", alpha=0.45, lw=0, label="published last layers")
        right.set(xlabel="block; last: pooled features", ylabel="dimension of whole maps", ylim=(0, None))
        for ax in (left, right):
            ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=5.5, handlelength=1.4,
                      columnspacing=0.8)  # fmt: skip
        count = pick(lines, network=TRAINED)[0]["pictures"]
        networks = len({line["seed"] for line in pick(lines, network=INITIAL)})
        words = f"bands and bars: 95 %, trained over points, untrained over {networks} networks"
        figure.supxlabel(f"{count} pictures; 4,000 positions of them all; {words}; both estimators read high "
                         "dimensions low", size="small")  # fmt: skip
        return plots.fixed_layout(figure)


def run(options: Run) -> None:
    """Measure what is missing, judge, publish."""
    out = destination(options.out, options.smoke)
    check_folder(out)
    at_least("batch", options.batch, 1)
    at_least("count", options.count, 1)
    source = ProbeSource(None if options.smoke else options.pictures, options.weights, options.batch, options.runs)
    cells = [looked(look, source, STEM) for look in looks(options, source)]
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
