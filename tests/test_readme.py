"""README's Python, as a reader would paste it."""

import dataclasses
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from manifold_lab.activations import ACTIVATIONS
from manifold_lab.core.errors import InputError
from manifold_lab.models import specs
from manifold_lab.models.specs import SHORTCUTS

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.split("\n")[0])
def test_readmes_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names) > code.count("import")


def test_readme_builds_every_combination_that_is_not_refused() -> None:
    names: dict[str, Any] = {}
    exec(compile(next(code for code in BLOCKS if "product" in code), "README.md", "exec"), names)
    words = ("linear", *ACTIVATIONS), SHORTCUTS, specs.BLOCKS
    told = [dict(zip(("bottleneck_activation", "shortcut", "block"), one, strict=True)) for one in product(*words)]
    for changes in told:
        network = names["every"].get(tuple(changes.values()))
        if network is None:
            with pytest.raises(InputError, match="shortcut: expansion needs block inverted"):
                dataclasses.replace(specs.DIGITS, **changes)
        else:
            assert network.spec == dataclasses.replace(specs.DIGITS, **changes)
    assert len(names["every"]) == (len(ACTIVATIONS) + 1) * (len(SHORTCUTS) * 3 - 2)
