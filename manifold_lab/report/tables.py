"""Rows to csv and back, to markdown and to LaTeX."""

import contextlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from manifold_lab.core import provenance, statistics
from manifold_lab.core.errors import InputError
from manifold_lab.core.files import Writer, csv_rows, csv_text, text, without_apostrophe
from manifold_lab.core.shown import DataFrame, Series, frame
from manifold_lab.core.statistics import LEVEL, QUANTILES, UNDECIDED, Estimate, ResultRow
from manifold_lab.report import latex
from manifold_lab.report.markdown import MISSING, markdown

Record = dict[str, Any]
"""A line of a csv file that is to be written: its values by column, None where one is missing."""
TEXT_COLUMNS = ("arm", "data", "decoder", "group", "note")
"""Columns of names and notes, which are text whatever it looks like: a group may be called 0.35."""
RESOLUTION = 12
"""Measured numbers are written to this many decimals at most: what is smaller is rounding of the arithmetic."""
RESULT_COLUMNS = (
    "quantity", "decoder", "statistic", "unit", "dim", "manifold", "inputs", "intrinsic", "embedding", "activation",
    "estimate", "low", "high", "level", "n", *QUANTILES, "theory", "note",
)  # fmt: skip
CLAIM_COLUMNS = ("id", "place", "says", "measure", "estimate", "low", "high", "n", "verdict", "p", "within", "needed",
                 "command")  # fmt: skip


def nine_digits(value: float | None) -> str:
    """Nine significant digits; empty where there is none."""
    return "" if value is None or not math.isfinite(value) else f"{value:.9g}"


def rounded(value: float) -> float:
    """A number as it is read back from a csv file, where it has nine digits."""
    return float(nine_digits(value))


def to_resolution(value: float) -> float | None:
    """A measured number as it is written: to RESOLUTION decimals and nine digits; None where there is none."""
    return rounded(round(value, RESOLUTION) + 0.0) if math.isfinite(value) else None


def record(row: ResultRow) -> Record:
    """One row of the table of estimates."""
    level = LEVEL if math.isfinite(row.estimate.low) else None
    spread = {name: to_resolution(value) for name, value in (row.spread or {}).items()}
    known = vars(row) | {"level": level} | estimate_record(row.estimate) | spread
    return {name: known.get(name) for name in RESULT_COLUMNS}


def estimate_record(found: Estimate) -> Record:
    """The columns of an estimate, as `estimate_in` reads them."""
    ends = {"estimate": found.value, "low": found.low, "high": found.high}
    return {name: to_resolution(value) for name, value in ends.items()} | {"n": found.n}


@dataclass(frozen=True)
class ClaimResult:
    """One claim beside the number that decides it.

    Args:
        id: the claim's own name, and after slashes what sets rows of one claim apart; a study puts its name and a dot
            before: `fig6a_nonlinearity.linear_beats_relu6/cifar10/0.35/120000`. That joins the row with
            the claims' registry.
        place: where the claim stands in its paper.
        says: the claim.
        measure: what was measured.
        estimate: its value.
        verdict: one of `statistics.VERDICTS`.
        command: what measures it again; the study knows it.
        p_value: of the test behind the verdict, two-sided; None where the verdict rests on no test.
        needed: what would decide it where it is undecided, as `report.deciding` says it: `12 runs an arm`; else empty.
    """

    id: str
    place: str
    says: str
    measure: str
    estimate: Estimate
    verdict: str
    command: str = ""
    p_value: float | None = None
    needed: str = ""

    @property
    def tested(self) -> bool:
        """Whether its verdict rests on a test, and not on a count."""
        return self.p_value is not None and not math.isnan(self.p_value)

    @property
    def within(self) -> float:
        """Half of an undecided claim's interval, to three digits; NaN where it is decided or has none."""
        found = self.estimate
        half = (found.high - found.low) / 2 if self.verdict == UNDECIDED else math.nan
        return float(f"{half:.3g}")

    def record(self) -> Record:
        """One line of a csv of claims."""
        p_value = None if self.p_value is None else float(f"{self.p_value:.3g}")
        known = vars(self) | estimate_record(self.estimate) | {"p": p_value, "within": self.within}
        return {name: known[name] for name in CLAIM_COLUMNS}


