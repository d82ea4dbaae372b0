"""What was run, as a value: canonical JSON and a key made from it."""

import dataclasses
import functools
import hashlib
import json
import math
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from manifold_lab.core.errors import InputError

WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a word", NoneType: "None"}


def check_types(spec: Any) -> None:
    """Refuse a frozen dataclass one of whose fields, or a part of one, is not of the kind that its annotation says.

    The first line of a spec's `__post_init__`. A bool is no number, a list is no tuple; a whole number is a number.

    Raises:
        InputError: naming the field, the smallest part that does not fit and what is allowed there.
    """
    for name, kind in _annotations(spec.__class__).items():
        found = _misfit(getattr(spec, name), kind)
        if found is not None:
            part, allowed = found
            raise InputError(f"{name}: {part!r} is not allowed; it must be {_described(allowed)}")


@functools.cache
def _annotations(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _misfit(value: Any, kind: Any) -> tuple[Any, Any] | None:
    """The first part of a value that is not of its kind, and that kind; None where everything fits."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if any(_misfit(value, one) is None for one in parts) else (value, kind)
    if origin is tuple:
        kinds = parts[:1] * len(value) if parts[1:] == (...,) and isinstance(value, tuple) else parts
        if not isinstance(value, tuple) or len(value) != len(kinds):
            return value, kind
        found = (_misfit(part, one) for part, one in zip(value, kinds, strict=True))
        return next((wrong for wrong in found if wrong is not None), None)
    fits = isinstance(value, int | float if kind is float else kind) and isinstance(value, bool) == (kind is bool)
    return None if fits else (value, kind)


def _described(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is tuple:
        inner = [_described(part) for part in parts if part is not ...]
        return f"a tuple of any length, each {inner[0]}" if ... in parts else f"a tuple of ({', '.join(inner)})"
    if origin in (Union, UnionType):
        return " or ".join(_described(part) for part in parts if not (part is int and float in parts))
    return WORDS.get(kind, kind.__name__)


def canonical_json(spec: Any) -> str:
    """The one JSON text of a frozen dataclass: sorted keys, no blanks, no NaN.

    Raises:
        ValueError: if the spec holds a NaN or an infinity.
    """
    return json.dumps(dataclasses.asdict(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)


def key(spec: Any) -> str:
    """Sixteen hexadecimal digits that name a run: equal specs, equal keys.

    Made from the names of the dataclasses and from the fields that differ from their defaults, so that a field added
    with a default renames no run. A default that *changes* would give an old run's key to another spec: such a field,
    and one whose default holds such a spec, keeps the default that it was born with, which the key goes by ever after:
    `field(default=0.5, metadata={"first_default": 1.0})`. Where that was forgotten, `disagreement` with the stored spec
    tells. A renamed dataclass keeps the name that its keys were made with as `KEY_NAME`, a renamed field as
    `field(metadata={"key_name": ...})`, so that no stored run is orphaned.

    Raises:
        ValueError: if the spec holds a NaN or an infinity.
    """
    content = json.dumps(_canonical(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    """A value as its key has it: equal values in equal words, so that 1 and 1.0 are the same."""
    if isinstance(value, tuple | list):
        return [_canonical(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _canonical(part) for name, part in value.items()}
    if not dataclasses.is_dataclass(value):
        return int(value) if isinstance(value, bool | float) and math.isfinite(value) and value == int(value) else value
    kind: Any = type(value)
    parts = [(old, getattr(value, name), default) for name, (old, default) in _compared(kind).items()]
    return [kind_name(value), {old: _canonical(part) for old, part, default in parts if part != default}]


def kind_name(spec: Any) -> str:
    """The name of a spec's class in keys and records: the one that it was born with."""
    return str(getattr(type(spec), "KEY_NAME", type(spec).__name__))


@functools.cache
def _compared(kind: type) -> dict[str, tuple[str, Any]]:
    """Of each compared field its name in keys, which is that in older records, and the default it was born with.

    For a field without a default that is a value that nothing equals.
    """
    found = {}
    for field in dataclasses.fields(kind):
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if field.compare:
            first = field.metadata.get("first_default", made)
            found[field.name] = field.metadata.get("key_name", field.name), first
    return found


def disagreement(spec: Any, stored: Any) -> str | None:
    """Where `spec` and a stored one (as read from its JSON) differ: the first such field that both have; else None.

    Fields that only one of them has are younger or older than the other: they count as agreed.
    """
    parts = _shared(spec, stored)
    if parts is None:
        return None if _canonical(spec) == _canonical(stored) else ""
    for name, ours, theirs in parts:
        if ours != theirs:  # equal values, which most are, are found without a call
            part = disagreement(ours, theirs)
            if part is not None:
                return f"{name}.{part}".rstrip(".")
    return None


def _shared(spec: Any, stored: Any) -> list[tuple[str, Any, Any]] | None:
    """The parts that two values both have, by name; None where they are not made alike."""
    if dataclasses.is_dataclass(spec) and isinstance(stored, dict):
        kind: Any = type(spec)
        return [
            (name, getattr(spec, name), stored[old if old in stored else name])
            for name, (old, _) in _compared(kind).items()
            if old in stored or name in stored
        ]
    if isinstance(spec, tuple | list) and isinstance(stored, list) and len(spec) == len(stored):
        return [(str(place), *pair) for place, pair in enumerate(zip(spec, stored, strict=True))]
    return None
