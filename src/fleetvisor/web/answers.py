"""Answers: status, headers and body, sent as two ASGI messages.

Deliberately precomputed where it can be: header pairs are bytes tuples, made once.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from fleetvisor.web.requests import Send

Header = tuple[bytes, bytes]

JSON_TYPE: Final[Header] = (b"content-type", b"application/json")
HTML_TYPE: Final[Header] = (b"content-type", b"text/html; charset=utf-8")
STRICT_TRANSPORT: Final[Header] = (b"strict-transport-security", b"max-age=31536000")
_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class Answer:
    """One answer. ``headers`` are lower-case names; the length is added when it is sent."""

    status: int
    body: bytes = b""
    headers: list[Header] = field(default_factory=list[Header])


def encode(value: Any) -> bytes:  # noqa: ANN401  (anything that msgspec encodes)
    """Encode a value as JSON."""
    return _encoder.encode(value)


def json_answer(value: Any, status: int = 200) -> Answer:  # noqa: ANN401
    """Answer with a JSON document."""
    return Answer(status, _encoder.encode(value), [JSON_TYPE])


async def send_answer(send: Send, answer: Answer, *, head: bool = False) -> None:
    """Send an answer; ``head``: its headers only."""
    headers = answer.headers
    if answer.status not in {204, 304}:
        headers = [*headers, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})
