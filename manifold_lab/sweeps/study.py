"""An experiment as one value: what runs, what is measured, and what is published of it.

An experiment's file ends with `STUDY = Study(...)` and `raise SystemExit(STUDY.main())`: then
`python -m experiments.NAME COMMAND` plans, runs, shows and publishes it. `trained_study.trained_study` fills in
what every comparison of trained networks shares.
"""

import html
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.artist import Artist
from matplotlib.container import Container
from matplotlib.figure import Figure

from manifold_lab.core.errors import InputError
from manifold_lab.core.lazy import lazy_function
from manifold_lab.report import plots
from manifold_lab.report.headlines import Headline, headline
from manifold_lab.report.tables import ClaimResult, Document, Record, command_of, read_csv
from manifold_lab.sweeps import runner, store, submissions
from manifold_lab.sweeps.options import GridOptions, RunOptions
from manifold_lab.sweeps.probe_run import ProbeSource
from manifold_lab.sweeps.store import Result, Run

if TYPE_CHECKING:
    from manifold_lab.sweeps.study_result import StudyResult
else:
    StudyResult = Any

_command_line = lazy_function("manifold_lab.sweeps.study_commands.main")
_run_study = lazy_function("manifold_lab.sweeps.study_result.run_study")
_study_result = lazy_function("manifold_lab.sweeps.study_result.study_result")

Rows = Sequence[Record] | Mapping[str, Sequence[Record]]
"""What a study writes: the rows of its csv file, or those of several by the parts of their names."""
Published = Any
"""What is read of it: the table of its csv file (pandas), or a mapping from the parts of several names to tables."""
NAME = re.compile(r"\w[\w.-]*", re.ASCII)
MAIN = ""
"""The part of the file that has the study's own name."""
BATCH = 20
"""Images at a time, where a network is shown a file of them."""
TABLES = "tables"
"""The number of a run that holds whole tables, by part."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Study:
    """What an experiment is, whole.

    Args:
        name: of its module, its files and its claims' ids.
        card: the docstring of its file: Paper, Claims, Run, Differs.
        grid: every spec; a small grid where its argument, smoke, is true.
        measure: runs one spec in a folder of its own; a function of a module.
        rows: gets every run of the grid in its order, whatever its state (`numbers` is empty unless it is done), and
            gives the rows of the csv file, or of several files by the part of their names (`MAIN` for the first).
        figure: of the published table alone.
        claims: of the published table alone; the study puts its name before their ids.
        table: of the published table: one, or several by part, each as Markdown and LaTeX.
        text: of the published table: Markdown for the texts, where a table does not say it.
        text_columns: of its csv files, those that are text whatever it looks like, besides `tables.TEXT_COLUMNS`.
        run_folder: of its runs, where that is not its name: studies that share one share equal runs.
        parts: of the names of its csv files: `MAIN` for the one that has the study's own name.
        at_scale: the grid on a folder of images, at the paper's scale.
        on_images: of a study that measures on a file of labelled images: grid and measure with them; its smoke grid
            is the one on a source without images.
        stored: whether runs are kept. Counts and closed forms are not: they take seconds and are made anew whenever
            they are published, so that no stored number outlives the code that made it.
        program: the arguments of python that start it, where it is not a module of experiments; none in a notebook.
    """

    name: str
    card: str
    grid: Callable[[bool], tuple[Any, ...]] = lambda _: ()
    measure: runner.Measure | None = None
    rows: Callable[[Sequence[Run]], Rows]
    figure: Callable[[Published], Figure] | None = None
    claims: Callable[[Published], Sequence[ClaimResult]]
    table: Callable[[Published], Document | Mapping[str, Document]] | None = None
    text: Callable[[Published], str] | None = None
    text_columns: tuple[str, ...] = ()
    run_folder: str = ""
    parts: tuple[str, ...] = (MAIN,)
    at_scale: Callable[[str], tuple[Any, ...]] | None = None
    on_images: Callable[[ProbeSource], tuple[tuple[Any, ...], runner.Measure]] | None = None
    stored: bool = True
    program: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a card without its four entries, and a name that is none of a file or of a job in a queue."""
        for name in (self.name, self.run_folder or self.name):
            if not NAME.fullmatch(name):
                raise InputError(f"name: {name!r} is not allowed; allowed: letters, digits, and _ . - within")
        missing = [entry for entry in CARD if f"{entry} " not in self.card]
        if missing:
            raise InputError(f"card: {self.name} has no entry {missing[0]}; a card has {', '.join(CARD)}")

    def run(self, *, smoke: bool = False, runs: Path | str = "runs", workers: int = 1) -> StudyResult:
        """Run what is missing of the grid, a line for each run that ends; then the result.

        Args:
            smoke: the small grid, to see that it runs.
            runs: the folder where runs are kept; one that is there is not made again.
            workers: processes at a time.

        Raises:
            InputError: where no run is done.
        """
        return _run_study(self, RunOptions(smoke=smoke, runs=Path(runs), workers=workers))

    def result(self, *, smoke: bool = False, runs: Path | str = "runs") -> StudyResult:
        """The result of the runs that are there, with `frame()`, `plot()`, `verdicts()` and `save(folder)`.

        Args:
            smoke: of the small grid.
            runs: the folder where runs are kept.

        Raises:
            InputError: where no run is done.
        """
        return _study_result(self, GridOptions(smoke=smoke, runs=Path(runs)))

    def main(self, arguments: list[str] | None = None) -> int:
        """Its command line: plan, run, status, publish, and without a word run and publish; the exit status.

        Args:
            arguments: words of a command line; those of this process where there are none.
        """
        return _command_line(self, arguments)

    def __repr__(self) -> str:
        return f"<Study {self.name}: {self.card.strip().splitlines()[0]}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.card.strip())}</pre>"

    @property
    def command(self) -> str:
        """What a user types: a module of experiments, or the file that made the study; empty where none did."""
        if self.program is None:
            return command_of(self.name)
        return f"python {Path(self.program[0]).name}" if self.program else ""

    def specs(self, options: GridOptions) -> tuple[Any, ...]:
        """Every spec of the grid.

        Raises:
            InputError: for images where the study takes none, or together with smoke.
        """
        if self.on_images is not None:
            return self.on_images(self.source(options))[0]
        if not options.images:
            return self.grid(options.smoke)
        if self.at_scale is None or options.smoke:
            what = "--smoke" if self.at_scale else self.name
            raise InputError(f"images: {what} takes none; leave it out")
        return self.at_scale(options.images)

    def measure_for(self, options: GridOptions) -> runner.Measure:
        """What runs one spec of the grid."""
        if self.on_images is not None:
            return self.on_images(self.source(options))[1]
        assert self.measure is not None
        return self.measure

    def source(self, options: GridOptions) -> ProbeSource:
        """The images and weights of a study that measures on them.

        Raises:
            InputError: where none are named.
        """
        if not options.images and not options.smoke:
            raise InputError("images: none given; name an .npz of jpeg, offsets and labels with --images, or --smoke")
        path = None if options.smoke else Path(options.images)
        return ProbeSource(path, options.weights, BATCH, options.runs)

    def runs(self, options: GridOptions) -> list[Run]:
        """How every run of the grid stands, in the queue too.

        Raises:
            InputError: as `specs`, and where runs were submitted and the queue does not answer.
        """
        folder = self.folder(options)
        return submissions.view(folder, store.read_runs(folder, self.specs(options)))

    def start(self, options: GridOptions) -> runner.Program:
        """How another process runs specs of the same grid."""
        arguments = ["--smoke"] if options.smoke else []
        arguments += ["--images", options.images] if options.images else []
        arguments += ["--weights", str(options.weights)] if options.weights else []
        start = ("-m", f"experiments.{self.name}") if self.program is None else self.program
        return runner.Program(self.name, start, (*arguments, "--runs", str(options.runs)))

    def published(self, contents: Mapping[str, str]) -> Published:
        """What figure, claims and tables are made of: what a reader of the csv files sees.

        Args:
            contents: of each csv file, by the part of its name.
        """
        tables = {part: read_csv(content, self.text_columns) for part, content in contents.items()}
        return tables[MAIN] if set(tables) == {MAIN} else tables

    def folder(self, options: GridOptions) -> Path:
        """Where its runs are."""
        return options.runs / (self.run_folder or self.name)


