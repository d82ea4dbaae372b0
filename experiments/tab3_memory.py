"""Table 3 and Equation 2: memory of inference, and whether the narrow shortcut saves any.

Paper    Sandler et al. 2018, arXiv:1801.04381, Table 3, sections 3.3 and 5.1, Equation 2
Claims   the largest tensors at each resolution; a shortcut between bottlenecks is considerably more memory efficient,
         with a block run as one operator (section 5)
Run      python -m experiments.tab3_memory publish
Differs  quoted is arXiv's version 4, whose row at 112 is 64/1600, 16/400, 32/800; another printed version leaves that
         row out (1/O(1), by the trick of section 5) and has 800K, 200K and 600K at most. Table 3 lists single tensors,
         Equation 2 adds inputs and outputs: both are counted here, and beside them the tensors that are alive in an
         eager pass. ShuffleNet is not built here: its column is the paper's
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from manifold_lab.core.random_streams import stream
from manifold_lab.models import memory, profiler
from manifold_lab.models.mobilenet import Block, ConvNormAct, Network, build
from manifold_lab.models.specs import SHORTCUTS, V1, V2
from manifold_lab.report import plots
from manifold_lab.report.arm_styles import ARM_STYLES
from manifold_lab.report.printed import CountedClaim, Printed, counted_claims
from manifold_lab.report.tables import ClaimResult, DataFrame, Document, Record, pick
from manifold_lab.sweeps.study import MAIN, Caption, Headline, captioned_figure, computed_study

PEAKS, SHORTCUT = "peaks", "shortcuts"
"""The parts of the csv files beside Table 3's own."""
SIZES = (112, 56, 28, 14, 7, 1)
PRINTED = {
    "MobileNetV1": ((64, 1600), (128, 800), (256, 400), (512, 200), (1024, 199), (1024, 2)),
    "MobileNetV2": ((16, 400), (32, 200), (64, 100), (160, 62), (320, 32), (1280, 2)),
    "ShuffleNet (2x, g=3)": ((32, 800), (48, 300), (400, 600), (800, 310), (1600, 156), (1600, 3)),
}
"""Table 3: largest number of channels, and memory in Kb of two-byte numbers, at each resolution."""
SPECS = {"MobileNetV1": (V1, (ConvNormAct, nn.Linear)), "MobileNetV2": (V2, (Block,))}
"""What is counted as a tensor between operators: every convolution's for V1, whole blocks' for V2."""
PARTS = (2, 3, 4, 5, 6, 12)
HEAD = {
    "network": "network", "size": "resolution", "paper_channels": "channels (paper)", "channels": "channels (counted)",
    "paper_kib": "Kb (paper)", "kib": "KiB (counted)", "wide_channels": "with stem and last conv",
    "wide_kib": "KiB of these",
}  # fmt: skip
CAPTION = (
    "Largest tensor between operators at each resolution, in channels and in KiB of two-byte numbers: as Table 3 of "
    "arXiv:1801.04381 prints it, and as met by a forward pass at 224 (for MobileNetV2 a block is one operator). "
    "Erratum 5: the paper charges each resolution with the next stage's channels, and MobileNetV1 at 7 with twice "
    f"its memory. {profiler.COUNTING_CONVENTION}"
)
PEAK_HEAD = {"network": "network", "shortcut": "shortcut", "rule": "rule", "numbers": "numbers", "kib": "KiB",
             "place": "where"}  # fmt: skip
PEAK_CAPTION = (
    "Peak memory of inference of one image at 224, in KiB of two-byte numbers, weights not counted: Equation 2 of "
    "arXiv:1801.04381 under its rules, without and with the tensors that shortcuts keep; the tensors alive in an "
    f"eager pass; and what torch's allocator gave, the image included. {profiler.COUNTING_CONVENTION}"
)


def tables(_smoke: bool) -> dict[str, list[Record]]:
    """The lines of all three files."""
    lines = [line for name in PRINTED for line in tensors(name)]
    return {MAIN: lines, PEAKS: peaks(SHORTCUTS), SHORTCUT: shortcuts(SHORTCUTS)}


def kib(numbers: int) -> float:
    """Two bytes each, to five digits."""
    return float(f"{numbers * 2 / 1024:.5g}")


def largest(shapes: list[profiler.Shape]) -> dict[int, int]:
    """Resolution -> most channels."""
    found: dict[int, int] = {}
    for channels, *rest in shapes:
        size = rest[0] if rest else 1
        found[size] = max(found.get(size, 0), channels)
    return found


