"""A study as one value, and the verbs that follow from it: plan, run, status, publish.

An experiment file holds what is its own (grid, measure, rows, figure, claims) and ends with
`sys.exit(main(STUDY))`; `python -m experiments.NAME VERB` does the rest, and without a verb runs and publishes.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.live import Live

from manifold_lab.core import provenance
from manifold_lab.core.cli import FIGURES, Presets, destination, run_cli
from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError, at_least
from manifold_lab.core.files import csv_text, publish, text
from manifold_lab.report import plots, tables, texts
from manifold_lab.report.tables import ClaimResult, Document, Lines
from manifold_lab.sweeps import launchers, runner, slurm, store, submissions, worker
from manifold_lab.sweeps.options import (
    CellOptions,
    GridOptions,
    PlanOptions,
    PublishOptions,
    RunAndPublishOptions,
    RunOptions,
    StatusOptions,
)
from manifold_lab.sweeps.status_table import LISTED, duration, how, labels, listing, state_counts, status_table
from manifold_lab.sweeps.store import DONE, QUEUED, RUNNING, Cell
from manifold_lab.sweeps.training_run import LENGTH
from manifold_lab.training import distributed

REFRESH = 2.0
"""Seconds between two looks of a live table."""
STYLE = "cvpr2024"


@dataclass(frozen=True)
class Study:
    """What an experiment is, whole.

    `rows` gets every cell of the grid in its order, whatever its state (`numbers` is empty unless it is done), and
    gives the lines of the csv; `figure`, `claims` and `document`, its table, see those lines alone. `measure` is a
    function of a module.
    """

    name: str
    card: str
    grid: Callable[[bool], tuple[Any, ...]]
    measure: runner.Measure
    rows: Callable[[Sequence[Cell]], Iterable[Mapping[str, str]]]
    figure: Callable[[Lines], Figure]
    claims: Callable[[Lines], Sequence[ClaimResult]]
    document: Callable[[Lines], Document] | None = None
    shelf: str = ""
    """The folder of its runs, where it is not its name: studies that share one share every run that they have alike."""
    at_scale: Callable[[str], tuple[Any, ...]] | None = None
    """The grid on a folder of pictures, at the paper's scale."""

    program: tuple[str, ...] = ()
    """The words behind python that start it, where it is not a module of experiments."""

    def specs(self, options: GridOptions) -> tuple[Any, ...]:
        """Every spec of the grid.

        Raises:
            InputError: for pictures where the study takes none, or together with smoke.
        """
        if not options.pictures:
            return self.grid(options.smoke)
        if self.at_scale is None or options.smoke:
            what = "--smoke" if self.at_scale else self.name
            raise InputError(f"pictures: {what} takes none; leave it out")
        return self.at_scale(options.pictures)

    def cells(self, options: GridOptions) -> list[Cell]:
        """How every cell of the grid stands, in the queue too.

        Raises:
            InputError: as `specs`, and where cells were submitted and the queue does not answer.
        """
        folder = self.folder(options)
        return submissions.view(folder, store.read_runs(folder, self.specs(options)))

    def command(self, options: GridOptions) -> runner.Program:
        """How another process runs cells of the same grid."""
        words = ["--smoke"] if options.smoke else []
        words += ["--pictures", options.pictures] if options.pictures else []
        start = self.program or ("-m", f"experiments.{self.name}")
        return runner.Program(self.name, start, (*words, "--runs", str(options.runs)))

    def folder(self, options: GridOptions) -> Path:
        """Where its runs are."""
        return options.runs / (self.shelf or self.name)


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
    slurm.defaults()  # refused here where it cannot be read; the other verbs do without
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
    return runner.Work(study.measure, options.workers, study.command(options), options.processes_per_cell,
                      options.cells_per_job, options.slurm, wait, study.folder(options))  # fmt: skip


def run_cells(study: Study, options: CellOptions) -> int:
    """Run the cells that are named, or those of this process's job; another status where one did not end well."""
    folder, specs, states = study.folder(options), {key(spec): spec for spec in study.specs(options)}, []
    with distributed.join_processes():
        cells = worker.of_this_job(folder, specs) if options.job else worker.runs_named(folder, specs, options.keys)
        for cell in worker.work_through(runner.Work(study.measure), cells, patient=options.job):
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
    """Write csv, figure and claims, and fill the blocks of the texts beside the folder of figures.

    Raises:
        InputError: before any cell is done.
    """
    cells, out = study.cells(options), destination(options.out, options.smoke)
    rows = list(study.rows(cells))
    if not rows:
        raise InputError(f"{study.name}: no cell is done yet; run python -m experiments.{study.name} run")
    content = csv_text(rows, list(dict.fromkeys(name for row in rows for name in row)))
    lines = tables.read_csv(content)  # the figure sees what a reader of the csv sees
    figure, judged = study.figure(lines), study.claims(lines)
    done = [cell.provenance for cell in cells if cell.state == DONE]
    written = publish(
        out,
        {
            f"{study.name}.csv": text(content),
            **tables.claims_file(study.name, judged, provenance.joined(done)),
            **plots.figure_files(figure, study.name, STYLE),
            **(tables.typeset(study.name, study.document(lines)) if study.document else {}),
        },
    )
    console = Console()
    for claim in judged:
        console.print(tables.claim_sentence(claim.record()), highlight=False, soft_wrap=True)
    commits = {run["commit"] for run in done}
    console.print(
        f"{state_counts(cells)}, of {len(commits)} commits; written: {', '.join(map(str, written))}", soft_wrap=True
    )
    if out.name == FIGURES.name and (out.parent / texts.TEXTS[-1]).exists() and not options.smoke:
        texts.run(texts.ReportOptions(root=out.parent))


def main(study: Study, arguments: list[str] | None = None) -> int:
    """The command line of a study; its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    verbs: Presets[GridOptions] = {
        "plan": ("what would run, and for how long", PlanOptions()),
        "run": ("run what is missing", RunOptions()),
        "cell": ("run some cells by key, for other schedulers", CellOptions()),
        "status": ("how every cell stands", StatusOptions()),
        "publish": ("csv, figure, claims", PublishOptions()),
    }
    bare = not words or (words[0].startswith("--") and "--help" not in words)
    return run_cli(
        RunAndPublishOptions if bare else verbs,
        lambda options: _act(study, options),
        f"experiments.{study.name}",
        words,
    )


def _act(study: Study, options: GridOptions) -> int:
    failed = run(study, options) if isinstance(options, RunOptions) else 0
    if isinstance(options, PublishOptions):
        publish_study(study, options)
    elif isinstance(options, RunOptions) and options.smoke and all(cell.state == DONE for cell in study.cells(options)):
        publish_study(
            study, PublishOptions(smoke=True, runs=options.runs)
        )  # to see that it runs is to see what comes out
    elif isinstance(options, StatusOptions):
        status(study, options)
    elif isinstance(options, CellOptions):
        return run_cells(study, options)
    elif type(options) is PlanOptions:
        plan(study, options)
    return failed
