"""Who acts: on whose request the change under way is made. Set by the edges, read where events are appended.

A context variable, so that no verb has to hand it on; a database runs its bodies in the context of whoever asked.
"""

from contextvars import ContextVar
from typing import Final

import msgspec


class Actor(msgspec.Struct, frozen=True):
    """An Account, API key or Device by its SID (``None``: the server itself), from where, and by which request.

    ``events_max`` is a Device's budget of events an hour (0: none).
    """

    sid: str | None = None
    address: str | None = None
    request_sid: str | None = None
    events_max: int = 0


_NOBODY: Final = Actor()
_actor: Final[ContextVar[Actor]] = ContextVar("actor", default=_NOBODY)


def begin(address: str | None, request_sid: str | None = None) -> None:
    """Note a request's beginning: from where it comes, before anybody is proven."""
    _actor.set(Actor(None, address or None, request_sid))


def proven(sid: str, *, events_max: int = 0) -> None:
    """Note who was proven to make the request, and a Device's budget of events an hour (0: none)."""
    _actor.set(msgspec.structs.replace(_actor.get(), sid=sid, events_max=events_max))


def current() -> Actor:
    """Give who acts."""
    return _actor.get()
