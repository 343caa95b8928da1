"""A whole server in this process, without sockets, and hands to call its REST API with.

``build`` is the one that production calls; only the clock, the database and the folders are the test's.
"""

import asyncio
import itertools
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from tests.bundles import FIRMWARE, simple_bundle

from fleetvisor.blobs.store import Blobs
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.pki.seal import Seal
from fleetvisor.reality import RealEntropy, inline
from fleetvisor.server.build import World, build

BASE = "https://mv.example.com"
EPOCH_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
FIRST_NUMBER = 189_388_800  # of an update made then: the seconds since 2020
CA_PEM = b"-----BEGIN CERTIFICATE-----\n"


class StepClock:
    """Time of day moves when the test says so; waiting is real."""

    def __init__(self):
        self.millis = EPOCH_MS

    def now(self):
        return Millis(self.millis)

    def advance(self, seconds):
        self.millis += round(seconds * 1000)

    def monotonic(self):
        return asyncio.get_running_loop().time()

    async def sleep(self, delay_s):
        await asyncio.sleep(delay_s)

    def timeout(self, delay_s):
        return asyncio.timeout(delay_s)


class Reply:
    """An answer, with its JSON at hand."""

    def __init__(self, response):
        self.response = response
        self.status = response.status_code
        self.headers = response.headers
        self.text = response.text

    @property
    def json(self):
        return self.response.json()

    def __getitem__(self, name):
        return self.json[name]

    def __repr__(self):
        return f"<{self.status} {self.text[:300]}>"


@dataclass
class Hands:
    """Calls the API as one account (``auth`` is user name and password; ``None`` sends none)."""

    http: httpx.AsyncClient
    auth: tuple[str, str] | None
    counter: itertools.count = field(default_factory=lambda: itertools.count(1))

    async def get(self, path, *, ok=200, **params):
        return await self.call("GET", path, ok=ok, params=params or None)

    async def post(self, path, *, ok=200, headers=None, content=None, **form):
        if content is not None:
            return await self.call("POST", path, ok=ok, content=content, headers=headers)
        return await self.call("POST", path, ok=ok, data=form, headers=headers)

    async def delete(self, path, *, ok=204):
        return await self.call("DELETE", path, ok=ok)

    async def call(self, method, path, *, ok=None, **parts):
        parts.setdefault("auth", self.auth)
        if parts.get("params", 0) is None:
            parts.pop("params")
        reply = Reply(await self.http.request(method, path if path.startswith("http") else BASE + path, **parts))
        if ok is not None:
            assert reply.status == ok, f"{method} {path}: {reply}"
        if reply.status >= 400 and method != "HEAD":
            check_problem(reply)
        return reply

    async def device(self, name=None, **form):
        """Register a device; give its JSON."""
        return (await self.post("/v1/Devices", ok=201, **({"UniqueName": name} if name else {}), **form)).json

    async def app(self, name=None, firmware=None):
        """Upload a bundle of its own; give the App's JSON."""
        content = simple_bundle(firmware or FIRMWARE + b"%d" % next(self.counter))
        data = {"UniqueName": name} if name else {}
        reply = await self.call("POST", "/v1/Apps", ok=201, data=data, files={"File": ("x.zip", content)})
        return reply.json

    async def walk(self, path, key, **params):
        """Walk a list by its next_page_url; give the pages' items."""
        pages, url = [], path
        while url:
            body = (await self.get(url, **(params if url == path else {}))).json
            pages.append(body[key])
            url = body["meta"]["next_page_url"]
        return pages


def check_problem(reply):
    """Every error is the five fields, as JSON, and agrees with its status."""
    assert reply.headers["content-type"] == "application/json"
    body = reply.json
    assert set(body) == {"code", "detail", "message", "more_info", "status"}
    assert body["status"] == reply.status
    assert body["more_info"] == f"{BASE}/docs/errors/{body['code']}"
    assert body["detail"]
    assert body["message"]


@dataclass
class Server:
    """A world, its clock, and hands of its first account."""

    world: World
    clock: StepClock
    hands: Hands
    spool: object
    limits: Limits
    disk: "Disk"

    def as_account(self, username, password):
        """Give hands with other credentials."""
        return Hands(self.hands.http, (username, password))

    def nobody(self):
        """Give hands without credentials."""
        return Hands(self.hands.http, None)

    async def stranger(self):
        """Make another account; give its hands."""
        made = (await self.hands.post("/v1/Accounts", ok=201)).json
        return self.as_account(made["account_sid"], made["auth_token"])


class AnyLog:
    """Keeps what the server logs."""

    def __init__(self):
        self.lines = []

    def _take(self, event, **fields):
        self.lines.append((event, fields))

    debug = info = warning = error = exception = _take


class Disk:
    """The disk under the blobs; its ``fsync`` raises ``fault`` while that is set."""

    fault = None

    def fsync(self, descriptor):
        if self.fault is not None:
            raise self.fault
        os.fsync(descriptor)


@asynccontextmanager
async def serving(db, folder, *, log=None, **limits):
    """Build a server on ``db`` with its files in ``folder``; ready at once."""
    spool = folder / "spool"
    spool.mkdir(exist_ok=True)
    clock, disk = StepClock(), Disk()
    bounds = Limits(**limits)
    world = build(
        db=db,
        blobs=Blobs(folder / "blobs", offload=inline, fsync=disk.fsync),
        seal=Seal([b"k" * 32], RealEntropy()),
        limits=bounds,
        clock=clock,
        entropy=RealEntropy(),
        offload=inline,
        spool=spool,
        base_url=BASE,
        ca_pem=CA_PEM,
        log=log or AnyLog(),
    )
    world.ready = True
    first = await world.accounts.ensure_first()
    transport = httpx.ASGITransport(world.app)
    async with httpx.AsyncClient(transport=transport) as http:
        yield Server(world, clock, Hands(http, (first.account_sid, first.auth_token)), spool, bounds, disk)
    await world.close()
