"""``Prefer: wait=N``: how long a poll asks to be held.

Pure. Deliberately reads one preference only; all others are ignored, as RFC 7240 lets a server do. Spec: RFC 7240,
section 2 (syntax, the first of equal names counts) and 4.3 (``wait``, in seconds).
"""

import re
from functools import lru_cache
from typing import Final

from fleetvisor.ground.memory import PREFERENCES
from fleetvisor.web.values import unescaped

# Every repetition is possessive (`++`, `*+`): the grammar needs no second try, and a hostile header gets none.
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_WORD: Final = rf'(?:{_TOKEN}|"(?:[^"\\]|\\.)*+")'
_OWS: Final = r"[ \t]*+"
_PARAMETER: Final = rf"{_TOKEN}(?:{_OWS}={_OWS}{_WORD}?+)?+"
_PREFERENCE: Final = re.compile(
    rf"{_OWS}({_TOKEN})(?:{_OWS}={_OWS}({_WORD})?+)?+(?:{_OWS};{_OWS}(?:{_PARAMETER})?+)*+{_OWS}(?:,|$)", re.DOTALL
)
_EMPTY: Final = re.compile(rf"(?:{_OWS},)++")
_DIGITS_MAX: Final = 9
_PREFERENCES_MAX: Final = 100
_REMEMBERED_BYTES_MAX: Final = 64


def wait_of(prefer: bytes) -> int | None:
    """Return the seconds of the first ``wait`` in ``prefer`` (several header lines joined by commas).

    ``None`` when there is none, when its value is not a count of seconds, or when the header breaks its syntax
    before it: an invalid preference is an ignored one. Short headers are remembered.
    """
    return _remembered(prefer) if len(prefer) <= _REMEMBERED_BYTES_MAX else _wait_of(prefer)


def _wait_of(prefer: bytes) -> int | None:
    text = prefer.decode("latin-1")
    place = 0
    for _ in range(_PREFERENCES_MAX):
        if empty := _EMPTY.match(text, place):
            place = empty.end()
            continue
        preference = _PREFERENCE.match(text, place)
        if preference is None:
            return None
        if preference[1].lower() == "wait":
            return _seconds(preference[2])
        place = preference.end()
    return None


_remembered = lru_cache(maxsize=PREFERENCES.members_max)(_wait_of)


def _seconds(word: str | None) -> int | None:
    if word is None:
        return None
    if word.startswith('"'):
        word = unescaped(word[1:-1])
    if not (word.isascii() and word.isdigit()):
        return None
    return int(word[-_DIGITS_MAX:]) if len(word.lstrip("0")) <= _DIGITS_MAX else 10**_DIGITS_MAX - 1
