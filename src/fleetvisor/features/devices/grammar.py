"""The grammar of selectors, and its reader: from a text to raw terms, or to the character where it breaks. Pure.

The reader is written by hand, because a list reads its selector on the event loop. ``test_grammar.py`` compares it with
a parser that is made from the grammar. Spec: ``docs/reference/selectors.md``, which holds this grammar.
"""

import re
from typing import Final, Literal, NamedTuple

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

_LABEL: Final = "a label or field"
_VALUE: Final = ("a value", "a value in double quotes")
_BEHIND_KEY: Final = ("'!='", "','", "'<'", "'='", "'>'", "'in'", "'not in'", "'~'", "the end")
_BEHIND_TERM: Final = ("','", "the end")
_OPERATORS: Final[dict[str, Operator]] = {"=": "in", "!=": "not in", "<": "<", ">": ">", "~": "~"}

_BLANK: Final = re.compile(r"[ \t\r\n]*+")
# Each takes the blanks behind it, too, so that the place is always at the next token.
_KEY: Final = re.compile(r"([A-Za-z0-9._/-]++)[ \t\r\n]*+")
_WORD: Final = re.compile(r"""([^\s,()"=!<>~]++)[ \t\r\n]*+""")
_QUOTED: Final = re.compile(r'("[^"\\]*+(?:\\["\\][^"\\]*+)*+")[ \t\r\n]*+')
_MARK: Final = re.compile(r"(!=|[!=<>~,()])[ \t\r\n]*+")
_NOT: Final = re.compile(r"(not)[ \t\r\n]*+")
_IN: Final = re.compile(r"(in)[ \t\r\n]*+")
_ESCAPED: Final = re.compile(r"\\(.)")


class Value(NamedTuple):
    """A value without its quotes, and where it stands with them."""

    text: str
    start: int
    end: int


class RawTerm(NamedTuple):
    """A term as it is written; ``at`` is where its key begins."""

    key: str
    at: int
    operator: Operator
    values: tuple[Value, ...]


class Fault(Exception):
    """A rule that a selector breaks, and the character where it does."""

    def __init__(self, what: str, at: int) -> None:
        """Keep both."""
        super().__init__(what)
        self.what = what
        self.at = at


def read(text: str) -> list[RawTerm]:
    """Return the terms of a selector. Raises ``Fault``."""
    reader = _Reader(text)
    terms = [reader.term()]
    while reader.at < len(text):
        reader.demand(",", _BEHIND_TERM if terms[-1].values or terms[-1].operator == "lacks" else _BEHIND_KEY)
        terms.append(reader.term())
    return terms


class _Reader:
    """A place in a text, always at a token or at the end; each method reads on from there."""

    __slots__ = ("at", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.take(_BLANK)

    def take(self, pattern: "re.Pattern[str]") -> "re.Match[str] | None":
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def demand(self, mark: str, expected: tuple[str, ...]) -> None:
        """Read a mark. Raises ``Fault`` with what was expected."""
        at = self.at
        found = self.take(_MARK)
        if found is None or found[1] != mark:
            raise _expected(at, expected)

    def term(self) -> RawTerm:
        lacks = self.text.startswith("!", self.at)
        if lacks:
            self.at += 1
            self.take(_BLANK)
        key = self.take(_KEY)
        if key is None:
            raise _expected(self.at, (_LABEL,) if lacks else ("'!'", _LABEL))
        if lacks:
            return RawTerm(key[1], key.start(), "lacks", ())
        operator, values = self._comparison()
        return RawTerm(key[1], key.start(), operator, values)

    def _comparison(self) -> tuple[Operator, tuple[Value, ...]]:
        mark = _MARK.match(self.text, self.at)
        operator = None if mark is None else _OPERATORS.get(mark[1])
        if mark is not None and operator is not None:
            self.at = mark.end()
            return operator, (self._value(),)
        if mark is not None or self.at == len(self.text):
            return "has", ()  # what follows is not this term's
        outside = self.take(_NOT) is not None
        if self.take(_IN) is None:
            raise _expected(self.at, ("'in'",) if outside else _BEHIND_KEY)
        return ("not in" if outside else "in"), self._list()

    def _list(self) -> tuple[Value, ...]:
        self.demand("(", ("'('",))
        values = [self._value()]
        while not self.text.startswith(")", self.at):
            self.demand(",", ("')'", "','"))
            values.append(self._value())
        self.demand(")", ("')'", "','"))
        return tuple(values)

    def _value(self) -> Value:
        found = self.take(_WORD)
        if found is not None:
            return Value(found[1], found.start(1), found.end(1))
        found = self.take(_QUOTED)
        if found is None:
            raise _expected(self.at, _VALUE)
        text = found[1][1:-1]
        return Value(_ESCAPED.sub(r"\1", text) if "\\" in text else text, found.start(1), found.end(1))


def _expected(at: int, words: tuple[str, ...]) -> Fault:
    return Fault(f"{' or '.join(words)} was expected", at)
