"""The headers that every answer carries for browsers' sake: added in one place, so that no answer can lack them.

``nosniff`` keeps a browser from taking an answer for a script or a page. ``Strict-Transport-Security`` is a setting,
because a browser goes on believing it. Spec: the WHATWG's Fetch, RFC 6797.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from fleetvisor.web.answers import Header
from fleetvisor.web.requests import Message, Receive, Scope, Send

NO_STORE: Final[Header] = (b"cache-control", b"no-store")
_NOSNIFF: Final[Header] = (b"x-content-type-options", b"nosniff")

_Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


def safety_headers(hsts_s: int) -> tuple[Header, ...]:
    """Return what each answer carries; ``hsts_s`` of 0 leaves ``Strict-Transport-Security`` out."""
    if not hsts_s:
        return (_NOSNIFF,)
    return (_NOSNIFF, (b"strict-transport-security", b"max-age=%d" % hsts_s))


def made_safe(app: _Asgi, hsts_s: int = 0) -> _Asgi:
    """Return ``app`` with these headers on each of its answers."""
    safe = safety_headers(hsts_s)

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        def marked(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = (*message["headers"], *safe)
            return send(message)

        await app(scope, receive, marked)

    return wrapped
