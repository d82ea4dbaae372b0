"""python -m manifold_lab.report."""

import sys

from manifold_lab.core.cli import About, run_cli
from manifold_lab.core.lazy import lazy_function
from manifold_lab.report.options import ReportOptions

run = lazy_function("manifold_lab.report.texts.run")


ABOUT = About(examples=(
    "python -m manifold_lab.report --check",
    "python -m manifold_lab.report --html out/",
))  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    return run_cli(ReportOptions, run, "manifold_lab.report", arguments, ABOUT)


if __name__ == "__main__":
    sys.exit(main())
