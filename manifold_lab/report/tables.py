"""Rows to csv, to the terminal and to markdown."""

import math
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from manifold_lab.core import provenance, statistics
from manifold_lab.core.files import Writer, csv_rows, csv_text, text
from manifold_lab.core.statistics import LEVEL, QUANTILES, UNDECIDED, Estimate, ResultRow
from manifold_lab.report import latex

Lines = Sequence[dict[str, str]]
"""A csv file as read: one mapping from column to text per line."""
MISSING = "–"
"""What a reader sees where there is no number."""
WIDEST = 1000
"""Columns of a terminal beyond which no table goes."""
RESOLUTION = 12
"""Measured numbers are written to this many decimals at most: what is smaller is rounding of the arithmetic."""
HTML = re.compile("<(?=[A-Za-z/!?])")
"""Where a tag of HTML would begin."""
BEFORE_BAR = re.compile(r"(\\*)\|")
"""A bar, and the backslashes before it, of which the last would else be the one that takes the bar's meaning."""
RESULT_COLUMNS = (
    "quantity", "decoder", "statistic", "unit", "dim", "manifold", "inputs", "intrinsic", "embedding", "activation",
    "estimate", "low", "high", "level", "n", *QUANTILES, "theory", "note",
)  # fmt: skip


def number(value: float | None) -> str:
    """Nine significant digits; empty where there is none."""
    return "" if value is None or not math.isfinite(value) else f"{value:.9g}"


def _measured(value: float) -> str:
    return number(round(value, RESOLUTION) + 0.0) if math.isfinite(value) else ""


def record(row: ResultRow) -> dict[str, str]:
    """One line of the csv."""
    spread = row.spread or {}
    estimate = row.estimate
    line = {
        **{name: str(getattr(row, name)) for name in RESULT_COLUMNS[:4] + RESULT_COLUMNS[5:10]},
        "dim": "" if row.dim is None else str(row.dim),
        "estimate": _measured(estimate.value),
        "low": _measured(estimate.low),
        "high": _measured(estimate.high),
        "level": number(LEVEL) if math.isfinite(estimate.low) else "",
        "n": str(estimate.n),
        **{name: _measured(spread[name]) if name in spread else "" for name in QUANTILES},
        "theory": number(row.theory),
        "note": row.note,
    }
    return {name: line[name] for name in RESULT_COLUMNS}


@dataclass(frozen=True)
class ClaimResult:
    """One claim beside the number that decides it.

    Args:
        id: the study's name, a dot, the claim's own name, and after slashes what sets rows of one claim apart:
            `fig6a_nonlinearity.linear_beats_relu6/cifar10/0.35/120000`. It joins the row with the claims' registry.
        place: where the claim stands in its paper.
        says: the claim.
        measure: what was measured.
        estimate: its value.
        verdict: one of `statistics.VERDICTS`.
        command: what measures it again.
        p_value: of the test behind the verdict, two-sided; None where the verdict rests on no test.
        needed: runs of every arm that would decide an effect of the size seen, where that is undecided.
    """

    id: str
    place: str
    says: str
    measure: str
    estimate: Estimate
    verdict: str
    command: str
    p_value: float | None = None
    needed: int | None = None

    def record(self) -> dict[str, str]:
        """One line of a csv of claims."""
        found = self.estimate
        half = (found.high - found.low) / 2 if self.verdict == UNDECIDED else math.nan
        return {
            **{name: getattr(self, name) for name in ("id", "place", "says", "measure", "verdict", "command")},
            **{name: _measured(value) for name, value in (("low", found.low), ("high", found.high))},
            "estimate": _measured(found.value),
            "n": str(found.n),
            "p": "" if self.p_value is None or math.isnan(self.p_value) else f"{self.p_value:.3g}",
            "within": number(float(f"{half:.3g}")) if math.isfinite(half) else "",
            "needed": "" if self.needed is None else str(self.needed),
        }


def estimated_claim(  # noqa: PLR0913, PLR0917  (the fields of a claim that rests on an estimate)
    study: str, name: str, place: str, says: str, measure: str, found: Estimate, holds: bool | None
) -> ClaimResult:
    """A claim that an estimate decides; `holds` is None where it does not tell. `printed.counted_claims` for counts."""
    verdict, command = statistics.verdict(holds, found), f"python -m experiments.{study}"
    return ClaimResult(f"{study}.{name}", place, says, measure, found, verdict, command)


def claim_sentence(claim: Mapping[str, str]) -> str:
    """A line of a csv of claims as a sentence, with its number."""
    return f"{verdict_words(claim)}: {claim['says']} ({claim['place']}); {claim['measure']}: {claim_value(claim)}"


