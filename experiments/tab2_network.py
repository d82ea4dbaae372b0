"""Table 2: the network, row by row as printed and as a forward pass meets it.

Paper    Sandler et al. 2018, arXiv:1801.04381, Table 2 and section 4
Claims   the printed sizes; 300 million multiply-adds and 3.4 million parameters; 19 residual bottleneck layers; a
         separable layer costs 8 to 9 times less (section 3.1); without inner channels a block is the identity (3.4)
Run      python -m experiments.tab2_network publish
Differs  in nothing: the paper's own network, counted; what does not agree is the paper's erratum
"""

import dataclasses
from collections.abc import Sequence

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

from manifold_lab.core.random_streams import stream
from manifold_lab.models import matching, profiler
from manifold_lab.models.mobilenet import Block, build
from manifold_lab.models.profiler import LayerProfile
from manifold_lab.models.specs import TABLE_2, V2, NetworkSpec, stages
from manifold_lab.report import plots
from manifold_lab.report.printed import Printed, counted_claims
from manifold_lab.report.tables import ClaimResult, DataFrame, Document, Record, pick
from manifold_lab.sweeps.study import MAIN, Headline, captioned_figure, computed_study

COUNTS = "counts"
"""The part of the csv files that has what Table 2 does not."""
PAPER_PARAMETERS = "3.4"
"""Millions, as printed."""
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


def tables(_smoke: bool) -> dict[str, list[Record]]:
    """Table 2's rows as met, and the counts that it does not show."""
    counts = [{"count": name, "value": float(value)} for name, value in other_counts(V2).items()]
    return {MAIN: rows(V2), COUNTS: counts}


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
        if name.startswith("row"):
            found.append(("bottleneck", tuple(f"{value:g}" for value in spec.rows[int(name[4:])]), members))
        else:
            kernel = getattr(members[0].module, "kernel_size", (1,))[0]
            found.append((f"conv2d {kernel}x{kernel}", ("",) * 4, members))
    return found


def size(shape: Sequence[int]) -> str:
    """Height x width x channels; 1x1 where there is no image any more."""
    channels, *rest = shape
    return "x".join(map(str, (*(rest or (1, 1)), channels)))


def line(operator: str, printed: tuple[str, ...], seen: list[LayerProfile]) -> Record:
    """One row as met."""
    cost = profiler.cost([one for one in seen if not isinstance(one.module, Block)])
    operators = [one for one in seen if isinstance(one.module, profiler.OPERATOR_LAYERS)]
    blocks = [one for one in seen if isinstance(one.module, Block)]
    ends = blocks or operators
    return {
        "operator": operator,
        "input": size(ends[0].inputs),
        **dict(zip("tcns", printed, strict=True)),
        "blocks": len(blocks) or None,
        "output": size(ends[-1].outputs),
        "parameters": cost.parameters,
        "madds": cost.madds,
        "elements": max(one.elements for one in operators),
    }


def rows(spec: NetworkSpec) -> list[Record]:
    """The table, the average pool between its last two convolutions included."""
    lines = [line(*group) for group in groups(spec)]
    before, after = lines[-2]["output"], lines[-1]["input"]
    pool = dict.fromkeys(lines[0]) | {"operator": "avgpool 7x7", "input": before, "output": after}
    lines.insert(-1, pool)
    return [{"printed": printed, **one} for printed, one in zip(PRINTED, lines, strict=True)]


HEADLINE = Headline(
    "madds", "Counted, Table 2's network costs the multiply-adds that the paper prints",
    "Counted, Table 2's network does not cost the multiply-adds that the paper prints",
)  # fmt: skip


def draw(figure: Figure, published: dict[str, DataFrame]) -> str:
    """Multiply-adds and parameters of every row that has any, from the image down."""
    met = published[MAIN].dropna(subset="madds")
    names = met["operator"] + ", " + met["input"].str.replace("x", "·")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, key, label in zip(axes, ("madds", "parameters"), ("multiply-adds", "parameters"), strict=True):
        bars = ax.barh(range(len(met)), met[key] / 1e6, 0.7, color=plots.MEASURED)
        values = [f"{number / 1e6:.3g}" for number in met[key]]
        ax.bar_label(bars, values, padding=2, fontsize=mpl.rcParams["legend.fontsize"])
        ax.margins(x=0.1)
        ax.set(xlabel=f"{label}, millions", yticks=range(len(met)), yticklabels=names)
    axes[0].invert_yaxis()
    plots.letter(axes, (f"{met['madds'].sum():,.0f} multiply-adds", f"{met['parameters'].sum():,.0f} parameters"))
    bare = pick(published[COUNTS], count="parameters without norms")["value"].item()
    return (
        "MobileNetV2 1.0 at 224, counted on a forward pass: rows of Table 2 by operator and input size. The paper "
        f"prints {PAPER_PARAMETERS} million parameters; without those of the norms there are {bare:,.0f}."
    )


def other_counts(spec: NetworkSpec) -> dict[str, int | float]:
    """Every count that a claim needs and Table 2's rows do not give."""
    cost = matching.spec_cost(spec)
    first = dataclasses.replace(spec, rows=((EXPANDED, *FIRST_VERSION[0][1:]), *FIRST_VERSION[1:]))
    expanded = dataclasses.replace(spec, rows=((EXPANDED, *TABLE_2[0][1:]), *TABLE_2[1:]))
    agreed, even = by_formula(spec)
    together, least, most = separable_factors(spec)
    return {
        "parameters": cost.parameters,
        "parameters without norms": cost.parameters - cost.norm_parameters,
        "blocks of stride 1 with an expansion": even,
        "of these, as Table 1 says": agreed,
        "multiply-adds with an expansion in every block": matching.madds(expanded),
        "multiply-adds with the first version's stride": matching.madds(first),
        "multiply-adds of standard layers / separable": together,
        "smallest of a block": least,
        "largest of a block": most,
        "largest |y - x| without inner channels": without_inner_channels(spec),
    }


