"""A whole server without sockets, and a device that speaks ASGI to it: what the device API's tests stand on."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from tests.bundles import simple_bundle

from fleetvisor.blobs.store import Blobs
from fleetvisor.db.sqlite import memory
from fleetvisor.features.apps.model import Upload
from fleetvisor.features.devices.model import DeviceChange, Registration
from fleetvisor.ground.limits import Limits
from fleetvisor.pki.seal import Seal
from fleetvisor.reality import RealClock, RealEntropy, inline
from fleetvisor.server.build import World, build

BASE = "https://fleet.example.com:8443"


class ShiftedClock(RealClock):
    """The machine's clock, with the time of day moved by ``shift_ms``."""

    shift_ms = 0

    def now(self):
        return super().now() + self.shift_ms


@dataclass
class Answer:
    """One answer; header names are lower case, each value a list."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        values = self.headers.get(name, [])
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


@dataclass
class Device:
    """A client of the ASGI application that holds one device token."""

    world: World
    sid: str
    token: str
    account_sid: str = ""
    pieces: list[bytes] = field(default_factory=list)

    async def call(self, method, path, *, headers=(), body=b"", chunks=None, token=None, gone=None) -> Answer | None:
        """Send one request whole and give the answer; ``None`` when the application ended without one."""
        token = self.token if token is None else token
        raw = [(b"host", b"fleet.example.com")]
        if token:
            raw.append((b"authorization", f"Bearer {token}".encode()))
        raw += [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        incoming = list(chunks if chunks is not None else [body])
        gone = gone or asyncio.Event()
        sent = []

        async def receive():
            if incoming:
                chunk = incoming.pop(0)
                return {"type": "http.request", "body": chunk, "more_body": bool(incoming)}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        bare, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": bare,
            "raw_path": bare.encode(),
            "query_string": query.encode(),
            "headers": raw,
        }
        await self.world.app(scope, receive, send)
        if not sent:
            return None
        found: dict[str, list[str]] = {}
        for name, value in sent[0]["headers"]:
            found.setdefault(name.decode(), []).append(value.decode("latin-1"))
        self.pieces = [bytes(message["body"]) for message in sent[1:]]
        assert [message["type"] for message in sent] == ["http.response.start"] + ["http.response.body"] * len(
            self.pieces
        )
        assert not sent[-1].get("more_body", False), "the answer never ended"
        assert all(message["more_body"] for message in sent[1:-1])
        return Answer(sent[0]["status"], found, b"".join(self.pieces))

    async def get(self, path, *headers, **options) -> Answer:
        return await self.call("GET", "/device/v1/" + path, headers=headers, **options)

    async def head(self, path, *headers, **options) -> Answer:
        return await self.call("HEAD", "/device/v1/" + path, headers=headers, **options)

    async def post(self, path, body, *headers, **options) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = headers or (("content-type", "application/json"),)
        return await self.call("POST", "/device/v1/" + path, headers=headers, body=raw, **options)

    def poll(self, etag, wait_s, *headers, **options) -> asyncio.Task[Answer]:
        """Begin a held poll."""
        held = (("if-none-match", etag), ("prefer", f"wait={wait_s}"), *headers)
        return asyncio.get_running_loop().create_task(self.get("desired", *held, **options))

    async def change(self, **change) -> None:
        """Let the operator change the device."""
        await self.world.devices.update(self.account_sid, self.sid, DeviceChange(**change))


class Worlds:
    """Makes servers in memory, and what is in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ShiftedClock()
        self.count = 0

    def make(self, **limits) -> World:
        entropy = RealEntropy()
        self.count += 1
        blobs = Blobs(self.folder / f"blobs-{self.count}", offload=inline)
        spool = self.folder / f"spool-{self.count}"
        spool.mkdir()
        world = build(
            db=memory(),
            blobs=blobs,
            seal=Seal([entropy.token(32)], entropy),
            limits=Limits(**limits),
            clock=self.clock,
            entropy=entropy,
            offload=inline,
            spool=spool,
            base_url=BASE,
            log=structlog.get_logger(),
        )
        world.ready = True
        return world

    async def device(self, world: World, name: str | None = None, account_sid: str | None = None) -> Device:
        """Register a device, in the first account unless told."""
        if account_sid is None:
            account_sid = (await world.accounts.ensure_first()).account_sid
        new = await world.devices.create(account_sid, Registration(name, account_secrets=True))
        return Device(world, new.device.device_sid, new.device_token, account_sid)

    async def app(self, world: World, account_sid: str, firmware: bytes = b"firmware " * 500, name=None, **options):
        """Upload a bundle of one layer; give the app and its layers."""
        path = self.folder / "bundle.zip"
        path.write_bytes(simple_bundle(firmware, **options))
        app = await world.apps.create(account_sid, path, Upload(name))
        return app, await world.apps.layers(account_sid, app.app_sid)


async def settle(world: World, held: int) -> None:
    """Wait until that many polls are held."""
    async with asyncio.timeout(10):
        while world.channel.held != held:
            await asyncio.sleep(0.001)
