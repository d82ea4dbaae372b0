"""The record of a finished run: its text, its digest, and the checks that it passes before its numbers are believed.

`result.json` holds one entry per line. The last entry is the SHA-256 of every byte before it, and one of the entries
before it is the SHA-256 of `history.csv`, so that a change of either file is found and the right file is named. Records
of older releases have no digest. They are read too, marked as not verified, and checked for what can be checked
without one: names of entries, kinds, finite numbers, ranges, and the size of the history.
"""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from manifold_lab.core.config import disagreement, kind_name
from manifold_lab.core.errors import InputError
from manifold_lab.core.files import csv_text, read_file

RESULT, HISTORY = "result.json", "history.csv"
Record = dict[str, Any]
"""A result.json as read: key, kind, spec, numbers, history_bytes, provenance, and the digests of newer releases."""
ENTRIES = ("key", "kind", "spec", "numbers", "history_bytes", "provenance")
DIGESTS = ("history_sha256", "digest")
MARK = b',\n "digest": '
DEEPEST = 50
"""Levels of lists and objects within one another; a stored run has fewer than ten."""


class DamagedError(Exception):
    """A file of a run that does not hold what was written there."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"{file}: {why}")


@dataclass(frozen=True)
class Stored:
    """A record as read, and whether a digest vouches for it."""

    record: Record
    verified: bool


def as_json(record: Mapping[str, Any]) -> str:
    """The JSON text of a record, one line per entry.

    Raises:
        InputError: for a number that is not finite, or a value that JSON does not have.
    """
    try:
        parts = (
            f"{json.dumps(name)}: {json.dumps(part, allow_nan=False, default=_scalar)}" for name, part in record.items()
        )
        return "{" + ",\n ".join(parts) + "}\n"
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"record: {error}; numbers must be finite, and None where one is missing") from None


def _scalar(value: Any) -> Any:
    """The number within a numpy or torch scalar."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"a {type(value).__name__} is no number or text")


