"""Manifests and layers by their SHA-256: immutable, resumable, and only for devices of an account that has them.

Who may have what is asked for every request, also for bytes in memory; the answer is kept until an app anywhere
changes. Deliberately one range per answer: several are answered with the whole, as RFC 9110 allows. Spec:
``docs/reference/device-api.md``; RFC 9110, sections 13 and 14; RFC 8246 (immutable).
"""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

import msgspec

from fleetvisor.bus.bus import Bus
from fleetvisor.bus.kept import Bells, Kept
from fleetvisor.channel.date_header import DateHeader
from fleetvisor.channel.layers import CHUNK_BYTES, LayerCache
from fleetvisor.channel.pace import Pace, TooSlow
from fleetvisor.db.database import DatabaseFault
from fleetvisor.features.apps.damage import Damaged
from fleetvisor.features.apps.model import LayerBlob
from fleetvisor.features.apps.service import Apps
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.devices.presence import Presence
from fleetvisor.features.identity.proofs import Proofs
from fleetvisor.ground.clock import Clock
from fleetvisor.ground.errors import NotFound, RangeNotSatisfiable, Unauthenticated
from fleetvisor.ground.memory import LAYER_PLACES
from fleetvisor.ground.sids import AccountSid
from fleetvisor.web.answers import Header
from fleetvisor.web.auth import parse_bearer
from fleetvisor.web.conditional import matches, parse_range, range_applies
from fleetvisor.web.requests import Scope, Send

_KEEPING: Final[tuple[Header, ...]] = (
    (b"cache-control", b"private, immutable, max-age=31536000"),
    (b"accept-ranges", b"bytes"),
)
_BYTES: Final[Header] = (b"content-type", b"application/octet-stream")
_NO_BODY: Final = {"type": "http.response.body", "body": b"", "more_body": False}
_APP: Final = "KA"
_OF_APPS: Final = Bells(wide=_APP)


class OutsideContent(RangeNotSatisfiable):
    """The requested range lies outside the content."""

    def __init__(self, detail: str, size: int) -> None:
        """Keep the size, which the answer's ``Content-Range`` gives."""
        super().__init__(detail)
        self.size = size


class AbortedStream(Exception):
    """The bytes ended in the middle of an answer that has begun: only closing the connection says so."""


class Abandoned(AbortedStream):
    """The device read its answer too slowly and goes on by Range, or it was put out meanwhile."""


class _Asked(msgspec.Struct):
    """What a download's headers ask for."""

    head: bool
    token: bytes | None = None
    if_none_match: bytes | None = None
    range: bytes | None = None
    if_range: bytes | None = None


