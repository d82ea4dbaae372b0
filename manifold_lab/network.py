"""The network's door: python -m manifold_lab.network mobilenet_v2 --width 0.5 prints its layers and what they cost."""

import sys

from rich.console import Console

from manifold_lab.core.cli import run_cli
from manifold_lab.models.mobilenet import build
from manifold_lab.models.specs import NETWORKS, NetworkSpec
from manifold_lab.report import tables
from manifold_lab.report.network_table import NETWORK_HEAD, TABLE_CONVENTION, WIDTH, network_rows, totals


def run(spec: NetworkSpec) -> None:
    """Print the table, the totals and the convention."""
    network = build(spec)
    console = Console(width=max(Console().width, WIDTH))
    console.print(tables.terminal("", NETWORK_HEAD, [network_rows(network)]), soft_wrap=True)
    console.print(totals(network), highlight=False)
    console.print(TABLE_CONVENTION, highlight=False)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    described = {name: (name.replace("_", " "), spec) for name, spec in NETWORKS.items()}
    return run_cli(described, run, "manifold_lab.network", arguments)


if __name__ == "__main__":
    sys.exit(main())
