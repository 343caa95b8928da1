"""The listening side by itself: one certificate taking the place of another, and connections that never ask."""

import asyncio
import contextlib
import ssl
import time

import pytest

from fleetvisor.pki.ca import make_authority
from fleetvisor.pki.serving import issue
from fleetvisor.reality import RealClock
from fleetvisor.server import listener
from fleetvisor.server.files import Occupied, StartFault
from fleetvisor.server.listener import Doors

pytestmark = pytest.mark.service


class App:
    """Answers at once, or under /hold when it is released."""

    def __init__(self):
        self.release = asyncio.Event()
        self.held = 0

    async def __call__(self, scope, receive, send):
        if scope["path"] == "/hold":
            self.held += 1
            await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def authority():
    return make_authority(RealClock().now())


@pytest.fixture
def certificate(authority, tmp_path):
    """Give the function that makes the file of a certificate of its own, with its key."""

    def make(name):
        made = issue(authority, ("localhost", name), RealClock().now())
        path = tmp_path / f"{name}.key"
        path.write_bytes(made.pem + made.key_pem)
        return path

    return make


class Client:
    """Connections to one port."""

    def __init__(self, authority, port):
        self.port = port
        self.trusting = ssl.create_default_context(cadata=authority.pem.decode())
        self.writers = []

    async def connect(self):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trusting, server_hostname="localhost"
        )
        self.writers.append(writer)
        names = [value for _, value in writer.get_extra_info("peercert")["subjectAltName"]]
        return reader, writer, names[1]

    async def ask(self, path="/"):
        reader, writer, name = await self.connect()
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        return reader, name

    async def close(self):
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):  # the server may have closed it first
                await writer.wait_closed()


@pytest.fixture
async def doors():
    made = Doors(address="127.0.0.1", connections_max=100, backlog=64, header_bytes_max=16_384)
    yield made
    await made.close(10)


async def test_a_new_certificate_takes_over_while_polls_are_held(authority, certificate, doors):
    """Who waits behind the old one is answered; who comes in the very moment may have to come twice."""
    app, port = App(), doors.take(0)
    first, second = certificate("first"), certificate("second")
    await doors.open(app, first, first)
    client = Client(authority, port)
    held = [await client.ask("/hold") for _ in range(5)]
    while app.held < 5:
        await asyncio.sleep(0.01)
    assert {name for _, name in held} == {"first"}

    await doors.open(app, second, second)
    seen = []
    failures = 0
    while len(seen) < 30:
        try:
            reader, name = await client.ask()
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            seen.append(name)
        except (ConnectionError, AssertionError):
            failures += 1
            assert failures < 3
    assert set(seen[5:]) == {"second"}

    app.release.set()
    for reader, _ in held:
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200")
    await client.close()
    assert not doors.broken.is_set()


async def test_a_connection_that_never_sends_a_request_is_closed(authority, certificate, doors, monkeypatch):
    monkeypatch.setattr(listener, "KEEP_ALIVE_S", 1)  # the time is a constant for users; the test does not wait for it
    port, file = doors.take(0), certificate("only")
    await doors.open(App(), file, file)
    client = Client(authority, port)
    silent, _, _ = await client.connect()
    half, writer, _ = await client.connect()
    writer.write(b"GET / HT")
    used, _ = await client.ask()
    assert (await used.readuntil(b"ok")).endswith(b"ok")
    started = time.monotonic()
    for reader in (silent, half, used):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    assert 0.5 < time.monotonic() - started < 4
    await client.close()


def test_a_device_that_polls_every_minute_keeps_its_connection():
    assert listener.KEEP_ALIVE_S > 60 + 5


async def test_a_port_that_is_taken_is_refused_and_a_free_one_is_found(certificate, doors):
    port, file = doors.take(0), certificate("only")
    await doors.open(App(), file, file)
    other = Doors(address="127.0.0.1", connections_max=100, backlog=64, header_bytes_max=16_384)
    with pytest.raises(Occupied, match="in use"):
        other.take(port)
    assert other.take(0) != port
    assert await other.close(1)


async def test_a_certificate_that_cannot_be_served_is_refused_and_the_old_one_stays(authority, certificate, doors):
    port, good = doors.take(0), certificate("good")
    await doors.open(App(), good, good)
    bad = good.with_name("bad.key")
    bad.write_bytes(b"nonsense")
    with pytest.raises(StartFault, match="cannot be served"):
        await doors.open(App(), bad, bad)
    client = Client(authority, port)
    reader, name = await client.ask()
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert name == "good"
    await client.close()


async def test_answers_under_way_end_before_the_doors_are_closed(authority, certificate, doors):
    app, port, file = App(), doors.take(0), certificate("only")
    await doors.open(app, file, file)
    client = Client(authority, port)
    reader, _ = await client.ask("/hold")
    while not app.held:
        await asyncio.sleep(0.01)
    assert not await doors.close(0.3)
    app.release.set()
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200")
    with pytest.raises(ConnectionError):
        await client.connect()
    await client.close()
