"""How cells stand, in words and tables for a terminal."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from manifold_lab.core.durations import duration
from manifold_lab.sweeps import runner
from manifold_lab.sweeps.store import ABSENT, DAMAGED, DIVERGED, DONE, FAILED, QUEUED, RUNNING, Cell

LISTED = 30
"""Cells that a table names one by one."""
ORDER = (RUNNING, DAMAGED, FAILED, DIVERGED, QUEUED, ABSENT, DONE)


def status_table(name: str, cells: Sequence[Cell], every: bool = False) -> Group:
    """The table of the cells of which there is something to say, or of every one, and the counts of all."""
    said = [cell for state in ORDER for cell in cells if cell.state == state and (every or _is_news(cell))]
    told = said if every else said[:LISTED]
    rows = [[cell.key, label, cell.state, how(cell)] for cell, label in zip(told, labels(told), strict=True)]
    table = listing(name, ("key", "cell", "state", "how"), rows, len(said))
    unverified = sum(cell.state == DONE and not cell.verified for cell in cells)
    note = f"({unverified} of the done were stored before runs had checksums: damage to them would not be seen)"
    return Group(*([table] if rows else []), state_counts(cells), *([note] if unverified else []))


def _is_news(cell: Cell) -> bool:
    return cell.state != DONE and bool(how(cell))


def state_counts(cells: Sequence[Cell]) -> str:
    """So many of each state."""
    found = Counter(cell.state for cell in cells)
    return ", ".join(f"{count} {state}" for state, count in sorted(found.items())) or "none"


def how(cell: Cell) -> str:
    """What there is to say of a cell beyond its state."""
    if cell.state == DONE:
        return f"in {duration(cell.provenance['seconds'])}"
    known = cell.progress
    parts = [f"step {known['step']}" + (f" of {known['steps']}" if "steps" in known else "")] if "step" in known else []
    parts += [f"{known['images_per_second']:.0f} images/s"] if "images_per_second" in known else []
    parts += [f"{duration(known['seconds_left'])} left"] if "seconds_left" in known else []
    return ", ".join([*parts, cell.note] if cell.note else parts)


def labels(cells: Sequence[Cell]) -> list[str]:
    """What tells these cells apart: the fields in which they differ."""
    told = [runner.facts(dataclasses.asdict(cell.spec)) for cell in cells]
    names = dict.fromkeys(name for facts in told for name in facts)
    varied = [name for name in names if len({facts.get(name) for facts in told}) > 1]
    return [" ".join(f"{name}={facts[name]}" for name in varied if name in facts) for facts in told]


def listing(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], total: int) -> Table:
    """A table of rows, of which there are `total`."""
    made = Table(*head, title=title, title_justify="left", box=SIMPLE_HEAD)
    for row in rows:
        made.add_row(*map(escape, row))
    if total > len(rows):
        made.caption = f"and {total - len(rows)} more"
    return made
