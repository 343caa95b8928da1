"""Debian's unmodified swupdate as a device, against a real server: each case ends right on both sides."""

import contextlib
import shutil
import ssl

import httpx
import pytest
from tests import images
from tests.clients.swupdate import INSTALLED, Device, Signer, wait_for
from tests.relay import Relay
from tests.server import running

pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(
        shutil.which("swupdate") is None, reason="swupdate is not installed (make test gets it as root)"
    ),
]

FIRMWARE = b"firmware of a board " * 1000
LARGE = bytes(range(256)) * (24 << 10)  # 6 MiB


class Fleet:
    """The server, its REST API, and devices made for one test."""

    def __init__(self, server, rest, folder, relay):
        self.server, self.rest, self.folder, self.relay = server, rest, folder, relay
        self.signer = Signer(folder)
        self.devices = []

    def device(self, name=None, token=None):
        name = name or f"board-{len(self.devices)}"
        made = self.post("/v1/Devices", UniqueName=name, status=201)
        self.post(f"/v1/Devices/{name}", PollInterval=1)
        token = token or made["device_token"]
        device = Device(self.folder / name, self.server, self.signer, name, target_token=token)
        self.devices.append(device)
        return device

    def newcomer(self, name):
        """A device that has the account's gateway token only, and that the server does not know."""
        token = self.post("/v1/GatewayToken", 201)["gateway_token"]
        device = Device(self.folder / name, self.server, self.signer, name, gateway_token=token)
        self.devices.append(device)
        return device

    def post(self, path, status=200, **form):
        reply = self.rest.post(path, data=form)
        assert reply.status_code == status, reply.text
        return reply.json()

    def app(self, content=FIRMWARE, *, scripts=()):
        """An image that writes ``content`` to ``installed`` in the device's folder."""
        files = [("firmware.bin", content, "installed")]
        image = images.swu(files, scripts=scripts, sign=self.signer, version=f"{len(content)}")
        reply = self.rest.post("/v1/Apps", files={"File": ("x.swu", image)})
        assert reply.status_code == 201, reply.text
        return reply.json()

    def target(self, device, app, **form):
        return self.post(f"/v1/Devices/{device.name}", TargetApp=app["sid"], **form)

    def shown(self, device):
        return self.rest.get(f"/v1/Devices/{device.name}").json()

    def log(self, device):
        number = self.updates(device)[-1]["number"]
        entries = self.rest.get(f"/v1/Devices/{device.name}/Updates/{number}").json()["log"]
        return [entry["line"] for entry in entries]

    def updates(self, device):
        """Return the device's updates, newest first."""
        return self.rest.get(f"/v1/Devices/{device.name}/Updates").json()["updates"]

    def await_state(self, device, *states):
        wait_for(lambda: (self.shown(device)["update"] or {}).get("state") in states)
        return self.shown(device)


@pytest.fixture(scope="module")
def relay():
    made = Relay()
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory, relay):
    public = f"https://127.0.0.1:{relay.port}"
    with running(tmp_path_factory.mktemp("swupdate") / "data", "--public-url", public) as server:
        relay.target = int(server.credentials["local_url"].rpartition(":")[2])
        yield server


@pytest.fixture
def fleet(server, relay, tmp_path):
    context = ssl.create_default_context(cafile=server.ca_file)
    relay.cut_after = relay.bytes_per_s = None
    with httpx.Client(base_url=server.credentials["local_url"], auth=server.auth, verify=context) as rest:
        made = Fleet(server, rest, tmp_path, relay)
        yield made
        for device in made.devices:
            device.stop()
            rest.delete(f"/v1/Devices/{device.name}")


def installed(device):
    with contextlib.suppress(FileNotFoundError):
        return (device.folder / "installed").read_bytes()
    return None


