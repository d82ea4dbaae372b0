"""What the spiral's command does: measure every dim, draw the figures, write the files, print the table."""

import dataclasses
import json

import numpy as np
import torch
from rich.console import Console

from manifold_lab.activations import Activation
from manifold_lab.core.config import key
from manifold_lab.core.devices import find_device
from manifold_lab.core.errors import InputError
from manifold_lab.core.files import Writer, publish, text
from manifold_lab.core.progress import progress
from manifold_lab.core.provenance import commit, versions
from manifold_lab.core.shown import DataFrame, frame, print_json, records
from manifold_lab.core.statistics import ResultRow
from manifold_lab.random_layer import figure1, monte_carlo
from manifold_lab.random_layer.monte_carlo import MonteCarloLayer
from manifold_lab.random_layer.specs import MonteCarlo
from manifold_lab.report import plots, results_table, spiral_figure, tables, terminal
from manifold_lab.spiral.command import SpiralOptions

UNTOLD = ("out", "quiet", "json")
"""Options that change no number and no figure."""


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
        least = monte_carlo.POINTS_PER_CHANNEL
        raise InputError(f"decoder: affine needs at least {least} points per channel; raise --points")


def curve_dims(dims: tuple[int, ...], inputs: int, count: int = 12) -> tuple[int, ...]:
    """The dims asked for and enough others, evenly on a log axis, to draw curves through them."""
    low, high = min(dims), max(dims)
    if high < 4 * low:
        low, high = min(low, inputs), max(high, 4 * inputs)
    between = np.geomspace(low, high, count).round().astype(int).tolist()
    return tuple(sorted({*dims, *(dim for dim in between if all(abs(dim / asked - 1) > 0.08 for asked in dims))}))


def survey(
    spec: MonteCarlo, device: torch.device, activation: Activation | None = None, quiet: bool = False
) -> tuple[list[ResultRow], dict[MonteCarloLayer, int]]:
    """Measure every dim asked for and those between; the rows, and the typical draw of each dim asked for.

    `activation`, from `activations.custom`, takes the place of the named one; `quiet` shows no progress.

    Raises:
        InputError: as `survey.layers` does.
    """
    every = monte_carlo.layers(dataclasses.replace(spec, dims=curve_dims(spec.dims, spec.inputs)), device, activation)
    rows, shown = [results_table.input_row(every[0], monte_carlo.input_information(every[0]))], {}
    with progress(spec.draws * len(every), f"draws, of {len(every)} dims", quiet) as advance:
        for layer in every:
            measured = monte_carlo.measure_layer(layer, advance)
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
        "options": {name: getattr(options, name) for name in ("decoder", "formats", "style", "device")},
        "versions": versions("numpy", "scipy", "matplotlib", "tueplots"),
        "commit": commit(),
    }
    return json.dumps(made, indent=2) + "\n"


def _arguments(options: SpiralOptions) -> list[str]:
    arguments = []
    for f in dataclasses.fields(options):
        value = getattr(options, f.name)
        if value is not None and f.name not in UNTOLD:
            arguments += [f"--{f.name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return arguments


def figures(options: SpiralOptions, points: DataFrame, numbers: DataFrame) -> dict[str, Writer]:
    """The two figures in every format asked for."""
    panels = spiral_figure.draw_figure(points, numbers, options.style)
    statistics = spiral_figure.draw_statistics(numbers, options.style)
    files = plots.figure_files(panels, "spiral", options.style, options.formats)
    return files | plots.figure_files(statistics, "spiral_stats", options.style, options.formats)


def dims_shown(options: SpiralOptions) -> tuple[int, ...]:
    """The dims asked for, each once."""
    return tuple(dict.fromkeys(options.dims))


def sentences(options: SpiralOptions, numbers: DataFrame) -> list[str]:
    """One for each dim asked for."""
    return [results_table.dim_sentence(numbers, dim) for dim in dims_shown(options)]


def print_results(options: SpiralOptions, numbers: DataFrame, console: Console) -> None:
    """The table and the sentences."""
    title = f"{options.activation} on a {options.manifold}, {options.draws} draws"
    sections = [results_table.summary_rows(numbers, dim) for dim in dims_shown(options)]
    terminal.show(console, title, results_table.RESULT_HEAD, sections)
    for sentence in sentences(options, numbers):
        console.print(sentence, highlight=False)


def measured_tables(options: SpiralOptions) -> tuple[DataFrame, DataFrame]:
    """The rows of spiral.csv and of spiral_points.csv, to the digits that are written.

    Raises:
        InputError: for anything that the options ask for and cannot be had.
    """
    device = find_device(options.device)
    for layer in monte_carlo.layers(options.survey, device):
        check_decoder(options, layer)
    rows, shown = survey(options.survey, device, quiet=options.quiet)
    numbers = tables.read_csv(tables.to_csv([tables.record(row) for row in rows]))
    return numbers, frame(figure1.figure1_points(shown, options.decoder))


def files(options: SpiralOptions, numbers: DataFrame, points: DataFrame) -> dict[str, Writer]:
    """Everything that the command writes."""
    return {
        "spiral.csv": text(tables.to_csv(numbers)),
        "spiral_points.csv": text(tables.to_csv(points)),
        "spiral.json": text(provenance(options)),
        **figures(options, points, numbers),
    }


def run(options: SpiralOptions) -> None:
    """Measure, draw, write and print.

    Raises:
        InputError: for anything that the options ask for and cannot be had.
    """
    numbers, points = measured_tables(options)
    written = publish(options.out, files(options, numbers, points))
    if options.json:
        print_json(estimates=records(numbers), sentences=sentences(options, numbers), written=written)
        return
    console = Console()
    if not options.quiet:
        print_results(options, numbers, console)
    console.print("written: " + ", ".join(map(str, written)), highlight=False, soft_wrap=True)
