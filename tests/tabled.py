"""Made-up rows as the table that a study reads back from its csv file."""

from collections.abc import Sequence

from manifold_lab.core.shown import DataFrame
from manifold_lab.report.tables import Record, read_csv, to_csv


def tabled(rows: Sequence[Record], *text_columns: str) -> DataFrame:
    return read_csv(to_csv(rows), text_columns)
