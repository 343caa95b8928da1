"""The native device API: what a device should do, its reports, and the values it asks for.

``desired`` is the hot path of the whole server: an unchanged poll is answered from memory with headers made
beforehand. Deliberately keeps no state of its own: held polls are ``channel/held_polls``'s. Spec:
``docs/reference/device-api.md``; RFC 9110 (conditional requests), RFC 7240 (Prefer).
"""

from typing import Final, TypeVar

import msgspec

from fleetvisor.channel.date_header import DateHeader
from fleetvisor.channel.held_polls import Held, HeldPolls, Wake
from fleetvisor.channel.native.desired import DesiredAnswer, DesiredAnswers
from fleetvisor.channel.native.prefer import wait_of
from fleetvisor.features.configs.service import Configs
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.devices.presence import Presence
from fleetvisor.features.events import actor
from fleetvisor.features.identity.enrollment import Enrollment
from fleetvisor.features.identity.proofs import Proofs
from fleetvisor.features.updates.service import Updates
from fleetvisor.ground.clock import Clock, Entropy
from fleetvisor.ground.errors import Invalid, UnsupportedMediaType
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol.native import EnrollAnswer, EnrollRequest, FetchRequest, ReportAnswer
from fleetvisor.protocol.reports import parse_report
from fleetvisor.web.answers import JSON, Answer, Header, json_answer
from fleetvisor.web.auth import parse_bearer
from fleetvisor.web.conditional import matches
from fleetvisor.web.guard import ADDRESS, Guard
from fleetvisor.web.requests import Disconnected, Receive, Request, Scope, Send, parse_media_type
from fleetvisor.web.safety import NO_STORE

T = TypeVar("T")

_KEEPING: Final[tuple[Header, ...]] = ((b"cache-control", b"private, no-cache"), (b"vary", b"authorization"))
_NO_BODY: Final = {"type": "http.response.body", "body": b"", "more_body": False}
_CLOSE: Final[Header] = (b"connection", b"close")
_RETRY_AFTER_MAX_S: Final = 10
_ACTIVE_S: Final = 0.001

_fetch: Final = msgspec.json.Decoder(FetchRequest)
_enroll: Final = msgspec.json.Decoder(EnrollRequest)


class _Poll(msgspec.Struct, frozen=True):
    """What a held poll must remember of its request."""

    token: str
    identity: DeviceIdentity
    if_none_match: bytes
    head: bool


