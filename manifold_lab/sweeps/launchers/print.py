"""The commands that would make the runs, for any other scheduler, a shell or a workflow such as Snakemake's."""

import shlex
from collections.abc import Generator, Sequence

from manifold_lab.sweeps.runner import Work, batched
from manifold_lab.sweeps.store import Run


def launch(work: Work, runs: Sequence[Run]) -> Generator[Run, None, None]:
    """Print one command a line, for `runs_per_job` runs each; nothing is run, so that no run ends."""
    for packed in batched(runs, work.runs_per_job):
        print(shlex.join(work.commands().worker(*(run.key for run in packed), processes=work.processes)))
    yield from ()
