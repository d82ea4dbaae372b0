"""Layers and costs of a network: python -m manifold_lab.network mobilenet_v2 --width 0.5."""

import sys

from manifold_lab.core.cli import run_cli
from manifold_lab.core.lazy import lazy_function
from manifold_lab.models.specs import NETWORKS

run = lazy_function("manifold_lab.report.network_table.print_network")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    described = {name: (name.replace("_", " "), spec) for name, spec in NETWORKS.items()}
    return run_cli(described, run, "manifold_lab.network", arguments)


if __name__ == "__main__":
    sys.exit(main())
