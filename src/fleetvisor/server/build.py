"""Everything is built here, top to bottom, by hand: the server, the tests and the simulator call ``build``.

Deliberately opens no file and no socket: ``server/run`` does, and passes what it opened.
"""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import structlog

from fleetvisor.api import openapi
from fleetvisor.api.accounts import AccountHandlers
from fleetvisor.api.app import Api
from fleetvisor.api.apps import AppHandlers
from fleetvisor.api.auth_tokens import AuthTokenHandlers
from fleetvisor.api.configs import ConfigHandlers
from fleetvisor.api.credentials import CredentialHandlers
from fleetvisor.api.devices import DeviceHandlers
from fleetvisor.api.enrollment import EnrollmentHandlers
from fleetvisor.api.events import EventHandlers
from fleetvisor.api.explain import ExplainingHandlers
from fleetvisor.api.pages import Pages
from fleetvisor.api.rollouts import RolloutHandlers
from fleetvisor.api.routes import Route, Routes
from fleetvisor.api.tenants import TenantHandlers
from fleetvisor.blobs.store import Blobs
from fleetvisor.bus.bus import Bus
from fleetvisor.channel.ddi.app import Ddi, is_ddi
from fleetvisor.channel.download import Download
from fleetvisor.channel.layers import LayerCache
from fleetvisor.channel.native.app import Channel
from fleetvisor.channel.pace import Pace
from fleetvisor.db.database import Database
from fleetvisor.features.accounts.auth_tokens import AuthTokens
from fleetvisor.features.accounts.service import Accounts
from fleetvisor.features.accounts.tenants import Tenants
from fleetvisor.features.apps.artifacts import Artifacts
from fleetvisor.features.apps.checking import CHECK_S, Checks
from fleetvisor.features.apps.reading import Reader
from fleetvisor.features.apps.service import Apps
from fleetvisor.features.apps.sweep import sweep
from fleetvisor.features.clocks.ahead import PERIOD_S as AHEAD_PERIOD_S
from fleetvisor.features.clocks.ahead import Ahead
from fleetvisor.features.closing.closer import Closer
from fleetvisor.features.configs.service import Configs
from fleetvisor.features.devices.attributes import Attributes
from fleetvisor.features.devices.offers import Offers
from fleetvisor.features.devices.presence import Presence
from fleetvisor.features.devices.service import Devices
from fleetvisor.features.events.denials import Denials
from fleetvisor.features.events.log import EventLog
from fleetvisor.features.explain.explainer import Explainer
from fleetvisor.features.identity.credentials import Credentials
from fleetvisor.features.identity.enrollment import Enrollment
from fleetvisor.features.identity.gateway import Gateway
from fleetvisor.features.identity.imports import Imports
from fleetvisor.features.identity.proofs import Proofs
from fleetvisor.features.rollouts.penalties import Penalties
from fleetvisor.features.rollouts.population import Population
from fleetvisor.features.rollouts.service import Rollouts
from fleetvisor.features.rollouts.ticker import Ticker
from fleetvisor.features.updates.device_answers import DeviceAnswers
from fleetvisor.features.updates.fetches import Fetches
from fleetvisor.features.updates.service import Updates
from fleetvisor.ground.clock import Clock, Entropy
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.offload import Offload
from fleetvisor.obs.health import Health
from fleetvisor.pki.seal import Seal
from fleetvisor.server.background import Job
from fleetvisor.server.disks import LOOK_S, Disks
from fleetvisor.web.address import Addresses, Network
from fleetvisor.web.guard import Guard
from fleetvisor.web.requests import Receive, Scope, Send
from fleetvisor.web.safety import Began, made_safe
from fleetvisor.web.scans import Scans
from fleetvisor.web.urls import Urls

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(slots=True)
class World:
    """A whole server without its sockets: ``app`` serves, ``jobs`` keep it in order, the rest is for tests.

    Each of ``began`` hears of every answer as it begins.
    """

    app: Asgi
    began: list[Began]
    jobs: tuple[Job, ...]
    db: Database
    bus: Bus
    accounts: Accounts
    apps: Apps
    configs: Configs
    devices: Devices
    proofs: Proofs
    updates: Updates
    presence: Presence
    denials: Denials
    rollouts: Ticker
    channel: Channel
    resources: frozenset[str]
    disks: Disks
    health: Health
    checks: Checks
    ready: bool = False

    def begin_shutdown(self) -> None:
        """Stop being ready, and answer every held poll now."""
        self.ready = False
        self.channel.release_all()

    async def close(self) -> None:
        """Write what is noted, and let the database go: also when some of it cannot be written. Raises in the end."""
        async with AsyncExitStack() as each:
            each.push_async_callback(self.db.close)
            for flush in (partial(self.denials.flush, last=True), self.accounts.flush, self.presence.flush):
                each.push_async_callback(flush)


