"""Lesions of a trained network: which of its nonlinearities and shortcuts does it need, with no retraining?

Paper    Sandler et al. 2018, arXiv:1801.04381: sections 3.2, 3.3 and Figure 6 ask what training with a switch gives
Claims   footnote 3: a shortcut softens what ReLU costs. Beyond the paper: ReLU6 put behind a bottleneck, a shortcut
         taken away, an expansion's ReLU6 made linear
Run      python -m experiments.ext_lesions --pictures imagenet_samples.npz --weights mobilenet_v2-b0353104.pth
Differs  a lesion changes weights that were trained without it. It tells what the trained function leans on; it cannot
         tell what training with the switch would give, since the other layers would have adapted. A place where the
         lesion costs nothing is evidence that nothing there needs the part; the reverse does not hold
"""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rich.progress import track
from scipy.stats import false_discovery_control, mannwhitneyu

from manifold_lab.core import statistics
from manifold_lab.core.cli import destination, run_cli
from manifold_lab.core.errors import InputError, at_least
from manifold_lab.core.files import check_folder, publish
from manifold_lab.core.random_streams import stream
from manifold_lab.data import image_files
from manifold_lab.data.image_files import Pictures
from manifold_lab.models import lesions, weights
from manifold_lab.models.fold import folded
from manifold_lab.models.lesions import Lesion
from manifold_lab.models.mobilenet import Network, build
from manifold_lab.models.specs import CIFAR, V2
from manifold_lab.report import plots, tables
from manifold_lab.report.plots import column, pick
from manifold_lab.report.tables import ClaimResult, number

