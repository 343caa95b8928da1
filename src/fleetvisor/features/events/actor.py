"""Who acts: on whose request the change under way is made. Set by the edges, read where events are appended.

A context variable, so that no verb has to hand it on; a database runs its bodies in the context of whoever asked.
"""

from contextvars import ContextVar
from typing import Final

import msgspec

from fleetvisor.ground.limits import Limits


class Budget(msgspec.Struct, frozen=True):
    """How many events of its own a Device may cause an hour and a day; 0 is no bound."""

    per_hour: int = 0
    per_day: int = 0


_UNBOUNDED: Final = Budget()


class Actor(msgspec.Struct, frozen=True):
    """An Account, API key or Device by its SID (``None``: the server itself), from where, and by which request.

    ``budget`` is a Device's.
    """

    sid: str | None = None
    address: str | None = None
    request_sid: str | None = None
    budget: Budget = _UNBOUNDED


_NOBODY: Final = Actor()
_actor: Final[ContextVar[Actor]] = ContextVar("actor", default=_NOBODY)


def begin(address: str | None, request_sid: str | None = None) -> None:
    """Note a request's beginning: from where it comes, before anybody is proven."""
    _actor.set(Actor(None, address or None, request_sid))


def proven(sid: str, budget: Budget = _UNBOUNDED) -> None:
    """Note who was proven to make the request, and a Device's budget of events."""
    _actor.set(msgspec.structs.replace(_actor.get(), sid=sid, budget=budget))


def budget_of(limits: Limits) -> Budget:
    """Return the budget that every Device has."""
    return Budget(limits.device_events_per_hour_max, limits.device_events_per_day_max)


def current() -> Actor:
    """Return who acts."""
    return _actor.get()
