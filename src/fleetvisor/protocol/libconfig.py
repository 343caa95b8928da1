"""A reader of libconfig texts, as ``sw-description`` is one, for the few settings that somebody asks for.

It reads what libconfig reads, and a little more (a byte order mark, commas after the last value). Groups and lists are
kept, and of the other settings those that ``wanted`` names; the rest is passed over by patterns that never go back, so
that the time grows with the length alone. Deliberately includes no file. Spec: libconfig manual, "Configuration Files".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

DEPTH_MAX: Final = 32
#: So many groups, lists and wanted values are kept of one text; a pattern passes over everything else.
VALUES_MAX: Final = 4_000
_ESCAPES_MAX: Final = 2_000
_SHOWN: Final = 20

Value: TypeAlias = "str | Group | list[Value] | None"
Group: TypeAlias = "dict[str, Value]"

_WS = r"(?:[ \t\r\n\f\v]++|\#[^\n]*+|//[^\n]*+|/\*[^*]*+(?:\*++(?!/)[^*]*+)*+\*++/)*+"
_NAME = r"[A-Za-z*][-A-Za-z0-9_*]*+"
_NUMBER = (
    r"[-+]?(?:0[Xx][0-9A-Fa-f]{1,400}+|0[Bb][01]{1,400}+|0[Oo][0-7]{1,400}+"
    r"|(?:[0-9]{1,400}+(?:\.[0-9]*+)?|\.[0-9]{1,400}+)(?:[eE][-+]?[0-9]{1,400}+)?)L{0,2}(?![-+.\w*])"
)
_BOOLEAN = r"(?i:true|false)(?![-\w*])"
_TEXT = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TEXTS = rf"{_TEXT}(?:{_WS}{_TEXT})*+"
_SCALAR = rf"(?:{_NUMBER}|{_BOOLEAN})"

_SPACE: Final = re.compile(_WS)
_KEY: Final = re.compile(rf"({_NAME}){_WS}[=:]{_WS}")
_PLAIN: Final = re.compile(_SCALAR)
_STRING: Final = re.compile(_TEXTS, re.DOTALL)
_PIECE: Final = re.compile(rf"{_WS}({_TEXT})", re.DOTALL)
_HEX: Final = re.compile(r"\\x([0-9A-Fa-f]{2})")
_SEPARATOR: Final = re.compile(rf"{_WS}([;,]?){_WS}")
_SKIPPED_VALUES: Final = re.compile(rf"(?:(?:{_SCALAR}|{_TEXTS}){_WS},{_WS})*+", re.DOTALL)
#: The settings whose values are kept: those that ``protocol/swupdate`` looks at.
WANTED: Final = frozenset({"version", "hardware-compatibility", "filename", "sha256"})
_UNWANTED = rf"(?!(?:{'|'.join(re.escape(name) for name in sorted(WANTED))})(?![-\w*]))"
_SKIPPED: Final = re.compile(
    rf"(?:{_UNWANTED}{_NAME}{_WS}[=:]{_WS}(?:{_SCALAR}|{_TEXTS}){_WS}[;,]?+{_WS})*+", re.DOTALL
)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "a": "\a", "b": "\b", '"': '"', "'": "'"}


class Malformed(ValueError):
    """The text is no libconfig text; the message says where and why."""


@dataclass(slots=True)
class _Open:
    """A group or list that is being read."""

    value: "Group | list[Value]"
    closer: str
    keeps_texts: bool


@dataclass(slots=True)
class _Reading:
    text: str
    at: int = 0
    kept: int = 0
    escapes: int = 0
    stack: list[_Open] = field(default_factory=list["_Open"])


def parse(text: str) -> Group:
    """Read the settings of ``text``; numbers and booleans of wanted settings are ``None``. Raises ``Malformed``."""
    root: Group = {}
    reading = _Reading(text, 1 if text.startswith("\ufeff") else 0)
    reading.stack.append(_Open(root, "", keeps_texts=False))
    _pass(reading, _SPACE)
    while reading.stack:
        _step(reading)
    return root


def _pass(reading: _Reading, pattern: re.Pattern[str]) -> None:
    found = pattern.match(reading.text, reading.at)
    if found is not None:
        reading.at = found.end()


def _step(reading: _Reading) -> None:
    """Read one value of the group or list that is open, or its end: each step takes input, or closes it, or raises."""
    inner = reading.stack[-1]
    key = ""
    if isinstance(inner.value, dict):
        _pass(reading, _SKIPPED)
        found = _KEY.match(reading.text, reading.at)
        if found is None:
            _close(reading, inner)
            return
        key, reading.at = found[1], found.end()
        if key in inner.value:
            raise _fault(reading, f"{key} stands twice in one group")
    else:
        if not inner.keeps_texts:
            _pass(reading, _SKIPPED_VALUES)
        if reading.text.startswith(inner.closer, reading.at):
            _close(reading, inner)
            return
    reading.kept += 1
    if reading.kept > VALUES_MAX:
        raise _fault(reading, f"it has more than {VALUES_MAX} groups, lists and texts that matter")
    value = _value(reading, key)
    if isinstance(inner.value, dict):
        inner.value[key] = value
    else:
        inner.value.append(value)
    if reading.stack[-1] is inner:
        _separate(reading, inner)


def _value(reading: _Reading, key: str) -> Value:
    """Read a text, number or boolean, or open a group or list, which is then the innermost."""
    text, at = reading.text, reading.at
    match text[at : at + 1]:
        case "{":
            return _open(reading, _Open({}, "}", keeps_texts=False))
        case "(" | "[" as opener:
            closer = ")" if opener == "(" else "]"
            return _open(reading, _Open([], closer, keeps_texts=key in WANTED))
        case '"':
            found = _STRING.match(text, at)
            if found is None:
                raise _fault(reading, "a text has no end")
            reading.at = found.end()
            return _unescaped(reading, found[0])
        case _:
            found = _PLAIN.match(text, at)
            if found is None:
                raise _fault(reading, "there is no value")
            reading.at = found.end()
            return None


def _open(reading: _Reading, opened: _Open) -> Value:
    if len(reading.stack) > DEPTH_MAX:
        raise _fault(reading, f"it is nested deeper than {DEPTH_MAX} levels")
    reading.at += 1
    reading.stack.append(opened)
    _pass(reading, _SPACE)
    return opened.value


def _close(reading: _Reading, inner: _Open) -> None:
    """End the innermost group or list, and with it the value that it is."""
    if not inner.closer:
        if reading.at < len(reading.text):
            raise _fault(reading, "there is no setting")
    elif not reading.text.startswith(inner.closer, reading.at):
        raise _fault(reading, f"{inner.closer} is missing")
    reading.at += len(inner.closer)
    reading.stack.pop()
    if reading.stack:
        _separate(reading, reading.stack[-1])


def _separate(reading: _Reading, outer: _Open) -> None:
    """Pass over what follows a value: settings may have ``;`` or ``,``, values of a list need a comma between them."""
    found = _SEPARATOR.match(reading.text, reading.at)
    if found is None:
        raise _fault(reading, "there is no separator")
    if isinstance(outer.value, list) and (
        found[1] == ";" or (not found[1] and not reading.text.startswith(outer.closer, found.end()))
    ):
        raise _fault(reading, f"a comma or {outer.closer} is missing")
    reading.at = found.end()


def _unescaped(reading: _Reading, raw: str) -> str:
    """Join adjacent texts, and put characters for their escapes."""
    reading.escapes += raw.count("\\")
    if reading.escapes > _ESCAPES_MAX:
        raise _fault(reading, f"it has more than {_ESCAPES_MAX} escapes in texts that matter")
    if raw.count('"') > _ESCAPES_MAX:
        raise _fault(reading, "one text is put together from too many pieces")
    joined = "".join(_pieces(raw)) if raw.count('"') > 2 else raw[1:-1]
    if "\\" not in joined:
        return joined
    parts: list[str] = []
    for part in joined.split("\\\\"):
        shown = _HEX.sub(lambda found: chr(int(found[1], 16)), part)
        for letter, character in _ESCAPES.items():
            shown = shown.replace(f"\\{letter}", character)
        parts.append(shown)
    return "\\".join(parts)


def _pieces(raw: str) -> Iterator[str]:
    """Yield the texts that stand side by side in ``raw``, without their quotes."""
    at = 0
    while (piece := _PIECE.match(raw, at)) is not None:
        at = piece.end()
        yield piece[1][1:-1]


def _fault(reading: _Reading, why: str) -> Malformed:
    if reading.text.startswith("@include", reading.at):
        why = "it has an @include, and a device has no file to include"
    line = reading.text.count("\n", 0, reading.at) + 1
    shown = ascii(reading.text[reading.at : reading.at + _SHOWN])
    return Malformed(f"line {line}: {why}, at {shown}" if reading.at < len(reading.text) else f"{why}, at its end")
