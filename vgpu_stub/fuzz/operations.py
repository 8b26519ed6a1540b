"""Operations, what fuzzed sequences are made of, and how they are written down.

An operation is a frozen dataclass of numbers, text, bytes, and tuples of those: so every target's
operations can be saved as JSON, made simpler field by field, and printed as Python.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

#: What a field of an operation may hold.
Value = int | str | bytes | tuple["Value", ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """One step of a sequence; each target has subclasses of its own."""


class Finding(Exception):  # noqa: N818  # what a fuzzer is for, not an error of it
    """Something that must never happen, happened.

    Attributes:
        signature: Short and without numbers that vary, to tell findings apart.
        detail: For people: traceback, values, the log.
    """

    def __init__(self, signature: str, detail: str = "") -> None:
        super().__init__(signature)
        self.signature = signature
        self.detail = detail


def to_json(operations: Iterable[Operation]) -> str:
    """A sequence as JSON text, one operation a line."""
    return "[\n" + ",\n".join(json.dumps(_encode(operation)) for operation in operations) + "\n]\n"


def from_json(text: str, kinds: Mapping[str, type[Operation]]) -> list[Operation]:
    """The inverse of `to_json`; `kinds` are the operations of the target, by class name.

    Raises:
        ValueError: The text is not a sequence of this target.
    """
    found: list[Operation] = []
    for entry in json.loads(text):
        kind = kinds.get(entry.pop("kind", ""))
        if kind is None:
            raise ValueError(f"an operation that is none of {', '.join(sorted(kinds))}: {entry}")
        fields = {name: _decode_value(value) for name, value in entry.items()}
        try:
            found.append(kind(**fields))
        except TypeError as error:
            raise ValueError(f"{kind.__name__}: {error}") from error
    return found


def read_case(path: Path, kinds: Mapping[str, type[Operation]]) -> list[Operation]:
    """A sequence from a file; raises ValueError where it holds none of this target."""
    return from_json(path.read_text(), kinds)


def kinds_of(*classes: type[Operation]) -> dict[str, type[Operation]]:
    """Operation classes by name."""
    return {one.__name__: one for one in classes}


def values_of(operation: Operation) -> dict[str, Value]:
    """The fields of an operation."""
    return {
        entry.name: cast(Value, getattr(operation, entry.name))
        for entry in dataclasses.fields(operation)
    }


def changed(operation: Operation, name: str, value: Value) -> Operation:
    """The operation with another value of one field."""
    return dataclasses.replace(operation, **{name: value})


def as_python(operations: Sequence[Operation]) -> str:
    """The sequence as a list in Python, without the fields that have their defaults."""
    return "[\n" + "".join(f"    {_python(operation)},\n" for operation in operations) + "]"


def _python(operation: Operation) -> str:
    shown = []
    for entry in dataclasses.fields(operation):
        value = getattr(operation, entry.name)
        if value != entry.default:
            shown.append(f"{entry.name}={_python_value(value)}")
    return f"{type(operation).__name__}({', '.join(shown)})"


def _python_value(value: Value) -> str:
    if isinstance(value, bytes) and len(value) > 16 and not any(value):
        return f"bytes({len(value)})"
    if isinstance(value, int) and value > 255:
        return hex(value)
    if isinstance(value, tuple):
        inside = ", ".join(_python_value(each) for each in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return repr(value)


def _encode(operation: Operation) -> dict[str, object]:
    values = {name: _encode_value(value) for name, value in values_of(operation).items()}
    return {"kind": type(operation).__name__, **values}


def _encode_value(value: Value) -> object:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, tuple):
        return [_encode_value(each) for each in value]
    return value


def _decode_value(value: object) -> Value:
    if isinstance(value, dict):
        return bytes.fromhex(value["hex"])
    if isinstance(value, list):
        return tuple(_decode_value(each) for each in value)
    if isinstance(value, int | str):
        return value
    raise ValueError(f"{value!r} is no value of an operation")
