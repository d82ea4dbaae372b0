import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold_lab.stats import Estimate, Row
from manifold_lab.tables import COLUMNS, markdown, number, percent, plain, read_csv, record, to_csv


def row(**changes: object) -> Row:
    fields: dict[str, object] = {
        "quantity": "preserved_fraction", "statistic": "mean", "unit": "fraction of points", "dim": 3,
        "manifold": "spiral", "inputs": 2, "intrinsic": 1, "embedding": "gaussian", "activation": "relu",
        "estimate": Estimate(0.5, 0.4, 0.6, 100), "theory": 0.5,
    }  # fmt: skip
    return Row(**fields | changes)  # type: ignore[arg-type]


def test_a_row_comes_back_from_csv_as_it_was() -> None:
    (line,) = read_csv(to_csv([record(row(note='a, "quoted" note'))]))
    assert tuple(line) == COLUMNS
    assert (line["estimate"], line["low"], line["high"], line["n"], line["theory"]) == (
        "0.5",
        "0.4",
        "0.6",
        "100",
        "0.5",
    )
    assert line["note"] == 'a, "quoted" note'


def test_what_is_missing_is_empty_and_never_zero() -> None:
    line = record(row(estimate=Estimate(0.5, math.nan, math.nan, 1), theory=None, dim=None))
    assert [line[name] for name in ("low", "high", "level", "theory", "dim", "q05")] == [""] * 6
    assert number(None) == number(math.nan) == number(math.inf) == ""


def test_rounding_noise_of_a_measured_zero_is_written_as_zero_but_a_small_theory_is_kept() -> None:
    line = record(row(estimate=Estimate(3e-31, -2e-33, 1e-17, 10), theory=9.3e-10))
    assert [line[name] for name in ("estimate", "low", "high", "theory")] == ["0", "0", "0", "9.3e-10"]


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
