"""A study as one value, and the verbs that follow from it: plan, run, status, publish.

An experiment file holds what is its own (grid, measure, rows, figure, claims) and ends with
`sys.exit(main(STUDY))`; `python -m experiments.NAME VERB` does the rest, and without a verb runs and publishes.
"""

import contextlib
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from manifold_lab import plots, provenance, report, store, sweep, tables
from manifold_lab.doors import Presets, enter
from manifold_lab.errors import InputError, at_least, one_of
from manifold_lab.files import csv_text, publish, text
from manifold_lab.store import ABSENT, DIVERGED, DONE, FAILED, RUNNING, Cell
from manifold_lab.tables import Claim, Document, Lines

REFRESH = 2.0
"""Seconds between two looks of a live table."""
SHOWN = 30
"""Cells of one state that a table names one by one."""
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
    measure: sweep.Measure
    rows: Callable[[Sequence[Cell]], Iterable[Mapping[str, str]]]
    figure: Callable[[Lines], Figure]
    claims: Callable[[Lines], Sequence[Claim]]
    document: Callable[[Lines], Document] | None = None
    shelf: str = ""
    """The folder of its runs, where it is not its name: studies that share one share every run that they have alike."""
    at_scale: Callable[[str], tuple[Any, ...]] | None = None
    """The grid on a folder of pictures, at the paper's scale."""

    def cells(self, options: "Grid") -> list[Cell]:
        """How every cell of the grid stands.

        Raises:
            InputError: for pictures where the study takes none, or together with smoke.
        """
        if not options.pictures:
            return store.look(self.folder(options), self.grid(options.smoke))
        if self.at_scale is None or options.smoke:
            what = "--smoke" if self.at_scale else self.name
            raise InputError(f"pictures: {what} takes none; leave it out")
        return store.look(self.folder(options), self.at_scale(options.pictures))

    def folder(self, options: "Grid") -> Path:
        """Where its runs are."""
        return options.runs / (self.shelf or self.name)


@dataclass(frozen=True)
class Grid:
    """What every verb asks for."""

    smoke: bool = False
    """A small grid, to see that it runs."""
    pictures: str = ""
    """A folder such as ImageNet's (train/CLASS, val/CLASS): the paper's network and recipe on it instead."""
    runs: Path = Path("runs")
    """Folder of the stored runs."""


@dataclass(frozen=True)
class Plan(Grid):
    """What would run."""

    workers: int = 1
    """Processes at a time."""


@dataclass(frozen=True)
class Run(Plan):
    """Run what is missing."""

    only: str = ""
    """The key of the one cell to run, or its beginning."""
    launcher: str = ""
    """Where cells run, here or pool; by default here for one worker and in a pool for more."""
    retry_failed: bool = False
    """Run failed cells again too."""


@dataclass(frozen=True)
class Status(Grid):
    """How every cell stands."""


@dataclass(frozen=True)
class Publish(Grid):
    """Make csv, figure, claims."""

    out: Path = Path("figures")
    """Folder for the csv files and figures."""


@dataclass(frozen=True)
class Everything(Run, Publish):
    """Run what is missing, then publish."""


def plan(study: Study, options: Plan) -> None:
    """Say what would run and, from what finished runs took, how long."""
    at_least("workers", options.workers, 1)
    cells = study.cells(options)
    wanted = sweep.missing(cells)
    told = sweep.costs([cell.spec for cell in wanted], store.stored(study.folder(options)).values())
    console = Console()
    console.print(study.card.strip(), highlight=False, markup=False)
    rows = [[cell.key, label, _span(cost[0]) if cost else "–"]
            for cell, label, cost in zip(wanted[:SHOWN], _labels(wanted[:SHOWN]), told, strict=False)]  # fmt: skip
    console.print(_table(f"{study.name}: what would run", ("key", "cell", "estimate"), rows, len(wanted)))
    console.print(_counts(cells))
    known = [cost for cost in told if cost]
    if wanted and known:
        apart = max(fields for _, fields in known)
        total = sum(seconds for seconds, _ in known) / min(options.workers, len(wanted))
        from_what = f"from finished runs that differ in {apart} fields besides the seed at most"
        console.print(f"about {_span(total)} with {options.workers} at a time, {from_what}", highlight=False)
    elif wanted:
        console.print("what it takes is not known before a first run is finished")