def estimated_claim(
    name: str, says: str, measure: str, found: Estimate, holds: bool | None, *, place: str, **tested: Any
) -> ClaimResult:
    """A claim that an estimate decides; `holds` is None where it does not tell. `printed.counted_claims` for counts.

    `p_value` and `needed` of `ClaimResult` besides; where it is undecided, more than there is are needed by default.
    """
    verdict = statistics.verdict(holds, found)
    needed = tested.pop("needed", "") or f"more than the {found.n:,} that there are"
    return ClaimResult(name, place, says, measure, found, verdict, needed=needed * (verdict == UNDECIDED), **tested)


def command_of(study: str) -> str:
    """What runs a study."""
    return f"python -m experiments.{study}"


def claim_sentence(claim: ClaimResult) -> str:
    """A claim as a sentence, with its number."""
    return f"{verdict_text(claim)}: {claim.says} ({claim.place}); {claim.measure}: {claim_value(claim)}"


def verdict_text(claim: ClaimResult) -> str:
    """The verdict; where it is undecided, within how much, and what would decide."""
    within = "" if math.isnan(claim.within) else f"within ±{nine_digits(claim.within)}"
    needed = f"{claim.needed} would decide" if claim.needed else ""
    more = "; ".join(filter(None, (within, needed)))
    return f"{claim.verdict} ({more})" if more else claim.verdict


def claim_value(claim: ClaimResult) -> str:
    """A claim's value; with interval and n where it was sampled, not counted."""
    value, low, high = claim.estimate.value, claim.estimate.low, claim.estimate.high
    if math.isnan(value):
        return MISSING
    if low == high:
        return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"
    ends = "no interval" if math.isnan(low) else f"{low:.4g} to {high:.4g}"
    return f"{value:.4g} ({ends}; n = {claim.estimate.n:,})"


def claims_file(stem: str, claims: Iterable[ClaimResult], made: provenance.Made | None = None) -> dict[str, Writer]:
    """The csv of an experiment's claims; and where numbers were made for it, how they came to be, as json."""
    files = {f"{stem}_claims.csv": text(to_csv([claim.record() for claim in claims], CLAIM_COLUMNS))}
    return files if made is None else files | {f"{stem}.json": text(made.text())}


def read_claims(text: str) -> list[ClaimResult]:
    """The claims of a csv text, to the digits that are written.

    Raises:
        InputError: for what is no table of claims.
    """
    try:
        return [_claim(row) for row in csv_rows(text)]
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"claims: the table is damaged at {error}: publish it anew") from None


def _claim(row: Mapping[str, str]) -> ClaimResult:
    texts = {name: row[name] for name in ("id", "place", "says", "measure", "verdict", "needed", "command")}
    value, low, high = (float(row[name]) if row[name] else math.nan for name in ("estimate", "low", "high"))
    p_value = float(row["p"]) if row["p"] else None
    return ClaimResult(**texts, estimate=Estimate(value, low, high, int(row["n"] or 0)), p_value=p_value)


def to_csv(rows: DataFrame | Iterable[Record], columns: Sequence[str] = ()) -> str:
    """The text of a csv file, with the same bytes on every system; `read_csv` reads it back.

    Args:
        rows: a table, or what is to be one; numbers that are not whole are written to nine digits.
        columns: in their order; by default every one that any row has.
    """
    found = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
    names = columns or list(dict.fromkeys(name for row in found for name in row))
    return csv_text([{name: written(value) for name, value in row.items()} for row in found], names)


def written(value: Any) -> Any:
    """A value as a csv file has it: a number to nine digits, nothing where there is none, all else as it is."""
    return nine_digits(value) if value is None or isinstance(value, float) else value


def read_csv(text: str, text_columns: Iterable[str] = ()) -> DataFrame:
    """A csv text as a table: columns of whole numbers, of numbers (NaN where one is missing), and of texts.

    Args:
        text: of the file.
        text_columns: columns that are text whatever it looks like, besides TEXT_COLUMNS.

    Raises:
        InputError: for what is no table.
    """
    import pandas as pd  # noqa: PLC0415  (a second that commands without tables do not need)

    if not text.strip():
        return frame(())
    try:
        made = pd.read_csv(io.StringIO(text), dtype=object, keep_default_na=False)
    except ValueError as error:
        raise InputError(f"csv: the table is damaged ({' '.join(str(error).split())}): publish it anew") from None
    for name in made:
        numbers = None if name in (*TEXT_COLUMNS, *text_columns) else _numbers(made[name].to_numpy())
        made[name] = made[name].map(without_apostrophe) if numbers is None else numbers
    return made


