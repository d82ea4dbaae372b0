"""The tutorial, run from its first cell to its last."""

import re
import warnings
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

TUTORIAL = Path(__file__).parent.parent / "docs" / "tutorial.ipynb"


@pytest.fixture(scope="module")
def ran() -> nbformat.NotebookNode:
    notebook = nbformat.read(TUTORIAL, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the kernel's own, about its transport
        return NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(TUTORIAL.parent)}}).execute()


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", ()))


def test_ten_cells_run_and_two_draw(ran: nbformat.NotebookNode) -> None:
    cells = [cell for cell in ran.cells if cell.cell_type == "code"]
    assert len(cells) == 10
    assert sum("image/png" in out.get("data", {}) for cell in cells for out in cell.outputs) == 2


def test_the_spirals_numbers_are_theorys(ran: nbformat.NotebookNode) -> None:
    found = re.findall(r"kept ([\d.]+) ± ([\d.]+), theory ([\d.]+)", printed(ran))
    assert len(found) == 5
    for kept, error, theory in (tuple(map(float, one)) for one in found):
        assert abs(kept - theory) <= 2 * error + 1e-3


def test_what_the_repository_shows_is_what_runs(ran: nbformat.NotebookNode) -> None:
    shown = printed(nbformat.read(TUTORIAL, as_version=4))
    exact = [line for line in shown.splitlines() if "multiply-adds" in line or line.startswith("m = ")]
    assert exact and all(line in printed(ran) for line in exact)
