"""Table 2: the network, row by row as printed and as a forward pass meets it.

Paper    Sandler et al. 2018, arXiv:1801.04381, Table 2 and section 4
Claims   the printed sizes; 300 million multiply-adds and 3.4 million parameters; 19 residual bottleneck layers
Run      python -m experiments.tab2_network
Differs  in nothing: the paper's own network, counted; what does not agree is the paper's erratum
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from manifold_lab.core import statistics
from manifold_lab.core.cli import destination, run_cli
from manifold_lab.core.files import check_folder, publish
from manifold_lab.models import matching, profiler
from manifold_lab.models.mobilenet import Block, build
from manifold_lab.models.profiler import LayerProfile
from manifold_lab.models.specs import TABLE_2, V2, NetworkSpec, stages
from manifold_lab.report import plots, tables
from manifold_lab.report.tables import ClaimResult

STEM = "tab2_network"
COMMAND = "python -m experiments.tab2_network"
PRINTED = (
    "224x224x3", "112x112x32", "112x112x16", "56x56x24", "28x28x32", "14x14x64", "14x14x96", "7x7x160", "7x7x320",
    "7x7x1280", "1x1x1280",
)  # fmt: skip
"""Table 2's first column."""
FIRST_VERSION = (*TABLE_2[:3], (6, 64, 4, 1), (6, 96, 3, 2), *TABLE_2[5:])
"""The stride of the first version's 64-channel row; with an expansion in the t = 1 block it costs what was printed."""
EXPANDED = 1.001
"""An expansion factor that makes as many channels as 1 does, but makes them with a convolution."""
HEAD = {
    "printed": "input (paper)", "input": "input (counted)", "operator": "operator", "t": "t", "c": "c", "n": "n",
    "s": "s", "blocks": "blocks seen", "parameters": "parameters", "madds": "MAdds",
    "elements": "in + out",
}  # fmt: skip
CAPTION = (
    "MobileNetV2 1.0 at 224, row by row: the input as Table 2 of arXiv:1801.04381 prints it, and everything else as a "
    f"forward pass met it. {profiler.COUNTING_CONVENTION} Parameters include norms. in + out: the row's largest "
    "operator by Equation 2, in numbers."
)


@dataclass(frozen=True)
class Run:
    """Table 2, counted."""

    smoke: bool = False
    """The same: it takes seconds."""
    out: Path | None = None
    """Folder for the tables and the figure; by default figures, with --smoke out."""


def groups(spec: NetworkSpec) -> list[tuple[str, tuple[str, ...], list[LayerProfile]]]:
    """Operator, (t, c, n, s) and modules of each row of the table, in the order of the forward pass."""
    network = build(spec)
    shape = (spec.in_channels, spec.resolution, spec.resolution)
    kinds = (*profiler.OPERATOR_LAYERS, *profiler.NORM_LAYERS, Block)
    seen = profiler.profile(network, shape, kinds)
    place = [row for row, (_, _, repeats, _) in enumerate(spec.rows) for _ in range(repeats)]
    rows: dict[str, list[LayerProfile]] = {}
    for one in seen:
        part = one.name.split(".")
        rows.setdefault(f"row {place[int(part[1])]}" if part[0] == "blocks" else part[0], []).append(one)
    found = []
    for name, members in rows.items():
        words = tuple(f"{value:g}" for value in spec.rows[int(name[4:])]) if name.startswith("row") else ("",) * 4
        found.append((_operator(name, members[0]), words, members))
    return found


def _operator(name: str, first: LayerProfile) -> str:
    kernel = getattr(first.module, "kernel_size", (1,))[0]
    return "bottleneck" if name.startswith("row") else f"conv2d {kernel}x{kernel}"


def size(shape: Sequence[int]) -> str:
    """Height x width x channels; 1x1 where there is no picture any more."""
    channels, *rest = shape
    return "x".join(map(str, (*(rest or (1, 1)), channels)))


def line(operator: str, words: tuple[str, ...], seen: list[LayerProfile]) -> dict[str, str]:
    """One row as met."""
    cost = profiler.cost([one for one in seen if not isinstance(one.module, Block)])
    operators = [one for one in seen if isinstance(one.module, profiler.OPERATOR_LAYERS)]
    blocks = [one for one in seen if isinstance(one.module, Block)]
    ends = blocks or operators
    return {
        "operator": operator,
        "input": size(ends[0].inputs),
        **dict(zip("tcns", words, strict=True)),
        "blocks": str(len(blocks)) if blocks else "",
        "output": size(ends[-1].outputs),
        "parameters": f"{cost.parameters}",
        "madds": f"{cost.madds}",
        "elements": f"{max(one.elements for one in operators)}",
    }


