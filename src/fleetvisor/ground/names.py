"""The rules of unique names and of config keys, shared by the features that have them.

They are about form only: whether a name is taken is the store's to say. A name must never be taken for a SID, and must
reach the server as it is from clients that put it into a path without encoding it (reference, sections 1 and 4).

NOTE: the rules are asked when a name or key is made. What an older version made stays usable at its percent-encoded
path, so a lookup never asks them.
"""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final
from unicodedata import category

from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.sids import is_sid

_PRINTABLE: Final = frozenset(map(chr, range(0x20, 0x7F)))
_PATH_SPECIAL: Final = frozenset("/?")
NOT_CARRIED: Final = frozenset("/?#%\\")
"""What twilio-python or twilio-node change in a path; ``tests/clients/test_names_in_paths.py`` measures it."""
_NOT_CARRIED: Final = re.compile(f"[{re.escape(''.join(sorted(NOT_CARRIED)))}]")
_COMPARED_MAX: Final = 100


def check_unique_name(text: str, chars_max: int) -> str:
    """Return ``text`` when it may become a unique name. Raises ``Invalid`` with the rule it breaks."""
    if not text:
        raise Invalid("UniqueName must not be empty.")
    if len(text) > chars_max:
        raise Invalid(f"UniqueName has {len(text)} characters; {chars_max} are the most.")
    if is_sid(text):
        raise Invalid("UniqueName must not have the form of a SID.")
    if has_control(text):
        raise Invalid("UniqueName must not contain control characters or lone surrogates.")
    if not text.isprintable() and any(category(char) == "Cf" for char in text):
        raise Invalid("UniqueName must not contain format characters, because they are invisible. Type the name again.")
    if (fault := path_fault(text)) is not None:
        raise Invalid(f"UniqueName must not {fault}")
    return text


def path_fault(text: str) -> str | None:
    """Return what keeps clients from addressing ``text`` in a path, as what it must not do, or None.

    The clients put names into paths as they are: they lead to another resource, or to none.
    """
    if _NOT_CARRIED.search(text) is not None:
        found = " ".join(sorted(NOT_CARRIED.intersection(text)))
        return (
            f"contain {found}: clients put it into a path unchanged, and / ? # % \\ change the path. Put - or _ there."
        )
    if text in {".", ".."}:
        return "be . or .. : clients drop them from a path. Add a letter or a digit."
    if text != text.strip():
        return "begin or end with a space: clients drop it from a path. Remove the space."
    return None


def check_controller_id(text: str, chars_max: int) -> str:
    """Return ``text`` when a board may ask by it over DDI. Raises ``Invalid`` with the rule it breaks.

    NOTE: boards in the field have these ids already, so what was allowed once stays so; rules of names may grow.
    """
    if not 0 < len(text) <= chars_max:
        raise Invalid(f"ControllerId must have 1 to {chars_max} characters.")
    if _PATH_SPECIAL.intersection(text) or text in {".", ".."}:
        raise Invalid("ControllerId must not contain / or ?, nor be . or .. .")
    if is_sid(text):
        raise Invalid("ControllerId must not have the form of a SID, because a board can always use its SID.")
    if has_control(text):
        raise Invalid("ControllerId must not contain control characters or lone surrogates.")
    return text


def check_key(text: str, chars_max: int) -> str:
    """Return ``text`` when it may become a config or secret key. Raises ``Invalid`` with the rule it breaks."""
    if not text:
        raise Invalid("Key must not be empty.")
    if len(text) > chars_max:
        raise Invalid(f"Key has {len(text)} characters; {chars_max} are the most.")
    if not _PRINTABLE.issuperset(text):
        raise Invalid("Key must be printable ASCII.")
    if (fault := path_fault(text)) is not None:
        raise Invalid(f"Key must not {fault}")
    return text


def check_value(text: str, chars_max: int) -> str:
    """Return ``text`` when it may be a config or secret value (empty is fine). Raises ``Invalid``."""
    if len(text) > chars_max:
        raise Invalid(f"Value has {len(text)} characters; {chars_max} are the most.")
    if not is_text(text):
        raise Invalid("Value must not contain NUL or lone surrogates: encode bytes, for example as base64.")
    return text


def has_control(text: str) -> bool:
    """Return whether ``text`` holds a control character (Unicode's Cc, NUL among them) or a lone surrogate (Cs)."""
    return not text.isprintable() and any(category(char) in {"Cc", "Cs"} for char in text)


def is_text(text: str) -> bool:
    """Return whether both database engines can store ``text``: no NUL, no lone surrogate."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def check_label(what: str, text: str, chars_max: int) -> str:
    """Return a version or hardware class that may be one. Raises ``Invalid``."""
    if not 0 < len(text) <= chars_max or not text.isprintable():
        raise Invalid(f"{what} must have 1 to {chars_max} printable characters.")
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the one of ``known``, which must not be empty, that is spelt most like ``name``."""
    matcher = SequenceMatcher(b=name[:_COMPARED_MAX].casefold(), autojunk=False)

    best, most = None, -1.0
    for other in known:
        matcher.set_seq1(other[:_COMPARED_MAX].casefold())
        if matcher.real_quick_ratio() > most and matcher.quick_ratio() > most and (ratio := matcher.ratio()) > most:
            best, most = other, ratio
    if best is None:
        raise AssertionError("nothing to compare with")
    return best


def is_near(name: str, other: str) -> bool:
    """Return whether two words are the same but for case and one letter that is more, missing or another."""
    first, second = sorted((name.casefold(), other.casefold()), key=len)
    if len(second) - len(first) > 1:
        return False
    same = next((place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))
    rest = same + 1 if len(first) == len(second) else same
    return first[rest:] == second[same + 1 :]