@pytest.mark.parametrize("mode", ["forced", "attempt"])
def test_an_update_is_installed_tested_and_counted(fleet, mode):
    device, app = fleet.device(), fleet.app()
    fleet.target(device, app, UpdateMode=mode)
    device.start()
    device.await_log(INSTALLED)
    assert installed(device) == FIRMWARE
    assert fleet.shown(device)["update"]["state"] == "downloading"
    assert device.stop() == 0
    device.start(confirm="success")
    shown = fleet.await_state(device, "succeeded")
    assert (shown["app"]["reported_sid"], shown["app"]["update_status"]) == (app["sid"], "up-to-date")
    assert fleet.rest.get(f"/v1/Devices/{device.name}/Attributes").json()["attributes"]["serialNo"] == device.name[-6:]
    assert fleet.log(device)  # which of its lines it sends with which feedback is a race of its own
    device.await_log("No pending action on server")
    assert device.stop() == 0


def test_a_skipped_update_is_canceled_and_not_offered_again(fleet):
    device, app = fleet.device(), fleet.app()
    fleet.target(device, app, UpdateMode="skip")
    device.start()
    shown = fleet.await_state(device, "canceled")
    assert shown["app"]["reported_sid"] is None
    device.await_log("No pending action on server")
    assert device.stop() == 0
    assert installed(device) is None
    assert len(fleet.updates(device)) == 1


def test_an_install_script_that_fails_fails_the_update(fleet):
    device = fleet.device()
    app = fleet.app(scripts=[("check.sh", b"#!/bin/sh\necho no room here\nexit 1\n", "preinstall")])
    fleet.target(device, app)
    device.start()
    shown = fleet.await_state(device, "failed")
    assert (shown["app"]["update_status"], shown["app"]["update_error_code"]) == ("error", 6)
    wait_for(lambda: "no room here" in device.log)
    # Which of its own last lines swupdate gathers for its last word is a race within it; that it tells some is not.
    told = fleet.log(device)
    assert told[0] == "Installing Update Chunk Artifacts."
    assert len(told) > 3
    assert shown["app"]["reported_sid"] is None
    assert device.stop() == 0
    assert installed(device) is None


def test_a_rollback_fails_the_update(fleet):
    device, app = fleet.device(), fleet.app()
    fleet.target(device, app)
    device.start()
    device.await_log(INSTALLED)
    device.stop()
    device.start(confirm="failure")
    shown = fleet.await_state(device, "failed")
    assert (shown["app"]["reported_sid"], shown["app"]["update_status"]) == (None, "error")
    assert device.stop() == 0


def test_a_dropped_connection_is_resumed_where_it_broke(fleet):
    device, app = fleet.device(), fleet.app(LARGE)
    fleet.target(device, app)
    fleet.relay.answered_bytes = 0
    cuts = fleet.relay.cuts
    fleet.relay.cut_after = 4 << 20
    device.start()
    device.await_log(INSTALLED)
    assert installed(device) == LARGE
    assert fleet.relay.cuts == cuts + 1
    assert len(LARGE) < fleet.relay.answered_bytes < len(LARGE) * 1.3
    device.stop()
    device.start(confirm="success")
    assert fleet.await_state(device, "succeeded")["app"]["reported_sid"] == app["sid"]


def test_a_cancel_before_the_download_leaves_the_device_as_it_was(fleet):
    device, app = fleet.device(), fleet.app()
    device.start()
    device.await_log("No pending action on server")
    device.stop()
    fleet.target(device, app)
    assert fleet.post(f"/v1/Devices/{device.name}", CancelUpdate="true")["update"]["cancel_requested"]
    device.start()
    shown = fleet.await_state(device, "canceled")
    assert (shown["app"]["target_sid"], shown["app"]["update_status"]) == (None, "up-to-date")
    assert device.stop() == 0
    assert installed(device) is None


