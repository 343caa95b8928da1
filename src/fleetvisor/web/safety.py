"""What happens to every answer as it begins: the headers that it carries for browsers' sake, and who else hears of it.

In one place, so that no answer can lack them, and with one call for all of it: every poll passes here.

``nosniff`` keeps a browser from taking an answer for a script or a page. ``Strict-Transport-Security`` is a setting,
because a browser goes on believing it. Spec: the WHATWG's Fetch, RFC 6797.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fleetvisor.web.answers import Header
from fleetvisor.web.requests import Message, Receive, Scope, Send

NO_STORE: Final[Header] = (b"cache-control", b"no-store")
_NOSNIFF: Final[Header] = (b"x-content-type-options", b"nosniff")

_Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Began = Callable[[Scope, Message], None]


def safety_headers(hsts_s: int) -> tuple[Header, ...]:
    """Return what each answer carries; ``hsts_s`` of 0 leaves ``Strict-Transport-Security`` out."""
    if not hsts_s:
        return (_NOSNIFF,)
    return (_NOSNIFF, (b"strict-transport-security", b"max-age=%d" % hsts_s))


def made_safe(app: _Asgi, hsts_s: int = 0, began: Sequence[Began] = ()) -> _Asgi:
    """Return ``app`` with these headers on each of its answers.

    Each of ``began`` is called with the scope and the first message of an answer, which it may change.
    """
    safe = safety_headers(hsts_s)

    def wrapped(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        def marked(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = (*message["headers"], *safe)
                for hear in began:
                    hear(scope, message)
            return send(message)

        return app(scope, receive, marked)  # no coroutine of its own, which would cost each poll one more

    return wrapped
