"""The commands of a study: plan, run, cell, status, publish."""

import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live

from manifold_lab.core import provenance
from manifold_lab.core.cli import FIGURES, Presets, destination, run_cli
from manifold_lab.core.config import key
from manifold_lab.core.durations import duration
from manifold_lab.core.errors import InputError, at_least
from manifold_lab.core.files import Writer, csv_text, publish, text
from manifold_lab.report import plots
from manifold_lab.report.tables import ClaimResult, Document, claim_sentence, claims_file, read_csv, typeset
from manifold_lab.sweeps import launchers, runner, slurm, store, worker
from manifold_lab.sweeps.options import (
    CellOptions,
    GridOptions,
    PlanOptions,
    PublishOptions,
    RunAndPublishOptions,
    RunOptions,
    StatusOptions,
)  # fmt: skip
from manifold_lab.sweeps.status_table import LISTED, how, labels, listing, state_counts, status_table
from manifold_lab.sweeps.store import DONE, QUEUED, RUNNING, Cell
from manifold_lab.sweeps.study import MAIN, Published, Study, as_published, by_part, file_stem
from manifold_lab.sweeps.training_run import LENGTH
from manifold_lab.training import distributed

REFRESH = 2.0
"""Seconds between two looks of a live table."""


def plan(study: Study, options: PlanOptions) -> None:
    """Say what would run and, from what finished runs took, how long."""
    at_least("workers", options.workers, 1)
    cells = study.cells(options)
    wanted = runner.missing(cells)
    told = runner.costs([cell.spec for cell in wanted], store.stored(study.folder(options)).values(), LENGTH)
    console = Console()
    console.print(card(study, cells), highlight=False, markup=False, soft_wrap=True)
    rows = [[cell.key, label, duration(cost[0]) if cost else "–"]
            for cell, label, cost in zip(wanted[:LISTED], labels(wanted[:LISTED]), told, strict=False)]  # fmt: skip
    console.print(listing(f"{study.name}: what would run", ("key", "cell", "estimate"), rows, len(wanted)))
    console.print(state_counts(cells))
    known = [cost for cost in told if cost]
    if wanted and known:
        apart = max(fields for _, fields in known)
        total = sum(seconds for seconds, _ in known) / min(options.workers, len(wanted))
        from_what = f"from finished runs that differ in {apart} fields besides seed and length at most"
        console.print(f"about {duration(total)} with {options.workers} at a time, {from_what}", highlight=False)
    elif wanted:
        console.print("what it takes is not known before a first run is finished")


def card(study: Study, cells: Sequence[Cell]) -> str:
    """The lab card, and on its last line what the finished cells of the grid took."""
    done = [cell.provenance for cell in cells if cell.state == DONE]
    made = provenance.joined(done)
    took = "at least " * made.least + duration(made.seconds)
    known = f"{took} for {len(done)} of {len(cells)} cells, on {', '.join(made.devices)}"
    return f"{study.card.strip()}\nCost     {known if done else 'not known before a first run is finished'}"