CARD = ("Paper", "Claims", "Run", "Differs")
"""The entries of a lab card."""


def by_part(found: Any) -> Mapping[str, Any]:
    """What there is of each csv file, by the part of its name."""
    return found if isinstance(found, Mapping) else {MAIN: found}


def file_stem(name: str, part: str) -> str:
    """The name of a published file, without its ending."""
    return f"{name}_{part}" if part else name


def tables_result(tables: Mapping[str, Sequence[Record]]) -> Result:
    """The result of a run whose numbers are whole tables."""
    return Result({TABLES: {part: [_finite(row) for row in rows] for part, rows in tables.items()}})


def _finite(row: Record) -> Record:
    """A row with None in place of NaN, as records of runs have it."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def tables_of(runs: Sequence[Run]) -> dict[str, list[Record]]:
    """The tables of all runs, one below the other: `rows` of a study whose measure gives `tables_result`."""
    found: dict[str, list[Record]] = {}
    for run in runs:
        for part, rows in run.numbers.get(TABLES, {}).items():
            found.setdefault(part, []).extend(rows)
    return found


@dataclass(frozen=True)
class Computation:
    """The spec of a study that computes its tables: all of them, or a few rows to see that it runs."""

    smoke: bool


def computed_study(*, tables: Callable[[bool], Mapping[str, Sequence[Record]]], **fields: Any) -> Study:
    """A study whose tables are computed anew whenever they are published: counts and closed forms.

    Args:
        tables: the rows of each csv file, by the part of its name; of less work where its argument, smoke, is true.
        fields: of `Study`.
    """
    return Study(
        grid=lambda smoke: (Computation(smoke),),
        measure=lambda spec, _folder: tables_result(tables(spec.smoke)),
        rows=tables_of,
        stored=False,
        **fields,
    )


Handles = Sequence[Artist | Container]
Caption = str | tuple[str, Handles] | tuple[str, Handles, int]
"""A caption; where all panels share a legend, its handles too, and in how many columns they stand."""


def captioned_figure(
    draw: Callable[[Figure, Any], Caption],
    claims: Callable[[Any], Sequence[ClaimResult]],
    message: Headline | Callable[[Sequence[ClaimResult]], str],
    height: float,
    share: float = 1.0,
) -> Callable[[Published], Figure]:
    """The `figure` of a study: panels in the venue's style, above them a claim's verdict, below them the caption.

    Args:
        draw: draws the panels of the published table into an empty figure, and says its caption.
        claims: those that decide the title, of the published table.
        message: the title by their verdict, or a function of them.
        height: in inches.
        share: of the width of the venue's text.
    """

    def figure(published: Published) -> Figure:
        with plots.style():
            made = plots.shaped(height, share)
            below = draw(made, published)
            found = claims(published)
            title = headline(found, message) if isinstance(message, Headline) else message(found)
            return plots.captioned(made, title, *((below,) if isinstance(below, str) else below))

    return figure