def test_a_cancel_during_the_download_stops_it(fleet):
    device, app = fleet.device(), fleet.app(LARGE)
    fleet.target(device, app)
    fleet.relay.bytes_per_s = 300_000
    device.start()
    device.await_log("Total download size")
    wait_for(lambda: fleet.relay.answered_bytes > 200_000)
    assert fleet.post(f"/v1/Devices/{device.name}", CancelUpdate="true")["update"]["cancel_requested"]
    shown = fleet.await_state(device, "canceled")
    assert shown["app"]["target_sid"] is None
    fleet.relay.bytes_per_s = None
    device.stop()
    assert installed(device) != LARGE


def test_a_wrong_token_gets_nothing(fleet):
    device = fleet.device(token="fvd_" + "0" * 43)  # noqa: S106
    fleet.target(device, fleet.app())
    device.start()
    device.await_log("401")
    wait_for(lambda: device.log.count("Suricatta awakened") > 2)
    shown = fleet.shown(device)
    assert (shown["update"]["state"], shown["date_last_seen"]) == ("pending", None)
    assert fleet.rest.get(f"/v1/Devices/{device.name}/Attributes").json()["attributes"] == {}
    assert device.stop() == 0
    assert installed(device) is None


def test_the_same_action_may_be_run_twice(fleet):
    """Power may go between the install and the reboot: then nothing of the first time is known any more."""
    device, app = fleet.device(), fleet.app()
    fleet.target(device, app)
    for _ in range(2):
        device.start()
        device.await_log(INSTALLED)
        device.stop()
        (device.folder / "installed").unlink()
    device.start(confirm="success")
    shown = fleet.await_state(device, "succeeded")
    assert len(fleet.updates(device)) == 1
    assert shown["app"]["reported_sid"] == app["sid"]


def test_eight_devices_in_three_rounds_are_counted_exactly_once(fleet):
    devices = [fleet.device() for _ in range(8)]
    script = b'#!/bin/sh\n[ "$1" = postinst ] && echo installed >> "$PWD/rounds"\nexit 0\n'
    for device in devices:
        device.start()
    numbers = {device.name: [] for device in devices}
    for number in range(1, 4):
        content = FIRMWARE + b"%d" % number
        app = fleet.app(content, scripts=[("count.sh", script, "shellscript")])
        for device in devices:
            fleet.target(device, app)
        for device in devices:
            device.await_log(INSTALLED)
            assert installed(device) == content
            device.stop()
            device.start(confirm="success")
        for device in devices:
            shown = fleet.await_state(device, "succeeded")
            assert shown["app"]["reported_sid"] == app["sid"]
            numbers[device.name].append(shown["update"]["number"])
    for device in devices:
        updates = fleet.rest.get(f"/v1/Devices/{device.name}/Updates").json()["updates"]
        assert [update["number"] for update in updates] == numbers[device.name][::-1]
        assert {update["state"] for update in updates} == {"succeeded"}
        assert device.stop() == 0
    assert [len((device.folder / "rounds").read_text().splitlines()) for device in devices] == [3] * 8


def test_a_device_registers_itself_waits_and_is_updated_once_accepted(fleet):
    device, app = fleet.newcomer("newcomer"), fleet.app()
    device.start()
    wait_for(lambda: fleet.rest.get("/v1/GatewayToken").json()["waiting"] == 1)
    assert fleet.shown(device)["access"] == "waiting"
    fleet.target(device, app, PollInterval=1)
    device.await_log("No pending action on server")
    assert installed(device) is None
    fleet.post(f"/v1/Devices/{device.name}", Access="active")
    # a waiting device is told the server's interval: start anew, as a person who waits would
    device.stop()
    device.start()
    device.await_log(INSTALLED)
    assert installed(device) == FIRMWARE
    assert device.stop() == 0
    device.start(confirm="success")
    assert fleet.await_state(device, "succeeded")["app"]["reported_sid"] == app["sid"]
    assert device.stop() == 0
    fleet.post(f"/v1/Devices/{device.name}/Credentials", 201)  # from now on it has one of its own
    device.start()
    wait_for(lambda: "401" in device.log or "authent" in device.log.lower())
    device.stop()
