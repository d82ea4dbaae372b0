"""The imports of the code against the floor plan in docs/package.md."""

import ast
import pkgutil
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import manifold_lab

PACKAGE = Path(manifold_lab.__file__).parent
ROOT = PACKAGE.parent
COMMANDS = "commands"
LAZY = {"sklearn", "seaborn", "statsmodels"}
DRAWING = {"matplotlib", "tueplots", "seaborn"}
DRAWN_WHEN_ASKED = {"models/mobilenet.py": {"report"}, "probe/hooks.py": {"report"}}
"""Files with a `.plot()` or a table, and what above them they load when it is called."""


def order() -> list[str]:
    """Folders and modules from the bottom up, read from the table of docs/package.md; commands last."""
    table = (ROOT / "docs" / "package.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    return [*(row.strip("`") for row in named[:-1]), COMMANDS]


def units() -> list[str]:
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    return sorted(found - {"__init__"})


def place(file: Path) -> str:
    """The line of that table that a file belongs to; every command is one of the last."""
    unit = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    is_command = file.stem in ("__main__", "command") or unit not in order()
    return COMMANDS if is_command else unit


def imports(path: Path, for_types: bool = True) -> set[str]:
    """Dotted names that a file imports, at any level of it; those that only type checkers see where told."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typed = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    unseen = set() if for_types else {inner for node in typed for one in node.body for inner in ast.walk(one)}
    for node in ast.walk(tree):
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(file: Path) -> set[str]:
    """Lines of the table that a file imports from."""
    return {name.split(".")[1] for name in imports(file) if name.startswith("manifold_lab.")}


def called(path: Path) -> set[str]:
    """Dotted names that a file imports when one of its functions is called, as `lazy_function` does."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    lazy = [node for node in calls if ast.unparse(node.func) == "lazy_function"]
    return {str(word.value) for node in lazy for word in node.args if isinstance(word, ast.Constant)}


def upward(line: str, imported: set[str]) -> set[str]:
    """What of `imported` stands below a line of the table."""
    lines = order()
    known = {one if one in lines else COMMANDS for one in imported}
    return {one for one in known if lines.index(one) > lines.index(line)}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def within(*folders: str) -> list[Path]:
    found = [file for folder in folders for file in FILES if file.is_relative_to(PACKAGE / folder)]
    assert found
    return found


def test_the_table_names_every_folder_and_module_once() -> None:
    lines = order()
    assert len(lines) == len(set(lines))
    assert {unit for unit in units() if unit not in ("spiral", "network", "__main__")} == set(lines[:-1])


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_import_points_upward(file: Path) -> None:
    assert upward(place(file), ours(file)) == set()


def test_what_is_loaded_when_called_points_upward_where_it_is_listed_and_nowhere_else() -> None:
    found = {
        file.relative_to(PACKAGE).as_posix(): higher
        for file in FILES
        if (names := {name.split(".")[1] for name in called(file) if name.startswith("manifold_lab.")})
        and (higher := upward(place(file), names))
    }
    assert found == DRAWN_WHEN_ASKED


def test_an_import_that_points_upward_is_seen() -> None:
    assert upward("metrics", {"report", "core"}) == {"report"}


def test_the_listed_absences() -> None:
    assert "theory" not in set().union(*map(ours, within("metrics")))
    assert set().union(*map(ours, within("theory"))) <= {"core", "theory"}
    assert "models" not in set().union(*map(ours, within("training")))
    for name in ("hooks", "watchers", "layer", "layer_types", "activation_types", "channel_axes", "measures"):
        assert "models" not in ours(PACKAGE / "probe" / f"{name}.py")


def test_modules_do_not_import_in_circles() -> None:
    names = {file: ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in FILES}
    named = set(names.values())
    needs = {
        name: {
            found for one in imports(file, False) if (found := one if one in named else one.rpartition(".")[0]) in named
        }
        for file, name in names.items()
    }
    seen: set[str] = set()
    left = {name: others - {name} for name, others in needs.items()}
    while ready := {name for name, others in left.items() if others <= seen}:
        seen |= ready
        left = {name: others for name, others in left.items() if name not in ready}
    assert left == {}


def test_nothing_before_report_knows_matplotlib() -> None:
    users = {place(file) for file in FILES if DRAWING & {name.split(".")[0] for name in imports(file)}}
    assert users and {order().index(line) for line in users} <= set(range(order().index("report"), len(order())))


@pytest.mark.slow
def test_the_public_names_but_those_of_results_load_no_heavy_library() -> None:
    code = (
        "import sys, manifold_lab\n"
        "[getattr(manifold_lab, name) for name in manifold_lab.__all__"
        " if name not in ('Study', 'SpiralResult', 'compare', 'measure_spiral')]\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not {"matplotlib", "torchvision", *LAZY} & set(loaded)


def test_the_library_does_not_import_its_experiments() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not {name for name in imports(path) if name.split(".")[0] in {"experiments", "benchmarks", "tests"}}


ROLES = {"caption", "card", "check_options", "launch", "main", "measure", "rows", "run"}
"""What several modules have one of each, of the same meaning: a command's, a launcher's, a run's."""


LATE = re.compile(r'lazy_function\("(manifold_lab[\w.]+)"\)')


def test_every_function_that_is_loaded_when_called_is_there() -> None:
    found = {name for path in PACKAGE.rglob("*.py") for name in LATE.findall(path.read_text(encoding="utf-8"))}
    assert len(found) > 10 and all(callable(pkgutil.resolve_name(name)) for name in found)


def test_no_public_name_has_two_meanings() -> None:
    homes = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(path.name)
    assert {name for name, files in homes.items() if len(files) > 1} == ROLES


@pytest.mark.parametrize(
    "path", [*PACKAGE.rglob("*.py"), *(ROOT / "experiments").glob("*.py")], ids=lambda path: path.name
)
def test_files_and_functions_stay_short(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 310
    assert all((node.end_lineno or 0) - node.lineno < 50 for node in functions)


def test_no_test_can_vanish_where_a_library_of_the_tests_is_missing() -> None:
    used = {
        path.name for path in (ROOT / "tests").glob("*.py") if "pytest.importor" + "skip" in path.read_text("utf-8")
    }
    assert used == set()