def build(
    *,
    db: Database,
    blobs: Blobs,
    seal: Seal,
    limits: Limits,
    clock: Clock,
    entropy: Entropy,
    offload: Offload,
    spool: Path,
    base_url: str,
    spooling: Offload | None = None,
    reader: Reader | None = None,
    audiences: tuple[str, ...] = (),
    proxies: tuple[Network, ...] = (),
    ca_pem: bytes | None = None,
    hsts_s: int = 0,
    log: Any = None,  # noqa: ANN401  (structlog's bound loggers have no common type)
) -> World:
    """Build a server; ``spool`` is a folder for uploads on their way, ``base_url`` the public one.

    ``audiences`` are whom devices' signed tokens may be for; without any it is the public URL. ``proxies`` are the
    networks whose word about a client's address is taken. Uploads are written through ``spooling`` and read by
    ``reader``; without them both go through ``offload``.
    """
    log = log or structlog.get_logger()
    spooling = spooling or offload
    bus = Bus()
    urls = Urls(base_url)
    denials = Denials(db=db, clock=clock, limits=limits)
    guard = Guard(addresses=Addresses(proxies), clock=clock, limits=limits, denied=denials.note)
    events = EventLog(db=db, clock=clock, limits=limits)

    accounts = Accounts(db=db, clock=clock, entropy=entropy, seal=seal, limits=limits, bus=bus)
    apps = Apps(
        db=db,
        blobs=blobs,
        clock=clock,
        entropy=entropy,
        limits=limits,
        bus=bus,
        offload=spooling,
        spool=spool,
        reader=reader,
    )
    checks = Checks(db=db, blobs=blobs, damage=apps.damage, clock=clock, limits=limits)
    configs = Configs(db=db, clock=clock, seal=seal, limits=limits)
    fetches = Fetches(limits)
    updates = Updates(db=db, clock=clock, limits=limits, bus=bus, fetches=fetches)
    devices = Devices(db=db, clock=clock, entropy=entropy, limits=limits, bus=bus)
    offers = Offers(db=db, clock=clock, limits=limits, bus=bus)
    attributes = Attributes(db=db, clock=clock, limits=limits, bus=bus)
    audiences = audiences or (urls.base,)
    tokens = AuthTokens(db=db, clock=clock, entropy=entropy, seal=seal, bus=bus)
    proofs = Proofs(db=db, clock=clock, limits=limits, bus=bus, audiences=audiences)
    credentials = Credentials(db=db, clock=clock, entropy=entropy, limits=limits, bus=bus)
    enrollment = Enrollment(db=db, clock=clock, entropy=entropy, limits=limits, bus=bus, audiences=audiences)
    imports = Imports(db=db, clock=clock, entropy=entropy, limits=limits, offload=spooling)
    gateway = Gateway(db=db, clock=clock, entropy=entropy, limits=limits, bus=bus)
    population = Population(db=db, devices=devices, clock=clock, offload=offload)
    rollouts = Rollouts(
        db=db, clock=clock, entropy=entropy, limits=limits, bus=bus, devices=devices, population=population
    )
    ticker = Ticker(db=db, clock=clock, limits=limits, bus=bus, population=population)
    closer = Closer(db=db, clock=clock, limits=limits, bus=bus)
    penalties = Penalties(db=db, clock=clock, limits=limits)
    explainer = Explainer(db=db, clock=clock, limits=limits, devices=devices, penalties=penalties)
    presence = Presence(db=db, limits=limits, written=devices.forget, fetches=fetches)

    disks = Disks(db=db, blobs=blobs, spool=spool, offload=offload)
    routes = _routes(
        DeviceHandlers(devices=devices, updates=updates, attributes=attributes, limits=limits, urls=urls),
        AppHandlers(apps=apps, limits=limits, urls=urls, entropy=entropy, spool=spool, offload=spooling),
        ConfigHandlers(configs=configs, devices=devices, limits=limits, urls=urls),
        TenantHandlers(tenants=Tenants(db=db, clock=clock, bus=bus), limits=limits, urls=urls),
        AccountHandlers(accounts=accounts, limits=limits, urls=urls),
        ExplainingHandlers(explainer=explainer, penalties=penalties, devices=devices),
        RolloutHandlers(rollouts=rollouts, clock=clock, limits=limits, urls=urls),
        CredentialHandlers(devices=devices, credentials=credentials, limits=limits, urls=urls),
        AuthTokenHandlers(tokens=tokens, urls=urls),
        EventHandlers(log=events, devices=devices, limits=limits, urls=urls),
        EnrollmentHandlers(
            enrollment=enrollment,
            gateway=gateway,
            imports=imports,
            limits=limits,
            urls=urls,
            entropy=entropy,
            spool=spool,
            offload=spooling,
        ),
    )
    download = Download(
        proofs=proofs,
        apps=apps,
        cache=LayerCache(blobs=blobs, damage=apps.damage, bytes_max=limits.layer_cache_bytes),
        presence=presence,
        bus=bus,
        clock=clock,
        pace=Pace(clock=clock, limits=limits),
    )
    channel = Channel(
        proofs=proofs,
        enrollment=enrollment,
        offers=offers,
        apps=apps,
        updates=updates,
        configs=configs,
        download=download,
        presence=presence,
        limits=limits,
        clock=clock,
        entropy=entropy,
        bus=bus,
        urls=urls,
        guard=guard,
        log=log,
    )
    hawkbit = Ddi(
        accounts=accounts,
        devices=devices,
        proofs=proofs,
        gateway=gateway,
        offers=offers,
        answers=DeviceAnswers(db=db, clock=clock, limits=limits, bus=bus, fetches=fetches),
        attributes=attributes,
        apps=apps,
        artifacts=Artifacts(apps=apps, blobs=blobs),
        download=download,
        presence=presence,
        limits=limits,
        clock=clock,
        entropy=entropy,
        bus=bus,
        urls=urls,
        guard=guard,
        log=log,
    )
    health = Health(clock=clock, check=db.check)
    health.listen(disks.degraded)
    health.listen(lambda: {"layers": "damaged"} if checks.damaged else {})
    document = partial(openapi.document, routes, urls.base)
    pages = Pages(urls=urls, document=document, ca_pem=ca_pem, ready=lambda: world.ready, health=health)
    api = Api(
        accounts=accounts,
        routes=routes,
        pages=pages,
        limits=limits,
        urls=urls,
        clock=clock,
        entropy=entropy,
        guard=guard,
        scans=Scans(clock=clock, limits=limits),
        log=log,
    )
    began: list[Began] = []
    world = World(
        app=made_safe(_dispatch(guard, api, channel, hawkbit), hsts_s, began),
        began=began,
        jobs=(
            Job("presence", 1.0, presence.flush),
            Job("ahead", AHEAD_PERIOD_S, Ahead(db=db, clock=clock, limits=limits, written=devices.forget).mend),
            Job("keys", 5.0, accounts.flush),
            Job("denials", 2.0, denials.flush),
            Job("events", 60.0, events.forget),
            Job("accounts", 1.0, closer.tick),
            Job("overdue", 5.0, updates.expire),
            Job("rollouts", 0.5, ticker.tick),
            Job("disk", LOOK_S, disks.look),
            Job("layers", CHECK_S, checks.step),
            Job("sweep", 60.0, partial(sweep, db, blobs, clock, limits)),
        ),
        db=db,
        bus=bus,
        accounts=accounts,
        apps=apps,
        configs=configs,
        devices=devices,
        proofs=proofs,
        updates=updates,
        presence=presence,
        denials=denials,
        rollouts=ticker,
        channel=channel,
        resources=routes.resources,
        disks=disks,
        health=health,
        checks=checks,
    )
    return world


class _Handlers(Protocol):
    def routes(self) -> list[Route]: ...


def _routes(*handlers: _Handlers) -> Routes:
    return Routes([route for some in handlers for route in some.routes()])


def _dispatch(guard: Guard, api: Api, channel: Channel, hawkbit: Ddi) -> Asgi:
    """Send a device's paths to the channel that speaks its protocol, everything else to the API."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        try:
            guard.admit(scope)
        except Invalid as problem:
            await api.refuse(problem, scope, receive, send)
            return
        if path.startswith("/device/"):
            await channel(scope, receive, send)
        elif "/controller/v1/" in path and is_ddi(scope):
            await hawkbit(scope, receive, send)
        else:
            await api(scope, receive, send)

    return app
