"""Section 5.1's split inference, run: memory and time against the number of chunks t.

Paper    Sandler et al. 2018, arXiv:1801.04381, section 5.1 and Equation 2
Claims   a block in t chunks costs the same multiply-adds; it hurts run time, and is most helpful for t between 2 and 5;
         in single channels it needs no more memory than input, output and a few channels
Run      python -m experiments.ext_split publish
Differs  the paper gives no numbers; ours are one image at 224 through MobileNetV2 1.0 with norms folded, on this CPU
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from manifold_lab.core import statistics
from manifold_lab.core.random_streams import stream
from manifold_lab.models import memory
from manifold_lab.models.fold import folded
from manifold_lab.models.mobilenet import Block, Network, build
from manifold_lab.models.profiler import LayerProfile, profile
from manifold_lab.models.specs import V2, NetworkSpec
from manifold_lab.models.split import split_block, split_forward
from manifold_lab.report import deciding, plots
from manifold_lab.report.printed import counted_claims
from manifold_lab.report.tables import ClaimResult, DataFrame, Record, estimate_in, estimated_claim, estimates_in, pick
from manifold_lab.sweeps.study import MAIN, Headline, captioned_figure, computed_study, headline

BLOCKS = "blocks"
"""The part of the csv files that has every block in single channels."""
PARTS = (1, 2, 3, 4, 5, 6, 8, 12, 24, 48)
"""1 stands for the block whole, by the ordinary forward pass."""
SMALL = dataclasses.replace(V2, width=0.35, resolution=96)
"""The network of a smoke run."""
HELPFUL = 5
"""The largest t of the paper's range."""
CHANNELS = 3
"""So many single channels besides input and output are the O(max(s², s'²)) of section 5.1."""


def tables(smoke: bool) -> dict[str, list[Record]]:
    """The lines of both files."""
    spec, parts, rounds = (SMALL, PARTS[:6], 3) if smoke else (V2, PARTS, 30)
    return {MAIN: by_parts(spec, parts, rounds), BLOCKS: in_single_channels(spec)}


def way(network: Network, parts: int) -> Callable[[Tensor], Tensor]:
    """The pass in `parts` chunks; the ordinary one for a single chunk."""
    return network if parts == 1 else lambda x: split_forward(network, x, parts)


Name = TypeVar("Name", str, int)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(ways: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, np.ndarray]:
    """Seconds of every way, all of them in turns, after one round to warm up."""
    turns = [{name: seconds(work) for name, work in ways.items()} for _ in range(rounds + 1)][1:]
    return {name: np.array([turn[name] for turn in turns]) for name in ways}


def madds(network: Network, x: Tensor, parts: int) -> int:
    """Multiply-adds of the pass by torch's own counter of floating-point operations."""
    in_place = {torch.ops.aten.addmm_: lambda _sum, a, b, **_: 2 * a[0] * a[1] * b[1]}  # which the counter leaves out
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        way(network, parts)(x)
    return counter.get_total_flops() // 2


def by_parts(spec: NetworkSpec, wanted: Sequence[int], rounds: int) -> list[Record]:
    """One line per t; memory in numbers, the image included; time as ratios to the whole pass of the same turn.

    Args:
        spec: of the network.
        wanted: the values of t.
        rounds: passes per t, taken in turns.
    """
    network, lines = folded(build(spec, stream(0, "weights")).eval()), []
    x = torch.randn((1, *spec.image_shape), generator=stream(0, "picture")).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        ways = {parts: functools.partial(way(network, parts), x) for parts in wanted}
        times = in_turns(ways, rounds)
        for parts in wanted:
            ratio = statistics.median(times[parts] / times[1])
            rule = memory.peak_split(network, parts) if parts > 1 else memory.peak_by_operator(network).elements
            known = {
                "parts": parts,
                "rule": rule,
                "alive": max(memory.live_peaks(network, way(network, parts)).values()),
                "allocated": memory.allocated_peak(ways[parts]) // 4 + x.numel(),
                "madds": madds(network, x, parts),
                "milliseconds": 1000 * float(np.median(times[parts])),
            }
            lines.append(known | dict(zip(("ratio", "low", "high", "n"), dataclasses.astuple(ratio), strict=True)))
    return lines


def in_single_channels(spec: NetworkSpec) -> list[Record]:
    """One line per block, run one expanded channel at a time: numbers alive, and how many are its input and output.

    The blocks have no shortcut: section 5.1 speaks of F(x), and our sum would hold a second output.
    """
    network = folded(build(dataclasses.replace(spec, shortcut="none"), stream(0, "weights")).eval())
    seen = profile(network, spec.image_shape, (Block,))
    return [
        {
            "block": place,
            "channels": _block(one).stage.hidden,
            "ends": one.elements,
            "alive": memory.live_peak(lambda one=one: _one_by_one(one)) // 4,  # type: ignore[misc]
            "largest_channel": max(one.inputs[1], one.outputs[1]) ** 2,
        }
        for place, one in enumerate(seen)
    ]


def _block(seen: LayerProfile) -> Block:
    assert isinstance(seen.module, Block)
    return seen.module


def _one_by_one(seen: LayerProfile) -> Tensor:
    block = _block(seen)
    return split_block(block, torch.zeros(1, *seen.inputs), block.stage.hidden)