def rows() -> list[dict[str, str]]:
    """The table, the average pool between its last two convolutions included."""
    lines = [line(*group) for group in groups(V2)]
    before, after = lines[-2]["output"], lines[-1]["input"]
    pool = dict.fromkeys(lines[0], "") | {"operator": "avgpool 7x7", "input": before, "output": after}
    lines.insert(-1, pool)
    return [{"printed": printed, **one} for printed, one in zip(PRINTED, lines, strict=True)]


def draw(lines: tables.Lines) -> Figure:
    """Multiply-adds and parameters of every row that has any, from the picture down."""
    met = [line for line in lines if line["madds"]]
    names = [f"{line['operator']}, {line['input'].replace('x', '·')}" for line in met]
    with plots.style("cvpr2024"):
        figure = Figure(figsize=(mpl.rcParams["figure.figsize"][0], 2.2), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for ax, key, label in zip(axes, ("madds", "parameters"), ("multiply-adds", "parameters"), strict=True):
            ax.barh(range(len(met)), plots.column(met, key) / 1e6, 0.7, color=plots.MEASURED)
            total = sum(int(line[key]) for line in met)
            ax.set(xlabel=f"{label}, millions (of {total:,})", yticks=range(len(met)), yticklabels=names)
        axes[0].invert_yaxis()
        return plots.fixed_layout(figure)


def by_formula() -> tuple[int, int]:
    """Of the blocks with stride 1 and an expansion, how many cost h·w·n·t·(n + k² + n'), and how many there are."""
    seen = profiler.profile(
        build(V2), (V2.in_channels, V2.resolution, V2.resolution), (*profiler.OPERATOR_LAYERS, Block)
    )
    agree, blocks = 0, [one for one in seen if isinstance(one.module, Block)]
    even = [(one, stage) for one, stage in zip(blocks, stages(V2), strict=True) if stage.stride == 1 and stage.expands]
    for one, stage in even:
        parts = [part for part in seen if part.name.startswith(f"{one.name}.")]
        height, width = one.inputs[1:]
        agree += profiler.cost(parts).madds == height * width * stage.hidden * (stage.inputs + 9 + stage.outputs)
    return agree, len(even)


def claims(lines: tables.Lines) -> list[ClaimResult]:
    """What the paper's section 4 says of the network, each beside its count."""
    agree = sum(one["printed"] == one["input"] for one in lines)
    blocks = sum(int(one["blocks"]) for one in lines if one["blocks"])
    madds = sum(int(one["madds"]) for one in lines if one["madds"])
    cost = profiler.cost(profiler.profile(build(V2), (3, 224, 224)))
    plain = cost.parameters - cost.norm_parameters
    first = dataclasses.replace(V2, rows=((EXPANDED, *FIRST_VERSION[0][1:]), *FIRST_VERSION[1:]))
    expanded = dataclasses.replace(V2, rows=((EXPANDED, *TABLE_2[0][1:]), *TABLE_2[1:]))
    agreed, even = by_formula()
    found = [
        ("Table 2", "the printed input sizes", f"of {len(lines)} rows, met as printed", agree, agree == len(lines)),
        ("Section 4", "19 residual bottleneck layers (erratum 1)", "blocks of Table 2", blocks, blocks == 19),
        ("Section 4", "300 million multiply-adds", "MAdds of a pass", madds, round(madds / 1e6) in range(295, 306)),
        ("Section 4", "3.4 million parameters (erratum 4)", "parameters", cost.parameters, _first(cost.parameters)),
        ("Section 4", "3.4 million parameters, without norms, cut off", "parameters", plain, _first(plain)),
        ("Table 1", "a block of stride 1 costs h·w·n·t·(n + k² + n') multiply-adds", f"of {even} such blocks",
         agreed, agreed == even),
        ("Table 1", "every block expands, at 300 million multiply-adds (erratum 3)", "MAdds with an expansion in the "
         "t = 1 block", matching.madds(expanded), matching.madds(expanded) == madds),
        ("Table 2, v1", "429 million multiply-adds (erratum 2)", "MAdds with v1's stride and an expansion in the t = 1 "
         "block", matching.madds(first), matching.madds(first) // 10**6 == 429),
    ]  # fmt: skip
    return [
        ClaimResult(place, says, measure, statistics.counted(value), statistics.verdict(holds), COMMAND)
        for place, says, measure, value, holds in found
    ]


def _first(parameters: int) -> bool:
    """Whether a count begins with the paper's two digits, 3.4 million."""
    return parameters // 10**5 == 34


def run(options: Run) -> None:
    """Count, judge, publish."""
    out = destination(options.out, options.smoke)
    check_folder(out)
    lines = rows()
    publish(
        out,
        tables.documents(STEM, CAPTION, HEAD, lines)
        | tables.claims_file(STEM, claims(lines))
        | plots.figure_files(draw(lines), STEM),
    )


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, f"experiments.{STEM}"))
