"""Laws that every published figure keeps, drawn from its published csv files."""

import importlib
import re
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from experiments.thm1_preserved import LOOKS
from manifold_lab.core import resampling
from manifold_lab.report import arm_styles, plots
from manifold_lab.sweeps.study import Study, file_stem

pytestmark = pytest.mark.slow

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
    published = study.published({part: path.read_text(encoding="utf-8") for part, path in texts.items()})
    assert study.figure
    with pytest.MonkeyPatch.context() as few:
        few.setattr(resampling, "RESAMPLES", 50)  # titles may differ for it, and keep the same laws
        figure = study.figure(published)
    figure.canvas.draw()
    return request.param, figure


def panels(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_label() not in ("<colorbar>", "<picture>")]


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


def test_no_text_is_smaller_than_a_legends(drawn: tuple[str, Figure]) -> None:
    with plots.style():
        least = mpl.rcParams["legend.fontsize"]
    written = [text for text in drawn[1].findobj(Text) if text.get_visible() and text.get_text().strip()]
    assert {text.get_text() for text in written if text.get_fontsize() < least} == set()


def looks(ax: Axes) -> dict[str, tuple[str, str]]:
    """Colour and marker of every line of a legend, by label."""
    named = zip(*ax.get_legend_handles_labels(), strict=True)
    lines = [(label, handle[0] if isinstance(handle, ErrorbarContainer) else handle) for handle, label in named]
    return {label: (mpl.colors.to_hex(line.get_color()).upper(), str(line.get_marker()))
            for label, line in lines if isinstance(line, Line2D)}  # fmt: skip


def test_an_arm_and_a_dimension_look_alike_in_every_figure(drawn: tuple[str, Figure]) -> None:
    arms = {arm_styles.label_of(arm): style for arm, style in arm_styles.ARM_STYLES.items()}
    sizes = {n: (colour.upper(), mark) for n, (colour, mark) in LOOKS.items()}
    for ax in panels(drawn[1]):
        legend = ax.get_legend()
        known = sizes if legend and legend.get_title().get_text() == "n" else arms
        seen = {re.sub(r" \(\d+\)$", "", label): look for label, look in looks(ax).items()}
        for name, (colour, mark) in seen.items():
            wanted = known.get(name, (colour, mark))
            assert colour == wanted[0], name
            assert mark in (wanted[1], "None"), name


def test_nothing_is_written_beyond_the_paper(drawn: tuple[str, Figure]) -> None:
    _, figure = drawn
    box, needed = figure.bbox, figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert needed.x0 >= box.x0 - EDGE and needed.x1 <= box.x1 + EDGE
    assert needed.y0 >= box.y0 - EDGE and needed.y1 <= box.y1 + EDGE
