"""From the runs of a study to the files that are published of it."""

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifold_lab.core import provenance
from manifold_lab.core.config import key
from manifold_lab.core.errors import InputError
from manifold_lab.core.files import Writer, read_text, text
from manifold_lab.report import plots
from manifold_lab.report.tables import ClaimResult, claims_file, to_csv, typeset
from manifold_lab.sweeps import runner, store
from manifold_lab.sweeps.options import GridOptions
from manifold_lab.sweeps.status_table import state_counts
from manifold_lab.sweeps.store import DONE, Run
from manifold_lab.sweeps.study import Published, Study, by_part, file_stem
from manifold_lab.sweeps.training_run import LENGTH


@dataclass(frozen=True)
class Gathered:
    """What is to be published: the content of each csv file, how its rows came to be, and that in words."""

    contents: Mapping[str, str]
    made: provenance.Made | None
    says: str


def gathered(study: Study, options: GridOptions) -> Gathered:
    """The runs of a grid as csv files.

    Raises:
        InputError: before any run is done.
    """
    runs = study.runs(options) if study.stored else computed(study, options)
    made = provenance.joined([run.provenance for run in runs if run.state == DONE])
    if study.stored:
        made = dataclasses.replace(made, **not_made(runs, study.folder(options)))
    return Gathered(rows_of(study, runs), made, state_counts(runs))


def not_made(runs: Sequence[Run], folder: Path) -> dict[str, Any]:
    """How many runs of a grid are missing, and the seconds that they would take, as `provenance.Made` says it."""
    wanted = runner.missing(runs)
    known = [cost[0] for cost in estimates(wanted, folder) if cost]
    return {"missing": len(wanted), "missing_seconds": sum(known) if known and len(known) == len(wanted) else None}


def estimates(wanted: Sequence[Run], folder: Path) -> list[tuple[float, int] | None]:
    """What runs may take by the finished ones of their folder, as `runner.costs` says it; of none nothing is read."""
    records = store.stored(folder).values() if wanted else ()
    return runner.costs([run.spec for run in wanted], records, LENGTH)


def named_claims(study: Study, published: Published) -> list[ClaimResult]:
    """The claims of a study under its name, with the command that measures them again.

    Raises:
        InputError: for an id that is there twice.
    """
    found = study.claims(published)
    for name, count in Counter(one.id for one in found).items():
        if count > 1:
            raise InputError(f"claims: the id {name!r} is not allowed twice in {study.name}")
    return [dataclasses.replace(one, id=f"{study.name}.{one.id}", command=study.command) for one in found]


def published_files(
    study: Study, published: Published, judged: Sequence[ClaimResult], style: str, made: provenance.Made | None = None
) -> dict[str, Writer]:
    """The files of a study but its csv files: claims, figure, tables and text."""
    files = claims_file(study.name, judged, made)
    if study.figure is not None:
        with plots.venue(style):
            files |= plots.figure_files(study.figure(published), study.name, style)
    for part, document in by_part(study.table(published) if study.table else {}).items():
        files |= typeset(file_stem(study.name, part), document)
    if study.text is not None:
        files[f"{study.name}_text.md"] = text(study.text(published).rstrip() + "\n")
    return files


def rows_of(study: Study, runs: Sequence[Run]) -> dict[str, str]:
    """The content of each csv file, by the part of its name.

    Raises:
        InputError: where no run is done yet.
    """
    tables = by_part(study.rows(runs))
    if not any(tables.values()):
        raise InputError(f"{study.name}: no run is done yet; run {study.command or study.name} run")
    return {part: to_csv(rows) for part, rows in tables.items()}


def read_contents(study: Study, folder: Path) -> dict[str, str]:
    """The content of each csv file that is there, by the part of its name.

    Raises:
        InputError: where one is missing.
    """
    paths = {part: folder / f"{file_stem(study.name, part)}.csv" for part in study.parts}
    return {part: read_text(path, "publish it before it is redrawn") for part, path in paths.items()}


def computed(study: Study, options: GridOptions) -> list[Run]:
    """The runs of a study that keeps none, made now in a folder that goes.

    Raises:
        InputError: where one does not end well.
    """
    work = runner.Work(study.measure_for(options))
    with tempfile.TemporaryDirectory() as folder:
        found = [store.state(spec, Path(folder) / key(spec)) for spec in study.specs(options)]
        ended = [runner.run_one(work, run) for run in found]
    for run in ended:
        if run.state != DONE:
            raise InputError(f"{study.name}: {run.note}")
    return ended
