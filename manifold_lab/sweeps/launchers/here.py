"""One after another in this process."""

from collections.abc import Generator, Sequence

from manifold_lab.sweeps.runner import Work, run_cell
from manifold_lab.sweeps.store import Cell


def launch(work: Work, cells: Sequence[Cell]) -> Generator[Cell, None, None]:
    """Run every cell, and say how it ended."""
    for cell in cells:
        yield run_cell(work, cell)
