"""Layers and costs of a network as a table, and its sums in words."""

from collections.abc import Sequence

import torch
from rich.console import Console

from manifold_lab.core.shown import print_json
from manifold_lab.models import memory, profiler
from manifold_lab.models.mobilenet import Network, build
from manifold_lab.models.profiler import LayerProfile
from manifold_lab.models.specs import NetworkSpec, Stage, stages
from manifold_lab.probe import zoo
from manifold_lab.report import terminal

NETWORK_HEAD = ("layer", "operator", "t", "c", "n", "s", "output", "parameters", "MAdds", "in + out", "shortcut")
WHOLE = ("parameters", "MAdds", "in_out")
"""Columns of whole numbers, by their names in programs."""
FOREIGN_HEAD = ("layer", "operator", "output", "parameters", "MAdds", "in + out")
TABLE_CONVENTION = (
    f"{profiler.COUNTING_CONVENTION} in + out: numbers that go in and come out of the operator, without weights."
)


def print_network(spec: NetworkSpec, quiet: bool, as_json: bool) -> None:
    """Print the table, the totals and the convention."""
    network = build(spec)
    _say((NETWORK_HEAD, network_rows(network)), totals(network), quiet, as_json)


def print_foreign(name: str, resolution: int, quiet: bool, as_json: bool) -> None:
    """Print the same of a network from elsewhere.

    Raises:
        InputError: where it does not exist, cannot be made, or has no operator that is counted.
    """
    subject = zoo.network(name, resolution=resolution)
    zoo.check_forward(subject, torch.device("cpu"))
    seen = profiler.profile(subject.model, subject.shape)
    counted = [one for one in seen if isinstance(one.module, profiler.OPERATOR_LAYERS)]
    rows = [[one.name, _operator(one), *_costs(one)] for one in counted]
    cost, whole = profiler.cost(seen), sum(parameter.numel() for parameter in subject.model.parameters())
    sums = (
        f"{whole:,} parameters, {cost.parameters:,} of them in these operators and in norms; {cost.madds:,} MAdds (and "
        f"{cost.norm_madds:,} of norms) for an image of {'x'.join(map(str, subject.shape))}"
    )
    _say((FOREIGN_HEAD, rows), sums, quiet, as_json)


def _say(table: tuple[Sequence[str], list[list[str]]], sums: str, quiet: bool, as_json: bool) -> None:
    """The table, the sums and what is counted."""
    head, rows = table
    if as_json:
        print_json(operators=_values(rows, head), sums=sums, convention=TABLE_CONVENTION)
        return
    console = Console()
    if not quiet:
        terminal.show(console, "", head, [rows])
    console.print(sums, highlight=False, soft_wrap=quiet)
    if not quiet:
        console.print(TABLE_CONVENTION, highlight=False)


def _values(rows: Sequence[Sequence[str]], head: Sequence[str]) -> list[dict[str, str | int]]:
    names = [name.replace(" + ", "_").replace(" ", "_") for name in head]
    return [
        {name: int(cell.replace(",", "")) if name in WHOLE else cell for name, cell in zip(names, row, strict=True)}
        for row in rows
    ]


def image_shape(network: Network) -> tuple[int, int, int]:
    """Channels, height and width of the image that a network is made for."""
    spec = network.spec
    return spec.in_channels, spec.resolution, spec.resolution


def cost_lines(network: Network) -> list[dict[str, str | int]]:
    """The table of `network_rows` with whole numbers, for programs."""
    return _values(network_rows(network), NETWORK_HEAD)


def network_rows(network: Network) -> list[list[str]]:
    """One line per operator, as a forward pass met it; t, c, which of n, s as in Table 2 on each block's first line."""
    spec, plan = network.spec, stages(network.spec)
    repeats = [f"{repeat + 1}/{count}" for _, _, count, _ in spec.rows for repeat in range(count)]
    lines, named = [], set()
    for seen in profiler.profile(network, image_shape(network), profiler.OPERATOR_LAYERS):
        block = ".".join(seen.name.split(".")[:2]) if seen.name.startswith("blocks.") else ""
        first = bool(block) and block not in named
        named.add(block)
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
    channels, *sides = seen.outputs
    size = "x".join(map(str, (*sides, channels) if len(sides) == 2 else seen.outputs))
    return [size, f"{seen.parameters:,}", f"{seen.madds:,}", f"{seen.elements:,}"]


def totals(network: Network) -> str:
    """Parameters, MAdds and the three memory peaks in words."""
    cost = profiler.cost(profiler.profile(network, image_shape(network)))
    operator, block = memory.peak_by_operator(network), memory.peak_by_block(network)
    return (
        f"{cost.parameters:,} parameters ({cost.parameters - cost.norm_parameters:,} without norms), "
        f"{cost.madds:,} MAdds (and {cost.norm_madds:,} of norms); Equation 2's peak: {operator.elements:,} numbers "
        f"operator by operator ({operator.name}), {block.elements:,} with a block as one operator ({block.name})"
    )