STEM = "ext_lesions"
COMMAND = "python -m experiments.ext_lesions"
SMALL = dataclasses.replace(CIFAR, width=0.35)
TOPS = (1, 5)
FALSE = 0.05
"""Rate of false discoveries (Benjamini and Hochberg 1995) at which a lesion is called a loss or a gain."""
WORDS = {
    "intact": "intact",
    "relu6_bottleneck": "ReLU6 behind the bottleneck",
    "no_shortcut": "no shortcut",
    "linear_expansion": "linear expansion",
}
HEAD = {
    "words": "lesion", "place": "block", "top1": "top-1, %", "top1_interval": "95 % interval", "top5": "top-5, %",
    "difference": "change of top-1", "difference_interval": "95 % interval", "lost": "lost", "gained": "gained",
    "p_text": "McNemar's p", "verdict": "",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Lesions of the published MobileNetV2 on labelled pictures, paired picture by picture."""

    pictures: Path | None = None
    """Labelled pictures: an .npz of jpeg, offsets and labels; needed but for --smoke."""
    weights: Path | None = None
    """A checkpoint of MobileNetV2 1.0; without one the published weights are fetched by name."""
    batch: int = 20
    """Pictures at a time."""
    smoke: bool = False
    """A small network of random weights on random pictures, to see that it runs."""
    out: Path | None = None
    """Folder for the csv files, the table and the figure; by default figures, with --smoke out."""


def subject(options: Run) -> tuple[Network, Pictures]:
    """The network and the pictures.

    Raises:
        InputError: if no pictures are named, or a file cannot be used.
    """
    if options.smoke:
        rng, count = stream(0, "smoke"), 40
        x = torch.randint(0, 256, (count, 3, SMALL.resolution, SMALL.resolution), generator=rng, dtype=torch.uint8)
        labels = torch.randint(0, SMALL.num_classes, (count,), generator=rng)
        return folded(build(SMALL, stream(0, "weights")).eval()), Pictures(x, labels)
    if options.pictures is None:
        raise InputError("pictures: none given; name an .npz of jpeg, offsets and labels with --pictures, or --smoke")
    found = image_files.load_images(options.pictures)
    if options.weights is not None:
        return folded(weights.load_weights(V2, options.weights)), found
    return folded(weights.fetch_weights(V2, "mobilenet_v2")), found


def hits(network: Network, shown: Pictures, cuts: list[Lesion], batch: int) -> np.ndarray:
    """Whether the label is among the first 1 and 5: bool, (intact and lesions) x 2 x pictures."""
    twins = [lesions.lesioned(network, cut) for cut in cuts]
    found = []
    for start in track(range(0, len(shown), batch), "pictures"):
        x = image_files.normalised(shown.x[start : start + batch], image_files.IMAGENET)
        labels = shown.labels[start : start + batch, None]
        best = [scores.topk(max(TOPS)).indices == labels for scores in lesions.logits(network, x, twins)]
        found.append(torch.stack([torch.stack([one[:, :top].any(1) for top in TOPS]) for one in best]))
    return torch.cat(found, dim=2).numpy()


def line(cut: Lesion, right: np.ndarray, intact: np.ndarray, q_value: float) -> dict[str, str]:
    """One row: shares with their intervals, and the paired change of top-1."""
    n, row = right.shape[1], {"kind": cut.kind, "block": str(cut.blocks[0]) if len(cut.blocks) == 1 else ""}
    row["blocks"] = str(len(cut.blocks))
    for top, mine in zip(TOPS, right, strict=True):
        share = statistics.proportion(int(mine.sum()), n)
        ends = {"": share.value, "_low": share.low, "_high": share.high}
        row |= {f"top{top}{end}": number(value) for end, value in ends.items()}
    change = statistics.paired_proportion(intact[0], right[0])
    row |= {f"difference{end}": number(value) for end, value in zip(("", "_low", "_high"), _ends(change), strict=True)}
    counts = {"lost": change.lost, "gained": change.gained, "n": n}
    return row | {key: str(count) for key, count in counts.items()} | {"p_value": number(change.p_value),
                                                                      "q_value": number(q_value)}  # fmt: skip


def _ends(change: statistics.PairedProportion) -> tuple[float, float, float]:
    return change.difference.value, change.difference.low, change.difference.high


def rows(network: Network, shown: Pictures, batch: int) -> list[dict[str, str]]:
    """The intact network and every lesion."""
    cuts = lesions.every(network)
    found = hits(network, shown, cuts, batch)
    p_values = [statistics.paired_proportion(found[0, 0], right[0]).p_value for right in found[1:]]
    q_values = false_discovery_control(p_values)
    intact = line(Lesion("intact", ()), found[0], found[0], 1.0) | {"p_value": "", "q_value": ""}
    lines = [line(cut, right, found[0], q) for cut, right, q in zip(cuts, found[1:], q_values, strict=True)]
    return [intact, *lines]


def called(line: dict[str, str]) -> str:
    """A loss, a gain, or nothing that these pictures can tell."""
    if not line["q_value"] or float(line["q_value"]) >= FALSE:
        return ""
    return "loss" if float(line["difference"]) < 0 else "gain"


def shown_line(line: dict[str, str]) -> dict[str, str]:
    """A row as a reader wants it."""
    share = {name: f"{100 * float(line[name]):.1f}" for name in ("top1", "top5")}
    ends = {name: [f"{100 * float(line[f'{name}_{end}']):.1f}" for end in ("low", "high")] for name in
            ("top1", "difference")}  # fmt: skip
    place = "" if line["kind"] == "intact" else line["block"] or f"all {line['blocks']}"
    return share | {
        "words": WORDS[line["kind"]],
        "place": place,
        "top1_interval": " to ".join(ends["top1"]),
        "difference": f"{100 * float(line['difference']):+.1f}" if place else "",
        "difference_interval": " to ".join(ends["difference"]) if place else "",
        "lost": line["lost"] if place else "",
        "gained": line["gained"] if place else "",
        "p_text": f"{float(line['p_value']):.2g}" if place else "",
        "verdict": called(line),
    }


def caption(lines: tables.Lines) -> str:
    """What the table shows, and on what."""
    return (
        f"Post-hoc lesions of a trained MobileNetV2 1.0 on {lines[0]['n']} ImageNet pictures, which are probably "
        "training pictures: read the changes, not the level. Exact binomial intervals; changes of top-1 are paired "
        f"by picture, called where the rate of false discoveries over all lesions is below {FALSE}. Nothing retrained."
    )


def joined(lines: tables.Lines) -> set[str]:
    """The blocks that have a shortcut: those where it could be taken away."""
    return {line["block"] for line in pick(lines, kind="no_shortcut") if line["block"]}


def draw_top(ax: Axes, lines: tables.Lines, top: int) -> None:
    """Accuracy against the lesion's block, one series per kind; all blocks together to the right."""
    intact = lines[0]
    low, high = (100 * float(intact[f"top{top}_{end}"]) for end in ("low", "high"))
    ax.axhspan(low, high, color="0.9", zorder=0)
    ax.axhline(100 * float(intact[f"top{top}"]), color="0.5", lw=0.6, zorder=1, label="intact")
    last = max(int(line["block"]) for line in lines if line["block"])
    for shift, (kind, (colour, mark)) in zip((-0.2, 0.0, 0.2), plots.LESION_STYLES.items(), strict=True):
        mine = pick(lines, kind=kind)
        x = np.array([float(line["block"] or last + 2.5) for line in mine]) + shift
        value, low_end, high_end = (100 * column(mine, f"top{top}{end}") for end in ("", "_low", "_high"))
        ends = np.stack([value - low_end, high_end - value]).clip(0)
        ax.errorbar(x, value, ends, fmt=mark, color=colour, ms=3, elinewidth=0.7, label=WORDS[kind], zorder=3)
        ax.plot(x[:-1], value[:-1], color=colour, lw=0.5, alpha=0.6, zorder=2)
    for place in map(int, joined(lines)):
        ax.axvspan(place - 0.5, place + 0.5, color="#0072B2", alpha=0.07, lw=0, zorder=0)
    ax.axvline(last + 1.5, color="0.7", lw=0.5, ls=":")
    ticks = range(0, last + 1, 4)
    ax.set_xticks([*ticks, last + 2.5], [*map(str, ticks), "all"])
    ax.set(xlabel="block of the lesion", ylabel=f"top-{top}, %", ylim=(-3, 103))


def draw(lines: tables.Lines) -> Figure:
    """Top-1 and top-5."""
    with plots.style("cvpr2024"):
        figure = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 2.5), layout="constrained")
        axes = figure.subplots(1, len(TOPS), sharey=True)
        for ax, top in zip(axes, TOPS, strict=True):
            draw_top(ax, lines, top)
        handles, labels = axes[0].get_legend_handles_labels()
        handles.append(Patch(color="#0072B2", alpha=0.1, lw=0))
        labels.append("block with a shortcut")
        figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)
        return plots.fixed_layout(figure)


