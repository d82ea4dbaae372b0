"""README's Python, as a reader would paste it."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.split("\n")[0])
def test_readmes_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names) > code.count("import")


def test_readme_builds_both_activations_all_shortcuts_and_all_blocks() -> None:
    network = next(code for code in BLOCKS if "netspec" in code)
    words = ("relu6", "expansion", "none", "projected", "classic", "separable")
    assert all(f'="{word}"' in network for word in words)
