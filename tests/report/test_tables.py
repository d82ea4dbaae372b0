import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold_lab.core.shown import frame
from manifold_lab.core.statistics import Estimate, ResultRow
from manifold_lab.report import latex, tables
from manifold_lab.report.markdown import table_cells
from manifold_lab.report.tables import (
    RESULT_COLUMNS,
    ClaimResult,
    Document,
    markdown,
    nine_digits,
    percent,
    plain,
    read_claims,
    read_csv,
    record,
    to_csv,
)


def row(**changes: object) -> ResultRow:
    fields: dict[str, object] = {
        "quantity": "preserved_fraction", "statistic": "mean", "unit": "fraction of points", "dim": 3,
        "manifold": "spiral", "inputs": 2, "intrinsic": 1, "embedding": "gaussian", "activation": "relu",
        "estimate": Estimate(0.5, 0.4, 0.6, 100), "theory": 0.5,
    }  # fmt: skip
    return ResultRow(**fields | changes)  # type: ignore[arg-type]


def test_a_row_comes_back_from_csv_as_it_was() -> None:
    (line,) = read_csv(to_csv([record(row(note='a, "quoted" note'))])).to_dict("records")
    assert tuple(line) == RESULT_COLUMNS
    assert [line[name] for name in ("estimate", "low", "high", "n", "theory")] == [0.5, 0.4, 0.6, 100, 0.5]
    assert line["note"] == 'a, "quoted" note' and math.isnan(line["q05"]) and line["decoder"] == ""


def test_a_table_has_whole_numbers_numbers_and_texts_and_nan_where_a_number_is_missing() -> None:
    found = read_csv("arm,group,n,x,name,none,hash\n6,0.35,1,,relu,,12\n8,1,2,0.1,,,7e1\n", ["hash"])
    assert found["arm"].tolist() == ["6", "8"] and found["group"].tolist() == ["0.35", "1"], (
        "names, whatever they look like"
    )
    assert found["n"].dtype == int and found["x"].sum() == 0.1 and math.isnan(found["x"][0])
    assert found["name"].tolist() == ["relu", ""] and found["hash"].tolist() == ["12", "7e1"]
    assert found["none"].isna().all() and to_csv(found).splitlines()[1] == "6,0.35,1,,relu,,12"


def test_a_claim_comes_back_to_the_digits_that_are_written() -> None:
    claim = ClaimResult(
        "s.one/a", "here", "it is so", "that", Estimate(0.5, 0.25, 1 / 3, 9), "undecided", "run", 0.0625, "7 runs"
    )
    (again,) = read_claims(to_csv([claim.record()]))
    assert (
        again == dataclasses.replace(claim, estimate=Estimate(0.5, 0.25, 0.333333333, 9))
        and again.within == claim.within
    )


def test_what_is_missing_is_empty_and_never_zero() -> None:
    line = record(row(estimate=Estimate(0.5, math.nan, math.nan, 1), theory=None, dim=None))
    assert [line[name] for name in ("low", "high", "level", "theory", "dim", "q05")] == [None] * 6
    assert nine_digits(None) == nine_digits(math.nan) == nine_digits(math.inf) == ""


def test_rounding_noise_of_a_measured_zero_is_written_as_zero_but_a_small_theory_is_kept() -> None:
    line = record(row(estimate=Estimate(3e-31, -2e-33, 1e-17, 10), theory=9.3e-10))
    assert [line[name] for name in ("estimate", "low", "high", "theory")] == [0, 0, 0, 9.3e-10]


@given(st.floats(1e-9, 1 - 1e-9))
def test_percent_is_never_100_or_0_for_a_share_that_is_not(share: float) -> None:
    shown = float(percent(share).removesuffix(" %"))
    assert 0 < shown < 100
    assert abs(shown - 100 * share) <= 0.051 * max(1e-7, min(1, 10 * 100 * min(share, 1 - share)))


@pytest.mark.parametrize(("value", "shown"), [(0.0, "0"), (0.23456, "0.235"), (123.4, "123"), (4.08e-5, "4.1e-05")])
def test_plain_numbers_have_at_most_three_digits(value: float, shown: str) -> None:
    assert plain(value) == shown


