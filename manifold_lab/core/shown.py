"""How values show themselves: in one line in a terminal, as a table in a notebook."""

import dataclasses
import html
import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame, Series
else:
    DataFrame = Series = Any
    """pandas is loaded by the first table; until then these are names for readers and type checkers."""

Axes = Any
"""Axes of matplotlib, which is loaded by the first figure."""


def changed_fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, or have none."""
    found = {}
    for field in dataclasses.fields(value):
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        part = getattr(value, field.name)
        same = type(part) is type(made) and not _is_array(part) and bool(part == made)
        if field.repr and (made is dataclasses.MISSING or part is not made) and not same:
            found[field.name] = part
    return found


def _is_array(part: Any) -> bool:
    return hasattr(part, "shape") and hasattr(part, "dtype")


def in_short(part: Any) -> str:
    """A tensor or an array by its type and shape, such as `float64[1000, 2]`; everything else as it is."""
    if not _is_array(part):
        return repr(part)
    return f"{str(part.dtype).rpartition('.')[2]}{[int(length) for length in part.shape]}"


class Shown:
    """A dataclass (made with `repr=False`) whose text is short, and which a notebook shows as a table of its fields.

    Its text is the call that makes it, without what is as by default: `NetworkSpec(width=0.5)`.
    """

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={in_short(part)}" for name, part in changed_fields(self).items())
        return f"{type(self).__name__}({fields})"

    def _repr_html_(self) -> str:
        fields: Any = self
        values = {one.name: in_short(getattr(self, one.name)) for one in dataclasses.fields(fields) if one.repr}
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(part)}</td></tr>" for name, part in values.items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"


def frame(rows: Iterable[Mapping[str, Any]]) -> DataFrame:
    """A table as a pandas DataFrame, one mapping from column to value per row; a missing number is NaN."""
    import pandas as pd  # noqa: PLC0415  (a second that only tables in Python need)

    return pd.DataFrame(list(rows))


def typed(cell: str) -> str | int | float | None:
    """A cell of a csv file as a value: a number where it is one, None where it is empty.

    >>> [typed(cell) for cell in ("", "12", "0.5", "relu")]
    [None, 12, 0.5, 'relu']
    """
    for kind in (int, float):
        try:
            value = kind(cell)
        except ValueError:
            continue
        return value if math.isfinite(value) else cell
    return cell or None


def records(table: DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as mappings from column to value; whole numbers are whole, and None is missing."""
    made = table.convert_dtypes().astype(object)
    return made.where(made.notna(), None).to_dict("records")


def print_json(**parts: Any) -> None:
    """Print one JSON object on one line; lines of csv files are told by values, paths by their names."""
    print(json.dumps(_plain(parts), allow_nan=False))


def _plain(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {name: typed(one) if isinstance(one, str) else _plain(one) for name, one in part.items()}
    if isinstance(part, list | tuple):
        return [_plain(one) for one in part]
    if isinstance(part, float) and not math.isfinite(part):
        return None
    return part if isinstance(part, str | int | float | None) else str(part)
