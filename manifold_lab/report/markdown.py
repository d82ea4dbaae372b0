"""A table as markdown, whatever its cells hold."""

import re
from collections.abc import Iterable, Sequence

MISSING = "–"
"""What a reader sees where there is no number."""
HTML = re.compile("<(?=[A-Za-z/!?])")
"""Where a tag of HTML would begin."""
ESCAPED_BAR = re.compile(r"((?:\\\\)*)\\\|")
"""A bar within a cell, and the doubled backslashes before it."""
BEFORE_BAR = re.compile(r"(\\*)\|")
"""A bar, and the backslashes before it, of which the last would else be the one that takes the bar's meaning."""


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A markdown table, columns of numbers to the right; no cell ends its cell or line, or begins HTML."""
    rows = list(body)
    sides = ["---:" if all(map(_numeric, cells)) else "---" for cells in zip(*rows, strict=True)] or ["---"] * len(head)
    lines = [head, sides, *rows]
    return "\n".join("| " + " | ".join(map(_in_markdown, line)) + " |" for line in lines)


def table_cells(table: str) -> list[list[str]]:
    """The cells of a table that `markdown` made, the head first; empty for another text.

    >>> table_cells(markdown(["a", "b"], [["1 | 2", ""]]))
    [['a', 'b'], ['1 | 2', '']]
    """
    lines = table.splitlines()
    if len(lines) < 2 or not lines[1].startswith("| --"):
        return []
    return [[_from_markdown(cell) for cell in line[2:-2].split(" | ")] for line in (lines[0], *lines[2:])]


def _from_markdown(cell: str) -> str:
    return ESCAPED_BAR.sub(lambda found: f"{found[1][::2]}|", cell).replace("&lt;", "<")


def _in_markdown(cell: str) -> str:
    return BEFORE_BAR.sub(r"\1\1\|", HTML.sub("&lt;", " ".join(cell.splitlines())))


def _numeric(cell: str) -> bool:
    return cell in ("", MISSING) or cell.lstrip("+-−")[:1].isdigit()
