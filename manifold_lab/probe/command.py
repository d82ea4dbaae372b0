"""Look inside any network: python -m manifold_lab.probe --model torchvision:mobilenet_v2 --data FOLDER.

Which layer loses information, and how do we know: a table and a figure, layer by layer. From Python:
`with Probe(model, layers=..., measures=...) as probe: model(x)`, then `probe.table()` (see `manifold_lab.probe`).
"""

import dataclasses
import functools
import json
import operator
from pathlib import Path

import torch
from rich.console import Console

from manifold_lab import data
from manifold_lab.core import provenance
from manifold_lab.core.devices import find_device
from manifold_lab.core.errors import one_of
from manifold_lab.core.files import publish, text
from manifold_lab.core.progress import progress
from manifold_lab.core.shown import frame, print_json
from manifold_lab.probe import LAYER_KINDS, MEASURES, LayerRow, Probe, Sampling, zoo
from manifold_lab.probe.curve import Curve, information_along
from manifold_lab.probe.options import ProbeOptions, check_options
from manifold_lab.probe.zoo import LoadedModel
from manifold_lab.report import tables, terminal
from manifold_lab.sweeps import training_run

STEM = "probe"
INFORMATION = "information"
NO_THRESHOLD = ("No layer here has a threshold of Lemma 2: none is an activation behind a 1x1 convolution or linear "
                "layer with nothing, or a batch norm, in between.")  # fmt: skip
TERMINAL_COLUMNS = ("layer", "channels", "threshold", "active_min", "active_mean", "below_threshold", "never_active",
         "full_rank",
         "condition", "inversion_error", "mle", "two_nn", "participation_ratio", "saturation", "input_dimension", "kept",  # noqa: E501
         "ridge_r2", "imbalance_back", "information",
         "certified", "least_singular_value", "margin", "verdict", "note")  # fmt: skip
"""Columns of the terminal's table, as far as they were measured; the csv has all."""


def check(options: ProbeOptions) -> torch.device:
    """Refuse, before any work, what options.check_options leaves.

    Raises:
        InputError: naming the option and what is allowed.
    """
    if options.data != zoo.NOISE and not Path(options.data).exists() and ":" not in options.data:
        one_of("data", options.data, (*data.NAMES[:-1], zoo.NOISE))
    from manifold_lab.report.styles import STYLES  # noqa: PLC0415  (the probe is below the report)

    if options.style:
        one_of("style", options.style, STYLES)
    return find_device(options.device)


