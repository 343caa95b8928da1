"""The listening side: Granian embedded in our event loop, with every bound said.

TLS 1.2 and up (Mbed TLS and Zephyr devices), HTTP/1.1 only (its answers carry ``Date``, and only so does Granian close
a connection that never sends a request), no WebSockets. Deliberately knows no route.
Spec: ``docs/explanation/keys-and-certificates.md``.

The listening socket is ours, and each Granian accepts from a copy of it. So whoever waits in the kernel's queue loses
nothing when one Granian takes the place of another, which is how a new certificate comes in; nobody else can share
the port; and ``server/gate`` can hold new connections back.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from fleetvisor.server.files import Occupied, StartFault
from fleetvisor.web.requests import Receive, Scope, Send

KEEP_ALIVE_S: Final = 75  # longer than the 60 s between polls, so that a device keeps its TLS connection
_BUFFER_MIN: Final = 8192  # hyper refuses less
_RUNTIME_THREADS_MAX: Final = 4
_START_S: Final = 10.0
_NOTSENT_LOWAT: Final[int] = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
_UNSENT_BYTES_MAX: Final = 128 << 10  # of one connection, in the kernel, beyond what is on its way
_UNREAD_S: Final = 600  # a connection whose client takes nothing for so long is closed by the kernel
_PAUSE_S: Final = 0.01
_TOLD_S: Final = 0.3  # in which an acceptor hears that it is to stop, also while many answers go out
_ADVICE: Final = {
    errno.EADDRNOTAVAIL: "the address is none of this machine's; give another --host, 0.0.0.0 for all",
    errno.EACCES: "ports below 1024 need a privilege; give another --port",
}

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


def resolve(host: str) -> str:
    """Return the address to bind for a host name, IPv4 before IPv6. Raises ``StartFault``."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StartFault(f"The host {host} has no address ({error.strerror}): give another --host.") from error
    addresses = sorted({str(entry[4][0]) for entry in found}, key=lambda text: (ip_address(text).version, text))
    return addresses[0]


class Doors:
    """One port of one address, and the Granian server behind it."""

    def __init__(self, *, address: str, connections_max: int, backlog: int, header_bytes_max: int) -> None:
        """Keep what serving needs; open nothing yet. ``broken`` is set when a server ends that was not told to."""
        self.broken = asyncio.Event()
        self._address = address
        self._connections_max = connections_max
        self._backlog = backlog
        self._buffer_bytes = max(_BUFFER_MIN, header_bytes_max)
        self._taken: socket.socket | None = None
        self._listener: _Listener | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    def take(self, port: int) -> int:
        """Take the port (0: any) before anything listens; give its number. Raises ``Occupied``, ``StartFault``."""
        taken = socket.socket(socket.AF_INET6 if ":" in self._address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections have it from here
            taken.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _UNSENT_BYTES_MAX)
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_S * 1000)
            taken.bind((self._address, port))  # without SO_REUSEPORT: fails while anybody listens there
        except OSError as error:
            taken.close()
            if error.errno == errno.EADDRINUSE:
                advice = "stop the program that listens there, or give another --port"
                raise Occupied(f"Port {port} of {self._address} is in use: {advice}.") from error
            advice = _ADVICE.get(error.errno or 0, "give another --host or --port")
            raise StartFault(f"Port {port} of {self._address} cannot be used ({error.strerror}): {advice}.") from error
        self._taken = taken
        return int(taken.getsockname()[1])

    @property
    def taken(self) -> socket.socket:
        """Return the socket that was taken."""
        if self._taken is None:
            raise AssertionError("take comes first")
        return self._taken

    async def open(self, app: Asgi, cert: Path, key: Path) -> None:
        """Serve with this certificate from now on. A server before it answers what it has, then ends.

        Raises ``StartFault``.
        """
        fresh = _Listener(self._server(app, cert, key), self.broken)
        await fresh.start()
        old, self._listener = self._listener, fresh
        if old is not None:
            task = asyncio.create_task(old.stop(), name="old-listener")
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def close(self, drain_s: float) -> bool:
        """Accept nothing more, let answers under way end, for at most ``drain_s`` seconds; return whether all did."""
        leaving = set(self._leaving)
        if self._listener is not None:
            leaving.add(asyncio.create_task(self._listener.stop(), name="listener"))
        pending: set[asyncio.Task[None]] = set()
        if leaving:
            await asyncio.sleep(_TOLD_S)  # each of them is told first: a socket that is shut is an error to it
            self._refuse()
            _, pending = await asyncio.wait(leaving, timeout=drain_s)
        self.release()
        return not pending

    def _refuse(self) -> None:
        """Refuse whoever comes from now on, and whoever waits to be accepted."""
        if self._taken is not None and self._taken.fileno() >= 0 and self._listener is not None:
            self._taken.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Free the port; harmless when it is free already."""
        if self._taken is not None:
            self._taken.close()

    def _server(self, app: Asgi, cert: Path, key: Path) -> Any:  # noqa: ANN401  (Granian's types are incomplete)
        try:
            return _OnSocket(
                self.taken,
                app,
                address=self._address,
                port=int(self.taken.getsockname()[1]),
                interface=Interfaces.ASGINL,
                http=HTTPModes.http1,
                http1_settings=HTTP1Settings(
                    header_read_timeout=KEEP_ALIVE_S * 1000, max_buffer_size=self._buffer_bytes
                ),
                websockets=False,
                backlog=self._backlog,
                backpressure=self._connections_max,
                runtime_threads=max(1, min(_RUNTIME_THREADS_MAX, (os.cpu_count() or 1) - 1)),
                log_enabled=False,
                ssl_cert=cert,
                ssl_key=key,
                ssl_protocol_min=SSLProtocols.tls12,
            )
        except (OSError, ValueError) as error:
            raise StartFault(f"The certificate {cert} cannot be served with: {error}.") from error


class _OnSocket(Server):
    """An embedded Granian that accepts from a copy of a socket that somebody else keeps."""

    def __init__(self, taken: socket.socket, app: Asgi, **settings: Any) -> None:  # noqa: ANN401  (passed on)
        super().__init__(app, **settings)
        self.backlog = settings["backlog"]  # Granian takes no less than 128
        self._taken = taken

    def _init_shared_socket(self) -> None:
        holder: Any = SocketHolder  # its stub does not show how it is made
        self._ssp = None
        self._shd = holder(os.dup(self._taken.fileno()), False, self.backlog)


class _Listener:
    """One embedded Granian."""

    def __init__(self, server: Any, broken: asyncio.Event) -> None:  # noqa: ANN401  (Granian's types are incomplete)
        self._server = server
        self._broken = broken
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises ``StartFault`` when that fails."""
        task = self._task = asyncio.create_task(self._server.serve(), name="granian")
        for _ in range(round(_START_S / _PAUSE_S)):
            if task.done() or self._server.wrks:  # a worker is there once its socket is bound
                break
            await asyncio.sleep(_PAUSE_S)
        await asyncio.sleep(_PAUSE_S)  # the worker begins to listen in its first turn
        if task.done():
            error = task.exception()
            raise StartFault(f"The server cannot listen: {error}.") from error
        task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Accept nothing more, and return when every answer under way has ended."""
        self._stopping = True
        if self._task is not None:
            self._server.stop()
            await asyncio.wait({self._task})

    def _ended(self, _task: asyncio.Task[None]) -> None:
        if not self._stopping:
            self._broken.set()
