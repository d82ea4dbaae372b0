"""The main door: python -m manifold_lab.spiral --dims 2 3 5 15 30.

Figure 1 of MobileNetV2 (arXiv:1801.04381), and how much was lost, where, by what, with what spread, against theory.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import Progress

from manifold_lab.activations import ACTIVATIONS, Activation
from manifold_lab.core.cli import run_cli
from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError, one_of
from manifold_lab.core.files import Writer, check_folder, publish, text
from manifold_lab.core.provenance import commit, versions
from manifold_lab.core.statistics import ResultRow
from manifold_lab.random_layer import figure1
from manifold_lab.random_layer.embeddings import LAWS
from manifold_lab.random_layer.layer import DECODERS
from manifold_lab.random_layer.manifolds import MANIFOLDS, ManifoldSpec, check_turns
from manifold_lab.random_layer.monte_carlo import (
    DTYPES,
    POINTS_PER_CHANNEL,
    MonteCarlo,
    MonteCarloLayer,
    input_information,
    layers,
    measure_layer,
)
from manifold_lab.report import plots, results_table, spiral_figure, tables


@dataclass(frozen=True)
class SpiralOptions:
    """How much an activation destroys of a manifold in a random embedding: Figure 1 of MobileNetV2, measured."""

    dims: Annotated[tuple[int, ...], tyro.conf.arg(metavar="M [M ...]")] = MonteCarlo.dims
    """Ambient dimensions m of the panels: one or more whole numbers of at least 1."""
    draws: int = MonteCarlo.draws
    """Random matrices T per dim."""
    points: int = MonteCarlo.points
    """Points of the manifold."""
    manifold: Annotated[str, tyro.conf.arg(metavar="NAME", help=f"One of: {', '.join(MANIFOLDS)}.")] = ManifoldSpec.name
    turns: Annotated[float | None, tyro.conf.arg(help=f"Turns of the spiral; {ManifoldSpec.turns:g} by default.")] = (
        None
    )
    radius: float = ManifoldSpec.radius
    """Largest |x| (a blob's standard deviation). Matters where an activation is not homogeneous, as ReLU6."""
    inputs: int | None = ManifoldSpec.inputs
    """Input dimension n, for a line, trigonometric curve, sphere or blob; by default each one's own."""
    embedding: Annotated[str, tyro.conf.arg(metavar="NAME", help=f"One of: {', '.join(LAWS)}.")] = MonteCarlo.embedding
    activation: Annotated[str, tyro.conf.arg(metavar="NAME", help=f"One of: {', '.join(ACTIVATIONS)}.")] = (
        MonteCarlo.activation
    )
    bias: float = MonteCarlo.bias
    """Added to every row before the activation."""
    decoder: Annotated[
        str, tyro.conf.arg(metavar="NAME", help=f"Of the picture's upper row, one of: {', '.join(DECODERS)}.")
    ] = "pinv"
    sigma: float = MonteCarlo.sigma
    """Noise for the mutual information, after scaling the code by sqrt(2/m)."""
    seed: int = MonteCarlo.seed
    """Equal seeds give equal csv files, byte for byte."""
    out: Path = Path("figures")
    """Folder for the figures, spiral.csv, spiral_points.csv and spiral.json."""
    formats: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FORMAT [FORMAT ...]")] = ("png", "pdf")
    """File formats of the figures: png, pdf, svg."""
    style: Annotated[str, tyro.conf.arg(metavar="VENUE", help=f"One of: {', '.join(plots.STYLES)}.")] = "cvpr2024"
    device: str = "cpu"
    """cpu, cuda or cuda:N; the random draws are the same on each."""
    dtype: Annotated[str, tyro.conf.arg(metavar="NAME", help=f"One of: {', '.join(DTYPES)}.")] = MonteCarlo.dtype

    @property
    def survey(self) -> MonteCarlo:
        """The part that changes numbers.

        Raises:
            InputError: for a value that is not allowed.
        """
        shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(MonteCarlo) if hasattr(self, f.name)}
        if self.turns is not None:
            check_turns(one_of("manifold", self.manifold, MANIFOLDS), self.turns)
        turns = ManifoldSpec.turns if self.turns is None else self.turns
        manifold = ManifoldSpec(self.manifold, turns, self.radius, self.inputs)
        return MonteCarlo(**shared | {"manifold": manifold})


def check_options(options: SpiralOptions) -> torch.device:
    """Refuse, before any work, what only the door knows: device, formats, style, decoder, folder.

    Raises:
        InputError: naming the option and what is allowed.
    """
    one_of("style", options.style, plots.STYLES)
    one_of("decoder", options.decoder, DECODERS)
    if not options.formats:
        raise InputError(f"formats: none given; allowed: {', '.join(plots.FORMATS)}")
    for name in options.formats:
        one_of("formats", name, plots.FORMATS)
    family, _, index = options.device.partition(":")
    one_of("device", family, ("cpu", "cuda"))
    found = torch.cuda.device_count() if family == "cuda" else 1
    if not (index or "0").isdigit() or int(index or "0") >= found:
        raise InputError(
            f"device: {options.device!r} is not on this machine; it has cpu and {torch.cuda.device_count()} cuda"
        )
    check_folder(options.out)
    return torch.device(options.device)


