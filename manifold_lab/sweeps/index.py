"""Many small records in one file that is quick to read; it can always be made again, so that a damaged one is nothing.

Records of one shape lie together, column by column; a list or object within them, such as a network or the versions, is
written once, and [place] stands for it.
"""

import contextlib
import gc
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from manifold_lab.core.files import publish, text

NAME = "index.json"
Record = dict[str, Any]
Entry = tuple[tuple[int, int, int], Record]
"""A stamp, by which a record that has changed is known, and the record: values, and parts that are dicts of values."""


def write(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Write the index of a folder.

    Raises:
        InputError: if the folder or the disk refuses.
    """
    places: dict[str, int] = {}
    groups: dict[tuple[tuple[str, ...], ...], list[list[Any]]] = {}
    for name, (stamp, record) in entries.items():
        paths = tuple(path for path, _ in _flat(record))
        values = ([places.setdefault(json.dumps(value), len(places))] if isinstance(value, dict | list) else value
                  for _, value in _flat(record))  # fmt: skip
        groups.setdefault(paths, []).append([name, *stamp, *values])
    told = [{"paths": paths, "columns": list(zip(*rows, strict=True))} for paths, rows in groups.items()]
    shared = [json.loads(words) for words in places]
    publish(folder, {NAME: text(json.dumps({"groups": told, "shared": shared}, separators=(",", ":")))})


def read(folder: Path) -> dict[str, Entry]:
    """The index of a folder; empty where there is none, or it is damaged."""
    try:
        with _uncollected():
            index = json.loads((folder / NAME).read_text(encoding="utf-8"))
            return {name: entry for group in index["groups"] for name, entry in _entries(group, index["shared"])}
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Make many objects without the garbage collector looking at all of them again and again: half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _flat(record: Record) -> Iterable[tuple[tuple[str, ...], Any]]:
    """The values of a record by path, part by part; an empty part is a value."""
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield from (((name, inner), part) for inner, part in value.items())
        else:
            yield (name,), value


def _entries(group: dict[str, Any], shared: list[Any]) -> Iterable[tuple[str, Entry]]:
    names, *columns = group["columns"]
    stamps, columns = columns[:3], [_resolved(column, shared) for column in columns[3:]]
    parts: dict[str, list[tuple[str, list[Any]]]] = {}
    for path, column in zip(group["paths"], columns, strict=True):
        parts.setdefault(path[0], []).append((path[-1], column) if len(path) > 1 else ("", column))
    made = {part: _joined(told) for part, told in parts.items()}
    records = (dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True))
    return zip(names, zip(zip(*stamps, strict=True), records, strict=True), strict=True)


def _resolved(column: list[Any], shared: list[Any]) -> list[Any]:
    return [shared[value[0]] if type(value) is list else value for value in column]


def _joined(told: list[tuple[str, list[Any]]]) -> Iterable[Any]:
    """A part of every record: a plain value, or a dict of values."""
    names = [name for name, _ in told]
    if names == [""]:
        return told[0][1]
    return (dict(zip(names, values, strict=True)) for values in zip(*(column for _, column in told), strict=True))
