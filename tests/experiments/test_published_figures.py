"""Laws that every published figure keeps, drawn from its published csv files."""

import importlib
import re
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_lab.report.tables import read_csv
from manifold_lab.sweeps.study import Study, as_published, file_stem

ROOT = Path(__file__).parent.parent.parent
FIGURES = ROOT / "figures"
NAMES = sorted(path.stem for path in FIGURES.glob("*.svg") if (ROOT / "experiments" / f"{path.stem}.py").is_file())
EDGE = 4
"""Pixels at 100 to the inch by which a glyph may stand over."""
PICTURES = {"fig6_wirings"}
"""Figures without axes."""


@pytest.fixture(scope="module", params=NAMES)
def drawn(request: pytest.FixtureRequest) -> tuple[str, Figure]:
    study: Study = importlib.import_module(f"experiments.{request.param}").STUDY
    texts = {part: FIGURES / f"{file_stem(study.name, part)}.csv" for part in study.parts}
    published = as_published({part: read_csv(path.read_text(encoding="utf-8")) for part, path in texts.items()})
    assert study.figure
    figure = study.figure(published)
    figure.canvas.draw()
    return request.param, figure


def panels(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


def test_it_says_its_message_and_what_it_rests_on(drawn: tuple[str, Figure]) -> None:
    title, caption = drawn[1].get_suptitle(), drawn[1].get_supxlabel()
    assert 10 < len(title) < 120 and not title.endswith(".")
    assert len(caption) > 30


def test_panels_are_lettered_in_order_where_there_are_several(drawn: tuple[str, Figure]) -> None:
    titles = [ax.get_title(loc="left") for ax in panels(drawn[1])]
    letters = [re.match(r"\(([a-z])\) \S", title) for title in titles]
    if len(titles) > 1:
        assert [found[1] if found else None for found in letters] == list("abcdefghij")[: len(titles)]


def test_axes_have_ticks_and_names(drawn: tuple[str, Figure]) -> None:
    name, figure = drawn
    for ax in panels(figure) if name not in PICTURES else []:
        for axis in (ax.xaxis, ax.yaxis):
            named_row = any(text.get_text() for text in axis.get_ticklabels())  # the only difference there is
            assert len(axis.get_majorticklocs()) > 1 or named_row
        shared = ax.get_shared_x_axes().get_siblings(ax), ax.get_shared_y_axes().get_siblings(ax)
        assert any(one.get_xlabel() for one in shared[0])
        ticks = [text.get_text() for one in shared[1] for text in one.get_yticklabels()]
        assert any(ticks) or any(one.get_ylabel() for one in shared[1])


def test_nothing_is_written_beyond_the_paper(drawn: tuple[str, Figure]) -> None:
    _, figure = drawn
    box, needed = figure.bbox, figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert needed.x0 >= box.x0 - EDGE and needed.x1 <= box.x1 + EDGE
    assert needed.y0 >= box.y0 - EDGE and needed.y1 <= box.y1 + EDGE