def check_decoder(options: SpiralOptions, layer: MonteCarloLayer) -> None:
    """Refuse a decoder that the activation, or the number of points, does not allow.

    Raises:
        InputError: naming the decoder and why.
    """
    name, activation = options.decoder, layer.activation
    if name == "preimage" and activation.folds:
        raise InputError(f"decoder: preimage needs an activation that does not fold; {activation.name} does")
    if name in layer.scales and layer.scales[name] is None:
        raise InputError(f"decoder: {name} does not exist for {activation.name} at dim {layer.dim}; use pinv")
    if name == "affine" and not layer.fits_affine:
        raise InputError(f"decoder: affine needs at least {POINTS_PER_CHANNEL} points per channel; raise --points")


def curve_dims(dims: tuple[int, ...], inputs: int, count: int = 12) -> tuple[int, ...]:
    """The dims asked for and enough others, evenly on a log axis, to draw curves through them."""
    low, high = min(dims), max(dims)
    if high < 4 * low:
        low, high = min(low, inputs), max(high, 4 * inputs)
    between = np.geomspace(low, high, count).round().astype(int).tolist()
    return tuple(sorted({*dims, *(dim for dim in between if all(abs(dim / asked - 1) > 0.08 for asked in dims))}))


def survey(
    spec: MonteCarlo, device: torch.device, activation: Activation | None = None
) -> tuple[list[ResultRow], dict[MonteCarloLayer, int]]:
    """Measure every dim asked for and those between; the rows, and the typical draw of each dim asked for.

    `activation`, from `activations.custom`, takes the place of the named one.

    Raises:
        InputError: as `survey.layers` does.
    """
    every = layers(dataclasses.replace(spec, dims=curve_dims(spec.dims, spec.inputs)), device, activation)
    rows, shown = [results_table.input_row(every[0], input_information(every[0]))], {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{spec.draws} draws per dim", total=spec.draws * len(every))
        for layer in every:
            measured = measure_layer(layer, lambda done: progress.advance(task, done))
            rows += results_table.rows(layer, measured, shown=layer.dim in spec.dims)
            if layer.dim in spec.dims:
                shown[layer] = results_table.typical_draw(measured)
    return rows, shown


def provenance(options: SpiralOptions) -> str:
    """Everything needed to run it again, as JSON: spec, options, versions, commit."""
    made = {
        "command": "python -m manifold_lab.spiral " + " ".join(_arguments(options)),
        "spec": dataclasses.asdict(options.survey),
        "key": key(options.survey),
        "dims_surveyed": curve_dims(options.dims, options.survey.inputs),
        "options": {
            "decoder": options.decoder,
            "formats": options.formats,
            "style": options.style,
            "device": options.device,
        },
        "versions": versions("numpy", "scipy", "matplotlib", "tueplots"),
        "commit": commit(),
    }
    return json.dumps(made, indent=2) + "\n"


def _arguments(options: SpiralOptions) -> list[str]:
    words = []
    for f in dataclasses.fields(options):
        value = getattr(options, f.name)
        if value is not None and f.name != "out":
            words += [f"--{f.name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def figures(options: SpiralOptions, points: tables.Lines, numbers: tables.Lines) -> dict[str, Writer]:
    """The two figures in every format asked for."""
    drawn = {
        "spiral": spiral_figure.draw_picture(points, numbers, options.style),
        "spiral_stats": spiral_figure.draw_statistics(numbers, options.style),
    }
    return {
        f"{stem}.{kind}": plots.writer(figure, options.style)
        for stem, figure in drawn.items()
        for kind in dict.fromkeys(options.formats)
    }


def print_results(options: SpiralOptions, numbers: tables.Lines, console: Console) -> None:
    """The table and the sentences."""
    dims = tuple(dict.fromkeys(options.dims))
    title = f"{options.activation} on a {options.manifold}, {options.draws} draws"
    console.print(
        tables.terminal(title, results_table.RESULT_HEAD, [results_table.summary_rows(numbers, dim) for dim in dims])
    )
    for dim in dims:
        console.print(results_table.dim_sentence(numbers, dim), highlight=False)


def run(options: SpiralOptions) -> None:
    """Measure, draw, write, say.

    Raises:
        InputError: for anything that the options ask for and cannot be had.
    """
    device = check_options(options)
    for layer in layers(options.survey, device):
        check_decoder(options, layer)
    rows, shown = survey(options.survey, device)
    numbers = [tables.record(row) for row in rows]
    points = figure1.figure1_points(shown, options.decoder)
    written = publish(
        options.out,
        {
            "spiral.csv": text(tables.to_csv(numbers)),
            "spiral_points.csv": text(tables.to_csv(points, figure1.POINT_COLUMNS)),
            "spiral.json": text(provenance(options)),
            **figures(options, points, numbers),
        },
    )
    console = Console()
    print_results(options, numbers, console)
    console.print("written: " + ", ".join(str(path) for path in written), highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    return run_cli(SpiralOptions, run, "manifold_lab.spiral", arguments)


if __name__ == "__main__":
    sys.exit(main())