def test_markdown_escapes_what_would_end_a_cell() -> None:
    assert markdown(["|x|"], [["1"]]).splitlines()[0] == "| \\|x\\| |"
    assert markdown(["x"], [["a\\|b"]]).splitlines()[2] == "| a\\\\\\|b |"  # an escaped backslash, an escaped bar
    assert markdown(["x"], [["a\n\n<b>|"]]).splitlines()[2] == "| a  &lt;b>\\| |"


@given(st.lists(st.lists(st.text(st.sampled_from("a|\\\\ <-:1&")).map(str.strip), min_size=2, max_size=2), min_size=1))
def test_cells_are_those_that_a_table_was_made_of(rows: list[list[str]]) -> None:
    assert table_cells(markdown(rows[0], rows[1:])) == rows
    assert table_cells("prose\n| and a line |") == table_cells("") == []


def test_latex_escapes_and_ends_no_paragraph() -> None:
    table = latex.latex_table("a\n\n~b", "l a~b", ["x\n\ny", "^"], [["a\n\nb", "\\end{x}"]])
    assert "\\caption{a \\textasciitilde{}b}" in table and "\\label{tab:l-a-b}" in table
    assert "a b & \\textbackslash{}end\\{x\\} \\\\" in table and "\n\n" not in table


def test_a_digit_that_is_no_number_is_shown_as_it_is() -> None:
    made = tables.typeset("t", tables.Document("caption", {"a": "a"}, frame([{"a": "²"}, {"a": "1234"}])))
    assert set(made) == {"t.md", "t.tex"} and tables.shown("²") == "²" and tables.shown(1234) == "1,234"


def test_a_latex_table_escapes_what_latex_would_read() -> None:
    found = latex.latex_table("50 % of a_b", "name", ["a_b", "share (%)"], [["x & y", "1 %"]])
    assert r"\caption{50 \% of a\_b}" in found and r"x \& y & 1 \%" in found and r"a\_b" in found
    assert [found.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]


def test_a_typeset_table_shows_what_is_missing(tmp_path: Path) -> None:
    lines = [{"name": "one", "count": "1234567"}, {"name": "two", "count": ""}]
    for name, write in tables.typeset(
        "t", Document("Caption.", {"name": "name", "count": "count"}, frame(lines))
    ).items():
        write(tmp_path / name)
    shown = (tmp_path / "t.md").read_text()
    assert shown.startswith("Caption.\n") and "| one | 1,234,567 |" in shown and f"| two | {tables.MISSING} |" in shown


def test_cells_stay_cells_in_every_format() -> None:
    hostile = "a | b\n<script>alert(1)</script> \\ ~ ^ & % $ # _ { }"
    table = tables.markdown(["x"], [[hostile]])
    assert len(table.splitlines()) == 3 and "<script" not in table and "</script" not in table and "a \\| b" in table
    made = latex.latex_table(hostile, "a label{}%\\x", ["x"], [["1"]])
    assert "\\label{tab:a-label----x}" in made
    assert "\\textbackslash{} \\textasciitilde{} \\textasciicircum{} \\& \\% \\$ \\# \\_ \\{ \\}" in made


def test_a_latex_table_holds_nothing_that_plain_latex_does_not_know() -> None:
    made = latex.latex_table("x\u0302 − y²", "l", ["5 ≤ σ", "–"], [["日\u200b", "é ½ → 😀"]])
    assert made.isascii() and r"\ensuremath{\hat{x}} \ensuremath{-} y" in made and r"\textendash" in made
    assert "U+65E5" in made and "U+200B" in made


@pytest.mark.parametrize(
    "cell", ["=1+1", "+cmd", "-cmd|' /C calc'!A0", "@x", "\t=1", "'=1", "''", "-1", "+0.5", "-1e-3", "a"]
)
def test_no_cell_of_a_csv_is_a_formula_and_every_one_comes_back(cell: str) -> None:
    content = tables.to_csv([{"x": cell}], ["x"])
    written = content.splitlines()[1].strip('"')
    numeric = cell in ("-1", "+0.5", "-1e-3")
    assert numeric or written[:1] not in ("=", "+", "-", "@", "\t")
    assert tables.read_csv(content, ["x"])["x"].tolist() == [cell]
