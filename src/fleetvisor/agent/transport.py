"""The agent's requests over real HTTPS, through httpx: one connection and one credential for each device.

A swarm shares what is expensive, the trust store, and nothing else: one pool for all devices would look at all of
their connections for every request, and a real device has a connection of its own, too. Deliberately knows nothing
of what the requests mean (``wire`` does), retries nothing (``talk`` does) and keeps no time (the driver does).
"""

import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from fleetvisor.agent.wire import Lost, Request, Response

_CONNECT_S: Final = 10.0
_EXTENSIONS: Final = {"timeout": {"connect": _CONNECT_S, "read": None, "write": None, "pool": None}}
_HTTP: Final = httpx.Limits(max_connections=2, max_keepalive_connections=1)


class Pool:
    """The connections of some devices: made one by one, closed together when its ``async with`` ends."""

    def __init__(self, connect: Callable[[], httpx.AsyncBaseTransport]) -> None:
        """Make each device's connection with ``connect``."""
        self._connect = connect
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Return the pool."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self._open.aclose()

    def connect(self) -> httpx.AsyncBaseTransport:
        """Return a connection of its own, which is opened when it is first used."""
        connection = self._connect()
        self._open.push_async_callback(connection.aclose)
        return connection


def open_pool(ca_file: Path | None) -> Pool:
    """Make a pool that trusts ``ca_file`` alone, or, when it is ``None``, what the system trusts."""
    trust = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    return Pool(lambda: httpx.AsyncHTTPTransport(verify=trust, limits=_HTTP, trust_env=False))


class HttpTransport:
    """One device's way to its server."""

    def __init__(self, pool: Pool, url: str, token: str) -> None:
        """Speak to the server at ``url`` (``https://host:port``), as the device that ``token`` proves."""
        self._connection = pool.connect()
        self._url = url.rstrip("/")
        self._headers = {
            "authorization": f"Bearer {token}",
            "user-agent": "fleetvisor-agent",
            "accept-encoding": "identity",
        }

    async def exchange(self, request: Request) -> Response:
        """Send ``request`` and give the whole answer. Raises ``Lost``."""
        try:
            return await self._exchange(request)
        except httpx.TransportError as fault:
            raise Lost(f"{type(fault).__name__}: {fault}") from fault

    async def _exchange(self, request: Request) -> Response:
        headers = {**self._headers, **request.headers}
        content = request.body or None
        asked = httpx.Request(
            request.method, self._url + request.path, headers=headers, content=content, extensions=_EXTENSIONS
        )
        answer = await self._connection.handle_async_request(asked)
        stream = answer.stream
        if not isinstance(stream, httpx.AsyncByteStream):
            raise TypeError("the connection does not answer with an asynchronous stream")
        body = bytearray()
        try:
            async for chunk in stream:
                body += chunk
                if len(body) > request.body_bytes_max:
                    break
        finally:
            await stream.aclose()
        cut = len(body) > request.body_bytes_max
        fields = {name.lower(): value for name, value in answer.headers.items()}
        return Response(answer.status_code, fields, bytes(body[: request.body_bytes_max]), cut)
