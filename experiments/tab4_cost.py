"""Table 4 and the multiplier grid: what every width and resolution costs, counted, beside what was published.

Paper    Sandler et al. 2018, arXiv:1801.04381, Table 4 and section 4; the authors' list of trained networks (slim)
Claims   575M and 585M multiply-adds, 4.2M and 6.9M parameters; the grid ranges from 7M to 585M and 1.7M to 6.9M
Run      python -m experiments.tab4_cost publish
Differs  accuracies and phone latencies are the paper's: nothing is trained here, and this CPU is no phone, so that only
         ratios of times are compared. ShuffleNet and NASNet are not built here
"""

import dataclasses
import functools
import itertools

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments.ext_split import in_turns
from manifold_lab.core import statistics
from manifold_lab.core.random_streams import stream
from manifold_lab.models import matching, profiler
from manifold_lab.models.fold import folded
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import V1, V2, NetworkSpec
from manifold_lab.report import plots
from manifold_lab.report.printed import Printed, counted_claims
from manifold_lab.report.tables import (
    ClaimResult,
    DataFrame,
    Document,
    Record,
    Series,
    estimate_in,
    estimated_claim,
    pick,
)
from manifold_lab.sweeps.study import MAIN, Headline, captioned_figure, computed_study

GRID_PART = "grid"
"""The part of the csv files that has every width and resolution."""
TABLE_4: dict[str, tuple[str, str, str, str, NetworkSpec | None]] = {
    "MobileNetV1": ("70.6", "4.2", "575", "113", V1),
    "ShuffleNet (1.5)": ("71.5", "3.4", "292", "", None),
    "ShuffleNet (x2)": ("73.7", "5.4", "524", "", None),
    "NASNet-A": ("74.0", "5.3", "564", "183", None),
    "MobileNetV2": ("72.0", "3.4", "300", "75", V2),
    "MobileNetV2 (1.4)": ("74.7", "6.9", "585", "143", dataclasses.replace(V2, width=1.4)),
}
"""Top-1 in percent, parameters and multiply-adds in millions, milliseconds on the paper's phone; our spec if any."""
HEAD = {
    "network": "network", "paper_top1": "top-1, % (paper)", "paper_parameters": "params, M (paper)",
    "parameters": "params (counted)", "plain_parameters": "no norms (counted)", "paper_madds": "MAdds, M (paper)",
    "madds": "MAdds (counted)", "paper_ms": "CPU, ms (paper)", "paper_ratio": "V1 = 1 (paper)",
    "ratio": "V1 = 1 (here)",
}  # fmt: skip
CAPTION = (
    "Table 4 of arXiv:1801.04381 beside counts of a forward pass. Erratum 4: width 1.4 has 6.1 million parameters and "
    "582 million MAdds, not 6.9 and 585, and 3.4 million truncates 3.47. Times here: one image at 224, norms folded, "
    f"one thread, medians over passes in turns. {profiler.COUNTING_CONVENTION}"
)
RESOLUTIONS = (96, 128, 160, 192, 224)
GRID = {
    0.35: (1.66, (11, 20, 30, 43, 59)),
    0.5: (1.95, (18, 32, 50, 71, 97)),
    0.75: (2.61, (39, 69, 107, 153, 209)),
    1.0: (3.47, (56, 99, 154, 221, 300)),
    1.3: (5.34, (None, None, None, None, 509)),
    1.4: (6.06, (None, None, None, None, 582)),
}
"""The authors' trained networks: millions of parameters, millions of multiply-adds at each resolution."""
GRID_HEAD = {
    "width": "width", "resolution": "resolution", "published_madds": "MAdds, M (published)", "madds": "MAdds (counted)",
    "published_parameters": "parameters, M (published)", "plain_parameters": "without norms (counted)",
    "parameters": "with norms (counted)",
}  # fmt: skip
GRID_CAPTION = (
    "MobileNetV2 over width multipliers and resolutions: the authors' list of trained networks beside counts of a "
    "forward pass. The list cuts multiply-adds off to whole millions (11 at 0.35 and 96 stands for 11.93) and rounds "
    f"parameters to two digits. {profiler.COUNTING_CONVENTION}"
)


def tables(smoke: bool) -> dict[str, list[Record]]:
    """The lines of both files."""
    return {MAIN: table_4(rounds=3 if smoke else 15), GRID_PART: grid_costs()}


def counts(spec: NetworkSpec) -> Record:
    """Parameters and multiply-adds of one network, counted."""
    cost = matching.spec_cost(spec)
    plain = cost.parameters - cost.norm_parameters
    return {"parameters": cost.parameters, "plain_parameters": plain, "madds": cost.madds}


def times(rounds: int) -> dict[str, statistics.Estimate]:
    """Time of a pass over that of MobileNetV1 in the same turn, on one thread, over so many turns."""
    threads, image = torch.get_num_threads(), torch.zeros(1, 3, 224, 224)
    passes = {
        name: functools.partial(folded(build(spec, stream(0, "weights")).eval()), image)
        for name, (*_, spec) in TABLE_4.items()
        if spec is not None
    }
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            times = in_turns(passes, rounds)
    finally:
        torch.set_num_threads(threads)
    return {name: statistics.median(mine / times["MobileNetV1"]) for name, mine in times.items()}


def table_4(rounds: int) -> list[Record]:
    """The paper's columns and ours."""
    measured, lines = times(rounds), []
    empty = dict.fromkeys(("parameters", "plain_parameters", "madds"))
    first = float(TABLE_4["MobileNetV1"][3])
    for name, (top1, parameters, madds, milliseconds, spec) in TABLE_4.items():
        ratio = measured.get(name)
        lines.append(
            {"network": name, "paper_top1": top1, "paper_parameters": parameters, "paper_madds": madds}
            | {"paper_ms": milliseconds, "paper_ratio": f"{float(milliseconds) / first:.2f}" if milliseconds else ""}
            | (counts(spec) if spec else empty)
            | {"ratio": f"{ratio.value:.2f}" if ratio else ""}
            | {key: getattr(ratio, key, None) for key in ("low", "high", "n")}
        )
    return lines


