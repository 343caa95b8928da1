"""The names a server is called by: its public URL, its certificate's names, and whether clients can use them. Pure."""

from typing import Final
from urllib.parse import urlsplit

_LABELS_MIN: Final = 3
_LABELS_MAX: Final = 5


def host_in_url(address: str) -> str:
    """Give a host as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{address}]" if ":" in address else address


def base_url(host: str, port: int, public_url: str | None, *, everywhere: bool) -> str:
    """Give the public base URL: the one that was given, else of the host (``localhost`` for all addresses)."""
    if public_url:
        return public_url
    return f"https://{'localhost' if everywhere else host_in_url(host)}:{port}"


def certificate_names(host: str, base: str, *, everywhere: bool) -> list[str]:
    """Give the names a certificate needs, the public one first, each once."""
    names = [urlsplit(base).hostname or "localhost"]
    if not everywhere:
        names.append(host)
    names += ["localhost", "127.0.0.1"]
    return list(dict.fromkeys(names))


def node_warning(base: str) -> str | None:
    """Say what twilio-node makes of the public host name, when that is not the name itself (reference, §0.9).

    It doubles a name of two labels, and drops labels of one with more than three before the last two.
    """
    host = urlsplit(base).hostname or ""
    labels = host.split(".")
    if ":" in host or all(label.isdigit() for label in labels) or len(labels) == 1:
        return None
    if _LABELS_MIN <= len(labels) <= _LABELS_MAX:
        return None
    how = "doubles a name of two labels" if len(labels) < _LABELS_MIN else "drops labels of so long a name"
    return f"twilio-node cannot reach {host}: it {how}. Use a public name of 3 to 5 labels, such as mv.example.com."
