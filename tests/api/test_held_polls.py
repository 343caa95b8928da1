"""Held polls on a real server, over TLS: clients that vanish, a shutdown, and what the wire shows."""

import re
import resource
import signal
import socket
import ssl
import struct
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
from tests.server import launch, running

pytestmark = [pytest.mark.service, pytest.mark.slow]

CLIENTS = 1000
MANY = {"FLEETVISOR_LIMIT_HELD_POLLS_PER_DEVICE_MAX": "1000"}  # few devices stand for a fleet here


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Fleet:
    """Devices of a running server, and raw TLS sockets for each of them."""

    def __init__(self, server, metrics_port=None):
        self.server = server
        self.metrics = f"http://127.0.0.1:{metrics_port}/metrics"
        local = urlsplit(server.credentials["local_url"])
        self.address = (local.hostname, local.port)
        self.context = ssl.create_default_context(cafile=server.ca_file)
        self.http = httpx.Client(base_url=server.url, verify=self.context, auth=server.auth, timeout=30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.close()

    def register(self):
        """Register a device; give its SID and token."""
        made = self.http.post("/v1/Devices")
        assert made.status_code == 201, made.text
        return made.json()["sid"], made.json()["device_token"]

    def desired(self, token, **headers):
        authorization = {"authorization": f"Bearer {token}"}
        return self.http.get("/device/v1/desired", headers={**headers, **authorization}, auth=None)

    def connect(self):
        plain = socket.create_connection(self.address, timeout=30)
        return self.context.wrap_socket(plain, server_hostname="localhost")

    def hold(self, token, etag, wait_s=60):
        """Send a poll that the server holds; give its socket."""
        connection = self.connect()
        connection.sendall(
            f"GET /device/v1/desired HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n"
            f"if-none-match: {etag}\r\nprefer: wait={wait_s}\r\n\r\n".encode()
        )
        return connection

    def held(self):
        text = urllib.request.urlopen(self.metrics, timeout=10).read().decode()
        return int(float(re.search(r"^\S*held_polls (\S+)$", text, re.MULTILINE)[1]))

    def wait_for_held(self, count, seconds=20):
        end = time.monotonic() + seconds
        while self.held() != count:
            assert time.monotonic() < end, f"{self.held()} polls are held, not {count}"
            time.sleep(0.05)


@pytest.fixture
def many_files():
    """Let this process have a socket for every client."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CLIENTS + 200:
        pytest.skip(f"only {hard} descriptors are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CLIENTS + 200), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def abort(connection):
    """Reset the connection: no goodbye of TLS or TCP."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_thousand_clients_that_vanish_while_held_leave_no_waiter(tmp_path, many_files):
    port = free_port()
    with running(tmp_path / "data", "--metrics-port", str(port), env=MANY) as server, Fleet(server, port) as fleet:
        devices = [fleet.register() for _ in range(10)]
        tags = {token: fleet.desired(token).headers["etag"] for _, token in devices}
        with ThreadPoolExecutor(8) as threads:
            tokens = [devices[n % 10][1] for n in range(CLIENTS)]
            held = list(threads.map(lambda token: fleet.hold(token, tags[token], 300), tokens))
        fleet.wait_for_held(CLIENTS)
        for number, connection in enumerate(held):
            if number % 2:
                abort(connection)
            else:
                connection.close()
        fleet.wait_for_held(0)
        assert fleet.desired(devices[0][1]).status_code == 200


def test_a_shutdown_answers_a_hundred_held_polls_and_is_over_in_two_seconds(tmp_path):
    server = launch(tmp_path / "data", env=MANY)
    with Fleet(server) as fleet:
        _, token = fleet.register()
        etag = fleet.desired(token).headers["etag"]
    held = [fleet.hold(token, etag) for _ in range(100)]
    time.sleep(0.5)
    started = time.monotonic()
    assert server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - started < 2
    pauses = set()
    for connection in held:
        answer = connection.recv(4096).decode()
        assert answer.startswith("HTTP/1.1 304 ")
        pauses.add(int(re.search(r"retry-after: (\d+)", answer)[1]))
        connection.close()
    assert len(pauses) > 1
    assert pauses <= set(range(1, 11))


def test_a_change_reaches_a_held_poll_and_each_answer_has_one_date(tmp_path):
    with running(tmp_path / "data") as server, Fleet(server) as fleet:
        sid, token = fleet.register()
        etag = fleet.desired(token).headers["etag"]
        connection = fleet.hold(token, etag)
        time.sleep(0.2)
        started = time.monotonic()
        assert fleet.http.post(f"/v1/Devices/{sid}", data={"RestartApp": "true"}).status_code == 200
        answer = connection.recv(4096).decode()
        assert time.monotonic() - started < 1
        assert answer.startswith("HTTP/1.1 200 ")
        assert "preference-applied: wait=60\r\n" in answer
        assert '"restart":1' in answer
        connection.close()
        for path, status in (("desired", 200), ("nothing", 404), ("openapi.json", 200), ("layers/" + "0" * 64, 404)):
            authorization = {"authorization": f"Bearer {token}"}
            got = fleet.http.get(f"/device/v1/{path}", headers=authorization, auth=None)
            assert got.status_code == status
            assert len(got.headers.get_list("date")) == 1
        head = fleet.http.head("/device/v1/desired", headers={"authorization": f"Bearer {token}"}, auth=None)
        assert int(head.headers["content-length"]) > 50
        unchanged = fleet.desired(token, **{"if-none-match": head.headers["etag"]})
        assert unchanged.status_code == 304
        assert len(unchanged.headers.get_list("date")) == 1
