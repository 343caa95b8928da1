"""The agent's requests as HTTP, and HTTP answers as events: pure, so that every transport speaks the same.

Deliberately no connection. Spec: ``docs/reference/device-api.md``; RFC 9110 (ranges, conditional requests), RFC 7240
(Prefer).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

import msgspec

from fleetvisor.agent.commands import (
    Event,
    Failure,
    Fetch,
    Fetched,
    FetchManifest,
    Poll,
    Polled,
    Taken,
    Tell,
    Unchanged,
)
from fleetvisor.protocol.native import Desired, ReportAnswer

BASE: Final = "/device/v1"
_ANSWER_TIME_S: Final = 30.0
_DETAIL_CHARS_MAX: Final = 200
_OVERHEAD_BYTES_MAX: Final = 1 << 20
MANIFEST_BYTES_MAX: Final = 64 << 10

_desired: Final = msgspec.json.Decoder(Desired)
_report_answer: Final = msgspec.json.Decoder(ReportAnswer)
_encoder: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. The answer's body is cut at ``body_bytes_max``; all of it must come within ``time_s``."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    body_bytes_max: int
    time_s: float


@dataclass(frozen=True, slots=True)
class Response:
    """One whole HTTP answer; header names are lower case. ``cut``: the body was longer than asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False


class Lost(Exception):
    """No whole answer came: no connection, a closed one, or a body shorter than announced."""


class Transport(Protocol):
    """Carries requests of one device, with its credential."""

    async def exchange(self, request: Request) -> Response:
        """Send ``request`` and give the whole answer. Raises ``Lost``."""
        ...


def render(command: Poll | Fetch | FetchManifest | Tell) -> Request:
    """Return the HTTP request of a command."""
    match command:
        case Poll(etag, wait_s):
            headers: dict[str, str] = {}
            if etag is not None:
                headers["if-none-match"] = etag
            if wait_s:
                headers["prefer"] = f"wait={wait_s}"
            return Request("GET", f"{BASE}/desired", headers, b"", _OVERHEAD_BYTES_MAX, wait_s + _ANSWER_TIME_S)
        case Fetch(sha256, start, end):
            headers = {"range": f"bytes={start}-{end - 1}"}
            return Request("GET", f"{BASE}/layers/{sha256}", headers, b"", end, 2 * _ANSWER_TIME_S)
        case FetchManifest(sha256):
            return Request("GET", f"{BASE}/manifests/{sha256}", {}, b"", MANIFEST_BYTES_MAX, _ANSWER_TIME_S)
        case Tell(report):
            headers = {"content-type": "application/json"}
            return Request("POST", f"{BASE}/report", headers, _encoder.encode(report), 4096, _ANSWER_TIME_S)
        case _:
            assert_never(command)


def parse(command: Poll | Fetch | FetchManifest | Tell, response: Response) -> Event:
    """Return what an answer means for the command that asked."""
    status = response.status
    try:
        match command:
            case Poll() if status == 200:
                return Polled(_desired.decode(response.body), response.headers.get("etag"))
            case Poll() if status == 304:
                return Unchanged(_retry_after(response))
            case Fetch(_, start, end) if status in {200, 206}:
                return _part(response, start, end)
            case FetchManifest() if status == 200 and not response.cut:
                return Fetched(response.body)
            case Tell() if 200 <= status < 300:
                return Taken(_report_answer.decode(response.body).taken)
            case _:
                text = response.body[:_DETAIL_CHARS_MAX].decode("utf-8", "replace")
                return Failure(status, text or f"status {status}", _retry_after(response))
    except (msgspec.MsgspecError, RecursionError) as fault:
        return Failure(None, f"the answer of status {status} cannot be read: {fault}")


def _part(response: Response, start: int, end: int) -> Event:
    """Take the bytes asked for out of a 206, or out of the 200 of somebody who ignores ranges."""
    if response.status == 206:
        wanted = f"bytes {start}-{end - 1}/"
        if not response.headers.get("content-range", "").startswith(wanted) or response.cut:
            return Failure(None, f"another range than {wanted} came: {response.headers.get('content-range')}")
        part = response.body
    else:
        part = response.body[start:end]
    if len(part) != end - start:
        return Failure(None, f"{len(part)} bytes came instead of {end - start}")
    return Fetched(part)


def _retry_after(response: Response) -> int | None:
    """Return ``Retry-After`` in seconds; its date form, which our servers never send, counts as absent."""
    text = response.headers.get("retry-after", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