def verdict_words(claim: Mapping[str, str]) -> str:
    """The verdict of a line; where it is undecided, within how much, and how many runs would decide."""
    if claim["verdict"] != UNDECIDED or not claim["within"]:
        return claim["verdict"]
    needed = f"; {claim['needed']} runs an arm would decide an effect of this size" if claim["needed"] else ""
    return f"{UNDECIDED} (within ±{claim['within']}{needed})"


def claim_value(claim: Mapping[str, str]) -> str:
    """A line's value; with interval and n where it was sampled, not counted."""
    value, low, high = (float(claim[name]) if claim[name] else math.nan for name in ("estimate", "low", "high"))
    if math.isnan(value):
        return MISSING
    if low == high:
        return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"
    ends = "no interval" if math.isnan(low) else f"{low:.4g} to {high:.4g}"
    return f"{value:.4g} ({ends}; n = {int(claim['n']):,})"


CLAIM_COLUMNS = ("id", "place", "says", "measure", "estimate", "low", "high", "n", "verdict", "p", "within", "needed",
                 "command")  # fmt: skip


def claims_file(stem: str, claims: Iterable[ClaimResult], made: provenance.Made | None = None) -> dict[str, Writer]:
    """The csv of an experiment's claims; and where numbers were made for it, how they came to be, as json."""
    files = {f"{stem}_claims.csv": text(csv_text([claim.record() for claim in claims], CLAIM_COLUMNS))}
    return files if made is None else files | {f"{stem}.json": text(made.text())}


def to_csv(records: Iterable[dict[str, str]], columns: Sequence[str] = RESULT_COLUMNS) -> str:
    """The text of a csv file, with the same bytes on every system."""
    return csv_text(records, columns)


def read_csv(text: str) -> Lines:
    """The lines of a csv text, as they were before `to_csv`."""
    return csv_rows(text)


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


def terminal(title: str, head: Sequence[str], sections: Iterable[Sequence[Sequence[str]]]) -> Table:
    """A table for rich's console, a rule after every section."""
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number == 1 else "right", no_wrap=True)
    for section in sections:
        for line in section:
            table.add_row(*line)
        table.add_section()
    return table


def show(console: Console, title: str, head: Sequence[str], sections: Sequence[Sequence[Sequence[str]]]) -> None:
    """Print a table; where the terminal is too narrow for it, a paragraph for each of its lines.

    A pipe has no width: there the table is as wide as it needs to be.
    """
    table = terminal(title, head, sections)
    needed = console.measure(table, options=console.options.update(width=WIDEST)).maximum
    if needed > console.width and (console.is_terminal or "COLUMNS" in os.environ):
        console.print(
            "\n".join([title, *_paragraphs(head, sections, console.width)]).strip(), highlight=False, markup=False
        )
    else:
        Console(width=max(console.width, needed), file=console.file).print(table, soft_wrap=True)


def _paragraphs(head: Sequence[str], sections: Sequence[Sequence[Sequence[str]]], width: int) -> Iterator[str]:
    """Each line of a table as its first two cells, and below, indented, every other cell that says something."""
    for first, second, *cells in (line for section in sections for line in section):
        yield f"{head[0]} {first}: {second.strip()}"
        told = (f"{name} {cell}" for name, cell in zip(head[2:], cells, strict=True) if cell not in ("", MISSING))
        yield textwrap.fill("; ".join(told) or MISSING, width, initial_indent="  ", subsequent_indent="  ")


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A markdown table, columns of numbers to the right; no cell ends its cell or line, or begins HTML."""
    rows = list(body)
    sides = ["---:" if all(map(_numeric, cells)) else "---" for cells in zip(*rows, strict=True)] or ["---"] * len(head)
    lines = [head, sides, *rows]
    return "\n".join("| " + " | ".join(map(_in_markdown, line)) + " |" for line in lines)


def _in_markdown(cell: str) -> str:
    return BEFORE_BAR.sub(r"\1\1\|", HTML.sub("&lt;", _on_one_line(cell)))


def _on_one_line(cell: str) -> str:
    return " ".join(cell.splitlines())


def _numeric(cell: str) -> bool:
    return cell in ("", MISSING) or cell.lstrip("+-−")[:1].isdigit()


def _grouped(cell: str) -> str:
    """Digits of long whole numbers in threes; a dash for nothing."""
    return f"{int(cell):,}" if cell.isascii() and cell.isdigit() else cell or MISSING


@dataclass(frozen=True)
class Document:
    """A table for readers: what it shows, and of its lines those columns that `head` names, renamed."""

    caption: str
    head: dict[str, str]
    lines: Lines


def typeset(stem: str, document: Document) -> dict[str, Writer]:
    """A table as markdown and LaTeX; what is missing is a dash."""
    body = [[_grouped(line[column]) for column in document.head] for line in document.lines]
    names = list(document.head.values())
    return {
        f"{stem}.md": text(f"{document.caption}\n\n{markdown(names, body)}\n"),
        f"{stem}.tex": text(latex.table(document.caption, stem, names, body)),
    }
