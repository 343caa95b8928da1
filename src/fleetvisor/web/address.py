"""The client's address: the peer's, or the one that a trusted proxy names in ``X-Forwarded-For`` or ``Forwarded``.

From any other peer those headers are ignored, since anyone may send them. What a trusted proxy sends is read from its
end: the last hop that is no trusted proxy is the client. Deliberately nothing else is believed of a proxy: URLs in
answers are built from the public URL. Spec: RFC 7239; ``docs/how-to/put-it-behind-a-proxy.md``.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from fleetvisor.ground.errors import Invalid
from fleetvisor.web.requests import Scope
from fleetvisor.web.values import unescaped

Network = IPv4Network | IPv6Network

UNKNOWN: Final = "unknown"
_HEADERS: Final = frozenset({b"forwarded", b"x-forwarded-for"})
_HOPS_MAX: Final = 64
# Every repetition is possessive: what a header holds is read once, whatever it is.
_OBFUSCATED: Final = re.compile(r"unknown|_[A-Za-z0-9._-]{1,63}+")
_PORT: Final = r"(?:[0-9]{1,5}+|_[A-Za-z0-9._-]++)"
_WITH_PORT: Final = re.compile(rf"([0-9]{{1,3}}+(?:\.[0-9]{{1,3}}+){{3}}):{_PORT}|\[([0-9A-Fa-f:.]++)\](?::{_PORT})?+")
_FOR: Final = re.compile(r'\s*+for\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s;,"]++))\s*+', re.IGNORECASE)
_PIECE: Final = {mark: re.compile(rf'(?:[^"{mark}]|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))*+', re.DOTALL) for mark in (",", ";")}


class Addresses:
    """Tells clients' addresses, for a server behind ``proxies``."""

    def __init__(self, proxies: Sequence[Network] = ()) -> None:
        """Trust the peers in these networks."""
        self._proxies = tuple(proxies)

    def of(self, scope: Scope) -> str:
        """Return the client's address, as text; ``unknown`` where nothing tells it.

        Raises ``Invalid`` for a header of a trusted proxy that came twice, contradicts the other, or cannot be read.
        """
        client = scope.get("client")
        peer = str(client[0]) if client else UNKNOWN
        if ":" in peer:
            peer = plain(peer)
        if not self._proxies or not self.trusts(peer):
            return peer
        given = {name: value for name, value in scope["headers"] if name in _HEADERS}
        if sum(name in _HEADERS for name, _ in scope["headers"]) != len(given):
            raise Invalid(
                "X-Forwarded-For or Forwarded appears twice, so the server cannot tell which of them the proxy wrote."
            )
        found = {self._client(_hops(name, value.decode("latin-1")), peer) for name, value in given.items()}
        if len(found) > 1:
            raise Invalid(
                "X-Forwarded-For and Forwarded name different clients. Configure the proxy to remove one of them."
            )
        return found.pop() if found else peer

    def _client(self, hops: list[str], peer: str) -> str:
        """Return the last hop that is no proxy of ours; when all are, the first."""
        for hop in reversed(hops):
            if not self.trusts(hop):
                return hop
        return hops[0] if hops else peer

    def trusts(self, text: str) -> bool:
        """Return whether an address, as text, is a trusted proxy's."""
        address = _parsed(text)
        return address is not None and any(address in network for network in self._proxies)


def plain(text: str) -> str:
    """Return an address with an IPv4 client's own form, where a socket of both families shows it as ``::ffff:…``."""
    if not text.lower().startswith("::ffff:"):
        return text
    address = _parsed(text)
    return text if address is None else str(address)


def network_of(text: str) -> str:
    """Return what counts as one address: of IPv6 the first 64 bits, since the rest is the client's to choose."""
    address = _parsed(text)
    if address is None:
        return text
    return str(address) if address.version == 4 else address.exploded[:19]


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _hops(name: bytes, value: str) -> list[str]:
    """Return the hops that a header names, the client's first."""
    texts = _forwarded(value) if name == b"forwarded" else [hop.strip() for hop in value.split(",", _HOPS_MAX)]
    if len(texts) > _HOPS_MAX:
        raise Invalid(f"{name.decode()} names more than {_HOPS_MAX} hops.")
    return [_hop(name, text) for text in texts]


def _forwarded(value: str) -> list[str]:
    """Return each element's ``for``; an element without one is a hop that nobody knows."""
    texts: list[str] = []
    for element in _split(value, ","):
        matches = [match for pair in _split(element, ";") if (match := _FOR.fullmatch(pair))]
        if len(matches) > 1:
            raise Invalid("forwarded has an element with two for= pairs.")
        quoted, plain = matches[0].groups() if matches else (None, UNKNOWN)
        texts.append(unescaped(quoted) if quoted is not None else plain)
    return texts


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator outside quotes."""
    pieces: list[str] = []
    place = 0
    while True:
        if len(pieces) == _HOPS_MAX + 1:
            raise Invalid(f"forwarded holds more than {_HOPS_MAX} elements or pairs.")
        piece = _PIECE[separator].match(text, place)
        end = piece.end() if piece else place
        pieces.append(text[place:end])
        if end >= len(text):
            break
        place = end + 1
    return pieces


def _hop(name: bytes, text: str) -> str:
    match = _WITH_PORT.fullmatch(text)
    bare = (match.group(1) or match.group(2)) if match else text
    address = _parsed(bare)
    if address is not None:
        return str(address)
    if _OBFUSCATED.fullmatch(bare):
        return bare
    raise Invalid(f"{name.decode()} holds {text[:64]!a}, which is not an address.")
