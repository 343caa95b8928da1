"""Rows become values: a plan made once for each statement and row type, so that a row costs one call.

A field that is a struct is a column of JSON.

Deliberately no mapping by name at run time: names and order are checked when the plan is made.
"""

import enum
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

R = TypeVar("R", bound=msgspec.Struct)
Plan = Callable[[Sequence[Any]], Any]


def plan(row: type[R], columns: Sequence[str]) -> Callable[[Sequence[Any]], R]:
    """Return the function that makes a ``row`` of a result's row.

    Raises ``TypeError`` when the result's columns are not the fields of ``row``, in their order.
    """
    fields = msgspec.structs.fields(row)
    names = tuple(field.name for field in fields)
    if names != tuple(columns):
        raise TypeError(f"{row.__name__} has the fields {names}, but the statement gives {tuple(columns)}")
    converters = [(place, _converter(field.type)) for place, field in enumerate(fields)]
    needed = [(place, convert) for place, convert in converters if convert is not None]
    if not needed:
        return lambda values: row(*values)

    def make(values: Sequence[Any]) -> R:
        changed = list(values)
        for place, convert in needed:
            if changed[place] is not None:
                changed[place] = convert(changed[place])
        return row(*changed)

    return make


def _converter(kind: Any) -> Callable[[Any], Any] | None:  # noqa: ANN401  (annotations are any object)
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        found = [_converter(part) for part in typing.get_args(kind) if part is not type(None)]
        return next((convert for convert in found if convert is not None), None)
    if kind is bool:
        return bool
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return dict(zip((member.value for member in kind), kind, strict=True)).__getitem__
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return msgspec.json.Decoder(kind).decode
    return None
