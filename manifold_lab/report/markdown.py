"""A table as markdown, whatever its cells hold."""

import re
from collections.abc import Iterable, Sequence

MISSING = "–"
"""What a reader sees where there is no number."""
HTML = re.compile("<(?=[A-Za-z/!?])")
"""Where a tag of HTML would begin."""
BEFORE_BAR = re.compile(r"(\\*)\|")
"""A bar, and the backslashes before it, of which the last would else be the one that takes the bar's meaning."""


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A markdown table, columns of numbers to the right; no cell ends its cell or line, or begins HTML."""
    rows = list(body)
    sides = ["---:" if all(map(_numeric, cells)) else "---" for cells in zip(*rows, strict=True)] or ["---"] * len(head)
    lines = [head, sides, *rows]
    return "\n".join("| " + " | ".join(map(_in_markdown, line)) + " |" for line in lines)


def _in_markdown(cell: str) -> str:
    return BEFORE_BAR.sub(r"\1\1\|", HTML.sub("&lt;", " ".join(cell.splitlines())))


def _numeric(cell: str) -> bool:
    return cell in ("", MISSING) or cell.lstrip("+-−")[:1].isdigit()