def grid_costs() -> list[Record]:
    """One line per width and resolution."""
    lines = []
    for width, (place, resolution) in itertools.product(GRID, enumerate(RESOLUTIONS)):
        parameters, madds = GRID[width]
        known = madds[place]
        published = {"published_madds": known, "published_parameters": parameters if known else None}
        spec = dataclasses.replace(V2, width=width, resolution=resolution)
        lines.append({"width": str(width), "resolution": resolution} | published | counts(spec))
    return lines


HEADLINE = Headline(
    "authors_list", "The multiply-adds that the authors list are those of a forward pass",
    "Some multiply-adds that the authors list are not those of a forward pass",
)  # fmt: skip


def draw(figure: Figure, published: dict[str, DataFrame]) -> str:
    """Multiply-adds over resolution, one line per width; what was published as crosses."""
    table = published[GRID_PART]
    ax = figure.subplots()
    shades = plots.ALONG(np.linspace(0, 1, len(GRID)))
    for width, shade, mark in zip(GRID, shades, "osD^vP", strict=True):
        mine = pick(table, width=str(width))
        ax.plot(mine["resolution"], mine["madds"] / 1e6, f"{mark}-", color=shade, ms=3, label=f"{width:g}")
    ax.plot(table["resolution"], table["published_madds"], "x", color="black", ms=4, mew=0.7,
            label="published")  # fmt: skip
    ax.set(yscale="log", xlabel="resolution, pixels", ylabel="multiply-adds, millions", xticks=RESOLUTIONS)
    ax.yaxis.set_major_formatter(lambda value, _position: f"{value:g}")
    ax.yaxis.set_minor_formatter("")
    ax.legend(title="width", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    alone = " and ".join(f"{width:g}" for width, (_, madds) in GRID.items() if not all(madds))
    return (
        "MobileNetV2 by width multiplier: counted on a forward pass, and as its authors' list publishes it, cut "
        f"off to whole millions; widths {alone} are published at {RESOLUTIONS[-1]} only."
    )


def claims(published: dict[str, DataFrame]) -> list[ClaimResult]:
    """The paper's totals and ranges, and the published grid, against the counts."""
    table, cells = published[MAIN].set_index("network"), published[GRID_PART]
    first, wide = (table.loc[name] for name in ("MobileNetV1", "MobileNetV2 (1.4)"))
    known = cells.dropna(subset="published_madds")
    agree = int(_as_printed(known).sum())
    least, smallest = (int(cells[key].min()) for key in ("madds", "plain_parameters"))
    million = 10**6
    return counted_claims([
        ("v1_madds", "Table 4", "MobileNetV1: 575M multiply-adds", "MAdds", first["madds"], Printed("575", million)),
        ("v1_parameters", "Table 4", "MobileNetV1: 4.2M parameters", "parameters", first["parameters"],
         Printed("4.2", million)),
        ("wide_madds", "Table 4", "MobileNetV2 (1.4): 585M multiply-adds (erratum 4)", "MAdds", wide["madds"],
         Printed("585", million)),
        ("wide_parameters", "Table 4", "MobileNetV2 (1.4): 6.9M parameters (erratum 4)", "parameters",
         wide["parameters"], Printed("6.9", million)),
        ("least_madds", "Section 4", "the grid's least network has 7 (million) multiply-adds",
         "MAdds, width 0.35 at 96", least, Printed("7", million)),
        ("least_parameters", "Section 4", "the grid's smallest network has 1.7M parameters",
         "parameters without norms", smallest, Printed("1.7", million)),
        ("authors_list", "The authors' list", "multiply-adds and parameters of their trained networks",
         f"of {len(known)} networks, those whose counts are as printed (MAdds cut off to whole millions, parameters "
         "rounded)", agree, agree == len(known)),
    ]) + [_time_claim(name, table.loc[name]) for name in ("MobileNetV2", "MobileNetV2 (1.4)")]  # fmt: skip


def _as_printed(cells: DataFrame) -> Series:
    """Where the counts, multiply-adds cut off to whole millions and parameters rounded, are the published numbers."""
    madds, parameters = cells["madds"] // 10**6, (cells["plain_parameters"] / 1e6).round(2)
    return (madds == cells["published_madds"]) & (parameters == cells["published_parameters"])


def _time_claim(name: str, row: Series) -> ClaimResult:
    measured = estimate_in(row, "ratio", "low", "high")
    faster = float(row["paper_ratio"]) < 1
    compared = "faster" if faster else "slower"
    says = f"{name} is {compared} than MobileNetV1 ({row['paper_ratio']} of its time on a phone)"
    holds = measured.below(1) if faster else measured.exceeds(1)
    return estimated_claim(compared, says, "time / MobileNetV1's, here", measured, holds, place="Table 4")


STUDY = computed_study(
    name="tab4_cost",
    card=__doc__,
    tables=tables,
    figure=captioned_figure(draw, claims, HEADLINE, 2.8, 0.65),
    claims=claims,
    table=lambda published: {
        MAIN: Document(CAPTION, HEAD, published[MAIN]),
        GRID_PART: Document(GRID_CAPTION, GRID_HEAD, published[GRID_PART]),
    },
    parts=(MAIN, GRID_PART),
    text_columns=("paper_ratio", "paper_top1", "ratio", "width"),
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
