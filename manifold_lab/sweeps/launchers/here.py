"""One after another in this process."""

from collections.abc import Generator, Sequence

from manifold_lab.sweeps.runner import Work, run_one
from manifold_lab.sweeps.store import Run


def launch(work: Work, runs: Sequence[Run]) -> Generator[Run, None, None]:
    """Make every run here, and say how it ended."""
    for run in runs:
        yield run_one(work, run)