def claims(lines: tables.Lines) -> list[ClaimResult]:
    """What each kind of lesion costs, one place at a time and in all of them; the paper claims none of it."""
    found = []
    for kind, words in list(WORDS.items())[1:]:
        mine = pick(lines, kind=kind)
        single, together = [line for line in mine if line["block"]], mine[-1]
        losses = sum(called(line) == "loss" for line in single)
        says = f"{words}, one block at a time: each costs top-1"
        measure = f"blocks of {len(single)} with a loss"
        found.append(_claim(says, measure, statistics.counted(losses), losses == len(single)))
        change, low, high = (100 * float(together[f"difference{end}"]) for end in ("", "_low", "_high"))
        found.append(_claim(f"{words}, in all blocks: costs top-1", "change of top-1, points",
                            statistics.Estimate(change, low, high, int(together["n"])), high < 0))  # fmt: skip
    return [softened(lines), *found]


def softened(lines: tables.Lines) -> ClaimResult:
    """Whether ReLU6 costs less in blocks with a shortcut, by the exact test of Mann and Whitney (1947) over blocks."""
    single, there = [line for line in pick(lines, kind="relu6_bottleneck") if line["block"]], joined(lines)
    within = [float(line["difference"]) for line in single if line["block"] in there]
    without = [float(line["difference"]) for line in single if line["block"] not in there]
    better = sum(a > b for a in within for b in without)
    p_value = float(mannwhitneyu(within, without, alternative="greater").pvalue)
    says = "ReLU6 in a bottleneck of this network costs less where a shortcut goes around it: where no size changes"
    measure = f"of {len(within) * len(without)} pairs of a block with and one without, those where it does"
    return ClaimResult(
        "Footnote 3 (ours)", says, measure, statistics.counted(better), statistics.verdict(p_value < FALSE), COMMAND
    )


def _claim(says: str, measure: str, estimate: statistics.Estimate, holds: bool) -> ClaimResult:
    return ClaimResult("Lesions (ours)", says, measure, estimate, statistics.verdict(holds), COMMAND)


def run(options: Run) -> None:
    """Measure, judge, publish."""
    out = destination(options.out, options.smoke)
    check_folder(out)
    at_least("batch", options.batch, 1)
    network, found = subject(options)
    lines = rows(network, found, options.batch)
    figure = draw(lines)
    documents = tables.documents(STEM, caption(lines), HEAD, lines, [shown_line(line) for line in lines])
    publish(
        out,
        documents | tables.claims_file(STEM, claims(lines)) | plots.figure_files(figure, STEM),
    )


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, f"experiments.{STEM}"))
