"""Lesions of a trained network: which of its nonlinearities and shortcuts does it need, with no retraining?

Paper    Sandler et al. 2018, arXiv:1801.04381: sections 3.2, 3.3 and Figure 6 ask what training with a switch gives
Claims   footnote 3: a shortcut softens what ReLU costs. Beyond the paper: ReLU6 put behind a bottleneck, a shortcut
         taken away, an expansion's ReLU6 made linear; and how much of its cost one fixed map behind it brings back
Run      python -m experiments.ext_lesions run --images imagenet_samples.npz --weights mobilenet_v2-b0353104.pth
Differs  a lesion changes weights that were trained without it. It tells what the trained function leans on; it cannot
         tell what training with the switch would give, since the other layers would have adapted. A part of the cost
         is a shift, which is no lost information: so each lesion is also measured with one map of channels behind it,
         fitted on the other half of the images (the channels' means; scales and shifts; any affine map). What a map
         brings back was not lost; what the affine map does not bring back is not thereby lost. A place where the lesion
         costs nothing is evidence that nothing there needs the part; the reverse does not hold.
         The blocks of a network are all there are of it, no sample: claims hold or fail for this checkpoint, and their
         intervals are over images. A mean over blocks has at most the mean of their half-widths
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.core import statistics
from manifold_lab.core.shown import DataFrame, frame
from manifold_lab.core.statistics import Estimate
from manifold_lab.models import repair
from manifold_lab.report import plots
from manifold_lab.report.arm_styles import LESION_STYLES
from manifold_lab.report.tables import ClaimResult, Document, Record, estimate_in, estimated_claim, pick, unique
from manifold_lab.sweeps.lesion_run import EACH, RESTORED, TOPS, LesionRun, measure
from manifold_lab.sweeps.probe_run import ProbeSource
from manifold_lab.sweeps.runner import Measure
from manifold_lab.sweeps.study import Caption, Headline, Study, captioned_figure, tables_of

IMAGES, SMOKE_IMAGES = 1000, 40
FALSE = 0.05
"""Rate of false discoveries (Benjamini and Hochberg 1995) at which a lesion is called a loss or a gain."""
WORDS = {
    "intact": "intact",
    "relu6_bottleneck": "ReLU6 behind the bottleneck",
    "no_shortcut": "no shortcut",
    "linear_expansion": "linear expansion",
}
MOST = 0.5
HEAD = {
    "words": "lesion", "place": "block", "top1": "top-1, %", "top1_interval": "95 % interval", "top5": "top-5, %",
    "difference": "change of top-1", "difference_interval": "95 % interval", "lost": "lost", "gained": "gained",
    "p_text": "McNemar's p", "verdict": "", "repaired": "change with an affine map behind it",
}  # fmt: skip


def on_images(source: ProbeSource) -> tuple[tuple[LesionRun, ...], Measure]:
    """The one run on these images, and what measures it."""
    spec, count = source.sized(IMAGES, SMOKE_IMAGES)
    return (LesionRun(spec, source.digest, count, repair.MAPS),), functools.partial(measure, source=source)


def unrepaired(lines: DataFrame) -> DataFrame:
    """The intact network and the lesions with nothing behind them."""
    return pick(lines, repair="")


def called(row: Record) -> str:
    """A loss, a gain, or undecided; nothing for the intact network."""
    if np.isnan(row["q_value"]):
        return ""
    if row["q_value"] >= FALSE:
        return statistics.UNDECIDED
    return "loss" if row["difference"] < 0 else "gain"


def shown_row(row: Record) -> dict[str, Any]:
    """A row as a reader wants it."""
    top1, change = in_percent(row, "top1"), in_percent(row, "difference")
    place = "" if row["kind"] == "intact" else row["block"] or f"all {row['blocks']:.0f}"
    return {
        "words": WORDS[row["kind"]],
        "place": place,
        "top1": f"{top1.value:.1f}",
        "top1_interval": f"{top1.low:.1f} to {top1.high:.1f}",
        "top5": f"{100 * row['top5']:.1f}",
        "difference": f"{change.value:+.1f}" if place else "",
        "difference_interval": f"{change.low:.1f} to {change.high:.1f}" if place else "",
        "lost": row["lost"] if place else "",
        "gained": row["gained"] if place else "",
        "p_text": f"{row['p_value']:.2g}" if place else "",
        "verdict": called(row),
    }


def caption(lines: DataFrame) -> str:
    """What the table shows, and on what."""
    return (
        f"Post-hoc lesions of a trained MobileNetV2 1.0 on {lines['n'].iloc[0]} ImageNet images, which are probably "
        "training images: read the changes, not the level. Exact binomial intervals; changes of top-1 are paired "
        f"by image, called where the rate of false discoveries over all lesions is below {FALSE}. Nothing retrained."
    )


def joined(lines: DataFrame) -> set[str]:
    """The blocks that have a shortcut: those where it could be taken away."""
    return set(pick(lines, kind="no_shortcut")["block"]) - {""}


HEADLINE = Headline(
    "shortcut_softens_relu6", "ReLU6 behind a bottleneck costs less where a shortcut goes around it",
    "ReLU6 behind a bottleneck does not cost less where a shortcut goes around it",
    "Whether ReLU6 costs less where a shortcut goes around it is undecided",
)  # fmt: skip


def draw_top(ax: Axes, lines: DataFrame, top: int) -> None:
    """Accuracy against the lesion's block, one series per kind; all blocks together to the right."""
    intact = in_percent(lines.to_dict("records")[0], f"top{top}")
    ax.axhspan(intact.low, intact.high, color="0.85", lw=0, zorder=0, label=f"intact, {statistics.PERCENT} interval")
    ax.axhline(intact.value, color="0.4", lw=0.6, zorder=1, label="intact")
    last = max(int(block) for block in lines["block"] if block)
    for shift, (kind, (colour, mark)) in zip((-0.25, 0.0, 0.25), LESION_STYLES.items(), strict=True):
        mine = pick(lines, kind=kind)
        x = np.array([float(block) + shift if block else last + 2.5 + 2 * shift for block in mine["block"]])
        found = [in_percent(row, f"top{top}") for row in mine.to_dict("records")]
        plots.draw_intervals(ax, x, found, fmt=mark, color=colour, ms=3, elinewidth=0.7, label=WORDS[kind],
                             zorder=3)  # fmt: skip
    for at, place in enumerate(sorted(map(int, joined(lines)))):
        label = None if at else "block with a shortcut"
        ax.axvspan(place - 0.5, place + 0.5, color=plots.MEASURED, alpha=0.09, lw=0, zorder=0, label=label)
    ax.axvline(last + 1.5, color="0.7", lw=0.5, ls=":")
    ticks = range(0, last + 1, 4)
    ax.set_xticks([*ticks, last + 2.5], [*map(str, ticks), "all"])
    ax.set(xlabel="block of the lesion", ylabel=f"top-{top} accuracy, %", ylim=(-3, 103))


