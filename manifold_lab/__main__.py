"""The console script: manifold-lab spiral | network | probe | report; also python -m manifold_lab."""

import importlib.metadata
import sys
from collections.abc import Callable

from manifold_lab.core.errors import InputError, one_line, one_of
from manifold_lab.core.lazy import lazy_function
from manifold_lab.core.starting import stop_at_once

COMMANDS: dict[str, tuple[str, Callable[[list[str]], int]]] = {
    "spiral": ("what an activation destroys of a manifold", lazy_function("manifold_lab.spiral.command.main")),
    "network": ("layers and costs of a network", lazy_function("manifold_lab.network.main")),
    "probe": ("where a network loses information, by layer", lazy_function("manifold_lab.probe.options.main")),
    "report": ("claims beside their numbers, as texts or a page", lazy_function("manifold_lab.report.__main__.main")),
}


def usage() -> str:
    """The commands, one a line."""
    listed = "\n".join(f"  {name:10}{purpose}" for name, (purpose, _) in COMMANDS.items())
    return (
        f"usage: manifold-lab [--help] [--version] COMMAND [OPTIONS]\n\n{listed}\n\nCOMMAND --help lists its options."
    )


def main(arguments: list[str] | None = None) -> int:
    """Run a command by name; its exit status, or 2 after one line about a name that is unknown."""
    if arguments is None:
        stop_at_once()
    name, *options = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("--help", "-h"):
        print(usage())
    elif name == "--version":
        print(importlib.metadata.version("manifold_lab"))
    else:
        try:
            _, command = COMMANDS[one_of("command", name, COMMANDS)]
        except InputError as error:
            print(one_line(f"error: {error}"), file=sys.stderr)
            return 2
        return command(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