def run(study: Study, options: RunOptions) -> int:
    """Run what is missing; 1 where a cell did not end well.

    Raises:
        KeyboardInterrupt: saying that what is finished is kept.
    """
    for name in ("workers", "processes_per_cell", "cells_per_job"):
        at_least(name, getattr(options, name), 1)
    name = options.launcher or ("here" if options.workers == 1 else "pool")
    launch = launchers.find(name)
    slurm.defaults()  # refused here where it cannot be read; the other commands do without
    cells = _only(study.cells(options), options.only)
    wanted = runner.missing(cells, options.retry_failed, options.retry_damaged)
    console, ended, queued = Console(stderr=name == "print"), [], 0
    console.print(f"{study.name}: {len(wanted)} to run; {state_counts(cells)}", highlight=False)
    try:
        with contextlib.closing(launch(_work(study, options), wanted)) as launched:
            for cell in launched:
                if cell.state == QUEUED:
                    queued += 1
                    continue
                ended.append(cell)
                line = f"{len(ended)}/{len(wanted)} {cell.key} {cell.state} {how(cell)}"
                console.print(line, highlight=False, markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        told = f"{len(ended)} of {len(wanted)} had ended; what is done is kept, run again to go on"
        raise KeyboardInterrupt(told) from None
    if queued > len(ended):
        console.print(f"{queued} queued; ask status how they stand, and publish when they are done", highlight=False)
    passed_over = runner.left_over(cells, wanted)
    if passed_over:
        console.print(passed_over, highlight=False, markup=False, soft_wrap=True)
    return int(bool(passed_over) or any(cell.state not in (DONE, RUNNING) for cell in ended))


def _work(study: Study, options: RunOptions) -> runner.Work:
    wait = options.wait or isinstance(options, PublishOptions)
    return runner.Work(study.measure_for(options), options.workers, study.start(options), options.processes_per_cell,
                      options.cells_per_job, options.slurm, wait, study.folder(options))  # fmt: skip


def run_cells(study: Study, options: CellOptions) -> int:
    """Run the cells that are named, or those of this process's job; another status where one did not end well."""
    folder, specs, states = study.folder(options), {key(spec): spec for spec in study.specs(options)}, []
    with distributed.join_processes():
        cells = worker.of_this_job(folder, specs) if options.job else worker.runs_named(folder, specs, options.keys)
        for cell in worker.work_through(runner.Work(study.measure_for(options)), cells, patient=options.job):
            states.append(cell.state)
            print(cell.key, cell.state, how(cell), flush=True)
    if all(state in (DONE, RUNNING) for state in states):
        return 0
    return worker.SOME_FAILED if options.job else 1


def _only(cells: list[Cell], beginning: str) -> list[Cell]:
    found = [cell for cell in cells if cell.key.startswith(beginning)]
    if beginning and len(found) != 1:
        raise InputError(f"only: {beginning!r} begins {len(found)} keys of this grid; status and plan name them")
    return found


def status(study: Study, options: StatusOptions) -> None:
    """Say how the cells stand; on a terminal, for as long as any of them runs."""
    console = Console()
    cells = study.cells(options)
    if not console.is_terminal or all(cell.state != RUNNING for cell in cells):
        console.print(status_table(study.name, cells, options.every))
        return
    with Live(status_table(study.name, cells, options.every), console=console, auto_refresh=False) as live:
        while any(cell.state == RUNNING for cell in cells):
            time.sleep(REFRESH)
            cells = study.cells(options)
            live.update(status_table(study.name, cells, options.every), refresh=True)


def publish_study(study: Study, options: PublishOptions) -> None:
    """Write csv files, figure, tables, claims and text; the texts of the checkout are `report`'s to fill.

    Raises:
        InputError: before any run is done, or where there is no csv file to draw anew from.
    """
    out = destination(options.out, options.smoke)
    if options.redraw:
        tables, made, says = read_tables(study, out), None, "drawn anew from the csv files"
    else:
        cells = study.cells(options) if study.stored else computed(study, options)
        tables, says = rows_of(study, cells), state_counts(cells)
        made = provenance.joined([cell.provenance for cell in cells if cell.state == DONE])
    published = as_published({part: read_csv(content) for part, content in tables.items()})
    judged = study.claims(published)  # figure, tables and claims see what a reader of the csv files sees
    check_ids(study, judged)
    files = {f"{file_stem(study.name, part)}.csv": text(content) for part, content in tables.items()}
    files = {} if options.redraw else files
    files |= claims_file(study.name, judged, made)
    files |= _drawn(study, published, options.style)
    written = publish(out, files)
    console = Console()
    for claim in judged:
        console.print(claim_sentence(claim.record()), highlight=False, markup=False, soft_wrap=True)
    console.print(f"{says}; written: {', '.join(map(str, written))}", soft_wrap=True)
    if out.name == FIGURES.name and not options.smoke:
        console.print("now run manifold-lab report, which fills the texts", highlight=False)


def _drawn(study: Study, published: Published, style: str) -> dict[str, Writer]:
    """The figure, the tables and the text."""
    files: dict[str, Writer] = {}
    if study.figure is not None:
        with plots.venue(style):
            files |= plots.figure_files(study.figure(published), study.name, style)
    made = study.table(published) if study.table else {}
    for part, document in ({MAIN: made} if isinstance(made, Document) else made).items():
        files |= typeset(file_stem(study.name, part), document)
    if study.text is not None:
        files[f"{study.name}_text.md"] = text(study.text(published).rstrip() + "\n")
    return files


def rows_of(study: Study, cells: Sequence[Cell]) -> dict[str, str]:
    """The content of each csv file, by the part of its name.

    Raises:
        InputError: where no run is done yet.
    """
    tables = by_part(study.rows(cells))
    if not any(tables.values()):
        raise InputError(f"{study.name}: no run is done yet; run {study.command} run")
    return {
        part: csv_text(lines, list(dict.fromkeys(name for line in lines for name in line)))
        for part, lines in tables.items()
    }


def read_tables(study: Study, folder: Path) -> dict[str, str]:
    """The content of each csv file that is there, by the part of its name.

    Raises:
        InputError: where one is missing.
    """
    paths = {part: folder / f"{file_stem(study.name, part)}.csv" for part in study.parts}
    missing = [path for path in paths.values() if not path.is_file()]
    if missing:
        raise InputError(f"redraw: there is no {missing[0]}; publish it first")
    return {part: path.read_text(encoding="utf-8") for part, path in paths.items()}


def computed(study: Study, options: GridOptions) -> list[Cell]:
    """The runs of a study that keeps none, made now in a folder that goes.

    Raises:
        InputError: where one does not end well.
    """
    work = runner.Work(study.measure_for(options))
    with tempfile.TemporaryDirectory() as folder:
        found = [store.state(spec, Path(folder) / key(spec)) for spec in study.specs(options)]
        ended = [runner.run_cell(work, cell) for cell in found]
    for cell in ended:
        if cell.state != DONE:
            raise InputError(f"{study.name}: {cell.note}")
    return ended


def check_ids(study: Study, judged: Sequence[ClaimResult]) -> None:
    """Refuse two claims of one id, and an id that does not begin with the study's name.

    Raises:
        InputError: naming the id.
    """
    seen: set[str] = set()
    for claim in judged:
        if not claim.id.startswith(f"{study.name}.") or claim.id in seen:
            raise InputError(f"claims: the id {claim.id!r} is not allowed twice in {study.name}, nor another study's")
        seen.add(claim.id)


def main(study: Study, arguments: list[str] | None = None) -> int:
    """The command line of a study; its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    commands: Presets[GridOptions] = {
        "plan": ("what would run, and for how long", PlanOptions()),
        "run": ("run what is missing", RunOptions()),
        "cell": ("run some cells by key, for other schedulers", CellOptions()),
        "status": ("how every cell stands", StatusOptions()),
        "publish": ("csv, figure, claims", PublishOptions()),
    }
    bare = not words or (words[0].startswith("--") and "--help" not in words)
    program = f"experiments.{study.name}"
    return run_cli(RunAndPublishOptions if bare else commands, lambda options: _act(study, options), program, words)


def _act(study: Study, options: GridOptions) -> int:
    if not study.stored:
        return _act_unstored(study, options)
    failed = run(study, options) if isinstance(options, RunOptions) else 0
    if isinstance(options, PublishOptions):
        publish_study(study, options)
    elif isinstance(options, RunOptions) and options.smoke and all(cell.state == DONE for cell in study.cells(options)):
        publish_study(study, PublishOptions(smoke=True, runs=options.runs))  # a smoke run shows what comes out
    elif isinstance(options, StatusOptions):
        status(study, options)
    elif isinstance(options, CellOptions):
        return run_cells(study, options)
    elif type(options) is PlanOptions:
        plan(study, options)
    return failed


def _act_unstored(study: Study, options: GridOptions) -> int:
    """A study that keeps no runs makes them when it publishes, and has nothing else to say."""
    if isinstance(options, PublishOptions):
        publish_study(study, options)
    elif isinstance(options, RunOptions):
        publish_study(study, PublishOptions(smoke=options.smoke, images=options.images, weights=options.weights))
    else:
        print(f"{study.card.strip()}\n{study.name} keeps no runs: publish computes it anew, in seconds to minutes")
    return 0
