"""What one address may hold of the connections while places are short: a share, so that others find one.

While fewer than a tenth of the places are free, an address that holds more than a quarter of them loses what is
beyond its share, the connections first that have been silent longest, until a quarter of the places is free.
Connections are counted from the moment they are accepted, so those without a TLS handshake count too. Trusted proxies
are exempt: many clients stand behind one. Spec: ``docs/explanation/connections.md``.
"""

import os
import socket
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from fleetvisor.ground.clock import Clock
from fleetvisor.ground.offload import Offload
from fleetvisor.web.address import Addresses, network_of

_FREE_SHARE: Final = 0.1
_PLACES_SHARE: Final = 4
_PERIOD_S: Final = 1.0
_DIRECTORY: Final = "/proc/self/fd"
_INFO_BYTES: Final = 104
_LAST_RECEIVED_AT: Final = 52  # tcpi_last_data_recv of struct tcp_info: milliseconds
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Open:
    """One open connection: its descriptor, whose it is, and for how long nothing came from there."""

    descriptor: int
    peer: str
    silent_ms: int


def beyond_the_share(found: Sequence[Open], *, places: int, most: int, addresses: Addresses) -> list[Open]:
    """Return the connections of addresses that hold more than a quarter of the places, beyond their share.

    The share is ``most``, and never more than that quarter. Trusted proxies have none.
    """
    quarter = max(1, places // _PLACES_SHARE)
    by_network: dict[str, list[Open]] = {}
    for one in found:
        if not addresses.trusts(one.peer):
            by_network.setdefault(network_of(one.peer), []).append(one)
    chosen: list[Open] = []
    for held in by_network.values():
        if len(held) > quarter:
            held.sort(key=lambda one: one.silent_ms)
            chosen += held[min(most, quarter) :]
    return chosen


class Shedding:
    """Ends connections of addresses that hold too many of them, while places are short."""

    def __init__(
        self, *, port: int, places: int, most: int, base: int, addresses: Addresses, clock: Clock, offload: Offload
    ) -> None:
        """Watch the connections to ``port``. ``base`` is how many descriptors are no connections; ``most`` 0 is off."""
        self.ended = 0
        self._port = port
        self._places = places
        self._most = most
        self._base = base
        self._addresses = addresses
        self._clock = clock
        self._offload = offload
        self._looked_at = -1e9

    async def look(self, used: int) -> None:
        """End what is beyond the shares if places are short, given the number of descriptors in use."""
        free = self._places - (used - self._base)
        now = self._clock.monotonic()
        if not self._most or free >= self._places * _FREE_SHARE or now - self._looked_at < _PERIOD_S:
            return
        self._looked_at = now
        wanted = self._places // _PLACES_SHARE - free
        ended = await self._offload(lambda: self._shed(wanted))
        if ended:
            self.ended += ended
            _log.warning("connections.shed", count=ended, places=self._places)

    def _shed(self, wanted: int) -> int:
        chosen = beyond_the_share(
            connections_to(self._port), places=self._places, most=self._most, addresses=self._addresses
        )
        chosen.sort(key=lambda one: one.silent_ms, reverse=True)
        return sum(_end(one, self._port) for one in chosen[: max(1, wanted)])


def connections_to(port: int) -> list[Open]:
    """Return this process's connections to its own port, from what the system says of its descriptors."""
    found: list[Open] = []
    for name in os.listdir(_DIRECTORY):  # noqa: PTH208  (names are all that is needed, of many thousands)
        with _Borrowed(int(name)) as connection:
            if connection is None:
                continue
            peer = _peer(connection, port)
            if peer is not None:
                found.append(Open(int(name), peer, _silent_ms(connection)))
    return found


def _end(one: Open, port: int) -> bool:
    """End a connection, if its descriptor still belongs to the same client; its owner closes the descriptor."""
    with _Borrowed(one.descriptor) as connection:
        if connection is None or _peer(connection, port) != one.peer:
            return False
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # it ended by itself meanwhile
            return False
        return True


class _Borrowed:
    """A socket made of a copy of somebody else's descriptor; ``None`` for what is no socket, or none any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._socket: socket.socket | None = None

    def __enter__(self) -> socket.socket | None:
        try:
            if not stat.S_ISSOCK(os.fstat(self._descriptor).st_mode):
                return None
            copy = os.dup(self._descriptor)
        except OSError:  # closed meanwhile, or no descriptor is left for the copy
            return None
        try:
            self._socket = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
        return self._socket

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()


def _peer(connection: socket.socket, port: int) -> str | None:
    if connection.family not in {socket.AF_INET, socket.AF_INET6} or connection.type != socket.SOCK_STREAM:
        return None
    try:
        return str(connection.getpeername()[0]) if connection.getsockname()[1] == port else None
    except OSError:  # a listening socket, or one whose client left
        return None


def _silent_ms(connection: socket.socket) -> int:
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        return int(struct.unpack_from("=I", info, _LAST_RECEIVED_AT)[0])
    except (OSError, struct.error):
        return 0
