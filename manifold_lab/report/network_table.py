"""Layers and costs of a network as a table, and its sums in words."""

from rich.console import Console

from manifold_lab.models import memory, profiler
from manifold_lab.models.mobilenet import Network, build
from manifold_lab.models.profiler import LayerProfile
from manifold_lab.models.specs import NetworkSpec, Stage, stages
from manifold_lab.report import tables

NETWORK_HEAD = ("layer", "operator", "t", "c", "n", "s", "output", "parameters", "MAdds", "in + out", "shortcut")
WHOLE = ("parameters", "MAdds", "in_out")
"""Columns of whole numbers, by their names in programs."""
WIDTH = 130
"""Columns that the table needs."""
TABLE_CONVENTION = (
    f"{profiler.COUNTING_CONVENTION} in + out: numbers that go in and come out of the operator, without weights."
)


def print_network(spec: NetworkSpec) -> None:
    """Print the table, the totals and the convention."""
    network = build(spec)
    console = Console(width=max(Console().width, WIDTH))
    console.print(tables.terminal("", NETWORK_HEAD, [network_rows(network)]), soft_wrap=True)
    console.print(totals(network), highlight=False)
    console.print(TABLE_CONVENTION, highlight=False)


def picture_shape(network: Network) -> tuple[int, int, int]:
    """Channels, height and width of the image that a network is made for."""
    spec = network.spec
    return spec.in_channels, spec.resolution, spec.resolution


def cost_lines(network: Network) -> list[dict[str, str | int]]:
    """The table of `network_rows` with whole numbers, for programs."""
    names = [name.replace(" + ", "_").replace(" ", "_") for name in NETWORK_HEAD]
    return [
        {name: int(cell.replace(",", "")) if name in WHOLE else cell for name, cell in zip(names, row, strict=True)}
        for row in network_rows(network)
    ]


def network_rows(network: Network) -> list[list[str]]:
    """One line per operator, as a forward pass met it; t, c, which of n, s as in Table 2 on each block's first line."""
    spec, plan = network.spec, stages(network.spec)
    repeats = [f"{repeat + 1}/{count}" for _, _, count, _ in spec.rows for repeat in range(count)]
    lines, told = [], set()
    for seen in profiler.profile(network, picture_shape(network), profiler.OPERATOR_LAYERS):
        block = ".".join(seen.name.split(".")[:2]) if seen.name.startswith("blocks.") else ""
        first = bool(block) and block not in told
        told.add(block)
        stage = plan[int(block.split(".")[1])] if block else None
        row = ["", "", "", ""]
        if first and stage is not None:
            place = repeats[int(block.split(".")[1])]
            row = [f"{stage.expansion:g}", str(stage.outputs), place, str(stage.stride)]
        lines.append([seen.name, _operator(seen), *row, *_costs(seen), _shortcut(stage) if first and stage else ""])
    return lines


def _shortcut(stage: Stage) -> str:
    if stage.gives_wide:
        return "to next expansion"
    return "" if stage.shortcut == "none" else stage.shortcut


def _operator(seen: LayerProfile) -> str:
    kernel = getattr(seen.module, "kernel_size", None)
    if kernel is None:
        return "linear"
    groups = getattr(seen.module, "groups", 1)
    return f"{'dwise' if groups > 1 else 'conv2d'} {kernel[0]}x{kernel[1]}"


def _costs(seen: LayerProfile) -> list[str]:
    size = "x".join(str(length) for length in (*seen.outputs[1:], seen.outputs[0]))
    return [size, f"{seen.parameters:,}", f"{seen.madds:,}", f"{seen.elements:,}"]


def totals(network: Network) -> str:
    """Parameters, MAdds and the three memory peaks in words."""
    cost = profiler.cost(profiler.profile(network, picture_shape(network)))
    operator, block = memory.peak_by_operator(network), memory.peak_by_block(network)
    return (
        f"{cost.parameters:,} parameters ({cost.parameters - cost.norm_parameters:,} without norms), "
        f"{cost.madds:,} MAdds (and {cost.norm_madds:,} of norms); Equation 2's peak: {operator.elements:,} numbers "
        f"operator by operator ({operator.name}), {block.elements:,} with a block as one operator ({block.name})"
    )
