"""The listening side: Granian embedded in our event loop, with every bound said.

TLS 1.2 and up (Mbed TLS and Zephyr devices), HTTP/1.1 only (its answers carry ``Date``), no WebSockets. Two listeners
can share the port while one replaces the other, which is how a new certificate comes in. Deliberately knows no
route. Spec: ``docs/explanation/keys-and-certificates.md``.
"""

import asyncio
import errno
import resource
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from fleetvisor.server.files import StartFault

RESERVE: Final = 256
KEEP_ALIVE_S: Final = 90
_BACKLOG: Final = 4096
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  compared with, never bound by default


def connections_bound(asked: int) -> int:
    """Raise the descriptor limit to the hard one, and give how many connections it allows beside a reserve."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = max(64, hard - RESERVE)
    return min(asked, most) if asked else most


def resolve(host: str) -> str:
    """Give the address to bind for a host name. Raises ``StartFault``."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StartFault(f"--host {host}: {error.strerror}.") from error
    return str(found[0][4][0])


def is_any(address: str) -> bool:
    """Tell whether an address means all of this machine's."""
    return address in _ANY


def free_port(address: str, port: int) -> int:
    """Give the port to use: ``port`` itself when nobody has it, one that is free for 0. Raises ``StartFault``."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                advice = "stop what listens there, or give another --port"
                raise StartFault(f"Port {port} of {address} is in use: {advice}.") from error
            raise StartFault(f"Port {port} of {address} cannot be used: {error.strerror}.") from error
        return int(probe.getsockname()[1])


class Listener:
    """One embedded Granian on one port with one certificate."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        *,
        address: str,
        port: int,
        cert: Path,
        key: Path,
        connections_max: int,
        buffer_bytes: int,
    ) -> None:
        """Prepare; raises ``StartFault`` for a certificate and key that do not fit."""
        try:
            self._server: Any = Server(
                app,
                address=address,
                port=port,
                interface=Interfaces.ASGINL,
                http=HTTPModes.http1,
                http1_settings=HTTP1Settings(header_read_timeout=KEEP_ALIVE_S * 1000, max_buffer_size=buffer_bytes),
                websockets=False,
                backlog=_BACKLOG,
                backpressure=connections_max,
                log_enabled=False,
                ssl_cert=cert,
                ssl_key=key,
                ssl_protocol_min=SSLProtocols.tls12,
            )
        except (OSError, ValueError) as error:
            raise StartFault(f"The certificate {cert} and key {key} cannot be used: {error}.") from error
        self._address = "::1" if address == "::" else "127.0.0.1" if is_any(address) else address
        self._port = port
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; return when a connection is accepted."""
        self._task = asyncio.create_task(self._server.serve(), name="granian")
        for _ in range(200):
            if self._task.done():
                await self._task
            try:
                _, writer = await asyncio.open_connection(self._address, self._port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return
        raise StartFault(f"Nothing accepts connections on {self._address} port {self._port}.")

    async def stop(self, drain_s: float) -> None:
        """Accept nothing more, let answers under way end, for at most ``drain_s`` seconds."""
        if self._task is None:
            return
        self._server.stop()
        await asyncio.wait({self._task}, timeout=drain_s)
        if not self._task.done():
            self._task.cancel()
