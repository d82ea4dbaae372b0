"""The probe's figure: what its axes and legends say, at few and at many layers."""

import itertools

import numpy as np
import pytest
from matplotlib.axes import Axes

from manifold_lab.core.shown import DataFrame, frame
from manifold_lab.report.layer_figure import OTHERS, draw_layers, literal, stage_spans


def mobilenet() -> list[str]:
    return ["stem.act", *(f"blocks.{i}.{part}.act" for i in range(17) for part in ("expand", "depthwise")), "last.act"]


def densenet() -> list[str]:
    blocks = [[f"features.denseblock{b + 1}.denselayer{i + 1}.relu{j}" for i in range(n) for j in (1, 2)]
              for b, n in enumerate((6, 12, 24, 32))]  # fmt: skip
    return ["features.relu0", *itertools.chain(*blocks), "relu()"]


NETWORKS = {36: mobilenet(), 150: densenet()}


def table(names: list[str], empty: tuple[str, ...] = ()) -> DataFrame:
    rng = np.random.default_rng(0)
    columns = [f"active_{name}" for name in ("min", "q05", "mean", "q95", "max")]
    lines = []
    for name in names:
        line = dict(zip(columns, np.sort(rng.uniform(0, 64, 5)), strict=True))
        line |= {"layer": name, "channels": 64, "threshold": 16}
        line |= {one: 1 - 1e-9 * rng.uniform() for _, shown in OTHERS.values() for one, _, _ in shown}
        lines.append(line | dict.fromkeys(empty))
    return frame(lines)


def panels(lines: DataFrame, title: str = "a network") -> list[Axes]:
    figure = draw_layers(lines, title, "ten images")
    figure.canvas.draw()
    return figure.axes


def legend(ax: Axes) -> list[str]:
    found = ax.get_legend()
    return [text.get_text() for text in found.get_texts()] if found else []


@pytest.mark.parametrize("layers", sorted(NETWORKS))
def test_values_close_to_one_have_no_offset_and_shares_go_from_zero_to_one(layers):
    found = panels(table(NETWORKS[layers]))
    assert all(ax.yaxis.get_offset_text().get_text() == "" for ax in found)
    shares = [ax for ax in found if ax.get_ylabel() == "share of positions"]
    assert shares and all(ax.get_ylim() == (-0.02, 1.02) for ax in shares)


@pytest.mark.slow
def test_the_legend_names_what_is_drawn_and_nothing_else():
    names = mobilenet()
    assert "Lemma 2's threshold" in legend(panels(table(names))[0])
    found = panels(table(names, ("threshold", "kept")))
    labels = [label for ax in found for label in legend(ax)]
    assert "Lemma 2's threshold" not in labels and "minimum below" not in labels
    assert "more than k rows active" not in labels and "active rows have full rank" in labels


def test_a_threshold_above_all_channels_is_no_fraction_and_not_in_its_legend():
    count, fraction = panels(table(mobilenet()).assign(threshold=65))[:2]
    assert "Lemma 2's threshold" in legend(count) and "Lemma 2's threshold" not in legend(fraction)


@pytest.mark.parametrize("missing", [(), ("information",)])
def test_the_page_is_full_whatever_the_number_of_panels(missing):
    found = panels(table(mobilenet(), missing))
    widths = [ax.get_position().x1 for ax in found]
    assert len(found) == (7 if not missing else 6)
    assert widths[-1] == pytest.approx(max(widths), abs=0.02)


@pytest.mark.parametrize("layers", sorted(NETWORKS))
def test_names_under_the_axis_do_not_overlap(layers):
    for ax in panels(table(NETWORKS[layers])):
        boxes = [text.get_window_extent() for text in ax.get_xticklabels()]
        assert len(boxes) > 2
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
        assert all(text.get_rotation() == 0 for text in ax.get_xticklabels())


@pytest.mark.parametrize("layers", sorted(NETWORKS))
def test_every_layer_belongs_to_one_stage_in_order(layers):
    found = stage_spans(NETWORKS[layers])
    assert [start for _, start, _ in found[1:]] == [stop for _, _, stop in found[:-1]]
    assert (found[0][1], found[-1][2]) == (0, len(NETWORKS[layers]))
    assert 3 < len(found) < 25


@pytest.mark.parametrize("title", ["costs $5 and $6", "a_b^c", "net\udcff", "x" * 300, r"\frac{1}{"])
def test_the_users_text_is_drawn_as_it_is(title):
    assert panels(table(mobilenet()), title)
    assert "\udcff" not in literal(title)
