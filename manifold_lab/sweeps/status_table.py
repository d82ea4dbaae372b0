"""How runs stand, in words and tables for a terminal."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from manifold_lab.core.durations import duration
from manifold_lab.sweeps import runner
from manifold_lab.sweeps.store import ABSENT, DAMAGED, DIVERGED, DONE, FAILED, QUEUED, RUNNING, Run

LISTED = 30
"""Runs that a table names one by one."""
ORDER = (RUNNING, DAMAGED, FAILED, DIVERGED, QUEUED, ABSENT, DONE)


def status_table(name: str, runs: Sequence[Run], every: bool = False) -> Group:
    """The table of the runs of which there is something to say, or of every one, and the counts of all."""
    shown = [run for state in ORDER for run in runs if run.state == state and (every or (state != DONE and how(run)))]
    listed = shown if every else shown[:LISTED]
    rows = [[run.key, label, run.state, how(run)] for run, label in zip(listed, labels(listed), strict=True)]
    table = listing(name, ("key", "run", "state", "how"), rows, len(shown))
    unverified = sum(run.state == DONE and not run.verified for run in runs)
    note = f"({unverified} of the done were stored before runs had checksums: damage to them would not be seen)"
    return Group(*([table] if rows else []), state_counts(runs), *([note] if unverified else []))


def state_counts(runs: Sequence[Run]) -> str:
    """So many of each state."""
    found = Counter(run.state for run in runs)
    return ", ".join(f"{count} {state}" for state, count in sorted(found.items())) or "none"


def how(run: Run) -> str:
    """What there is to say of a run beyond its state."""
    if run.state == DONE:
        return f"in {duration(run.provenance['seconds'])}"
    known = run.progress
    parts = [f"step {known['step']}" + (f" of {known['steps']}" if "steps" in known else "")] if "step" in known else []
    parts += [f"{known['images_per_second']:.0f} images/s"] if "images_per_second" in known else []
    parts += [f"{duration(known['seconds_left'])} left"] if "seconds_left" in known else []
    return ", ".join([*parts, run.note] if run.note else parts)


def labels(runs: Sequence[Run]) -> list[str]:
    """What tells these runs apart: the fields in which they differ."""
    listed = [runner.facts(dataclasses.asdict(run.spec)) for run in runs]
    names = dict.fromkeys(name for facts in listed for name in facts)
    varied = [name for name in names if len({facts.get(name) for facts in listed}) > 1]
    return [" ".join(f"{name}={facts[name]}" for name in varied if name in facts) for facts in listed]


def listing(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], total: int) -> Table:
    """A table of rows, of which there are `total`."""
    made = Table(*head, title=title, title_justify="left", box=SIMPLE_HEAD)
    for row in rows:
        made.add_row(*map(escape, row))
    if total > len(rows):
        made.caption = f"and {total - len(rows)} more"
    return made
