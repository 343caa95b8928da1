"""Selectors: the small language that says which devices are meant, parsed by a grammar. Pure.

``site=berlin, ring in (1,2), !canary, seen<5m``: terms joined by commas, and all must hold. What a fault is, and at
which character, the error says. Spec: ``docs/reference/selectors.md``, which holds this grammar.
"""

import re
from functools import lru_cache
from typing import Any, Final, Literal, cast

import msgspec
from lark import Lark, Token, Transformer, UnexpectedInput
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken, VisitError

from fleetvisor.features.devices import labels
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import SELECTORS
from fleetvisor.ground.names import has_control
from fleetvisor.ground.sids import is_sid

Operator = Literal["has", "lacks", "in", "not in", "<", ">", "~"]

GRAMMAR: Final = r"""
selector: term ("," term)*
term: KEY                                -> has
    | "!" KEY                            -> lacks
    | KEY "=" value                      -> equals
    | KEY "!=" value                     -> differs
    | KEY "in" "(" value ("," value)* ")"        -> among
    | KEY "not" "in" "(" value ("," value)* ")"  -> outside
    | KEY "<" value                      -> within
    | KEY ">" value                      -> beyond
    | KEY "~" value                      -> resembles
value: WORD | QUOTED
KEY: /[A-Za-z0-9._\/-]+/
WORD: /[^\s,()"=!<>~]+/
QUOTED: /"(\\["\\]|[^"\\])*"/
%ignore /[ \t\r\n]+/
"""
#: Alone, it selects every device.
EVERYTHING: Final = "*"
#: Before a key, it says that a label is meant, although no device may have it.
MEANT: Final = "label."
FIELDS: Final = ("app", "target", "status", "access", "hardware", "seen", "name", "sid")
STATUSES: Final = ("up-to-date", "pending", "error")
ACCESSES: Final = ("waiting", "active", "disabled")

_CHOICES: Final = {"status": STATUSES, "access": ACCESSES}
_UNITS_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION: Final = re.compile(r"([0-9]{1,6})([smhdw])")
_ESCAPED: Final = re.compile(r"\\(.)")
_EXPECTED: Final = {
    "KEY": "a label or field",
    "WORD": "a value",
    "QUOTED": "a value in double quotes",
    "COMMA": "','",
    "$END": "the end",
    "LPAR": "'('",
    "RPAR": "')'",
    "EQUAL": "'='",
    "IN": "'in'",
    "NOT": "'not in'",
    "BANG": "'!'",
    "LESSTHAN": "'<'",
    "MORETHAN": "'>'",
    "TILDE": "'~'",
}


class Term(msgspec.Struct, frozen=True):
    """One condition. ``key`` is a field, or a label; ``values`` are what is compared with, at least one for ``in``.

    ``is_meant``: it was written as ``label.key``.
    """

    key: str
    operator: Operator
    values: tuple[str, ...] = ()
    is_meant: bool = False

    @property
    def is_field(self) -> bool:
        """Whether it is about a field of the device, not a label."""
        return self.key in FIELDS

    @property
    def only(self) -> str | None:
        """Give the one value that it demands; ``None`` when it demands no single one."""
        return self.values[0] if self.operator == "in" and len(self.values) == 1 else None


