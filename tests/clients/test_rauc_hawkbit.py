"""The unmodified rauc-hawkbit 0.2.0 client from the package index; the test plays RAUC behind its D-Bus calls."""

import asyncio
import contextlib
import importlib.metadata
import ssl
import sys
import types

import aiohttp
import httpx
import pytest
from tests.corpus import simple_bundle
from tests.server import running

pytestmark = pytest.mark.service

FIRMWARE = b"\x10\x20\x30\x40" * 10_000
INSTALLER = "de.pengutronix.rauc.Installer"
PROPERTIES = "org.freedesktop.DBus.Properties"


class Rauc:
    """RAUC as the client sees it over D-Bus: an ``Install`` method, progress and a result."""

    def __init__(self, result):
        self.result = result
        self.installed = None

    def signal_subscribe(self, *args):
        self.on_event = args[-1]
        return 1

    def signal_unsubscribe(self, subscription):
        """Nothing more is sent."""

    def get_cached_property_names(self):
        return ["Progress"]

    def Install(self, signature, path):  # noqa: N802, the method's name on D-Bus
        with open(path, "rb") as bundle:
            self.installed = bundle.read()
        for percent in (0, 50, 100):
            progress = {"Progress": (percent, f"Installing {percent}", 1)}
            self.on_event(None, "", "/", PROPERTIES, "PropertiesChanged", (INSTALLER, progress))
        self.on_event(None, "", "/", INSTALLER, "Completed", (self.result,))


@pytest.fixture
def rauc_client(monkeypatch):
    """The client's module, over GLib's D-Bus names that lead to ``Rauc``."""
    repository = types.ModuleType("gi.repository")
    repository.GLib = types.SimpleNamespace(Error=type("Error", (Exception,), {}))
    repository.Gio = types.SimpleNamespace(BusType=types.SimpleNamespace(SYSTEM=1), DBusProxy=types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "gi", types.ModuleType("gi"))
    monkeypatch.setitem(sys.modules, "gi.repository", repository)
    from rauc_hawkbit import rauc_dbus_ddi_client  # noqa: PLC0415, it imports GLib

    def client(rauc, *args, **kwargs):
        repository.Gio.bus_get_sync = lambda *_: rauc
        repository.Gio.DBusProxy.new_sync = lambda *_: rauc
        return rauc_dbus_ddi_client.RaucDBUSDDIClient(*args, **kwargs)

    yield client
    for name in [name for name in sys.modules if name.startswith("rauc_hawkbit")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("rauc") / "data") as server:
        yield server


@pytest.fixture
def rest(server):
    with httpx.Client(
        base_url=server.url, auth=server.auth, verify=ssl.create_default_context(cafile=server.ca_file)
    ) as rest:
        yield rest


async def _run(server, make, rauc, device, path):
    context = ssl.create_default_context(cafile=server.ca_file)
    done = asyncio.get_running_loop().create_future()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        client = make(
            rauc, session, server.url.removeprefix("https://"), True, "DEFAULT", device["sid"], device["device_token"],
            {"board": "imx8", "serial": "0042"}, str(path), done.set_result,
        )  # fmt: skip
        polling = asyncio.create_task(client.start_polling())
        try:
            return await asyncio.wait_for(done, 30)
        finally:
            polling.cancel()
            client.cleanup_dbus()
            with contextlib.suppress(asyncio.CancelledError):
                await polling


@pytest.mark.parametrize(("result", "state"), [(0, "succeeded"), (1, "failed")])
async def test_rauc_hawkbit_installs_and_says_how_it_ended(server, rest, rauc_client, tmp_path, result, state):
    assert importlib.metadata.version("rauc-hawkbit") == "0.2.0"
    app = rest.post("/v1/Apps", files={"File": ("a.zip", simple_bundle(FIRMWARE))}).json()
    device = rest.post("/v1/Devices").json()
    path = f"/v1/Devices/{device['sid']}"
    assert rest.post(path, data={"TargetApp": app["sid"], "PollInterval": "1"}).status_code == 200
    rauc = Rauc(result)
    assert await _run(server, rauc_client, rauc, device, tmp_path / "bundle") == result
    assert rauc.installed == FIRMWARE
    found = rest.get(path).json()
    assert found["update"]["state"] == state
    assert found["app"]["reported_sid"] == (app["sid"] if result == 0 else None)
    assert rest.get(f"{path}/Attributes").json()["attributes"] == {"board": "imx8", "serial": "0042"}
    lines = [entry["line"] for entry in rest.get(f"{path}/Updates/{found['update']['number']}").json()["log"]]
    assert [f"Installing {percent}" for percent in (0, 50, 100)] == [line for line in lines if line.startswith("Inst")]