def run(study: Study, options: Run) -> int:
    """Run what is missing; 1 where a cell did not end well.

    Raises:
        KeyboardInterrupt: saying that what is finished is kept.
    """
    at_least("workers", options.workers, 1)
    name = options.launcher or ("here" if options.workers == 1 else "pool")
    launch = sweep.LAUNCHERS[one_of("launcher", name, sweep.LAUNCHERS)]
    cells = _only(study.cells(options), options.only)
    wanted = sweep.missing(cells, options.retry_failed)
    console, ended = Console(), []
    console.print(f"{study.name}: {len(wanted)} to run; {_counts(cells)}", highlight=False)
    try:
        with contextlib.closing(launch(sweep.Work(study.measure, options.workers), wanted)) as launched:
            for cell in launched:
                ended.append(cell)
                line = f"{len(ended)}/{len(wanted)} {cell.key} {_state(cell)} {_how(cell)}"
                console.print(line, highlight=False, markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        told = f"{len(ended)} of {len(wanted)} had ended; what is done is kept, run again to go on"
        raise KeyboardInterrupt(told) from None
    return int(any(cell.state not in (DONE, RUNNING) for cell in ended))


def _only(cells: list[Cell], beginning: str) -> list[Cell]:
    found = [cell for cell in cells if cell.key.startswith(beginning)]
    if beginning and len(found) != 1:
        raise InputError(f"only: {beginning!r} begins {len(found)} keys of this grid; status and plan name them")
    return found


def status(study: Study, options: Status) -> None:
    """Say how the cells stand; on a terminal, for as long as any of them runs."""
    console = Console()
    cells = study.cells(options)
    if not console.is_terminal or all(cell.state != RUNNING for cell in cells):
        console.print(overview(study, cells))
        return
    with Live(overview(study, cells), console=console, auto_refresh=False) as live:
        while any(cell.state == RUNNING for cell in cells):
            time.sleep(REFRESH)
            cells = study.cells(options)
            live.update(overview(study, cells), refresh=True)


def overview(study: Study, cells: Sequence[Cell]) -> Group:
    """The table of the cells that are not simply done or queued, and the counts of all."""
    told = [
        cell for state in (RUNNING, FAILED, DIVERGED, ABSENT) for cell in cells if cell.state == state and _how(cell)
    ]
    rows = [[cell.key, label, _state(cell), _how(cell)]
            for cell, label in zip(told[:SHOWN], _labels(told[:SHOWN]), strict=True)]  # fmt: skip
    return Group(_table(study.name, ("key", "cell", "state", "how"), rows, len(told)), _counts(cells))


def publish_study(study: Study, options: Publish) -> None:
    """Write csv, figure and claims, and fill the blocks of the texts beside the folder of figures.

    Raises:
        InputError: before any cell is done.
    """
    cells = study.cells(options)
    rows = list(study.rows(cells))
    if not rows:
        raise InputError(f"{study.name}: no cell is done yet; run python -m experiments.{study.name} run")
    content = csv_text(rows, list(dict.fromkeys(name for row in rows for name in row)))
    lines = tables.read_csv(content)  # the figure sees what a reader of the csv sees
    figure, judged = study.figure(lines), study.claims(lines)
    done = [cell.provenance for cell in cells if cell.state == DONE]
    written = publish(
        options.out,
        {
            f"{study.name}.csv": text(content),
            **tables.claims_file(study.name, judged, provenance.joined(done)),
            **plots.figure_files(figure, study.name, STYLE),
            **(tables.typeset(study.name, study.document(lines)) if study.document else {}),
        },
    )
    console = Console()
    for claim in judged:
        console.print(f"{claim.verdict}: {claim.says} ({claim.place})", highlight=False, soft_wrap=True)
    commits = {run["commit"] for run in done}
    console.print(
        f"{_counts(cells)}, of {len(commits)} commits; written: {', '.join(map(str, written))}", soft_wrap=True
    )
    if options.out.name == "figures" and (options.out.parent / report.TEXTS[-1]).exists() and not options.smoke:
        report.run(report.Options(root=options.out.parent))


def main(study: Study, arguments: list[str] | None = None) -> int:
    """The command line of a study; its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    verbs: Presets[Grid] = {
        "plan": ("what would run, and for how long", Plan()),
        "run": ("run what is missing", Run()),
        "status": ("how every cell stands", Status()),
        "publish": ("csv, figure, claims", Publish()),
    }
    bare = not words or (words[0].startswith("--") and "--help" not in words)
    return enter(
        Everything if bare else verbs, lambda options: _act(study, options), f"experiments.{study.name}", words
    )


def _act(study: Study, options: Grid) -> int:
    failed = run(study, options) if isinstance(options, Run) else 0
    if isinstance(options, Publish):
        publish_study(study, options)
    elif isinstance(options, Status):
        status(study, options)
    elif type(options) is Plan:
        plan(study, options)
    return failed


def _state(cell: Cell) -> str:
    return "queued" if cell.state == ABSENT else cell.state


def _counts(cells: Sequence[Cell]) -> str:
    counts = Counter(_state(cell) for cell in cells)
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none"


def _how(cell: Cell) -> str:
    """What there is to say of a cell beyond its state."""
    if cell.state == DONE:
        return f"in {_span(cell.provenance['seconds'])}"
    known = cell.progress
    parts = [f"step {known['step']}" + (f" of {known['steps']}" if "steps" in known else "")] if "step" in known else []
    parts += [f"{known['images_per_second']:.0f} images/s"] if "images_per_second" in known else []
    parts += [f"{_span(known['seconds_left'])} left"] if "seconds_left" in known else []
    return ", ".join([*parts, cell.note] if cell.note else parts)


def _span(seconds: int | float) -> str:
    """A duration in words: 0.2 s, or hours, minutes and seconds."""
    return f"{seconds:.2g} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))


def _labels(cells: Sequence[Cell]) -> list[str]:
    """What tells these cells apart: the fields in which they differ."""
    told = [sweep.facts(dataclasses.asdict(cell.spec)) for cell in cells]
    names = dict.fromkeys(name for facts in told for name in facts)
    varied = [name for name in names if len({facts.get(name) for facts in told}) > 1]
    return [" ".join(f"{name}={facts[name]}" for name in varied if name in facts) for facts in told]


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], total: int) -> Table:
    table = Table(*head, title=title, title_justify="left", box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(escape, row))
    if total > len(rows):
        table.caption = f"and {total - len(rows)} more"
    return table
