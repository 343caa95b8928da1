"""More connections than descriptors: everybody is served all the same, and nothing stays broken afterwards."""

import asyncio
import contextlib
import socket
import ssl
import time
import urllib.request

import pytest
from tests.server import address, ask, connect, context, healthz, running

pytestmark = pytest.mark.service

DESCRIPTORS = 400


@pytest.fixture
def serving(tmp_path):
    """Give the function that runs a server with a limit of open files and with limits, with metrics."""

    @contextlib.contextmanager
    def run(descriptors=DESCRIPTORS, **limits):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = {f"FLEETVISOR_LIMIT_{name.upper()}": str(value) for name, value in limits.items()}
        with running(tmp_path / "data", "--metrics-port", str(port), env=env, descriptors=descriptors) as made:
            made.metrics_port = port
            yield made

    return run


def metric(server, name):
    text = urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=20).read().decode()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"fleetvisor_{name} "))


async def serve_one(server, tls, wait_s):
    """Poll as a device does that tries again until it is answered; give how often it had to connect."""
    host, port = address(server)
    for tries in range(1, 50):
        writer = None
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(host, port, ssl=tls, server_hostname="localhost"), 30
            )
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            line = await asyncio.wait_for(reader.readline(), 30)
            if line.startswith(b"HTTP/1.1 200"):
                await asyncio.sleep(wait_s)  # a device keeps its connection as long as it may
                return tries
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.5)
        finally:
            if writer is not None:
                writer.transport.abort()
    raise AssertionError("never served")


async def test_600_devices_at_400_descriptors_are_all_served_within_a_minute(serving):
    with serving() as server:
        tls = context(server)
        async with asyncio.timeout(60):
            await asyncio.gather(*(serve_one(server, tls, 2) for _ in range(600)))
        assert await asyncio.to_thread(healthz, server) == 200
        assert "descriptors.few" in server.log.read_text()


def silent(server, count):
    """Connections that never begin their handshake."""
    made = []
    for _ in range(count):
        one = socket.socket()
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            one.connect(address(server))
        made.append(one)
    return made


def served_within(server, most_s):
    started = time.monotonic()
    while time.monotonic() - started < most_s:
        with contextlib.suppress(OSError, ssl.SSLError):
            if healthz(server, timeout=most_s) == 200:
                return time.monotonic() - started
    return None


def test_a_flood_of_half_open_handshakes_ends_and_the_server_goes_on(serving):
    """Without a share for each address, so that only the time limit of handshakes ends them."""
    with serving(connections_per_address_max=0) as server:
        flood = silent(server, 450)
        try:
            deadline = time.monotonic() + 30
            while not metric(server, "descriptors_exhausted_total") + metric(server, "doors_shut_total"):
                assert time.monotonic() < deadline
                flood += silent(server, 50)  # the kernel's queue is short: some of the first ones wait for a second
                time.sleep(0.1)
            assert served_within(server, 45) is not None, server.log.read_text()[-2000:]
        finally:
            for one in flood:
                one.close()
        deadline = time.monotonic() + 30
        while metric(server, "descriptors") > DESCRIPTORS / 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert served_within(server, 15) is not None
        assert "doors.shut" in server.log.read_text()


def test_one_address_that_takes_all_places_leaves_some_to_others(serving):
    with serving(connections_max=40) as server:
        kept = [connect(server) for _ in range(40)]
        plain = socket.create_connection(address(server), timeout=20, source_address=("127.0.0.2", 0))
        with context(server).wrap_socket(plain, server_hostname="localhost") as tls:
            assert ask(tls).startswith(b"HTTP/1.1 200")
        assert 0 < metric(server, "connections_shed_total") <= 31
        for one in kept:
            one.close()


def test_a_trusted_proxy_may_hold_all_places(tmp_path):
    with running(
        tmp_path / "proxied", "--trusted-proxy", "127.0.0.1", env={"FLEETVISOR_LIMIT_CONNECTIONS_MAX": "40"}
    ) as server:
        kept = [connect(server) for _ in range(40)]
        time.sleep(2.5)
        assert all(ask(one).startswith(b"HTTP/1.1 200") for one in kept)
        for one in kept:
            one.close()