def by_formula(spec: NetworkSpec) -> tuple[int, int]:
    """Of the blocks with stride 1 and an expansion, how many cost h·w·n·t·(n + k² + n'), and how many there are."""
    shape = (spec.in_channels, spec.resolution, spec.resolution)
    seen = profiler.profile(build(spec), shape, (*profiler.OPERATOR_LAYERS, Block))
    agree, blocks = 0, [one for one in seen if isinstance(one.module, Block)]
    even = [
        (one, stage) for one, stage in zip(blocks, stages(spec), strict=True) if stage.stride == 1 and stage.expands
    ]
    for one, stage in even:
        parts = [part for part in seen if part.name.startswith(f"{one.name}.")]
        height, width = one.inputs[1:]
        agree += profiler.cost(parts).madds == height * width * stage.hidden * (stage.inputs + 9 + stage.outputs)
    return agree, len(even)


def separable_factors(spec: NetworkSpec) -> tuple[float, float, float]:
    """Multiply-adds of a 3x3 convolution over those of the depthwise and pointwise pair in its place.

    The convolution from the same inputs to the same outputs costs nine times the pointwise projection.

    Returns:
        Of all blocks together, the smallest of a block, the largest of a block.
    """
    seen = profiler.profile(build(spec), (spec.in_channels, spec.resolution, spec.resolution), profiler.OPERATOR_LAYERS)
    pointwise = [one.madds for one in seen if ".project." in one.name]
    depthwise = [one.madds for one in seen if ".depthwise." in one.name]
    each = [9 * point / (point + depth) for point, depth in zip(pointwise, depthwise, strict=True)]
    return 9 * sum(pointwise) / (sum(depthwise) + sum(pointwise)), min(each), max(each)


def without_inner_channels(spec: NetworkSpec) -> float:
    """Largest |block(x) - x| over the blocks with a shortcut, when all inner channels are cut off.

    `NetworkSpec` refuses an expansion that leaves no channel, so that the channels are cut in a block by itself.
    """
    network, found = build(spec, stream(0, "weights")).eval(), 0.0
    for block in network.blocks:
        assert isinstance(block, Block)
        if block.stage.shortcut == "identity":
            block.depthwise.register_forward_hook(lambda _block, _inputs, inner: torch.zeros_like(inner))
            x = torch.randn((1, block.stage.inputs, 7, 7), generator=stream(0, "block"))
            with torch.no_grad():
                found = max(found, float((block(x)[0] - x).abs().max()))
    return found


def claims(published: dict[str, DataFrame]) -> list[ClaimResult]:
    """What the paper says of the network, each beside its count."""
    table, counts = published[MAIN], published[COUNTS].set_index("count")["value"].to_dict()
    agree = int((table["printed"] == table["input"]).sum())
    blocks, madds = table["blocks"].sum(), table["madds"].sum()
    plain, factor = counts["parameters without norms"], counts["multiply-adds of standard layers / separable"]
    even, formula = counts["blocks of stride 1 with an expansion"], counts["of these, as Table 1 says"]
    identity = counts["largest |y - x| without inner channels"]
    million = 10**6
    return counted_claims([
        ("sizes", "Table 2", "the printed input sizes", f"of {len(table)} rows, met as printed", agree,
         agree == len(table)),
        ("residual_layers", "Section 4", "19 residual bottleneck layers (erratum 1)", "blocks of Table 2", blocks,
         Printed("19")),
        ("madds", "Section 4", "300 million multiply-adds", "MAdds of a pass", madds, Printed("300", million)),
        ("parameters", "Section 4", "3.4 million parameters (erratum 4)",
         f"parameters without norms (with them {counts['parameters']:,.0f})", plain,
         Printed(PAPER_PARAMETERS, million)),
        ("block_formula", "Table 1", "a block of stride 1 costs h·w·n·t·(n + k² + n') multiply-adds",
         f"of {even:.0f} such blocks", formula, formula == even),
        ("every_block_expands", "Table 1", "every block expands, at 300 million multiply-adds (erratum 3)",
         "MAdds with an expansion in the t = 1 block", counts["multiply-adds with an expansion in every block"],
         Printed("300", million)),
        ("first_version", "Table 2, v1", "429 million multiply-adds (erratum 2)",
         "MAdds with v1's stride and an expansion in the t = 1 block",
         counts["multiply-adds with the first version's stride"], Printed("429", million)),
        ("separable_factor", "Section 3.1", "depthwise separable layers (k = 3) cost 8 to 9 times less than standard",
         "MAdds of standard layers / those of the network's separable ones, all blocks together, rounded (of single "
         f"blocks {counts['smallest of a block']:.1f} to {counts['largest of a block']:.1f})", factor,
         8 <= round(factor) <= 9),
        ("inner_depth_zero", "Section 3.4", "with an inner depth of 0 a block with a shortcut is the identity",
         "largest |y - x| of the blocks with all inner channels cut, no shift in the norm", identity, identity == 0),
    ])  # fmt: skip


STUDY = computed_study(
    name="tab2_network",
    card=__doc__,
    tables=tables,
    figure=captioned_figure(draw, claims, HEADLINE, 2.9),
    claims=claims,
    table=lambda published: Document(CAPTION, HEAD, published[MAIN]),
    parts=(MAIN, COUNTS),
)


if __name__ == "__main__":
    raise SystemExit(STUDY.main())
