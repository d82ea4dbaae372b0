"""From a trained network's activations back to the image: what its bottlenecks keep, seen.

Paper    Sandler et al. 2018, arXiv:1801.04381, section 3.2; the search: Mahendran and Vedaldi 2015, arXiv:1412.0035
Claims   ReLU6 destroys information that a linear bottleneck keeps. Measured: how much of an image comes back from the
         output of each block, exactly where the layers between are injective on it, else by a search
Run      python -m experiments.ext_inversion run
Differs  a layer is undone by least squares on its active outputs, in float64; a block with a shortcut, and a depthwise
         convolution with an inactive output, have no such inverse. The search (L-BFGS, smooth first) starts at the mean
         colour. It may fail: that is no loss. What is lost is shown by another image, by 5 % of its variance, with the
         same output, to 1 %, from the search or from a control that starts near the image. A search that finds the
         image shows that it can be found, not that no other has its output. Networks of the cause experiment of which
         weights are kept: seeds 5 and 6 of linear and relu6, 0 and 1 of the others, trained first where they are
         missing; half_gain is linear, with half of the channels times .1, renormed is ReLU6 and a norm behind it. Of
         the digits five networks an arm, trained for this. Images are of the test set; those of the digits are shown.
         Exploratory: the measure that compares arms, what counts as another image, steps and images were settled after
         first numbers had been seen. `--smoke` runs the digits
"""

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import ext_inversion as drawing
from experiments.ext_cause import ARMS, RATE, WIDTH
from manifold_lab.core import contrasts, statistics
from manifold_lab.probe.inversion import DIFFERENT, EXACT, FOUND, KEPT, LOST, MATCHED, NOT_DECIDED
from manifold_lab.report import deciding, plots
from manifold_lab.report.tables import ClaimResult, DataFrame, Estimate, estimated_claim, pick
from manifold_lab.sweeps import ablation
from manifold_lab.sweeps.comparison import FEWEST, above_zero
from manifold_lab.sweeps.inversion_run import IMAGES, NEAR, STEM, InversionRun, measure, rows
from manifold_lab.sweeps.study import MAIN, Caption, Headline, Published, Study, captioned_figure

PLACE = "Section 3.2 (ours)"
CIFAR, DIGITS = "cifar10", "digits"
PAIRS = (("linear", "relu6"), ("half_gain", "renormed"))
"""Arms without and with ReLU6 in the bottleneck, which are compared."""
SEEDS = {"linear": (5, 6), "relu6": (5, 6), "half_gain": (0, 1), "renormed": (0, 1), "leaky_0.1": (0, 1)}
"""Of the networks of the cause experiment whose weights are kept."""
CIFAR_PLACES, DIGITS_PLACES = (STEM, 0, 1, 3, 6), (STEM, 0, 2, 4)
"""Blocks whose outputs are gone back from; what two images have in common there they have behind it too."""
DIGITS_SEEDS = range(10, 15)
MOST = 0.5


def grid(smoke: bool) -> tuple[InversionRun, ...]:
    """Of the digits both arms; of CIFAR-10 every network whose weights are kept."""
    if smoke:
        return tuple(digits_runs(range(2), images=640, shown=2, steps=10))
    base = ablation.cifar_setting(WIDTH).of_length(ablation.SHORT_IMAGES, learning_rate=RATE)
    kept = [
        run for arm, seeds in SEEDS.items() for run in ablation.paired_runs({arm: ARMS[arm]}, f"{RATE:g}", base, seeds)
    ]
    return (*digits_runs(DIGITS_SEEDS, images=20_000), *(InversionRun(one, CIFAR_PLACES, kept=0) for one in kept))


def digits_runs(seeds: Iterable[int], images: int, shown: int = 8, steps: int = 100) -> list[InversionRun]:
    """The linear arm and the one with ReLU6."""
    base = ablation.digits_setting().of_length(images)
    trained = ablation.paired_runs({arm: ARMS[arm] for arm in PAIRS[0]}, f"{RATE:g}", base, seeds)
    return [InversionRun(one, DIGITS_PLACES, shown, steps) for one in trained]


def claims(published: Published) -> list[ClaimResult]:
    """What is exact, whether the bottlenecks keep the image, whether ReLU6 loses more, and whether all is decided."""
    table = published[MAIN]
    sets = [(data, mine) for data, mine in table.groupby("data", sort=False)]
    found = [
        one for data, mine in sets for one in (exact_at_stem(mine, data), *keeping(mine, data), decided(mine, data))
    ]
    return found + [loses_more(mine, data, pair) for data, mine in sets for pair in compared(mine)]


def compared(table: DataFrame) -> list[tuple[str, str]]:
    """Pairs of arms on one data set: the plain pair always, the other where it was run."""
    return [pair for pair in PAIRS if pair == PAIRS[0] or table["arm"].isin(pair).any()]


claim = functools.partial(estimated_claim, place=PLACE)
"""A claim of this study."""


def shares_of_images(table: DataFrame, surely: Iterable[str], never: Iterable[str]) -> tuple[Estimate, Estimate]:
    """The share of images that surely are so in all of their networks, and of those that may be: some are undecided."""
    images = table["status"].groupby(table["image"])
    yes = images.agg(lambda status: status.isin(surely).all()).sum()
    no = images.agg(lambda status: status.isin(never).any()).sum()
    return statistics.proportion(int(yes), len(images)), statistics.proportion(len(images) - int(no), len(images))


def most_are_so(name: str, says: str, measure: str, low: Estimate, high: Estimate) -> ClaimResult:
    """Whether most images are so: the low end counts as not so what is not decided, the high end as so."""
    share = Estimate(low.value, low.low, high.high, low.n)
    return claim(name, says, measure, share, share.exceeds(MOST), needed=more_images(low.value, high.value))


