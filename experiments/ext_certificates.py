"""Which layers of a network are provably injective on its data, how stable is the way back, and what training does.

Paper    Haider, Ehler and Balazs 2023, arXiv:2307.09672 and arXiv:2406.15856; Sandler et al. 2018, arXiv:1801.04381,
         section 3.2
Claims   an expansion keeps all information of its input where enough channels stay active. Measured: at how many
         positions the active rows span the input, biases and ReLU6's clip included, by how much, and how stably
Run      python -m experiments.ext_certificates run --images imagenet_samples.npz --weights mobilenet_v2-b0353104.pth
Differs  a layer is a convolution, its norm and its activation together, judged at sampled positions as if their inputs
         could be any vectors; data of lower dimension can keep more. The untrained twin has norms with the statistics
         of the same images, so that it is one map. Layers of a network are all there are of it, no sample: claims hold
         or fail for this checkpoint; intervals over positions take them as independent, though many are of one image.
         Ends of a training are compared over its seeds. The margin is how far a position can move in any direction
         with rows still active that span the input: negative where it is not certified. Along trainings it is taken
         relative to the largest input, since inputs grow; that measure was chosen after three of the five trainings had
         been seen, in which every position was certified from step 0 on
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.fig7_activations import trainings
from manifold_lab.core import contrasts, statistics
from manifold_lab.probe import Sampling
from manifold_lab.report import deciding, plots
from manifold_lab.report.tables import ClaimResult, DataFrame, Estimate, Record, estimated_claim, pick
from manifold_lab.sweeps import probe_run
from manifold_lab.sweeps.probe_run import SETTLED, TRAINED, TRAINING, ProbeRun, ProbeSource
from manifold_lab.sweeps.runner import Measure
from manifold_lab.sweeps.store import Run
from manifold_lab.sweeps.study import Headline, Study, captioned_figure

MEASURES = ("certificate",)
IMAGES, SMOKE_IMAGES, SEEDS = 100, 10, 5
MOST = 0.9
"""A layer counts as certified on the data where more than this share of the positions is."""
EXPANSION = "expand.act"
COLUMNS = ("network", "data", "seed", "images", "layer", "channels", "certified", "certificate_points",
           "least_singular_value", "stability", "margin", "margin_median", "data_radius", "ball",
           "verdict")  # fmt: skip
STYLES = {TRAINED: (plots.MEASURED, "o", "trained"), SETTLED: (plots.LOST_COLOUR, "s", "untrained")}


def on_images(source: ProbeSource) -> tuple[tuple[probe_run.Spec, ...], Measure]:
    """The trained network, untrained ones, and the trainings of Figure 6a's linear arm, measured in between."""
    smoke, (spec, count) = source.images is None, source.sized(IMAGES, SMOKE_IMAGES)
    seeds = 1 if smoke else SEEDS
    wanted = [(TRAINED, 0), *((SETTLED, seed) for seed in range(seeds))]
    networks = [
        ProbeRun(kind, seed, spec, source.digest, count, measures=MEASURES, sampling=Sampling(positions=500))
        for kind, seed in wanted
    ]
    along = [dataclasses.replace(one, measures=MEASURES, count=count) for one in trainings(smoke, seeds)]
    return (*networks, *along), probe_run.measure_on(source)


def rows(runs: Sequence[Run]) -> list[Record]:
    """One line per network, moment of its training, and layer that the certificate speaks of."""
    found = (row for row in probe_run.layer_rows(runs) if row.get("verdict"))
    return [{name: row.get(name) for name in COLUMNS} for row in found]


def expansions(table: DataFrame) -> DataFrame:
    """The expansions, judged at positions."""
    return table[table["layer"].str.endswith(EXPANSION) & table["certificate_points"].notna()]


def shares(table: DataFrame) -> list[Estimate]:
    """Of every row the share of positions that are certified, over positions."""
    return [statistics.proportion(round(share * points), int(points))
            for share, points in zip(table["certified"], table["certificate_points"], strict=True)]  # fmt: skip


def level(table: DataFrame) -> float:
    """The share of certified positions, mean over expansions."""
    return float(expansions(table)["certified"].to_numpy().mean())


def relative_margin(table: DataFrame) -> float:
    """The median margin over positions as a share of the largest input's length, mean over expansions."""
    mine = expansions(table)
    return float((mine["margin_median"] / mine["data_radius"]).mean())


def change(table: DataFrame, measure: Callable[[DataFrame], float]) -> float:
    """What a training adds to a number of all expansions, from its first moment to its last."""
    first, last = (measure(pick(table, images=images)) for images in (table["images"].min(), table["images"].max()))
    return last - first


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean over seeds, by Student's interval; equal values, such as shares of 1, decide nothing."""
    return contrasts.contrast([(values, 1.0)]).estimate


def claims(table: DataFrame) -> list[ClaimResult]:
    """What is certified, what training does to it, from the end and along the way."""
    table = expansions(table)
    found = [certified(pick(table, network=kind), kind) for kind in STYLES if kind in set(table["network"])]
    trained, untrained = pick(table, network=TRAINED), pick(table, network=SETTLED)
    if len(trained) and len(untrained):
        gaps = [level(trained) - level(mine) for _, mine in untrained.groupby("seed")]
        gap = over_seeds(gaps)
        found.append(claim("trained_above_untrained", "the trained network keeps more positions than untrained ones",
                           "share of certified positions, mean over expansions, trained − untrained, over seeds", gap,
                           gap.exceeds(0), needed=deciding.seeds(gaps, 0, "seeds")))  # fmt: skip
    along = pick(table, network=TRAINING)
    return [*found, *towards(along)] if len(along) else found