class Download:
    """The calls of a device that fetch bytes."""

    def __init__(
        self,
        *,
        proofs: Proofs,
        apps: Apps,
        cache: LayerCache,
        presence: Presence,
        bus: Bus,
        clock: Clock,
        pace: Pace,
    ) -> None:
        """Keep what the calls need, and listen to the bells of apps."""
        self._proofs = proofs
        self._apps = apps
        self._cache = cache
        self._presence = presence
        self._clock = clock
        self._date = DateHeader()
        self._pace = pace
        self._places: Kept[tuple[AccountSid, str], LayerBlob] = Kept(
            bus, LAYER_PLACES, lambda _: _OF_APPS, wide_of=_app_of
        )

    async def layer(self, digest: str, scope: Scope, send: Send) -> None:
        """Answer ``GET`` and ``HEAD`` of a layer. Raises ``NotFound``, ``OutsideContent``, ``Unauthenticated``."""
        asked = _asked(scope)
        await self._layer(await self._authenticate(asked), digest, asked, send)

    async def content(self, identity: DeviceIdentity, digest: str, scope: Scope, send: Send) -> None:
        """Answer with a layer for a device that was proven already. Raises ``NotFound``, ``OutsideContent``."""
        await self._layer(identity, digest, _asked(scope), send)

    async def manifest(self, digest: str, scope: Scope, send: Send) -> None:
        """Answer ``GET`` and ``HEAD`` of a manifest. Raises as ``layer`` does."""
        asked = _asked(scope)
        identity = await self._authenticate(asked)
        manifest = await self._apps.find_manifest(identity.account_sid, digest)
        if manifest is None:
            raise NotFound("No App of the Device's account has this manifest.")
        await self._serve(send, asked, LayerBlob(digest, "", len(manifest)), manifest, identity)

    async def _layer(self, identity: DeviceIdentity, digest: str, asked: _Asked, send: Send) -> None:
        layer = await self._find(identity.account_sid, digest)
        await self._serve(send, asked, layer, None, identity)

    async def _authenticate(self, asked: _Asked) -> DeviceIdentity:
        identity = await self._proofs.authenticate(parse_bearer(asked.token))
        self._presence.note(identity.device_sid, self._clock.now())
        return identity

    async def _find(self, account_sid: AccountSid, digest: str) -> LayerBlob:
        """Return where a layer of an app of the account lies. Raises ``NotFound``, ``Damaged``."""
        place = (account_sid, digest)
        return await self._places.get(place, lambda: self._look(account_sid, digest))

    async def _look(self, account_sid: AccountSid, digest: str) -> LayerBlob:
        found = await self._apps.find_layer(account_sid, digest)
        if found is None:
            raise NotFound("No App of the Device's account has this layer.")
        if found.damaged:
            raise Damaged
        return found

    async def _serve(
        self, send: Send, asked: _Asked, content: LayerBlob, data: bytes | None, identity: DeviceIdentity
    ) -> None:
        """Send a content, a range of it, or 304. ``data`` are its bytes when they are at hand."""
        size = content.size_bytes
        if not asked.head:
            self._presence.note_download(identity.device_sid, content.digest, self._clock.now())
        etag = b'"' + content.digest.encode() + b'"'
        common = ((b"etag", etag), *_KEEPING, self._date.at(self._clock.now()))
        if matches(asked.if_none_match, etag):
            await send(_start(304, common))
            await send(_NO_BODY)
            return
        start, end, status = 0, size, 200
        if asked.range is not None and not asked.head and range_applies(asked.if_range, etag):
            try:
                span = parse_range(asked.range, size)
            except RangeNotSatisfiable as problem:
                raise OutsideContent(problem.detail, size) from problem
            if span is not None:
                start, end, status = span.start, span.end, 206
                common = (*common, (b"content-range", b"bytes %d-%d/%d" % (start, end - 1, size)))
        headers = (_BYTES, (b"content-length", b"%d" % (end - start)), *common)
        if asked.head:
            await send(_start(status, headers))
            await send(_NO_BODY)
            return
        if data is None and end - start <= CHUNK_BYTES:
            data = self._cache.find(content)
        if data is not None:
            await send(_start(status, headers))
            await send({"type": "http.response.body", "body": data[start:end], "more_body": False})
            return

        async def sent() -> None:
            self._presence.note_download(identity.device_sid, content.digest, self._clock.now())
            await self._demand_admitted(identity, content)

        await self._stream(send, _start(status, headers), content, start, end, sent)

    async def _demand_admitted(self, identity: DeviceIdentity, content: LayerBlob) -> None:
        """Raise ``Abandoned`` when the device was put out since its download began."""
        try:
            await self._proofs.demand_admitted(identity)
        except Unauthenticated as error:
            raise Abandoned(f"layer {content.digest}: {error.detail}") from error
        except DatabaseFault:
            return  # a download needs no database; the next piece asks again

    async def _stream(
        self,
        send: Send,
        begin: dict[str, Any],
        content: LayerBlob,
        start: int,
        end: int,
        sent: Callable[[], Awaitable[None]],
    ) -> None:
        """Send in pieces, each when there is room for it: a slow device costs a few pieces of memory.

        ``sent`` is awaited after each: a device that takes bytes is heard of, and one that is put out gets no more.
        """
        begun = False
        try:
            with self._pace.place():
                async with aclosing(self._cache.chunks(content, start, end)) as pieces:
                    async for piece in pieces:
                        if not begun:  # only now: what fails before the first piece can be answered with an error
                            await send(begin)
                            begun = True
                        await self._pace.send(send, {"type": "http.response.body", "body": piece, "more_body": True})
                        await sent()
        except Abandoned:
            raise
        except TooSlow as error:
            raise Abandoned(f"layer {content.digest}: {error}") from error
        except Exception as error:
            if begun:
                raise AbortedStream(f"layer {content.digest} ended early") from error
            raise
        if not begun:
            await send(begin)
        await send(_NO_BODY)


def _asked(scope: Scope) -> _Asked:
    asked = _Asked(scope["method"] == "HEAD")
    for name, value in scope["headers"]:
        if name == b"authorization":
            asked.token = value if asked.token is None else asked.token + b", " + value
        elif name == b"if-none-match":
            asked.if_none_match = value if asked.if_none_match is None else asked.if_none_match + b", " + value
        elif name == b"range":
            asked.range = value if asked.range is None else asked.range + b", " + value
        elif name == b"if-range":
            asked.if_range = value
    return asked


def _start(status: int, headers: tuple[Header, ...]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def _app_of(sid: str) -> str | None:
    return _APP if sid.startswith(_APP) else None