def more_images(low: float, high: float) -> str:
    """How many images would decide whether most are so; where it hangs on images that are not decided, a search."""
    if low > MOST or high < MOST or low == high:
        return deciding.in_words(contrasts.trials_to_decide(high if high < MOST else low, MOST), "images")
    return "a search that decides more images"


def exact_at_stem(table: DataFrame, data: str) -> ClaimResult:
    """Whether the active outputs of the first convolution determine the image."""
    mine = pick(table, block=STEM)
    return most_are_so(f"exact_at_stem/{data}",
                       "least squares on the stem's active outputs gives the image back exactly",
                       f"share of test images, {plots.data_name(data)}, exact in all {networks(mine)} networks",
                       *shares_of_images(mine, (EXACT,), (FOUND, LOST, NOT_DECIDED)))  # fmt: skip


def networks(table: DataFrame) -> int:
    """How many networks rows are of."""
    return len(table[["arm", "seed"]].drop_duplicates())


def keeping(table: DataFrame, data: str) -> list[ClaimResult]:
    """Whether an arm's bottlenecks keep most images, block by block, for these networks."""
    behind = table[table["block"] != STEM]
    return [kept(mine, data) for _, mine in behind.groupby(["arm", "block"], sort=False)]


def kept(table: DataFrame, data: str) -> ClaimResult:
    """Whether the output of one block keeps most images in every network of one arm."""
    arm, block = table[["arm", "block"]].iloc[0]
    says = f"{arm}: most images can be had back from the output of block {block}, for these networks"
    measure = f"share of test images, {plots.data_name(data)}, in all {networks(table)} networks"
    shares = shares_of_images(table, (EXACT, FOUND), (LOST,))
    return most_are_so(f"kept/{data}/{arm}/{block}", says, measure, *shares)


def decided(table: DataFrame, data: str) -> ClaimResult:
    """Whether search and control together tell what became of an image, over images."""
    shares = table["status"].isin((EXACT, FOUND, LOST)).groupby(table["image"]).mean().to_numpy()
    found = statistics.bounded_means(shares[None], np.random.default_rng(0))[0]
    return claim(f"decided/{data}", "whether an image is kept is decided at most places, a failed search or not",
                 f"share of networks and places, {plots.data_name(data)}, over images", found, found.exceeds(MOST),
                 needed=deciding.replicates(found, MOST, "images"))  # fmt: skip


def levels(table: DataFrame) -> list[float]:
    """Of each network the share of the controls' noise that stays, at most 1, mean over bottlenecks and images."""
    behind = table[table["block"] != STEM]
    return (behind["control_error"] / NEAR).clip(upper=1).groupby(behind["seed"]).mean().tolist()


def loses_more(table: DataFrame, data: str, pair: tuple[str, str]) -> ClaimResult:
    """Whether less comes back from the arm with ReLU6, by Welch's interval over networks; by the controls alone.

    A search from afar can fail where nothing is lost, and more often in one arm than in the other.
    """
    plain, rectified = (levels(pick(table, arm=arm)) for arm in pair)
    says = f"less of the image comes back from {pair[1]} than from {pair[0]}"
    measure = (
        f"share of noise near the image that a search cannot undo, {plots.data_name(data)}, mean over bottlenecks, "
        f"{pair[1]} − {pair[0]}, over networks"
    )
    groups = [(rectified, 1.0), (plain, -1.0)]
    found = above_zero(f"relu6_loses_more/{data}/{pair[1]}", says, measure, groups, place=PLACE)
    few = min(len(plain), len(rectified)) < FEWEST and found.needed  # the spread of so few tells too little
    return dataclasses.replace(found, needed=f"{FEWEST} networks an arm or more") if few else found


HEADLINE = Headline(
    f"relu6_loses_more/{DIGITS}/relu6",
    "On the digits less of an image comes back from bottlenecks with ReLU6 (exploratory)",
    "On the digits no less of an image comes back from bottlenecks with ReLU6 (exploratory)",
    "Whether less of an image of a digit comes back from bottlenecks with ReLU6 is undecided",
)  # fmt: skip


def draw(figure: Figure, published: Published) -> Caption:
    """Images beside each other above; error over depth below."""
    table = published[MAIN]
    sets = [name for name in (CIFAR, DIGITS) if name in set(table["data"])]
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.15, 1))[:, 0]
    drawing.draw_images(above, pick(published[IMAGES], data=DIGITS), PAIRS[0])
    axes = below.subplots(1, len(sets), squeeze=False)[0]
    for ax, name in zip(axes, sets, strict=True):
        drawing.over_depth(ax, pick(table, data=name))
    plots.letter(axes, [f"{plots.data_name(name)}, what does not come back" for name in sets])
    many = ", ".join(f"{pick(table, data=name)['image'].nunique()} of {plots.data_name(name)}" for name in sets)
    note = (
        f"Test images, {many}. Symbols: networks, geometric means over images, filled where every image is exact; "
        f"lines: their mean; bars: its {statistics.PERCENT} interval, of {drawing.FEWEST_FOR_BARS} networks or more. "
        "Dashed: controls, which start at the dotted line near the image. Outputs count as the same to "
        f"{MATCHED:.0%}, images to {KEPT:.0%} of variance, and as different from {DIFFERENT:.0%} on. Under the blocks: "
        "how many numbers they give."
    )
    return note, drawing.frame_legend()


STUDY = Study(
    name="ext_inversion",
    card=__doc__,
    grid=grid,
    measure=measure,
    rows=rows,
    parts=(MAIN, IMAGES),
    claims=claims,
    figure=captioned_figure(draw, claims, HEADLINE, 5.4),
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
