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

OperatorLine = dict[str, str | int]
"""An operator's numbers, by column."""
TABLE_CONVENTION = (
    f"{profiler.COUNTING_CONVENTION} in + out: numbers that go in and come out of the operator, without weights."
)


def print_network(spec: NetworkSpec, quiet: bool, as_json: bool) -> None:
    """Print the table, the totals and the convention."""
    network = build(spec)
    _say(cost_lines(network), totals(network), quiet, as_json)


def print_foreign(name: str, resolution: int, quiet: bool, as_json: bool) -> None:
    """Print the same of a network from elsewhere.

    Raises:
        InputError: where it does not exist, cannot be made, or has no operator that is counted.
    """
    subject = zoo.network(name, resolution=resolution)
    zoo.check_forward(subject, torch.device("cpu"))
    seen = profiler.profile(subject.model, subject.shape)
    counted = [one for one in seen if isinstance(one.module, profiler.OPERATOR_LAYERS)]
    lines = [{"layer": one.name, "operator": _operator(one), **_costs(one)} for one in counted]
    cost, whole = profiler.cost(seen), sum(parameter.numel() for parameter in subject.model.parameters())
    sums = (
        f"{whole:,} parameters, {cost.parameters:,} of them in these operators and in norms; {cost.madds:,} MAdds (and "
        f"{cost.norm_madds:,} of norms) for an image of {'x'.join(map(str, subject.shape))}"
    )
    _say(lines, sums, quiet, as_json)


def displayed(lines: Sequence[OperatorLine]) -> tuple[list[str], list[list[str]]]:
    """Lines for readers: the head, and the cells."""
    head = [name.replace("_", " + ") for name in lines[0]] if lines else []
    return head, [[f"{cell:,}" if isinstance(cell, int) else cell for cell in line.values()] for line in lines]


def _say(lines: list[OperatorLine], sums: str, quiet: bool, as_json: bool) -> None:
    """The table, the sums and what is counted."""
    if as_json:
        print_json(operators=lines, sums=sums, convention=TABLE_CONVENTION)
        return
    console = Console()
    if not quiet:
        head, rows = displayed(lines)
        terminal.show(console, "", head, [rows])
    console.print(sums, highlight=False, soft_wrap=quiet)
    if not quiet:
        console.print(TABLE_CONVENTION, highlight=False)


def cost_lines(network: Network) -> list[OperatorLine]:
    """One line per operator, as a forward pass met it; t, c, which of n, s as in Table 2 on each block's first line."""
    plan = stages(network.spec)
    repeats = [f"{repeat + 1}/{count}" for _, _, count, _ in network.spec.rows for repeat in range(count)]
    lines: list[OperatorLine] = []
    named = set()
    for seen in profiler.profile(network, network.spec.image_shape, profiler.OPERATOR_LAYERS):
        place, shortcut = dict.fromkeys("tcns", ""), ""
        block = seen.name.split(".")[1] if seen.name.startswith("blocks.") else ""
        if block and block not in named:
            stage = plan[int(block)]
            place = {
                "t": f"{stage.expansion:g}",
                "c": str(stage.outputs),
                "n": repeats[int(block)],
                "s": str(stage.stride),
            }
            shortcut = _shortcut(stage)
            named.add(block)
        lines.append({"layer": seen.name, "operator": _operator(seen), **place, **_costs(seen), "shortcut": shortcut})
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


def _costs(seen: LayerProfile) -> OperatorLine:
    channels, *sides = seen.outputs
    size = "x".join(map(str, (*sides, channels) if len(sides) == 2 else seen.outputs))
    return {"output": size, "parameters": seen.parameters, "MAdds": seen.madds, "in_out": seen.elements}


def totals(network: Network) -> str:
    """Parameters, MAdds and the three memory peaks in words."""
    cost = profiler.cost(profiler.profile(network, network.spec.image_shape))
    operator, block = memory.peak_by_operator(network), memory.peak_by_block(network)
    return (
        f"{cost.parameters:,} parameters ({cost.parameters - cost.norm_parameters:,} without norms), "
        f"{cost.madds:,} MAdds (and {cost.norm_madds:,} of norms); Equation 2's peak: {operator.elements:,} numbers "
        f"operator by operator ({operator.name}), {block.elements:,} with a block as one operator ({block.name})"
    )
