"""Selectors: the small language that says which devices are meant, parsed and judged. Pure.

``site=berlin, ring in (1,2), !canary, seen<5m``: terms joined by commas, and all must hold. What a fault is, and at
which character, the error says. Spec: ``docs/reference/selectors.md``.
"""

from functools import lru_cache
from typing import Final

import msgspec

from fleetvisor.features.devices import grammar
from fleetvisor.features.devices.grammar import Fault, Operator, RawTerm, Value
from fleetvisor.features.devices.rules import LABEL_KEY_CHARS_MAX, RESERVED_LABELS
from fleetvisor.ground.durations import find_seconds
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import SELECTORS
from fleetvisor.ground.names import has_control
from fleetvisor.ground.sids import is_sid

#: Alone, it selects every device.
EVERYTHING: Final = "*"
#: Before a key, it says that a label is meant, although no device may have it.
MEANT: Final = "label."
FIELDS: Final = ("app", "target", "status", "access", "hardware", "seen", "name", "sid")
STATUSES: Final = ("up-to-date", "pending", "error")
ACCESSES: Final = ("waiting", "active", "disabled")

_CHOICES: Final = {"status": STATUSES, "access": ACCESSES}
_DURATION_CHARS_MAX: Final = 7


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
        """Return the one value that it demands; ``None`` when it demands no single one."""
        return self.values[0] if self.operator == "in" and len(self.values) == 1 else None


def _judged(raw: RawTerm) -> Term:
    """Return the term. Raises ``Fault`` for what the grammar cannot say."""
    for value in raw.values:
        if has_control(value.text):
            raise Fault("a value must not contain control characters", value.start)
    text, at, operator = raw.key, raw.at, raw.operator
    meant = text.removeprefix(MEANT)
    name = meant if meant and meant not in RESERVED_LABELS else text
    if name in RESERVED_LABELS and name not in FIELDS:
        raise Fault(f"{name!r} is a word of the language, not a label", at)
    if len(name) > LABEL_KEY_CHARS_MAX:
        raise Fault(f"a label has at most {LABEL_KEY_CHARS_MAX} characters", at)
    if operator in {"<", ">"} and name != "seen":
        raise Fault(f"'{operator}' works only with seen, as in seen{operator}5m", at)
    if operator == "~" and name != "name":
        raise Fault("'~' works only with name, as in name~boiler-*", at)
    if name == "seen" and operator in {"in", "not in"}:
        raise Fault("seen is compared by '<' or '>', as in seen<5m", at)
    choices = _CHOICES.get(name)
    if choices and operator in {"has", "lacks"}:
        raise Fault(f"{name} must be compared with {', '.join(choices)}", at)
    for value in raw.values:
        _judge_value(name, value)
    return Term(name, operator, tuple(dict.fromkeys(value.text for value in raw.values)), name != text)


def _judge_value(name: str, value: Value) -> None:
    choices = _CHOICES.get(name)
    if choices and value.text not in choices:
        raise Fault(f"{name} is one of {', '.join(choices)}", value.start)
    if name == "seen" and _seconds(value.text) is None:
        raise Fault("a time is a number and s, m, h, d or w, as in 5m", value.start)
    if name == "sid" and not is_sid(value.text, "UV"):
        raise Fault("a sid is UV and 32 hexadecimal digits", value.start)


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
        terms = tuple(_judged(raw) for raw in grammar.read(text))
    except Fault as fault:
        raise Invalid(_pointed(text, fault.at, fault.what)) from None
    if sum(max(1, len(term.values)) for term in terms) > limits.selector_values_max:
        raise Invalid(f"Selector: more than {limits.selector_values_max} terms and values.")
    return terms


def _is_everything(text: str) -> bool:
    return text.strip() in {"", EVERYTHING}


def apps_named(text: str) -> list[tuple[slice, str]]:
    """Return what a selector that was parsed names as apps, and where in its text."""
    terms = [] if _is_everything(text) else grammar.read(text)
    values = (value for term in terms if term.key in {"app", "target"} for value in term.values)
    return [(slice(value.start, value.end), value.text) for value in values]


def duration_ms(text: str) -> int:
    """Return the milliseconds of a duration that was parsed, such as ``5m``."""
    seconds = _seconds(text)
    if seconds is None:
        raise AssertionError(f"{text!r} was parsed as a duration")
    return seconds * 1000


def _seconds(text: str) -> int | None:
    return find_seconds(text) if len(text) <= _DURATION_CHARS_MAX else None


def _pointed(text: str, at: int, what: str) -> str:
    shown = text[at : at + 12]
    place = f"at character {at + 1}, before {shown!a}" if shown else "at its end"
    return f"Selector: {what} ({place})."
