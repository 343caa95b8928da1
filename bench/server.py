"""The server under measure: a real process on one core, with a fleet made through the service layer beforehand.

The devices are written straight through ``features`` (the same code that the API calls) before the server starts,
because a hundred thousand HTTPS requests would measure the set-up.
"""

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.machine import SERVER_CORE
from fleetvisor.bus.bus import Bus
from fleetvisor.db.sqlite import open_sqlite
from fleetvisor.features.devices.model import Registration
from fleetvisor.features.devices.service import Devices
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol.pack import pack
from fleetvisor.reality import RealClock, RealEntropy

BATCH = 500
PAGE = 50


@dataclass
class BenchServer:
    """A running server, and what the cases ask it for."""

    process: subprocess.Popen[bytes]
    data: Path
    url: str
    auth: tuple[str, str]
    ca_file: str
    sid: str = ""
    token: str = ""
    etag: str = ""
    layer: str = ""
    layer_bytes: bytes = b""
    device_json: bytes = b""
    deepest: str = ""
    fleet: list[tuple[str, str]] | None = None

    def call(
        self, path: str, *, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[bytes, dict[str, str]]:
        """Call the server as the operator; give body and headers."""
        basic = b64encode(":".join(self.auth).encode()).decode()
        url = path if path.startswith("https:") else self.url + path
        request = urllib.request.Request(url, data, {"Authorization": f"Basic {basic}", **(headers or {})})
        context = ssl.create_default_context(cafile=self.ca_file)
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            return answer.read(), dict(answer.headers)


async def populate(data: Path, account_sid: str, count: int, tick: Callable[[int], None]) -> list[tuple[str, str]]:
    """Register ``count`` devices; give SID and token of each."""
    db = await open_sqlite(data / "fleetvisor.db")
    devices = Devices(db=db, clock=RealClock(), entropy=RealEntropy(), limits=Limits(), bus=Bus())
    made: list[tuple[str, str]] = []
    for start in range(0, count, BATCH):
        some = range(start, min(start + BATCH, count))
        wanted = [Registration(f"device-{number}") for number in some]
        batch = await asyncio.gather(*[devices.create(account_sid, one) for one in wanted])
        made += [(one.device.device_sid, one.device_token) for one in batch]
        tick(len(made))
    await db.close()
    return made


def start(data: Path) -> BenchServer:
    """Start the server on its core, and wait until it is ready."""
    credentials = data / "credentials.json"
    credentials.unlink(missing_ok=True)
    command = ["taskset", "-c", SERVER_CORE, sys.executable, "-m", "fleetvisor.cli.main", "serve"]
    with (data.parent / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--data", str(data), "--port", "0", "--log-level", "warning"],
            stdout=log,
            stderr=log,
            env=os.environ,
        )
    for _ in range(600):
        if credentials.exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    if not credentials.exists():
        raise RuntimeError((data.parent / "server.log").read_text())
    found = json.loads(credentials.read_text())
    server = BenchServer(
        process, data, found["local_url"], (found["account_sid"], found["auth_token"]), found["ca_file"]
    )
    for _ in range(200):
        with contextlib.suppress(OSError):
            server.call("/healthz")
            return server
        time.sleep(0.05)
    raise RuntimeError("the server is not ready")


def stop(server: BenchServer) -> None:
    """Stop the server by its process id."""
    server.process.terminate()
    server.process.wait(20)


def upload(server: BenchServer, bundle: bytes) -> str:
    """Upload a bundle; give the App's SID."""
    boundary = "bench-boundary"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="File"; filename="b.zip"\r\n\r\n'.encode()
    body = head + bundle + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return str(json.loads(server.call("/v1/Apps", data=body, headers=kind)[0])["sid"])


def deepest_page(server: BenchServer) -> str:
    """Walk to the end in pages of 1000, and give the URL of a page of 50 near it."""
    url = f"{server.url}/v1/Devices?PageSize=1000"
    last = url
    while url:
        last = url
        url = json.loads(server.call(url)[0])["meta"]["next_page_url"]
    return last.replace("PageSize=1000", f"PageSize={PAGE}")


@contextlib.contextmanager
def serving(root: Path, layer_bytes: int, devices: int, tick: Callable[[int], None]) -> Iterator[BenchServer]:
    """Make a fleet, start the server, target one device, and find out what the cases need."""
    data = root / "data"
    first = start(data)
    stop(first)
    made = asyncio.run(populate(data, first.auth[0], devices, tick))
    server = start(data)
    try:
        firmware = bytes(range(256)) * (layer_bytes // 256)
        app_sid = upload(server, pack(firmware))
        server.fleet = made
        server.sid, server.token = made[0]
        server.call(f"/v1/Devices/{server.sid}", data=f"TargetApp={app_sid}".encode())
        bearer = {"Authorization": f"Bearer {server.token}"}
        body, headers = server.call("/device/v1/desired", headers=bearer)
        server.etag = {name.lower(): value for name, value in headers.items()}["etag"]
        server.layer = json.loads(body)["app"]["layers"][0]["sha256"]
        server.layer_bytes = server.call(f"/device/v1/layers/{server.layer}", headers=bearer)[0]
        server.device_json = server.call(f"/v1/Devices/{server.sid}")[0]
        server.deepest = deepest_page(server)
        yield server
    finally:
        stop(server)
