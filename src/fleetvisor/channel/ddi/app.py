"""hawkBit's DDI, version 1, under ``/{tenant}/controller/v1/{controllerId}``: devices that exist connect unchanged.

Another face of the same devices and updates; ``features/updates/device_answers`` decides what an answer means. The
unchanged poll is answered from memory, like the native one. Deliberately no client certificates: the headers in which a
proxy would name one are not read. Spec: ``docs/reference/ddi.md``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from fleetvisor.bus.bus import Bus
from fleetvisor.channel.date_header import DateHeader
from fleetvisor.channel.ddi.credentials import CHALLENGE, parse_gateway_token, parse_target_token
from fleetvisor.channel.ddi.polls import PollAnswer, Polls
from fleetvisor.channel.download import Abandoned, AbortedStream, Download
from fleetvisor.channel.edge import dated, faulty, no_method
from fleetvisor.features.accounts.service import Accounts
from fleetvisor.features.apps.artifacts import Artifacts
from fleetvisor.features.apps.service import Apps
from fleetvisor.features.devices.attributes import Attributes
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.devices.offers import Offers
from fleetvisor.features.devices.presence import Presence
from fleetvisor.features.devices.service import Devices
from fleetvisor.features.events import actor
from fleetvisor.features.identity.gateway import Gateway, GatewayIdentity
from fleetvisor.features.identity.proofs import Proofs
from fleetvisor.features.updates.device_answers import DeviceAnswers
from fleetvisor.features.updates.model import Update
from fleetvisor.ground.clock import Clock, Entropy
from fleetvisor.ground.errors import AccessDenied, NotFound, Problem, Unauthenticated
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import AccountSid, AppSid, is_sid
from fleetvisor.protocol import ddi
from fleetvisor.web.answers import JSON, Answer, Header
from fleetvisor.web.conditional import matches
from fleetvisor.web.guard import NAMELESS, DeviceName, Guard, address_of
from fleetvisor.web.problems import Edge, Handler
from fleetvisor.web.requests import Receive, Request, Scope, Send
from fleetvisor.web.urls import Urls, segment

_KEEPING: Final[tuple[Header, ...]] = ((b"cache-control", b"private, no-cache"), (b"vary", b"authorization"))
_NO_BODY: Final = {"type": "http.response.body", "body": b"", "more_body": False}
_TEXT: Final[Header] = (b"content-type", b"text/plain; charset=utf-8")
_DEFAULT: Final = "DEFAULT"
_DEVICE_SEGMENTS: Final = 4
_SID_CHARS: Final = 34
_NAMED_CHARS_MAX: Final = 256  # a unique name has no more
_READ: Final = ("GET", "HEAD")


class _Place(NamedTuple):
    """Who asks, by which URL, and for what below it."""

    identity: DeviceIdentity
    base: str
    rest: tuple[str, ...]


class Ddi:
    """The calls of DDI devices, as one ASGI callable."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        devices: Devices,
        proofs: Proofs,
        gateway: Gateway,
        offers: Offers,
        answers: DeviceAnswers,
        attributes: Attributes,
        apps: Apps,
        artifacts: Artifacts,
        download: Download,
        presence: Presence,
        limits: Limits,
        clock: Clock,
        entropy: Entropy,
        bus: Bus,
        urls: Urls,
        guard: Guard,
        log: Any,  # noqa: ANN401  (structlog's bound loggers have no common type)
    ) -> None:
        """Keep what the calls need."""
        self._accounts = accounts
        self._devices = devices
        self._proofs = proofs
        self._gateway = gateway
        self._polls = Polls(offers=offers, bus=bus)
        self._answers = answers
        self._attributes = attributes
        self._apps = apps
        self._artifacts = artifacts
        self._download = download
        self._presence = presence
        self._limits = limits
        self._budget = actor.budget_of(limits)
        self._clock = clock
        self._urls = urls
        self._guard = guard
        self._log = log
        self._date = DateHeader()
        self._skin: Callable[[Handler], Edge] = partial(
            Edge,
            clock=clock,
            entropy=entropy,
            urls=urls,
            request_time_s=limits.request_time_s,
            guard=guard,
            challenge=CHALLENGE,
            named=named_in,
            log=log,
        )
        self._edge = self._skin(self._handle)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        raw: bytes = scope.get("raw_path", b"").partition(b"?")[0]
        try:
            if raw.count(b"/") == _DEVICE_SEGMENTS and scope["method"] in _READ:
                return await self._poll(raw, scope, receive, send)
            if b"/artifacts/" in raw and scope["method"] in _READ and not raw.endswith(b".MD5SUM"):
                return await self._artifact(scope, receive, send)
        except Abandoned as error:
            self._log.info("download.abandoned", path=scope["path"], reason=str(error))
            raise
        except AbortedStream:
            self._log.exception("request.broken", path=scope["path"])
            raise
        except Exception as error:  # noqa: BLE001  (the edge makes an answer and a log line of whatever it is)
            return await self._skin(faulty(error, self._urls))(scope, receive, dated(send, self._date, self._clock))
        return await self._edge(scope, receive, dated(send, self._date, self._clock))

    async def _poll(self, raw: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        authorization: bytes | None = None
        match: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value if authorization is None else authorization + b", " + value
            elif name == b"if-none-match":
                match = value if match is None else match + b", " + value
        gateway_token = parse_gateway_token(authorization)
        if gateway_token is None:
            identity = await self._proofs.authenticate(parse_target_token(authorization), waiting=True)
        else:
            request = Request(scope, receive, clock=self._clock)
            actor.begin(address_of(scope))
            by_gateway = await self._by_gateway(gateway_token, request.segments())
            identity = by_gateway.device
        if identity.waiting:
            await self._send_wait(send, scope, identity, match)
            return
        answer = self._polls.find(identity.device_sid, raw)
        if answer is None:
            place = await self._place(Request(scope, receive, clock=self._clock), identity)
            answer = await self._polls.get(identity, raw, place.base)
        self._presence.note(identity.device_sid, self._clock.now())
        await self._send_poll(send, answer, unchanged=matches(match, answer.etag), head=scope["method"] == "HEAD")

    async def _by_gateway(self, token: str, segments: tuple[str, ...]) -> GatewayIdentity:
        return await self._gateway.authenticate(token, await self._tenant(segments[0]), segments[3])

    async def _tenant(self, tenant: str) -> AccountSid | None:
        return await self._accounts.find_first() if tenant.upper() == _DEFAULT else AccountSid(tenant)

    async def _send_wait(self, send: Send, scope: Scope, identity: DeviceIdentity, match: bytes | None) -> None:
        """Answer the poll of a device that nobody accepted yet: when to come again, and nothing else."""
        self._presence.note(identity.device_sid, self._clock.now())
        body = ddi.render_poll("", ddi.Poll(self._limits.poll_interval_s), "")
        answer = PollAnswer(b"", b'"waiting"', body)
        await self._send_poll(send, answer, unchanged=matches(match, answer.etag), head=scope["method"] == "HEAD")

    async def _send_poll(self, send: Send, answer: PollAnswer, *, unchanged: bool, head: bool) -> None:
        common = ((b"etag", answer.etag), *_KEEPING, self._date.at(self._clock.now()))
        if unchanged:
            await send({"type": "http.response.start", "status": 304, "headers": common})
            await send(_NO_BODY)
            return
        headers = (JSON, (b"content-length", b"%d" % len(answer.body)), *common)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(_NO_BODY if head else {"type": "http.response.body", "body": answer.body, "more_body": False})

    async def _artifact(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = await self._who(Request(scope, receive, clock=self._clock))
        match place.rest:
            case ("softwaremodules", app_sid, "artifacts", filename):
                file = await self._file(place, app_sid, filename)
                await self._download.content(place.identity, file.sha256, scope, send)
            case _:
                raise NotFound("No such path.")

    async def _handle(self, request: Request) -> Answer:
        place = await self._who(request)
        match place.rest:
            case ():
                raise no_method(_READ)
            case ("configData",):
                _need(request, "PUT")
                wanted = ddi.parse_config_data(await self._body(request))
                await self._attributes.change(place.identity, wanted.mode, wanted.data, wanted.left_out)
                return Answer(200)
            case ("softwaremodules", app_sid, "artifacts"):
                _need(request, "GET", "HEAD")
                return _json(ddi.render_artifacts(await self._files(place, app_sid)))
            case ("softwaremodules", app_sid, "artifacts", name) if name.endswith(".MD5SUM"):
                _need(request, "GET", "HEAD")
                file = await self._file(place, app_sid, name.removesuffix(".MD5SUM"))
                return Answer(200, f"{file.md5}  {file.filename}\n".encode(), (_TEXT,))
            case ("confirmationBase",):
                _need(request, "GET", "HEAD")
                return _json(b'{"autoConfirm":{"active":false}}')
            case (kind, text, *tail) if tail in ([], ["feedback"]):
                number = ddi.parse_number(text)
                if number is None:
                    raise NotFound("No action of this device has this id.")
                return await self._action(request, place, kind, number, answering=bool(tail))
            case _:
                raise NotFound("No such path.")

    async def _action(self, request: Request, place: _Place, kind: str, number: int, *, answering: bool) -> Answer:
        account_sid, device_sid = place.identity.account_sid, place.identity.device_sid
        if kind in {"deploymentBase", "cancelAction", "confirmationBase"} and answering:
            _need(request, "POST")
            await self._answer(request, place, kind, number)
            return Answer(200)
        if answering:
            raise NotFound("No such path.")
        _need(request, "GET", "HEAD")
        match kind:
            case "deploymentBase":
                update = await self._answers.find_offered(account_sid, device_sid, number)
                if update.confirmation == "waiting":
                    raise NotFound("This action waits for consent. See confirmationBase.")
                self._presence.note_fetch(device_sid, number, self._clock.now())
                return await self._deployment(place, update)
            case "confirmationBase":
                update = await self._answers.find_offered(account_sid, device_sid, number)
                if update.confirmation != "waiting":
                    raise NotFound("This action does not wait for consent.")
                return await self._deployment(place, update, key="confirmation")
            case "installedBase":
                return await self._deployment(
                    place, await self._answers.find_installed(account_sid, device_sid, number)
                )
            case "cancelAction":
                update = await self._answers.find_offered(account_sid, device_sid, number)
                if not update.cancel_requested:
                    raise NotFound("The server has not asked to cancel this action.")
                return _json(ddi.render_cancel(number))
            case _:
                raise NotFound("No such path.")

    async def _answer(self, request: Request, place: _Place, kind: str, number: int) -> None:
        raw = await self._body(request)
        who = place.identity.account_sid, place.identity.device_sid
        if kind == "confirmationBase":
            said = ddi.parse_confirmation(raw)
            confirmed = said.confirmation == "confirmed"
            await self._answers.confirm(*who, number, confirmed=confirmed, lines=said.lines)
            return
        status = ddi.parse_feedback(raw).status
        if kind == "cancelAction":
            await self._answers.answer_cancel(*who, number, answer=ddi.cancel_answer_of(status), lines=status.lines)
            return
        await self._answers.feedback(*who, number, answer=ddi.answer_of(status), lines=status.lines)

    async def _deployment(self, place: _Place, update: Update, *, key: str = "deployment") -> Answer:
        app = await self._apps.get(place.identity.account_sid, update.app_sid)
        files = await self._files(place, app.app_sid)
        name = app.unique_name or app.app_sid
        version = app.version or app.manifest_hash[:12]
        return _json(ddi.render_deployment(update.number, update.mode, name, version, files, key=key))

    async def _files(self, place: _Place, app_sid: str) -> tuple[ddi.Artifact, ...]:
        if not is_sid(app_sid, "KA"):
            raise NotFound("No software module has this id.")
        base = f"{place.base}/softwaremodules/{app_sid}/artifacts/"
        return tuple(
            ddi.Artifact(file.filename, file.sha1, file.md5, file.sha256, file.size_bytes, base + file.filename)
            for file in await self._artifacts.list(place.identity.account_sid, AppSid(app_sid))
        )

    async def _file(self, place: _Place, app_sid: str, filename: str) -> ddi.Artifact:
        for file in await self._files(place, app_sid):
            if file.filename == filename:
                return file
        raise NotFound("No artifact has this name.")

    async def _who(self, request: Request) -> _Place:
        identity = await self._prove(request)
        request.prove_again = lambda: self._prove(request)
        actor.proven(identity.device_sid, self._budget)
        if request.method not in _READ:
            self._guard.take_write(identity.device_sid)
        self._presence.note(identity.device_sid, self._clock.now())
        return await self._place(request, identity)

    async def _prove(self, request: Request) -> DeviceIdentity:
        """Return the accepted device that a request's token proves. Raises ``Unauthenticated``, ``AccessDenied``."""
        authorization = request.header(b"authorization")
        gateway_token = parse_gateway_token(authorization)
        if gateway_token is None:
            return await self._proofs.authenticate(parse_target_token(authorization))
        by_gateway = await self._by_gateway(gateway_token, request.segments())
        if by_gateway.device.waiting:
            raise AccessDenied("The Device waits to be accepted and can only poll.")
        return by_gateway.device

    async def _place(self, request: Request, identity: DeviceIdentity) -> _Place:
        """Return what a path names. Raises ``Unauthenticated`` when it is not the device that was proven."""
        tenant, _, _, controller, *rest = request.segments()
        is_default = tenant.upper() == _DEFAULT
        account_sid = await self._tenant(tenant)
        if account_sid != identity.account_sid or not await self._devices.answers_to(identity, controller):
            raise Unauthenticated(
                "The token does not belong to the device in the path. Check tenant and controller id."
            )
        base = f"{self._urls.base}/{_DEFAULT if is_default else tenant}/controller/v1/{segment(controller)}"
        return _Place(identity, base, tuple(rest))

    async def _body(self, request: Request) -> bytes:
        return await request.body(self._limits.device_body_bytes_max)


def is_ddi(scope: Scope) -> bool:
    """Return whether a request is one of DDI's: its second and third segments say so."""
    parts = scope.get("raw_path", b"").partition(b"?")[0].split(b"/", 5)
    return len(parts) >= 5 and parts[2] == b"controller" and parts[3] == b"v1"


def named_in(request: Request) -> DeviceName:
    """Return which device a request's path names; none, where the path cannot be read."""
    try:
        tenant, _, _, controller, *_ = request.segments()
    except (Problem, ValueError):
        return NAMELESS
    return DeviceName("" if tenant.upper() == _DEFAULT else tenant[:_SID_CHARS], controller[:_NAMED_CHARS_MAX])


def _json(body: bytes) -> Answer:
    return Answer(200, body, (JSON, *_KEEPING))


def _need(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise no_method(methods)
