"""How values show themselves: short texts, tables, one JSON object."""

import json
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from manifold_lab.core import progress as progress_module
from manifold_lab.core.progress import progress
from manifold_lab.core.shown import Shown, print_json
from manifold_lab.models.specs import DIGITS, V2, NetworkSpec
from manifold_lab.random_layer.specs import ManifoldSpec, MonteCarlo


@dataclass(frozen=True, repr=False)
class Pair(Shown):
    """Two things."""

    x: torch.Tensor
    name: str = "<b>"


class Cells(HTMLParser):
    """The texts of a table's cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("spec", [V2, DIGITS, NetworkSpec(width=0.5, shortcut="none"), MonteCarlo((3,), draws=5)])
def test_the_short_text_of_a_spec_makes_it_again(spec: object) -> None:
    assert eval(repr(spec), {kind.__name__: kind for kind in (NetworkSpec, MonteCarlo, ManifoldSpec)}) == spec


def test_only_what_is_not_by_default_is_said() -> None:
    assert repr(V2) == "NetworkSpec()" and repr(NetworkSpec(width=0.5)) == "NetworkSpec(width=0.5)"


def test_a_tensor_is_said_by_its_shape() -> None:
    assert repr(Pair(torch.zeros(1000, 2))) == "Pair(x=float32[1000, 2])"
    assert "int64[3]" in repr(Pair(np.arange(3)))


def test_a_notebook_shows_every_field_and_no_tag_of_a_value() -> None:
    shown = Cells(Pair(torch.zeros(2))._repr_html_()).texts
    assert shown == ["Pair", "x", "float32[2]", "name", "'<b>'"]


def test_one_json_object_has_numbers_null_and_the_names_of_paths(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(rows=[{"n": "3", "low": "", "name": "inf"}], written=[Path("a.csv")], ratio=float("nan"), done=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "rows": [{"n": 3, "low": None, "name": "inf"}], "written": ["a.csv"], "ratio": None, "done": True,
    }  # fmt: skip


def test_a_pipe_hears_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress_module, "LINE_EVERY", 0.01)
    with progress(7, "batches") as advance:
        advance(3)
        while not (said := capsys.readouterr().err):
            pass
    assert said.startswith(("3 of 7 batches, 0 s\n", "0 of 7 batches, 0 s\n"))
    with progress(7, "batches", quiet=True) as advance:
        advance(7)
    assert capsys.readouterr() == ("", "")