def draw_memory(ax: Axes, table: DataFrame) -> None:
    """KiB against t: Equation 2, tensors alive, allocator."""
    styles = {"allocated": (plots.MEASURED, "o", "allocated"), "alive": (plots.LOST_COLOUR, "x", "tensors alive"),
             "rule": (plots.THEORY, "", "Equation 2")}  # fmt: skip
    for name, (colour, mark, label) in styles.items():
        style = "-" if name == "rule" else ""
        ax.plot(table["parts"], table[name] * 2 / 1024, mark + style, color=colour, ms=4, mfc="none", label=label)
    ax.set(ylabel="peak memory, KiB (two bytes)", ylim=(0, None))


def draw_time(ax: Axes, table: DataFrame) -> None:
    """Time of a pass against that of the whole one."""
    found = estimates_in(table, "ratio", "low", "high")
    plots.draw_intervals(ax, table["parts"], found, fmt="o-", color=plots.MEASURED, ms=3, elinewidth=0.8,
                         label=f"median of {table['n'].iloc[0]} turns")  # fmt: skip
    ax.set(ylabel="time / time of the whole pass", yscale="log")
    ax.yaxis.set_major_formatter(lambda number, _position: f"{number:g}")
    ax.yaxis.set_minor_formatter("")
    ax.set_yticks([1, 2, 5, 10, 20])


def message(found: Sequence[ClaimResult]) -> str:
    """What the paper's largest number of chunks saves, and its price in time."""
    ratio = next(one.estimate.value for one in found if one.id == "slower")
    price = f"at {ratio:.3g} times the time"
    messages = Headline(
        "most_helpful", f"{HELPFUL} chunks save nearly all the memory that splitting can save, {price}",
        f"More than {HELPFUL} chunks are needed to save most of what splitting can save; {HELPFUL} run {price}",
)  # fmt: skip
    return headline(found, messages)


def draw(figure: Figure, published: dict[str, DataFrame]) -> str:
    """Memory and time."""
    table = published[MAIN]
    left, right = figure.subplots(1, 2, sharex=True)
    draw_memory(left, table)
    draw_time(right, table)
    for ax, corner in ((left, "upper right"), (right, "lower right")):
        ax.axvspan(2, HELPFUL, color="0.93", zorder=0, label=f"the paper's range, 2 to {HELPFUL}")
        ax.set_xscale("log")
        ax.set_xticks(PARTS, [str(parts) for parts in PARTS])
        ax.minorticks_off()
        ax.set_xlabel("chunks t of the expanded channels")
        ax.legend(frameon=False, loc=corner)
    plots.letter((left, right), ("memory of one pass", "time of one pass"))
    return (
        "MobileNetV2 1.0, norms folded, one image at 224, on a CPU; memory is measured in 32-bit floats and told "
        "at two bytes a number; Equation 2 lies below: it counts one operator's input and output; bars: "
        f"{statistics.PERCENT} intervals of the median over {table['n'].iloc[0]} turns."
    )


def claims(published: dict[str, DataFrame]) -> list[ClaimResult]:
    """Equal work, what the paper's range of t saves, at which price, and the least memory."""
    table, blocks = published[MAIN], published[BLOCKS]
    work, allocated = table["madds"].nunique(), table.set_index("parts")["allocated"]
    saved = float((allocated[1] - allocated[HELPFUL]) / (allocated[1] - allocated.min()))
    most = float(((blocks["alive"] - blocks["ends"]) / blocks["largest_channel"]).max())
    return counted_claims([
        ("same_madds", "Section 5.1", "a block in t chunks costs the same multiply-adds", "different counts over all t",
         work, work == 1),
        ("most_helpful", "Section 5.1", "t between 2 and 5 is most helpful",
         "share of the largest saving of memory that t = 5 brings, allocated", saved, saved >= 0.9),
        ("least_memory", "Section 5.1", "the memory can be as low as |s²k| + |s'²k'| + O(max(s², s'²))",
         f"most numbers alive besides input and output, in channels of max(s², s'²), of {len(blocks)} blocks run one "
         f"channel at a time; at most {CHANNELS}", most, most <= CHANNELS),
    ]) + time_claims(table)  # fmt: skip


def time_claims(table: DataFrame) -> list[ClaimResult]:
    """The paper says that splitting hurts run time and keeps most of the efficiency; how much, it does not say."""
    ratio = estimate_in(pick(table, parts=HELPFUL).iloc[0], "ratio", "low", "high")
    measured = f"time at t = {HELPFUL} / time of the whole pass"
    judged = (
        ("slower", "Section 5.1", "splitting hurts run time", measured, 1, True),
        ("keeps_efficiency", "Section 5.1 (our reading)", "most of the efficiency is kept: more than half of the speed",
         f"{measured}, below 2", 2, False),
    )  # fmt: skip
    return [estimated_claim(name, says, measure, ratio, ratio.exceeds(bound) if above else ratio.below(bound),
                            place=place, needed=deciding.replicates(ratio, bound, "timings"))
            for name, place, says, measure, bound, above in judged]  # fmt: skip


STUDY = computed_study(
    name="ext_split",
    card=__doc__,
    tables=tables,
    figure=captioned_figure(draw, claims, message, 2.7),
    claims=claims,
    parts=(MAIN, BLOCKS),
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
