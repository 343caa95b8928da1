"""Devices that do not read what they ask for: what they cost, and for how long. Over real sockets."""

import hashlib
import re
import time

import httpx
import pytest
from tests.server import connect, context, running

from fleetvisor.channel.layers import CHUNK_BYTES
from fleetvisor.channel.pace import UNDER_WAY_BYTES

pytestmark = [pytest.mark.service, pytest.mark.slow]

DATA = bytes(range(256)) * (16 << 12)  # 16 MiB: more than the kernels on the way take
READERS = 20
ENV = {
    "FLEETVISOR_LIMIT_DOWNLOAD_BYTES_MIN": str(CHUNK_BYTES),
    "FLEETVISOR_LIMIT_DOWNLOAD_WINDOW_S": "5",
    "FLEETVISOR_LIMIT_DOWNLOADS_BYTES_MAX": str(READERS * UNDER_WAY_BYTES),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("readers") / "data", env=ENV) as found:
        yield found


@pytest.fixture(scope="module")
def layer(server):
    """The path of a large layer, and the headers of a device that may have it."""
    secure = {"auth": server.auth, "verify": context(server), "timeout": 30}
    form = {"Kind": "raw", "Version": "1", "HardwareClass": "x"}
    uploaded = httpx.post(f"{server.url}/v1/Apps", data=form, files={"File": ("a.bin", DATA)}, **secure)
    assert uploaded.status_code == 201
    made = httpx.post(f"{server.url}/v1/Devices", data={"Sid": "UV" + "1" * 32}, **secure).json()
    headers = {"authorization": f"Bearer {made['device_token']}"}
    return f"/device/v1/layers/{hashlib.sha256(DATA).hexdigest()}", headers


def fetch(server, layer, **more):
    path, headers = layer
    return httpx.get(server.url + path, headers={**headers, **more}, verify=context(server), timeout=30)


def resident(server):
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) << 10


def test_readers_that_do_not_read_are_bounded_in_sum_and_sent_away_in_time(server, layer):
    path, headers = layer
    assert fetch(server, layer).content == DATA
    before = resident(server)
    silent = [connect(server) for _ in range(READERS)]
    try:
        for connection in silent:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {headers['authorization']}\r\n\r\n".encode()
            )
        assert all(connection.recv(12) == b"HTTP/1.1 200" for connection in silent)
        refused = fetch(server, layer)
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, 20503, "10")
        assert resident(server) - before < 2 * READERS * UNDER_WAY_BYTES
        part = fetch(server, layer, range="bytes=0-99")
        assert part.content == DATA[:100], "what is small needs no place"
        end = time.monotonic() + 30
        while server.log.read_text().count("download.abandoned") < READERS and time.monotonic() < end:
            time.sleep(0.2)
        assert server.log.read_text().count("download.abandoned") == READERS
    finally:
        for connection in silent:
            connection.close()
    rest = fetch(server, layer, range="bytes=1000000-")
    assert (rest.status_code, rest.content) == (206, DATA[1_000_000:]), "it goes on by Range"
    assert "request.broken" not in server.log.read_text()
