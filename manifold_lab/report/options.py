"""The options of the report's command, known before anything is loaded that makes a report."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReportOptions:
    """Refresh the marked blocks of the texts from the csv files, check them, or make the page."""

    check: bool = False
    """Change nothing; exit with status 2 when a block differs from its csv."""
    html: Path | None = None
    """Write the report as one page, index.html, into this folder instead."""
    serve: bool = False
    """Show the page to a browser on this machine instead, until a key stops it."""
    port: int = 8000
    """Port of --serve, on the loopback interface alone; 0 for any free port."""
    root: Path = Path()
    """The checkout: holds figures/, benchmarks/ and the texts."""