def finished(record: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The texts of result.json and of history.csv; the second is empty where there are no rows.

    Args:
        record: the entries key, kind, spec, numbers and provenance.
        history: rows over time.

    Raises:
        InputError: for numbers that are not finite or outside of their range.
    """
    rows = csv_text(history, list(dict.fromkeys(name for row in history for name in row))) if history else ""
    whole = {**record, "history_bytes": len(rows.encode()), "history_sha256": _sha256(rows.encode())}
    body = as_json(whole).removesuffix("}\n")
    try:
        _check_values(json.loads(body + "}")["numbers"])
        _check_history(rows.encode())
    except DamagedError as error:
        raise InputError(f"record: {error}; numbers must be finite, and None where one is missing") from None
    return f'{body}{MARK.decode()}"{_sha256(body.encode())}"}}\n', rows


def read_record(run_dir: Path, spec: Any = None) -> Stored | None:
    """The checked record of a run's folder; None where there is no result.json.

    Raises:
        DamagedError: naming the file and what is wrong with it.
    """
    content = _content(run_dir, RESULT)
    if content is None:
        return None
    record, verified = _decoded(RESULT, content), False
    if record.keys() == {*ENTRIES, *DIGESTS}:
        verified = _check_digest(content)
    elif record.keys() != set(ENTRIES):
        other = sorted(record.keys() ^ set(ENTRIES))
        raise DamagedError(RESULT, f"its entries are not those of a result ({', '.join(other)[:80]})")
    _check_origin(run_dir, record, spec)
    _check_values(record["numbers"])
    _check_provenance(record["provenance"])
    if not verified and not record["numbers"] and not record["history_bytes"]:
        raise DamagedError(RESULT, "it has no numbers")
    _check_stored_history(run_dir, record, verified)
    return Stored(record, verified)


def read_json(run_dir: Path, file: str) -> Record | None:
    """The JSON object in another file of a run; None where there is none.

    Raises:
        DamagedError: where the file holds anything else.
    """
    content = _content(run_dir, file)
    return None if content is None else _decoded(file, content)


def _content(run_dir: Path, file: str) -> bytes | None:
    """The bytes of a file of a run; None where there is none."""
    try:
        return read_file(f"{run_dir}/{file}")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedError(file, str(error.strerror)) from None


def decoded(content: bytes) -> Record:
    """The JSON object that a file holds.

    Raises:
        ValueError: for anything else, also for NaN, infinities and lists within lists beyond DEEPEST.
    """
    try:
        found = DECODER.decode(content.decode())
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError:
        raise ValueError("it is cut off or changed, and no JSON") from None
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    if content.count(b"[") + content.count(b"{") > DEEPEST and not _is_shallow(found, DEEPEST):
        raise ValueError("it is nested too deep")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(constant)


DECODER = json.JSONDecoder(parse_constant=_refuse)


def _decoded(file: str, content: bytes) -> Record:
    try:
        return decoded(content)
    except ValueError as error:
        raise DamagedError(file, str(error)) from None


def _is_shallow(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(part, levels - 1) for part in inner if isinstance(part, dict | list))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check_digest(content: bytes) -> bool:
    body, mark, digest = content.rpartition(MARK)
    if not mark or digest != f'"{_sha256(body)}"}}\n'.encode():
        raise DamagedError(RESULT, "its content does not fit its digest")
    return True


def _check_origin(run_dir: Path, record: Record, spec: Any) -> None:
    """Refuse the record of another run."""
    if record["key"] != run_dir.name:
        raise DamagedError(RESULT, f"it is the result of another run, {str(record['key'])[:40]}")
    if spec is not None:
        if record["kind"] != kind_name(spec):
            raise DamagedError(RESULT, f"it is the result of a {str(record['kind'])[:40]}, not of a {kind_name(spec)}")
        check_spec(RESULT, spec, record["spec"])


def check_spec(file: str, spec: Any, stored: Any) -> None:
    """Refuse a file that tells of another spec.

    Raises:
        DamagedError: naming the first field in which they differ.
    """
    name = disagreement(spec, stored)
    if name is not None:
        raise DamagedError(
            file,
            f"it is of another spec, as its {name or 'spec'} is not this one's; a default that changed keeps its first "
            'value as metadata={"first_default": ...}',
        )


def _check_values(numbers: Any) -> None:
    """Refuse numbers that are no mapping, not finite, or no share where the name says accuracy."""
    if not isinstance(numbers, dict):
        raise DamagedError(RESULT, "its numbers are no JSON object")
    for name, value in _leaves("", numbers):
        if isinstance(value, float) and not math.isfinite(value):
            raise DamagedError(RESULT, f"its {name} is not finite")
        if _is_share(name) and not (value is None or (_is_number(value) and 0 <= value <= 1)):
            raise DamagedError(RESULT, f"its {name} is {str(value)[:20]}, and no share from 0 to 1")


def _leaves(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    """The values of nested objects and lists, each by the nearest name above it."""
    if isinstance(value, dict):
        for inner, part in value.items():
            yield from _leaves(inner, part)
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(name, part)
    else:
        yield name, value


def _is_share(name: str) -> bool:
    return name == "accuracy" or name.endswith("_accuracy")


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_provenance(provenance: Any) -> None:
    """Refuse a provenance that does not say what every table needs: the time, the commit, the device."""
    if not isinstance(provenance, dict):
        raise DamagedError(RESULT, "its provenance is no JSON object")
    seconds, attempt = provenance.get("seconds"), provenance.get("attempt", 1)
    if not (_is_number(seconds) and math.isfinite(seconds) and seconds >= 0):
        raise DamagedError(RESULT, "its provenance has no seconds")
    if not (isinstance(attempt, int) and attempt >= 1):
        raise DamagedError(RESULT, "the attempt in its provenance is no whole number")
    for name in ("commit", "device"):
        if name not in provenance or not isinstance(provenance[name], str | None):
            raise DamagedError(RESULT, f"its provenance has no {name}")


def _check_stored_history(run_dir: Path, record: Record, verified: bool) -> None:
    history = _content(run_dir, HISTORY) or b""
    if record["history_bytes"] and not history:
        raise DamagedError(HISTORY, "it is missing or empty")
    if len(history) != record["history_bytes"]:
        raise DamagedError(HISTORY, f"it has {len(history)} bytes, not {str(record['history_bytes'])[:20]}")
    if verified and _sha256(history) != record["history_sha256"]:
        raise DamagedError(HISTORY, "its content does not fit its digest")
    if not verified:
        _check_history(history)


def _check_history(history: bytes) -> None:
    """Refuse rows that are no csv, of unequal length, or with values that `_check_values` refuses."""
    try:
        rows = [row for row in csv.reader(io.StringIO(history.decode())) if row]
    except (ValueError, csv.Error):
        raise DamagedError(HISTORY, "it is no csv text") from None
    if len({len(row) for row in rows}) > 1:
        raise DamagedError(HISTORY, "its lines are of unequal length")
    suspicious = b"inf" in history.lower() or b"nan" in history.lower()
    for name, *column in zip(*rows, strict=True):
        for value in column if suspicious or _is_share(name) else ():
            _check_number(name, value)


def _check_number(name: str, text: str) -> None:
    try:
        number = float(text)
    except ValueError:
        number = math.nan if _is_share(name) and text else 0.0
    if _is_share(name) and not 0 <= number <= 1:
        raise DamagedError(HISTORY, f"its {name} is {text[:20]}, and no share from 0 to 1")
    if not math.isfinite(number):
        raise DamagedError(HISTORY, f"its {name} is not finite")
