"""Figures as functions of csv lines: what is drawn is what is written."""

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from manifold_lab.core.shown import DataFrame
from manifold_lab.random_layer.specs import DECODERS
from manifold_lab.report import plots, spiral_figure
from manifold_lab.report.arm_styles import DECODER_STYLES
from manifold_lab.report.tables import pick, read_csv

FIGURES = Path(__file__).parent.parent.parent / "figures"


@pytest.fixture(scope="module")
def numbers() -> DataFrame:
    return read_csv((FIGURES / "spiral.csv").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def points() -> DataFrame:
    return read_csv((FIGURES / "spiral_points.csv").read_text(encoding="utf-8"))


def test_every_decoder_has_a_colour_and_a_marker_of_its_own() -> None:
    assert set(DECODER_STYLES) == set(DECODERS)
    assert len(set(DECODER_STYLES.values())) == len({colour for colour, _ in DECODER_STYLES.values()}) == 6


def test_the_curves_colours_differ_in_grey() -> None:
    red, green, blue = plots.ALONG(np.linspace(0, 1, 9))[:, :3].T
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    assert (np.diff(luminance) > 0.03).all()
    assert luminance.max() < 0.85


@pytest.mark.parametrize("name", plots.STYLES)
def test_styles_set_nothing_for_good(name: str, numbers: DataFrame) -> None:
    before = dict(mpl.rcParams)
    figure = spiral_figure.draw_statistics(numbers, name)
    assert dict(mpl.rcParams) == before
    assert 4.5 < figure.get_figwidth() < 7.5


def test_nothing_that_is_written_is_clipped(numbers: DataFrame, points: DataFrame) -> None:
    for figure in (
        spiral_figure.draw_statistics(numbers, "cvpr2024"),
        spiral_figure.draw_figure(points, numbers, "cvpr2024"),
    ):
        figure.savefig(io.BytesIO(), format="png")
        box, needed = figure.bbox, figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert needed.x0 >= box.x0 - 1 and needed.y0 >= box.y0 - 1
        assert needed.x1 <= box.x1 + 1 and needed.y1 <= box.y1 + 1


def test_panel_b_draws_the_numbers_of_the_csv(numbers: DataFrame) -> None:
    rows = pick(numbers, quantity="information_dimension_loss", statistic="mean")
    axes = spiral_figure.draw_statistics(numbers, "cvpr2024").axes[1]
    drawn = {(x, y) for line in axes.lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    for row in rows.itertuples():
        assert (row.dim, row.theory) in drawn
        if row.estimate > 0:
            assert (row.dim, row.estimate) in drawn


def test_lost_points_are_crossed_and_kept_ones_are_not(points: DataFrame, numbers: DataFrame) -> None:
    figure = spiral_figure.draw_figure(points, numbers, "cvpr2024")
    for ax in figure.axes:
        if ax.get_title() not in ("dim 2", "dim 15"):
            continue
        (crosses,) = [line for line in ax.lines if line.get_marker() == "x"]
        assert (len(crosses.get_xdata()) > 0) == (ax.get_title() == "dim 2")


@pytest.mark.slow
def test_equal_figures_are_equal_bytes(numbers: DataFrame, tmp_path: Path) -> None:
    for kind in plots.FORMATS:
        for name in ("a", "b"):
            plots.writer(spiral_figure.draw_statistics(numbers, "cvpr2024"), "cvpr2024")(tmp_path / f"{name}.{kind}")
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
