"""Large files through a real server: its memory does not grow with the file, up or down, however slow the reader."""

import contextlib
import hashlib
import http.client
import ssl
import threading
from pathlib import Path

import httpx
import pytest
from tests.server import running

pytestmark = pytest.mark.service

MIB = 1 << 20
SIZE = 300 * MIB  # more than the memory for layers, and than the server may grow by
GROWTH = 120 * MIB
BOUNDARY = "----bound"


def resident_bytes(process):
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not tell VmHWM")


def pieces():
    """The file: 300 MiB, no two of its blocks alike."""
    for number in range(SIZE // MIB):
        yield number.to_bytes(4, "big") * (MIB // 4)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("large") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def rest(server):
    context = ssl.create_default_context(cafile=server.ca_file)
    with httpx.Client(base_url=server.url, auth=server.auth, verify=context, timeout=300) as rest:
        yield rest


@pytest.fixture(scope="module")
def before(server, rest):
    """What the server needs at most for small things, before anything large."""
    for _ in range(20):
        rest.get("/v1/Apps")
    return resident_bytes(server.process)


@pytest.fixture(scope="module")
def app(rest, before):
    def body():
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="Kind"\r\n\r\nraw\r\n'.encode()
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="File"; filename="x"\r\n\r\n'.encode()
        yield from pieces()
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    reply = rest.post("/v1/Apps", content=body(), headers=headers)
    assert reply.status_code == 201, reply.text
    return reply.json()


def test_a_large_file_is_uploaded_with_constant_memory(server, before, app):
    whole = hashlib.sha256()
    for piece in pieces():
        whole.update(piece)
    assert (app["hash"], app["size_bytes"]) == (f"sha256:{whole.hexdigest()}", SIZE)
    assert resident_bytes(server.process) - before < GROWTH


def test_slow_readers_cost_constant_memory_and_get_every_byte(server, rest, before, app):
    device = rest.post("/v1/Devices", data={"HardwareClass": ""}).json()
    path = f"/device/v1/layers/{app['hash'].removeprefix('sha256:')}"
    headers = {"authorization": f"Bearer {device['device_token']}"}
    context = ssl.create_default_context(cafile=server.ca_file)
    host = server.url.removeprefix("https://")
    with contextlib.ExitStack() as opened:
        readers = []
        for _ in range(8):
            connection = opened.enter_context(contextlib.closing(http.client.HTTPSConnection(host, context=context)))
            connection.request("GET", path, headers=headers)
            readers.append(connection.getresponse())
        for reader in readers:  # a little each, and then nothing for a while: what is under way lies in buffers
            assert reader.status == 200
            assert reader.read(1000) == bytes(1000)
        threading.Event().wait(2)
        assert rest.get("/healthz").status_code == 200
        assert resident_bytes(server.process) - before < GROWTH
        found = hashlib.sha256(bytes(1000))
        while piece := readers[0].read(MIB):
            found.update(piece)
        assert f"sha256:{found.hexdigest()}" == app["hash"]
    assert resident_bytes(server.process) - before < GROWTH
