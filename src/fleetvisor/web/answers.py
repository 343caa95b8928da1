"""One HTTP answer, as a value, and how it is sent.

Deliberately bytes only: what makes them has encoded them once. Streams are the business of whoever needs one.
"""

from typing import Final

import msgspec

from fleetvisor.web.requests import Send

Header = tuple[bytes, bytes]

JSON: Final[Header] = (b"content-type", b"application/json")
HTML: Final[Header] = (b"content-type", b"text/html; charset=utf-8")


class Answer(msgspec.Struct, frozen=True):
    """A status, a body and headers. ``content-length`` is added where the status allows a body."""

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = ()


def json_answer(body: object, status: int = 200, headers: tuple[Header, ...] = ()) -> Answer:
    """Encode ``body`` (msgspec structs and plain data) once."""
    return Answer(status, msgspec.json.encode(body), (JSON, *headers))


async def send_answer(send: Send, answer: Answer, *, head: bool = False, extra: tuple[Header, ...] = ()) -> None:
    """Send an answer whole; ``head`` keeps the body back and leaves its length. ``extra`` headers come last."""
    headers = [*answer.headers, *extra]
    if answer.status not in {204, 304}:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body, "more_body": False})