def probe_images(options: ProbeOptions, subject: LoadedModel, device: torch.device) -> tuple[list[LayerRow], Probe]:
    """The table of everything asked for, and the probe that made it.

    Raises:
        InputError: for data or layers that cannot be had.
    """
    measures = [name for name in dict.fromkeys(options.measures) if name != INFORMATION]
    sampling = Sampling(positions=options.positions, seed=options.seed, per_image=options.per_image)
    shown = zoo.batches(subject, options.data, options.images, options.batch, options.seed)
    subject.model.to(device)
    zoo.check_forward(subject, device)
    first = None
    batches = -(-options.images // options.batch)
    watched = Probe(subject.model, options.layers, measures, sampling)
    with torch.inference_mode(), watched as probe, progress(batches, "batches", options.quiet) as advance:
        for x in shown:
            first = x[0] if first is None else first
            subject.model(x.to(device))
            advance(1)
    with progress(len(probe.layers), "layers measured", options.quiet) as measured:
        rows = probe.table(measured)
    if INFORMATION in options.measures and first is not None:
        curve = Curve(points=options.points, space=options.space, seed=options.seed)
        with torch.inference_mode():
            along = information_along(subject.model, first.to(device), curve, options.layers)
        found = {row["layer"]: row for row in along}
        rows = [row | {name: found.get(row["layer"], {}).get(name) for name in MEASURES[INFORMATION].columns}
                for row in rows]  # fmt: skip
    return rows, probe


def histogram(probe: Probe) -> list[tables.Record]:
    """Every count of active channels that any position had."""
    return [
        {"layer": layer.name, "active": active, "positions": positions}
        for layer in probe.layers.values()
        if layer.counts is not None
        for active, positions in enumerate(layer.counts.histogram.tolist())
        if positions
    ]


def summary_text(found: list[tables.Record]) -> str:
    """The sentence that a reader wants first: which layer falls below its threshold most, or loses most."""
    judged = [row for row in found if _known(row, "below_threshold")]
    below, sentences = [row for row in judged if row["below_threshold"]], []
    if below:
        worst = max(below, key=operator.itemgetter("below_threshold"))
        sentences.append(
            f"{len(below)} of {sum(_known(row, 'threshold') for row in found)} layers with a threshold of Lemma 2 "
            f"have positions below it; most: {worst['layer']}, {tables.percent(worst['below_threshold'])} of them."
        )
    elif judged:
        sentences.append("No position of any layer with a threshold of Lemma 2 is below it.")
    elif not any(_known(row, "threshold") for row in found):
        sentences.append(NO_THRESHOLD)
    ranked = [row for row in found if _known(row, "kept")]
    if ranked:
        worst = min(ranked, key=operator.itemgetter("kept"))
        sentences.append(
            f"Fewest active rows for the dimension k of its input: {worst['layer']}, enough at "
            f"{tables.percent(worst['kept'])} of positions at most, k being "
            f"{tables.written(worst['input_dimension'])} at least (neighbours read high dimensions low)."
        )
    return " ".join(sentences)


def _known(row: tables.Record, name: str) -> bool:
    return tables.written(row.get(name)) != ""


def caption(options: ProbeOptions, found: list[LayerRow]) -> str:
    """On what the figure rests."""
    source = Path(options.data).name if Path(options.data).exists() else options.data
    bands = "bands are over all positions of all images"
    return f"{options.images} images at most of {source}; {bands}; {len(found)} layers"


def run(options: ProbeOptions) -> None:
    """Look, write, draw, say.

    Raises:
        InputError: for anything that the options ask for and cannot be had.
    """
    check_options(options)
    device = check(options)
    stored = functools.partial(training_run.trained_network, options.runs)
    source = zoo.Source(options.weights, options.strip, options.seed, stored)
    subject = zoo.network(options.model, source, resolution=options.resolution)
    console = Console()
    if options.list:
        listed(subject, console, options.json)
        return
    rows, probe = probe_images(options, subject, device)
    from manifold_lab.report import layer_figure, plots  # noqa: PLC0415  (who uses the library from here draws nothing)

    figure = layer_figure.draw_layers(frame(rows), subject.description, caption(options, rows), options.style)
    written = publish(options.out, {
        f"{STEM}.csv": text(tables.to_csv(rows)),
        f"{STEM}_histogram.csv": text(tables.to_csv(histogram(probe), ("layer", "active", "positions"))),
        f"{STEM}.json": text(origin(options)),
        **plots.figure_files(figure, STEM, options.style),
    })  # fmt: skip
    if options.json:
        print_json(layers=rows, sentences=summary_text(rows), written=written)
        return
    if not options.quiet:
        conclusion(subject, rows, console)
    console.print("written: " + ", ".join(map(str, written)), highlight=False, soft_wrap=True)


def origin(options: ProbeOptions) -> str:
    """Everything needed to run it again, as JSON."""
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in
             dataclasses.asdict(options).items() if name not in ("out", "quiet", "json")}  # fmt: skip
    known = {"command": "python -m manifold_lab.probe", "options": asked, "commit": provenance.commit(),
             "versions": provenance.versions("numpy", "scipy", "scikit-learn", "matplotlib")}  # fmt: skip
    return json.dumps(known, indent=2) + "\n"


def conclusion(subject: LoadedModel, found: list[LayerRow], console: Console) -> None:
    """The table and the sentences."""
    head = [name for name in TERMINAL_COLUMNS if name in found[0] and (name in ("layer", "channels") or any(
        tables.written(row[name]) != "" for row in found))]  # fmt: skip
    body = [[tables.cell(row[name]) for name in head] for row in found]
    terminal.show(console, subject.description, [name.replace("_", " ") for name in head], [body])
    console.print(summary_text(found), highlight=False)


def listed(subject: LoadedModel, console: Console, as_json: bool = False) -> None:
    """Every layer that could be looked at, as one small forward pass meets it, and the measures."""
    zoo.check_forward(subject, torch.device("cpu"))
    with torch.inference_mode(), Probe(subject.model, ("*", LAYER_KINDS[0]), ()) as probe:
        subject.model(torch.zeros((2, *subject.shape)))
    body = [[layer.name, layer.kind, ", ".join(layer.kinds) or tables.MISSING,
             "x".join(map(str, layer.shape)), str(layer.chain.inputs or tables.MISSING) if layer.window else ""]
            for layer in probe.layers.values()]  # fmt: skip
    head = ("layer", "type", "kinds", "output", "threshold")
    if as_json:
        print_json(layers=[dict(zip(head, row, strict=True)) for row in body], measures=list(MEASURES))
        return
    terminal.show(console, subject.description, head, [body])
    for name, measure in MEASURES.items():
        first = (measure.compute.__doc__ or "").partition("\n")[0]
        console.print(f"{name}: {first}", highlight=False, soft_wrap=True)