def draw(figure: Figure, lines: DataFrame) -> Caption:
    """Top-1 and top-5."""
    lines = unrepaired(lines)
    axes = figure.subplots(1, len(TOPS), sharey=True)
    for ax, top in zip(axes, TOPS, strict=True):
        draw_top(ax, lines, top)
    plots.letter(axes, ("label is the first", "label is among the first five"))
    note = (
        f"torchvision's weights of MobileNetV2 1.0, nothing retrained; {lines['n'].iloc[0]:,} ImageNet images, "
        f"probably training images: read the changes. Bars: exact {statistics.PERCENT} intervals over images."
    )
    return note, plots.handles_of(axes[:1]), 6


def claims(lines: DataFrame) -> list[ClaimResult]:
    """What each kind of lesion costs, one place at a time and in all of them; the paper claims none of it."""
    plain = unrepaired(lines)
    found = [softened(plain)] if joined(plain) else []
    for kind in [kind for kind in list(WORDS)[1:] if kind in set(plain["kind"])]:
        *single, together = pick(plain, kind=kind).to_dict("records")
        found += [one_by_one(kind, single), everywhere(kind, together)]
        found += [comes_back(lines, kind, block) for block in (EACH, "")]
    return found


def comes_back(lines: DataFrame, kind: str, block: str) -> ClaimResult:
    """Whether an affine map behind the lesion brings back most of what it costs, over images."""
    mine = pick(lines, kind=kind, repair=repair.AFFINE, block=block)
    share = shares(mine.iloc[0]) if len(mine) else statistics.NO_RUNS
    where, name = ("one block at a time", EACH) if block else ("in all blocks", "all")
    says = f"{WORDS[kind]}, {where}: a fixed affine map behind it brings back more than half of what it costs"
    measure = "share of the lost top-1 that comes back, map fitted on other images"
    return claim(f"comes_back/{kind}/{name}", says, measure, share, share.exceeds(MOST))


def shares(row: Record) -> Estimate:
    """The share of a lesion's cost that a map brings back; nan where it costs nothing."""
    return estimate_in(row, *RESTORED)


def claim(name: str, says: str, measure: str, found: Estimate, holds: bool | None, **more: Any) -> ClaimResult:
    """A claim of this study."""
    more = {"place": "Lesions (ours)"} | more
    return estimated_claim(name, f"{says}, for this checkpoint", measure, found, holds, **more)