class _Fault(Exception):
    """A rule that the grammar does not hold, and the character where it is broken."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(what)
        self.what = what
        self.at = at


class _Terms(Transformer[Token, tuple[Term, ...]]):
    """Makes terms of the tree, and judges each."""

    def selector(self, terms: list[Term]) -> tuple[Term, ...]:
        return tuple(terms)

    def value(self, tokens: list[Token]) -> Token:
        [token] = tokens
        text = _unquoted(token)
        if has_control(text):
            raise _Fault("a value must not hold control characters", token.start_pos or 0)
        return Token(token.type, text, start_pos=token.start_pos)

    def has(self, parts: list[Token]) -> Term:
        return _judged(parts, "has")

    def lacks(self, parts: list[Token]) -> Term:
        return _judged(parts, "lacks")

    def equals(self, parts: list[Token]) -> Term:
        return _judged(parts, "in")

    def differs(self, parts: list[Token]) -> Term:
        return _judged(parts, "not in")

    def among(self, parts: list[Token]) -> Term:
        return _judged(parts, "in")

    def outside(self, parts: list[Token]) -> Term:
        return _judged(parts, "not in")

    def within(self, parts: list[Token]) -> Term:
        return _judged(parts, "<")

    def beyond(self, parts: list[Token]) -> Term:
        return _judged(parts, ">")

    def resembles(self, parts: list[Token]) -> Term:
        return _judged(parts, "~")


def _unquoted(token: Token) -> str:
    return _ESCAPED.sub(r"\1", token[1:-1]) if token.type == "QUOTED" else str(token)


def _judged(parts: list[Token], operator: Operator) -> Term:
    key, *values = parts
    text, at = str(key), key.start_pos or 0
    meant = text.removeprefix(MEANT)
    name = meant if meant and meant not in labels.RESERVED else text
    if name in labels.RESERVED and name not in FIELDS:
        raise _Fault(f"{name!r} is a word of the language, not a label", at)
    if len(name) > labels.KEY_CHARS_MAX:
        raise _Fault(f"a label has at most {labels.KEY_CHARS_MAX} characters", at)
    if operator in {"<", ">"} and name != "seen":
        raise _Fault(f"'{operator}' goes with seen only, as in seen{operator}5m", at)
    if operator == "~" and name != "name":
        raise _Fault("'~' goes with name only, as in name~boiler-*", at)
    if name == "seen" and operator in {"in", "not in"}:
        raise _Fault("seen is compared by '<' or '>', as in seen<5m", at)
    choices = _CHOICES.get(name)
    if choices and operator in {"has", "lacks"}:
        raise _Fault(f"{name} must be compared with {', '.join(choices)}", at)
    for value in values:
        if choices and value not in choices:
            raise _Fault(f"{name} is one of {', '.join(choices)}", value.start_pos or 0)
        if name == "seen" and _DURATION.fullmatch(value) is None:
            raise _Fault("a time is a number and s, m, h, d or w, as in 5m", value.start_pos or 0)
        if name == "sid" and not is_sid(value, "UV"):
            raise _Fault("a sid is UV and 32 hexadecimal digits", value.start_pos or 0)
    return Term(name, operator, tuple(dict.fromkeys(str(value) for value in values)), name != text)


_parser: Final = cast(
    "Any", Lark(GRAMMAR, start="selector", parser="lalr", lexer="contextual", maybe_placeholders=False)
)
_terms: Final = cast("Any", _Terms())


@lru_cache(maxsize=SELECTORS.members_max)
def parse(text: str, limits: Limits) -> tuple[Term, ...]:
    """Parse a selector; ``*`` selects all, and so does an empty one of an older release.

    Raises ``Invalid``, which points at the character.
    """
    if _is_everything(text):
        return ()
    if len(text) > limits.selector_chars_max:
        raise Invalid(f"Selector: more than {limits.selector_chars_max} characters.")
    try:
        terms: tuple[Term, ...] = _terms.transform(_parser.parse(text))
    except UnexpectedInput as error:
        at, what = _grammar_fault(error, text)
        raise Invalid(_pointed(text, at, what)) from None
    except VisitError as error:
        if not isinstance(error.orig_exc, _Fault):
            raise
        raise Invalid(_pointed(text, error.orig_exc.at, error.orig_exc.what)) from None
    if sum(max(1, len(term.values)) for term in terms) > limits.selector_values_max:
        raise Invalid(f"Selector: more than {limits.selector_values_max} terms and values.")
    return terms


def _is_everything(text: str) -> bool:
    return text.strip() in {"", EVERYTHING}


def apps_named(text: str) -> list[tuple[slice, str]]:
    """Give what a selector that was parsed names as apps, and where in its text."""
    terms: list[Any] = [] if _is_everything(text) else _parser.parse(text).children
    values = [value for term in terms if term.children[0] in {"app", "target"} for value in term.children[1:]]
    tokens: list[Any] = [value.children[0] for value in values]
    return [(slice(token.start_pos, token.end_pos), _unquoted(token)) for token in tokens]


def duration_ms(text: str) -> int:
    """Give the milliseconds of a duration that was parsed, such as ``5m``."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise AssertionError(f"{text!r} was parsed as a duration")
    return int(match[1]) * _UNITS_MS[match[2]]


def _grammar_fault(error: UnexpectedInput, text: str) -> tuple[int, str]:
    expected: set[str] = set()
    at = error.pos_in_stream if error.pos_in_stream is not None else len(text)
    match error:
        case UnexpectedToken():
            expected = set(error.expected)
            token = cast("Token", cast("Any", error).token)
            at = len(text) if token.type == "$END" else at
        case UnexpectedCharacters():
            expected = set(error.allowed or ())
        case UnexpectedEOF():
            at = len(text)
        case _:
            pass
    words = sorted(_EXPECTED.get(name) or f"'{_parser.get_terminal(name).pattern.value}'" for name in expected)
    return at, f"{' or '.join(words)} was expected" if words else "this cannot be read"


def _pointed(text: str, at: int, what: str) -> str:
    shown = text[at : at + 12]
    place = f"at character {at + 1}, before {shown!a}" if shown else "at its end"
    return f"Selector: {what} ({place})."