def tensors(name: str) -> list[Record]:
    """Table 3's rows of one network."""
    narrow, wide = {}, {}
    if name in SPECS:
        spec, kinds = SPECS[name]
        network, shape = build(spec), (spec.in_channels, spec.resolution, spec.resolution)
        pooled = profiler.profile(network, shape, (nn.Linear,))[0].inputs
        narrow = largest([one.outputs for one in profiler.profile(network, shape, kinds)] + [pooled])
        outside = [
            one.outputs for one in profiler.profile(network, shape, (ConvNormAct,)) if one.name in ("stem", "last")
        ]
        wide = largest([(channels, size, size) for size, channels in narrow.items()] + outside)
    lines = []
    for size, (channels, printed) in zip(SIZES, PRINTED[name], strict=True):
        ours, all_of_them = narrow.get(size), wide.get(size)
        lines.append(
            {"network": name, "size": size, "paper_channels": channels, "paper_kib": printed}
            | {"channels": ours, "kib": ours and kib(ours * size**2)}
            | {"wide_channels": all_of_them, "wide_kib": all_of_them and kib(all_of_them * size**2)}
        )
    return lines


Found = list[tuple[str, int, str]]
"""Rule, numbers, and the part of the network where they are needed."""


def equation_2(network: Network) -> Found:
    """The paper's rules; chunks only where there is an expansion to cut."""
    operator, block = memory.peak_by_operator(network), memory.peak_by_block(network)
    found = [("operator by operator", operator.elements, operator.name), ("a block as one", block.elements, block.name)]
    parts = PARTS if network.spec.block == "inverted" else ()
    return found + [(f"a block in {count} chunks", memory.peak_split(network, count), "") for count in parts]


def kept(network: Network) -> Found:
    """The first two rules, and what the shortcuts keep meanwhile."""
    held = memory.with_shortcuts(network)
    operator, block = max(held, key=lambda one: one.by_operator), max(held, key=lambda one: one.as_one)
    return [
        ("operator by operator, shortcuts kept", operator.by_operator, operator.name),
        ("a block as one, shortcuts kept", block.as_one, block.name),
    ]


