"""Header values with parameters, as in ``form-data; name="File"``: read in one pass, whatever they hold.

Pure. Strange pieces are passed over, never refused: what a caller needs and does not find is the caller's to tell.
Spec: RFC 9110, section 5.6.6; RFC 7578, section 4.2.
"""

import re
from itertools import islice
from typing import Final

# Every repetition is possessive: what is read once is not tried again in another way.
_PARAMETER: Final = re.compile(
    rb'(?:;[ \t]*+)++([^;="]*+)(?:=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|([^;]*+)))?+[^;]*+', re.DOTALL
)
_PARAMETERS_MAX: Final = 100


def parse_options(raw: bytes | None) -> tuple[bytes, dict[bytes, bytes]]:
    """Parse a value into its lower-case beginning and its first parameters by lower-case name."""
    beginning, semicolon, _ = (raw or b"").partition(b";")
    options: dict[bytes, bytes] = {}
    if raw is not None and semicolon:
        for found in islice(_PARAMETER.finditer(raw, len(beginning)), _PARAMETERS_MAX):
            name, quoted, plain = found.groups()
            if name.strip():
                value = (
                    (plain or b"").strip() if quoted is None else unescaped(quoted.decode("latin-1")).encode("latin-1")
                )
                options.setdefault(name.strip().lower(), value)
    return beginning.strip().lower(), options


def unescaped(text: str) -> str:
    """Return what a quoted string stands for: its text without the backslashes that escape a character."""
    return "\\".join(part.replace("\\", "") for part in text.split("\\\\"))