def _numbers(cells: np.ndarray) -> np.ndarray | None:
    """The numbers that a column's texts are, each to the bit as Python reads it; None where they are no numbers."""
    for kind in (int, float):
        with contextlib.suppress(ValueError, OverflowError):
            return np.where(cells == "", "nan", cells).astype(kind)
    return None


def matches(table: DataFrame, **wanted: Any) -> np.ndarray:
    """Of every row whether its columns have these values."""
    same = [table[name].to_numpy() == value for name, value in wanted.items()]  # pandas' own compares texts slowly
    return np.logical_and.reduce(same) if same else np.ones(len(table), bool)


def pick(table: DataFrame, **wanted: Any) -> DataFrame:
    """The rows whose columns have these values."""
    return table[matches(table, **wanted)] if wanted else table


def unique(table: DataFrame, name: str) -> list[Any]:
    """The values of a column, each once, in their order."""
    return table[name].unique().tolist()


def estimate_in(row: Mapping[str, Any] | Series, *names: str) -> Estimate:
    """The estimate that a row of a table holds.

    Args:
        row: with the count in its column n.
        names: of the columns of the value and of both ends of its interval.
    """
    value, low, high = (float(row[name]) for name in names or ("estimate", "low", "high"))
    return Estimate(value, low, high, int(row["n"]))


def estimates_in(table: DataFrame, *names: str) -> list[Estimate]:
    """The estimates of a table, row by row; columns as of `estimate_in`."""
    return [estimate_in(row, *names) for row in table.to_dict("records")]


def percent(value: float) -> str:
    """A share as a reader wants it: 100 % only where it is exactly that, near misses with as many digits as needed.

    >>> percent(1.0), percent(0.99951171875), percent(1 - 2.9e-8), percent(0.4992), percent(0.0), percent(9.3e-10)
    ('100 %', '99.95 %', '99.999997 %', '49.9 %', '0 %', '9.3e-08 %')
    """
    missing = min(value, 1 - value)
    if missing <= 0:
        return f"{100 * value:.0f} %"
    if value < 1e-4:
        return f"{100 * value:.2g} %"
    digits = 1 if missing >= 0.01 else -math.floor(math.log10(missing)) - 2
    return f"{100 * value:.{digits}f} %"


def plain(value: float) -> str:
    """Three significant digits, without an exponent where that is short.

    >>> plain(0.0), plain(0.2345678), plain(4.08e-5), plain(43.12)
    ('0', '0.235', '4.1e-05', '43.1')
    """
    return "0" if value == 0 else f"{value:.2g}" if abs(value) < 1e-3 else f"{value:#.3g}".rstrip(".")


def cell(value: float | int | str | None) -> str:
    """A measured number as a reader wants it, whole where it is; words as they are, a dash for nothing."""
    digits = str(written(value))
    return plain(value) if isinstance(value, float) and "." in digits else digits or MISSING


def shown(value: Any) -> str:
    """A value as a reader wants it: digits of long whole numbers in threes; a dash for nothing."""
    cell = str(written(value))
    return f"{int(cell):,}" if cell.isascii() and cell.isdigit() else cell or MISSING


@dataclass(frozen=True)
class Document:
    """A table for readers: what it shows, and of its rows those columns that `head` names, renamed."""

    caption: str
    head: dict[str, str]
    rows: DataFrame


def typeset(stem: str, document: Document) -> dict[str, Writer]:
    """A table as markdown and LaTeX; what is missing is a dash."""
    body = [[shown(row[name]) for name in document.head] for row in document.rows.to_dict("records")]
    names = list(document.head.values())
    return {
        f"{stem}.md": text(f"{document.caption}\n\n{markdown(names, body)}\n"),
        f"{stem}.tex": text(latex.latex_table(document.caption, stem, names, body)),
    }
