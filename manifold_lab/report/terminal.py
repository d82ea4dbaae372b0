"""Tables in a terminal, however narrow it is."""

import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from manifold_lab.report.tables import MISSING

WIDEST = 1000
"""Columns of a terminal beyond which no table goes."""


def rich_table(title: str, head: Sequence[str], sections: Iterable[Sequence[Sequence[str]]]) -> Table:
    """A table for rich's console, a rule after every section."""
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number == 1 else "right", no_wrap=True)
    for section in sections:
        for line in section:
            table.add_row(*line)
        table.add_section()
    return table


def show(console: Console, title: str, head: Sequence[str], sections: Sequence[Sequence[Sequence[str]]]) -> None:
    """Print a table; where the terminal is too narrow for it, a paragraph for each of its lines.

    A pipe has no width: there the table is as wide as it needs to be.
    """
    table = rich_table(title, head, sections)
    needed = console.measure(table, options=console.options.update(width=WIDEST)).maximum
    if needed > console.width and (console.is_terminal or "COLUMNS" in os.environ):
        text = "\n".join([title, *_paragraphs(head, sections, console.width)]).strip()
        console.print(text, highlight=False, markup=False)
    else:
        Console(width=max(console.width, needed), file=console.file).print(table, soft_wrap=True)


def _paragraphs(head: Sequence[str], sections: Sequence[Sequence[Sequence[str]]], width: int) -> Iterator[str]:
    """Each line of a table as its first two cells, and below, indented, every other cell that says something."""
    for first, second, *cells in (line for section in sections for line in section):
        yield f"{head[0]} {first}: {second.strip()}"
        parts = (f"{name} {cell}" for name, cell in zip(head[2:], cells, strict=True) if cell not in ("", MISSING))
        yield textwrap.fill("; ".join(parts) or MISSING, width, initial_indent="  ", subsequent_indent="  ")
