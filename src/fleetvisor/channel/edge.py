"""How requests of devices end when they did not end on the hot path: what both device edges have in common.

Deliberately knows no call of either.
"""

from fleetvisor.channel.date_header import DateHeader
from fleetvisor.channel.download import OutsideContent
from fleetvisor.ground.clock import Clock
from fleetvisor.ground.errors import MethodNotAllowed
from fleetvisor.web.answers import Answer
from fleetvisor.web.problems import Handler, render_problem
from fleetvisor.web.requests import Message, Request, Send
from fleetvisor.web.urls import Urls


def faulty(error: Exception, urls: Urls) -> Handler:
    """Return a handler that ends as the hot path did: the edge renders problems in one place."""

    async def handle(request: Request) -> Answer:
        if isinstance(error, OutsideContent):
            size = (b"content-range", b"bytes */%d" % error.size)
            return render_problem(error, urls, path=request.scope["path"], headers=(size,))
        raise error

    return handle


def dated(send: Send, date: DateHeader, clock: Clock) -> Send:
    """Return ``send`` with a ``Date`` on the answer: a device without a clock gets one."""

    async def send_dated(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], date.at(clock.now())]
        await send(message)

    return send_dated


def no_method(allowed: tuple[str, ...]) -> MethodNotAllowed:
    """Return the refusal of a method that a path does not have."""
    return MethodNotAllowed(f"This path has {', '.join(allowed)}.", allowed=allowed)