def eager(network: Network) -> Found:
    """What is alive in a pass, and what the allocator gave; the image, which was there before, included."""
    live, image = memory.live_peaks(network), torch.zeros(1, 3, 224, 224)
    with torch.no_grad():
        rise = memory.allocated_peak(lambda: network(image))
    place = max(live, key=lambda part: live[part])
    return [("alive in an eager pass", live[place], place), ("allocated", rise // 4 + image.numel(), "")]


def peaks(wirings: Sequence[str]) -> list[Record]:
    """Every network and wiring by every rule that says something about it."""
    v1, v2 = (build(spec, stream(0, "weights")).eval() for spec in (V1, V2))
    found = [("MobileNetV1", "none", equation_2(v1) + eager(v1)), ("MobileNetV2", "bottleneck", equation_2(v2))]
    for shortcut in wirings:
        network = build(dataclasses.replace(V2, shortcut=shortcut), stream(0, "weights")).eval()
        found.append(("MobileNetV2", shortcut, kept(network) + eager(network)))
    return [
        {"network": name, "shortcut": shortcut, "rule": rule, "numbers": count, "kib": kib(count), "place": place}
        for name, shortcut, rules in found
        for rule, count, place in rules
    ]


def shortcuts(wirings: Sequence[str]) -> list[Record]:
    """Every block's peaks under every wiring, what the shortcut keeps included."""
    lines = []
    for shortcut in wirings:
        network = build(dataclasses.replace(V2, shortcut=shortcut)).eval()
        live = memory.live_peaks(network)
        for block, held in enumerate(memory.with_shortcuts(network)):
            counts = {"by_operator": held.by_operator, "as_one": held.as_one, "alive": live[held.name]}
            lines.append({"shortcut": shortcut, "block": block, "joined": str(held.joined).lower()} | counts)
    return lines


RULES = {"by_operator": "operator by operator", "as_one": "a block as one operator", "alive": "alive in an eager pass"}


HEADLINE = Headline(
    "narrow_shortcut/as_one", "A narrow shortcut saves memory where a block runs as one operator",
    "A narrow shortcut saves no memory, even where a block runs as one operator",
)  # fmt: skip


def draw_blocks(ax: Axes, table: DataFrame, rule: str) -> None:
    """Peak of every block, the wirings side by side; filled where a shortcut begins or ends."""
    for place, shortcut in enumerate(SHORTCUTS):
        (colour, mark), mine = ARM_STYLES[shortcut], pick(table, shortcut=shortcut)
        x = np.arange(len(mine)) + 0.2 * (place - (len(SHORTCUTS) - 1) / 2)
        memory_kib, joined = mine[rule].to_numpy() * 2 / 1024, (mine["joined"] == "true").to_numpy()
        style: dict[str, Any] = {"color": colour, "ms": 3.4, "mew": 0.7, "lw": 0}
        ax.plot(x[~joined], memory_kib[~joined], mark, mfc="white", **style)
        ax.plot(x[joined], memory_kib[joined], mark, label=f"shortcut: {shortcut}", **style)
    for block in range(1, len(mine), 2):
        ax.axvspan(block - 0.5, block + 0.5, color="0.95", lw=0, zorder=0)
    ax.set(yscale="log", ylabel="peak, KiB", xlim=(-0.5, len(mine) - 0.5), xticks=range(len(mine)))
    ax.set(ylim=(20, 9000), yticks=(30, 100, 300, 1000, 3000))
    ax.yaxis.set_major_formatter(lambda value, _position: f"{value:.0f}")
    ax.yaxis.set_minor_formatter("")


def draw(figure: Figure, published: dict[str, DataFrame]) -> Caption:
    """One panel per rule."""
    table = published[SHORTCUT]
    axes = figure.subplots(len(RULES), 1, sharex=True, sharey=True)
    for ax, rule in zip(axes, RULES, strict=True):
        draw_blocks(ax, table, rule)
    plots.letter(axes, RULES.values())
    axes[-1].set_xlabel("block")
    note = (
        "MobileNetV2 1.0, one image at 224, two bytes a number, counted. Filled: blocks that a shortcut leaves or "
        "enters; open: the others."
    )
    return note, plots.handles_of(axes[:1])


def claims(published: dict[str, DataFrame]) -> list[ClaimResult]:
    """Table 3 against the count, and the narrow shortcut against the wide one."""
    v1, v2 = (pick(published[MAIN], network=name) for name in ("MobileNetV1", "MobileNetV2"))
    channels = int((v2["channels"] == v2["paper_channels"]).sum())
    wired = pick(published[PEAKS], network="MobileNetV2", shortcut="bottleneck", rule="a block as one")
    block, single, without_first = wired["kib"].item(), v2["kib"].max(), v2["kib"].iloc[1:].max()
    rows = zip(v1["size"], v1["paper_kib"], v1["kib"], strict=True)
    apart = [str(size) for size, printed, ours in rows if not _printed(printed).matches(ours)]
    close = f"of {len(v1)} resolutions, those whose KiB match as printed"
    judged: list[CountedClaim] = [
        ("channels", "Table 3", "MobileNetV2's channels at each resolution (erratum 5)",
         f"of {len(v2)} resolutions, those whose channels match as printed", channels, channels == len(v2)),
        ("v1_memory", "Table 3", "MobileNetV1's memory at each resolution (erratum 5)",
         f"{close}{'; not at ' * bool(apart)}{', '.join(apart)}", len(v1) - len(apart), not apart),
        ("v1_largest", "Table 3", "MobileNetV1's largest tensor takes 1600 Kb", "KiB of the largest single tensor",
         v1["kib"].max(), Printed("1600", place="100")),
        ("largest", "Table 3", "MobileNetV2's largest tensor takes 400 Kb (arXiv v4)",
         "KiB of the largest single tensor between operators", single, Printed("400", place="100")),
        ("largest_without_first", "Table 3", "... 200 Kb without the resolution 112 (the other printed version)",
         "KiB of the largest single tensor between operators, 56 and below", without_first,
         Printed("200", place="100")),
        ("equation_2", "Equation 2 (ours)", "Equation 2 gives no more than Table 3's 400 Kb (erratum 5)",
         "KiB by Equation 2, a block as one: inputs and outputs together", block, block <= 400),
    ]  # fmt: skip
    return counted_claims(judged + shortcut_claims(published[SHORTCUT]))


def _printed(paper_kib: int) -> Printed:
    """A memory of Table 3; zeros at its end are not meant: 1568 is printed as 1600."""
    digits = str(paper_kib)
    return Printed(digits, place=str(10 ** (len(digits) - len(digits.rstrip("0")))))


def shortcut_claims(blocks: DataFrame) -> list[CountedClaim]:
    """The paper's reading, a block as one operator, and two of ours."""
    touched = blocks["block"][(blocks["joined"] == "true") & (blocks["shortcut"] != "projected")]
    peaks = blocks[blocks["block"].isin(touched)].groupby("shortcut")[list(RULES)].max()
    judged: list[CountedClaim] = []
    for rule, phrase in RULES.items():
        ratio = float(peaks[rule]["expansion"] / peaks[rule]["bottleneck"])
        place = "Section 3.3" if rule == "as_one" else "Section 3.3 (another reading, ours)"
        says = "a shortcut between bottlenecks needs less memory than one between expansions"
        measure = f"peak of the wide wiring / the narrow one, blocks that either joins, {phrase}"
        judged.append((f"narrow_shortcut/{rule}", place, says, measure, ratio, ratio > 1))
    return judged


STUDY = computed_study(
    name="tab3_memory",
    card=__doc__,
    tables=tables,
    figure=captioned_figure(draw, claims, HEADLINE, 4.3),
    claims=claims,
    table=lambda published: {
        MAIN: Document(CAPTION, HEAD, published[MAIN]),
        PEAKS: Document(PEAK_CAPTION, PEAK_HEAD, published[PEAKS]),
    },
    parts=(MAIN, PEAKS, SHORTCUT),
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
