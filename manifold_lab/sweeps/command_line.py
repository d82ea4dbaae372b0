"""The command line of a study, known before anything is loaded that runs or draws."""

import ast
import re
import sys
from pathlib import Path

from manifold_lab.core.cli import About, Presets, parse, run_cli
from manifold_lab.core.errors import InputError, at_least, one_of
from manifold_lab.core.files import check_folder
from manifold_lab.report.styles import STYLES
from manifold_lab.sweeps.options import DEFAULT, GridOptions, PublishOptions, RunAndPublishOptions, commands

COUNTED = ("workers", "processes_per_run", "runs_per_job")


def kind_of(arguments: list[str]) -> type[RunAndPublishOptions] | Presets[GridOptions]:
    """The options that words may be: without a command those that run and publish."""
    bare = not arguments or (arguments[0].startswith("-") and not {"--help", "-h"} & set(arguments))
    return RunAndPublishOptions if bare else commands()


def about(command: str, card: str) -> About:
    """What help says of a study that is started by a command: its card, which tells what it tests, and two examples."""
    entries = re.sub(r"\n(Paper|Claims|Run|Differs) +", r"\n\n\1: ", card.strip())
    return About(entries, (f"{command} run --smoke", f"{command} publish --style neurips2024 --out out/"), DEFAULT)


def check_options(options: GridOptions) -> None:
    """Refuse what can be refused before anything is loaded.

    Raises:
        InputError: naming the option and what is allowed.
    """
    for name in COUNTED:
        if hasattr(options, name):
            at_least(name, getattr(options, name), 1)
    if isinstance(options, PublishOptions):
        one_of("style", options.style, STYLES)
        if options.out is not None:
            check_folder(options.out)


def answer_early(folder: Path) -> None:
    """Answer what `python -m FOLDER.NAME` is asked, where that needs nothing of the study but its card.

    Help, the version and refused options; everything else goes on. To be called where the package of the studies is
    imported: while Python looks for the module of `-m`, that is the first word of its arguments.

    Args:
        folder: of the studies' files.

    Raises:
        SystemExit: after the answer.
    """
    if sys.argv[:1] != ["-m"]:
        return
    arguments = sys.argv[1:]
    program = sys.orig_argv[len(sys.orig_argv) - len(arguments) - 1].removeprefix("-m")
    file = folder / f"{program.rpartition('.')[2]}.py"
    if not file.is_file():
        return
    card = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    description = about(f"python -m {program}", card)
    try:
        check_options(parse(kind_of(arguments), program, arguments, description))
    except InputError:  # said in one line, with the status of refusals; else signals stay as they are for the study
        raise SystemExit(run_cli(kind_of(arguments), check_options, program, arguments, description)) from None