claim = functools.partial(estimated_claim, place="Section 3.2 (ours)")
"""A claim of this study."""


def certified(table: DataFrame, kind: str) -> ClaimResult:
    """In how many expansions most positions are certified; of untrained networks all are counted together."""
    each = shares(table)
    judged = [one.exceeds(MOST) for one in each]
    surely, never = judged.count(True), judged.count(False)
    count = Estimate(float(sum(one.value > MOST for one in each)), float(surely), float(len(each) - never), len(each))
    holds = False if never else True if surely == len(each) else None
    says = f"{STYLES[kind][2]}: every expansion keeps more than {MOST:.0%} of its positions"
    return claim(f"expansions_certified/{kind}", says, f"of {len(each)} expansions, those with so many certified",
                 count, holds)  # fmt: skip


ALONG: dict[str, tuple[str, str, Callable[[DataFrame], float]]] = {
    "training_moves_towards": (
        "training moves expansions towards injectivity on the data", "share of certified positions", level),
    "training_widens_margin": (
        "training moves what flows through expansions away from where they stop being injective (exploratory)",
        "median margin as a share of the largest input", relative_margin),
}  # fmt: skip
"""By a claim's name: its sentence, and what of the expansions is measured at both ends of a training."""


def towards(table: DataFrame) -> list[ClaimResult]:
    """What training does to the expansions: last less first, over seeds."""
    on = f"mean over expansions, end − step 0, {table['data'].iloc[0]}, over seeds"
    found = []
    for name, (says, what, measure) in ALONG.items():
        changes = [change(mine, measure) for _, mine in table.groupby("seed")]
        changed = over_seeds(changes)
        found.append(claim(name, says, f"{what}, {on}", changed, changed.exceeds(0),
                           needed=deciding.seeds(changes, 0, "seeds")))  # fmt: skip
    return found


def over_depth(ax: Axes, table: DataFrame, name: str) -> None:
    """A number of every expansion over depth; untrained networks as mean with interval over seeds."""
    for kind, (colour, mark, label) in STYLES.items():
        mine = expansions(pick(table, network=kind)).groupby("layer", sort=False)
        found = [number_of(layer, name) for _, layer in mine]
        plots.draw_intervals(ax, np.arange(len(found)), found, fmt=f"{mark}-", color=colour, ms=2.5, lw=0.7,
                             elinewidth=0.6, label=label)  # fmt: skip
    ax.set(xlabel="expansion, in order")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def number_of(table: DataFrame, name: str) -> Estimate:
    """A number of one layer: over seeds where there are several; else over positions, if it is a share of them."""
    values = table[name].tolist()
    if len(values) > 1:
        return over_seeds(values)
    return shares(table)[0] if name == "certified" else Estimate(values[0], np.nan, np.nan, 1)


def over_training(ax: Axes, table: DataFrame) -> None:
    """How far positions can move, along each training."""
    mine = pick(table, network=TRAINING)
    for _, own in mine.groupby("seed"):
        found = {images / 1000: relative_margin(rows) for images, rows in own.groupby("images")}
        ax.plot([*found], [*found.values()], ".-", color=plots.MEASURED, ms=3, lw=0.7)
    ax.set(
        xlabel=f"thousands of images seen, {plots.data_name(mine['data'].iloc[0])}",
        ylabel="median margin / largest input",
    )
    ax.set_ylim(bottom=0)


def least_certified(table: DataFrame) -> str:
    """The smallest share of certified positions that any expansion has at any moment of a training."""
    return f"{expansions(pick(table, network=TRAINING))['certified'].min():.0%}"


HEADLINE = Headline(
    "trained_above_untrained", "A trained network keeps more positions than an untrained one, provably",
    "A trained network keeps fewer positions than an untrained one",
    "Whether training keeps more positions is undecided",
)  # fmt: skip


def draw(figure: Figure, table: DataFrame) -> str:
    """Certified positions and margins over depth, and certified positions over training."""
    trained = TRAINING in set(table["network"])
    left, middle, *right = figure.subplots(1, 2 + trained)
    over_depth(left, table, "certified")
    left.set(ylabel="share of positions certified", ylim=(-0.03, 1.03))
    left.legend(frameon=False, loc="best")
    over_depth(middle, table, "margin_median")
    middle.axhline(0, color="0.6", lw=0.6)
    middle.set_ylabel("margin, median over positions")
    for ax in right:
        over_training(ax, table)
    names = ("certified on the data", "how far a position can move", *(["the same along trainings"] if right else []))
    plots.letter((left, middle, *right), names)
    along = f"along trainings: {statistics.NOT_RUN}"
    if right:
        along = (
            f"(c): mean over expansions, a line a seed; least share certified at any moment: {least_certified(table)}"
        )
    return (f"{IMAGES} images; positions of expansions; bars: exact {statistics.PERCENT} intervals over positions, "
            f"of untrained networks Student's over seeds; {along}.")  # fmt: skip


FIGURE = captioned_figure(draw, claims, HEADLINE, 2.9)
STUDY = Study(name="ext_certificates", card=__doc__, on_images=on_images, rows=rows, claims=claims, figure=FIGURE)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
