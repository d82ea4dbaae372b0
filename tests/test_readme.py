"""The Python of README and of the pages of docs, as a reader would paste it."""

import dataclasses
import math
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot as plt

from manifold_lab.activations import ACTIVATIONS
from manifold_lab.core.errors import InputError
from manifold_lab.models import specs
from manifold_lab.models.specs import SHORTCUTS
from manifold_lab.report.pages import PROBED_ROWS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
TEXTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCKS = {
    f"{path.name}:{place}": code
    for path in TEXTS
    for place, code in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL))
}


def pasted(name: str) -> dict[str, Any]:
    """The names that a block leaves behind."""
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[name], name, "exec"), names)
    return names


@pytest.mark.parametrize("name", BLOCKS)
def test_python_of_the_texts_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(pasted(name)) > BLOCKS[name].count("import")
    plt.close("all")


def test_readme_is_short_and_its_two_commands_come_first_in_install() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) < 200
    install = readme.partition("## Install")[2].partition("\n## ")[0]
    commands = re.findall(r"^```sh\n(.*?)\n```", install, re.MULTILINE | re.DOTALL)
    assert [command.startswith("python3 -m venv .venv && ") and "\n" not in command for command in commands] == [
        True
    ] * 2


def test_what_readme_says_that_the_probe_shows_is_what_it_shows() -> None:
    shown = pasted("README.md:0")["shown"]
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("begin probe-frame")[2].partition("<!-- end")[0]
    rows = [[run.strip() for run in line.strip("| ").split("|")] for line in table.splitlines() if "|" in line]
    assert rows[0] == list(shown.columns) and len(rows) - 2 == len(shown) == PROBED_ROWS
    for message, (_, row) in zip(rows[2:], shown.iterrows(), strict=True):
        for run, value in zip(message, row, strict=True):
            missing = isinstance(value, float) and math.isnan(value)
            assert run == value or (run == "–" if missing else float(run) == pytest.approx(value, rel=5e-3))
    plt.close("all")


def test_the_texts_build_every_combination_that_is_not_refused() -> None:
    names = pasted(next(name for name, code in BLOCKS.items() if "product" in code))
    words = ("linear", *ACTIVATIONS), SHORTCUTS, specs.BLOCKS
    message = [dict(zip(("bottleneck_activation", "shortcut", "block"), one, strict=True)) for one in product(*words)]
    for changes in message:
        network = names["every"].get(tuple(changes.values()))
        if network is None:
            with pytest.raises(InputError, match="shortcut: expansion needs block inverted"):
                dataclasses.replace(specs.DIGITS, **changes)
        else:
            assert network.spec == dataclasses.replace(specs.DIGITS, **changes)
    assert len(names["every"]) == (len(ACTIVATIONS) + 1) * (len(SHORTCUTS) * 4 - 3)