def one_by_one(kind: str, single: Sequence[Record]) -> ClaimResult:
    """Whether the lesion costs accuracy in every block: it fails where one gains, and is undecided where one is."""
    calls = [called(row) for row in single]
    losses, gains = calls.count("loss"), calls.count("gain")
    count = Estimate(float(losses), float(losses), float(len(calls) - gains), len(calls))
    holds = False if gains else True if losses == len(calls) else None
    measure = f"of {len(calls)} blocks, those with a loss (up to those without a gain)"
    return claim(f"each_costs/{kind}", f"{WORDS[kind]}, one block at a time: each costs top-1", measure, count, holds)


def everywhere(kind: str, together: Record) -> ClaimResult:
    """Whether the lesion in all blocks costs accuracy, over images."""
    change = in_percent(together, "difference")
    return claim(f"all_cost/{kind}", f"{WORDS[kind]}, in all blocks: costs top-1", "change of top-1, points", change,
                 change.below(0), p_value=together["p_value"])  # fmt: skip


def in_percent(row: Record, name: str) -> Estimate:
    """A share, or its change, over images."""
    value, low, high = (100 * float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return Estimate(value, low, high, int(row["n"]))


def mean_change(rows: Sequence[Record]) -> Estimate:
    """The mean over blocks of the change; its interval is right however the blocks' errors go together, and wide."""
    changes = [in_percent(row, "difference") for row in rows]
    value, low, high = (float(np.mean([getattr(one, part) for one in changes])) for part in ("value", "low", "high"))
    return Estimate(value, low, high, changes[0].n)


def softened(lines: DataFrame) -> ClaimResult:
    """Whether ReLU6 costs less in the blocks with a shortcut of this network than in those without, over images."""
    mine, there = pick(lines, kind="relu6_bottleneck"), joined(lines)
    single = mine[mine["block"] != ""].to_dict("records")
    around, without = (mean_change([row for row in single if (row["block"] in there) == inside])
                       for inside in (True, False))  # fmt: skip
    gap = Estimate(around.value - without.value, around.low - without.high, around.high - without.low, around.n)
    says = "ReLU6 in a bottleneck costs less where a shortcut goes around it: where no size changes"
    measure = "change of top-1, points, mean over blocks with a shortcut − mean over those without"
    return claim("shortcut_softens_relu6", says, measure, gap, gap.exceeds(0), place="Footnote 3 (ours)")


def table(lines: DataFrame) -> Document:
    """The intact network and every lesion."""
    mended = pick(lines, repair=repair.AFFINE).to_dict("records")
    after = {(row["kind"], row["block"]): _change(row) for row in mended}
    shown = frame(shown_row(row) | {"repaired": after.get((row["kind"], row["block"]), "")}
                  for row in unrepaired(lines).to_dict("records"))  # fmt: skip
    return Document(caption(lines), HEAD, shown)


def text(lines: DataFrame) -> str:
    """One sentence per kind of lesion, and what comes back behind it."""
    plain = unrepaired(lines)
    intact = plain.iloc[0]
    sentences = [f"- Intact: top-1 {_share(intact)} of {intact['n']} images."]
    for kind in unique(plain, "kind")[1:]:
        *single, together = pick(plain, kind=kind).to_dict("records")
        worst, least = (end(single, key=operator.itemgetter("difference")) for end in (min, max))
        sentences.append(
            f"- `{kind}`: one block at a time, the change of top-1 is between {_change(worst)} points (block "
            f"{worst['block']}) and {_change(least)} (block {least['block']}); in all {together['blocks']:.0f} blocks, "
            f"{_change(together)}, which leaves {_share(together)}. {_comes_back(pick(lines, kind=kind))}"
        )
    return "\n".join(sentences)


def _comes_back(lines: DataFrame) -> str:
    """What the maps behind one kind of lesion bring back, from the poorest to the richest."""
    sentences, mended = [], lines[lines["repair"] != ""]
    for place, where in ((EACH, "one block at a time"), ("", "in all of them")):
        back = [_restored(shares(row)) for row in pick(mended, block=place).to_dict("records")]
        sentences += [f"{where} {', '.join(back)}"] if back else []
    if not sentences:
        return "What a map behind it brings back was not run."
    return (
        f"Of that cost, right means, scales and shifts, or an affine map behind it bring back {'; '.join(sentences)}."
    )


def _restored(share: Estimate) -> str:
    if np.isnan(share.value):
        return "– (it costs nothing)"
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def _share(row: Record) -> str:
    found = in_percent(row, "top1")
    return f"{found.value:.1f} % ({found.low:.1f} to {found.high:.1f})"


def _change(row: Record) -> str:
    found = in_percent(row, "difference")
    return f"{found.value:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


FIGURE = captioned_figure(draw, claims, HEADLINE, 3.0)
STUDY = Study(name="ext_lesions", card=__doc__, on_images=on_images, rows=tables_of, claims=claims, figure=FIGURE,
              table=table, text=text, text_columns=("block", "repair"))  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
