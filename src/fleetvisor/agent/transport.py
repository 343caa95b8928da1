"""The agent's requests over real HTTPS, through httpx: one pool for a whole swarm, one credential per device.

Deliberately knows nothing of what the requests mean (``wire`` does), retries nothing (``talk`` does) and keeps no
time (the driver does).
"""

import ssl
from pathlib import Path

import httpx

from fleetvisor.agent.wire import Lost, Request, Response


def open_pool(ca_file: Path | None, *, connections_max: int | None = None) -> httpx.AsyncClient:
    """Make a client that trusts ``ca_file`` alone, or, when it is ``None``, what the system trusts."""
    trust = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    limits = httpx.Limits(max_connections=connections_max, max_keepalive_connections=connections_max)
    timeout = httpx.Timeout(None, connect=10.0)
    return httpx.AsyncClient(verify=trust, limits=limits, timeout=timeout, follow_redirects=False, trust_env=False)


class HttpTransport:
    """One device's way to its server."""

    def __init__(self, pool: httpx.AsyncClient, url: str, token: str) -> None:
        """Speak to the server at ``url`` (``https://host:port``), as the device that ``token`` proves."""
        self._pool = pool
        self._url = url.rstrip("/")
        self._headers = {
            "authorization": f"Bearer {token}",
            "user-agent": "fleetvisor-agent",
            "accept-encoding": "identity",
        }

    async def exchange(self, request: Request) -> Response:
        """Send ``request`` and give the whole answer. Raises ``Lost``."""
        headers = {**self._headers, **request.headers}
        try:
            async with self._pool.stream(
                request.method, self._url + request.path, headers=headers, content=request.body or None
            ) as answer:
                body = bytearray()
                cut = False
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > request.body_bytes_max:
                        del body[request.body_bytes_max :]
                        cut = True
                        break
                return Response(answer.status_code, _plain(answer.headers), bytes(body), cut)
        except httpx.HTTPError as fault:
            raise Lost(f"{type(fault).__name__}: {fault}") from fault


def _plain(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
