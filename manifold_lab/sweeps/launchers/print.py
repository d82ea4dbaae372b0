"""The commands that would run the cells, for any other scheduler, a shell or a workflow such as Snakemake's."""

import shlex
from collections.abc import Generator, Sequence

from manifold_lab.sweeps.runner import Work, batched
from manifold_lab.sweeps.store import Cell


def launch(work: Work, cells: Sequence[Cell]) -> Generator[Cell, None, None]:
    """Print one command a line, for `cells_per_job` cells each; nothing is run, so that no cell ends."""
    for packed in batched(cells, work.cells_per_job):
        print(shlex.join(work.commands().cell(*(cell.key for cell in packed), processes=work.processes)))
    yield from ()
