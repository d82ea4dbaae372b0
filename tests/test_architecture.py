"""The imports of the code against the floor plan in README."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import manifold_lab

PACKAGE = Path(manifold_lab.__file__).parent
ROOT = PACKAGE.parent
FLOORS = ("words", "mathematics", "instruments", "process", "paper", "doors")
FREE_OF_OURS = {"errors", "spec", "active_rows"}
LAZY = {"sklearn", "seaborn"}


def planned_floors() -> dict[str, str]:
    """Module name -> floor, read from README's table, so that the picture there stays true."""
    rows = re.findall(r"^\| (\w+) \| (.+) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = {floor: re.findall(r"(?:^|· |\d, |, )`(\w+)`(?=[:, ]|$)", cell) for floor, cell in rows if floor in FLOORS}
    return {module: floor for floor, modules in named.items() for module in modules}


def units() -> list[str]:
    return sorted(
        {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")} - {"__init__"}
    )


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, at any level of it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(unit: str) -> set[str]:
    """Units of the package that a unit imports."""
    path = PACKAGE / unit
    files = list(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    names = {name.split(".")[1] for file in files for name in imports(file) if name.startswith("manifold_lab.")}
    return names - {unit}


def upward(unit: str, imported: set[str], floors: dict[str, str]) -> set[str]:
    """What of `imported` lies on a higher floor than `unit`."""
    return {other for other in imported if FLOORS.index(floors[other]) > FLOORS.index(floors[unit])}


def test_readme_names_every_module_once() -> None:
    assert sorted(planned_floors()) == units()


@pytest.mark.parametrize("unit", units())
def test_arrows_point_down(unit: str) -> None:
    assert upward(unit, ours(unit), planned_floors()) == set()


def test_an_arrow_that_points_up_is_seen() -> None:
    assert upward("metrics", {"plots", "errors"}, planned_floors()) == {"plots"}


def test_metrics_and_theory_do_not_know_each_other() -> None:
    assert "theory" not in ours("metrics") | ours("decoders") | ours("stats")
    assert ours("theory") <= {"errors"}


def test_modules_of_one_floor_do_not_import_in_circles() -> None:
    seen: set[str] = set()
    left = {unit: ours(unit) for unit in units()}
    while ready := {unit for unit, needs in left.items() if needs <= seen}:
        seen |= ready
        left = {unit: needs for unit, needs in left.items() if unit not in ready}
    assert left == {}


def test_only_the_paper_floor_and_the_doors_know_matplotlib() -> None:
    floors, drawing = planned_floors(), {"matplotlib", "tueplots", "seaborn"}
    files = [file for file in PACKAGE.rglob("*.py") if drawing & {name.split(".")[0] for name in imports(file)}]
    users = {file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in files}
    assert users and {floors[unit] for unit in users} <= {"paper", "doors"}


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = "import sys, manifold_lab; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not {"matplotlib", "torchvision", *LAZY} & set(loaded)


def test_the_library_does_not_import_its_experiments() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not {name for name in imports(path) if name.split(".")[0] in {"experiments", "benchmarks", "tests"}}


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