class Native:
    """The calls of a device that are not downloads."""

    def __init__(
        self,
        *,
        proofs: Proofs,
        enrollment: Enrollment,
        desired: DesiredAnswers,
        updates: Updates,
        configs: Configs,
        presence: Presence,
        held_polls: HeldPolls,
        limits: Limits,
        clock: Clock,
        entropy: Entropy,
        date: DateHeader,
        guard: Guard,
    ) -> None:
        """Keep what the calls need."""
        self._proofs = proofs
        self._enrollment = enrollment
        self._guard = guard
        self._desired = desired
        self._updates = updates
        self._configs = configs
        self._presence = presence
        self._held_polls = held_polls
        self._limits = limits
        self._budget = actor.budget_of(limits)
        self._clock = clock
        self._entropy = entropy
        self._date = date

    async def desired(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer ``GET`` and ``HEAD`` of ``/device/v1/desired``. Raises ``Unauthenticated`` before any answer."""
        authorization: bytes | None = None
        match: bytes | None = None
        prefer: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value if authorization is None else authorization + b", " + value
            elif name == b"if-none-match":
                match = value if match is None else match + b", " + value
            elif name == b"prefer":
                prefer = value if prefer is None else prefer + b", " + value
        token = parse_bearer(authorization)
        identity = await self._proofs.authenticate(token, waiting=True)
        self._presence.note(identity.device_sid, self._clock.now())
        answer = self._desired.find(identity.device_sid) or await self._desired.get(identity)
        head = scope["method"] == "HEAD"
        if match is None or not matches(match, answer.etag):
            await self._send_whole(send, identity, answer, head=head)
            return
        wait_s = None if prefer is None else wait_of(prefer)
        if not wait_s:
            await self._send_unchanged(send, identity, answer)
            return
        _forget(scope)
        await self._hold(
            _Poll(token, identity, match, head), answer, min(wait_s, self._limits.wait_s_max), receive, send
        )

    async def report(self, request: Request) -> Answer:
        """Answer ``POST /device/v1/report``: take what the device says, once."""
        identity = await self.authenticate(request)
        report, left_out = parse_report(await self._body(request))
        taken = await self._updates.report(identity.account_sid, identity.device_sid, report, left_out)
        return json_answer(ReportAnswer(taken))

    async def fetch(self, request: Request) -> Answer:
        """Answer ``POST /device/v1/configs/fetch``: values in the order of the request."""
        identity = await self.authenticate(request)
        items = (await self._decode(request, _fetch)).items
        for place, item in enumerate(items):
            if "\0" in item.key:
                raise Invalid(f"The body must not contain NUL - at `$.items[{place}].key`")
        answer = await self._configs.fetch(identity.account_sid, identity.device_sid, items)
        return json_answer(answer, headers=(NO_STORE,))

    async def enroll(self, request: Request) -> Answer:
        """Answer ``POST /device/v1/enroll``: 201 with the SID of a new device, 200 with the one that its key has."""
        asked = await self._decode(request, _enroll)
        enrolled = await self._enrollment.enroll(asked.token, asked.public_key, asked.proof)
        answer = EnrollAnswer(enrolled.device_sid)
        return json_answer(answer, 201 if enrolled.new else 200, headers=(NO_STORE,))

    async def authenticate(self, request: Request) -> DeviceIdentity:
        """Return the device that a request's token proves, and note that it was there.

        Raises ``Unauthenticated``, ``AccessDenied``, ``RateLimited``.
        """
        token = parse_bearer(request.header(b"authorization"))
        identity = await self._proofs.authenticate(token)
        request.prove_again = lambda: self._proofs.authenticate(token)
        actor.proven(identity.device_sid, self._budget)
        self._guard.take_write(identity.device_sid)
        self._presence.note(identity.device_sid, self._clock.now())
        return identity

    async def _hold(self, poll: _Poll, answer: DesiredAnswer, wait_s: int, receive: Receive, send: Send) -> None:
        """Hold a poll whose answer is unchanged until it changes, or the time is over, or somebody leaves."""
        held = self._held_polls.hold(poll.identity.device_sid, receive, poll.identity.account_sid)
        if held is None:
            await self._send_unchanged(
                send, poll.identity, answer, *(self._parting() if self._held_polls.closing else ())
            )
            return
        try:
            why, answer = await self._wait(held, poll, answer, wait_s)
        finally:
            self._held_polls.leave(held)
        if why is Wake.GONE:
            raise Disconnected
        applied = (b"preference-applied", b"wait=%d" % wait_s)
        if why is Wake.BELL and not matches(poll.if_none_match, answer.etag):
            await self._send_whole(send, poll.identity, answer, applied, head=poll.head)
            return
        parting = self._parting() if why is Wake.RELEASE else ()
        await self._send_unchanged(send, poll.identity, answer, applied, *parting)

    async def _wait(self, held: Held, poll: _Poll, first: DesiredAnswer, wait_s: int) -> tuple[Wake, DesiredAnswer]:
        """Wait for what ends a held poll; ``BELL`` means that the answer is another than ``first``.

        The poll is registered before the first comparison here: a change before that is seen, one after it rings.
        Each round proves the token anew, so that a device that was removed or disabled is refused at once.
        """
        end = self._clock.monotonic() + wait_s
        while True:
            identity = await self._proofs.authenticate(poll.token, waiting=True)
            answer = await self._desired.get(identity)
            if answer.etag != first.etag:
                return Wake.BELL, answer
            left_s = end - self._clock.monotonic()
            if left_s <= 0:
                return Wake.TIME, answer
            if answer.deadline is not None:
                left_s = min(left_s, (answer.deadline - self._clock.now()) / 1000 + _ACTIVE_S)
            why = await held.wait(left_s)
            if why in {Wake.GONE, Wake.RELEASE}:
                return why, answer

    def _parting(self) -> tuple[Header, ...]:
        """Return the headers with which a server that stops sends a device away, each for another while."""
        retry_s = 1 + int(self._entropy.fraction() * _RETRY_AFTER_MAX_S)
        return ((b"retry-after", str(retry_s).encode()), _CLOSE)

    async def _send_unchanged(
        self, send: Send, identity: DeviceIdentity, answer: DesiredAnswer, *extra: Header
    ) -> None:
        """Send 304. A device that names the tag of an offer has it: that starts the offer's clock as well."""
        now = self._clock.now()
        if answer.update is not None:
            self._presence.note_fetch(identity.device_sid, answer.update, now)
        headers = ((b"etag", answer.etag), *_KEEPING, self._date.at(now), *extra)
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send(_NO_BODY)

    async def _send_whole(
        self, send: Send, identity: DeviceIdentity, answer: DesiredAnswer, *extra: Header, head: bool
    ) -> None:
        now = self._clock.now()
        if answer.update is not None and not head:
            self._presence.note_fetch(identity.device_sid, answer.update, now)
        length = (b"content-length", b"%d" % len(answer.body))
        headers = (JSON, length, (b"etag", answer.etag), *_KEEPING, self._date.at(now), *extra)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(_NO_BODY if head else {"type": "http.response.body", "body": answer.body, "more_body": False})

    async def _decode(self, request: Request, decoder: msgspec.json.Decoder[T]) -> T:
        """Read a JSON body. Raises ``UnsupportedMediaType``, ``TooLarge``, and ``Invalid`` naming the field."""
        raw = await self._body(request)
        try:
            return decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid(f"The body cannot be read: {error}") from error

    async def _body(self, request: Request) -> bytes:
        """Read a body that is said to be JSON. Raises ``UnsupportedMediaType``, ``TooLarge``."""
        media, options = parse_media_type(request.header(b"content-type"))
        if media != "application/json" or options.get("charset", "utf-8").lower() != "utf-8":
            raise UnsupportedMediaType("Send the body as application/json.")
        return await request.body(self._limits.device_body_bytes_max)


def _forget(scope: Scope) -> None:
    """Keep of a request that is held only what an error answer names: a kilobyte less for each of 100,000."""
    kept = {name: scope[name] for name in ("type", "method", "path", "raw_path", ADDRESS) if name in scope}
    scope.clear()
    scope.update(kept)
