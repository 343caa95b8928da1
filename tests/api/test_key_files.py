"""What a careless start leaves open is said by ``serve`` and by ``doctor``; a real server that listens on both families."""

import base64
import json
import os
import socket
import subprocess
import sys
import time

import pytest
from tests.server import address, context, running

from fleetvisor.cli.doctor import directory_checks
from fleetvisor.pki.ca import make_authority
from fleetvisor.pki.serving import issue
from fleetvisor.reality import RealClock

pytestmark = [pytest.mark.service, pytest.mark.slow]

PUBLIC = "fleet.example.com"
CLOSE = b"\r\nhost: localhost\r\nconnection: close\r\n\r\n"
FORM = b"\r\ncontent-type: application/x-www-form-urlencoded"
ANSWERS = {
    b"GET /healthz HTTP/1.1": 200,
    b"HEAD /healthz HTTP/1.1": 200,
    b"GET /nothing HTTP/1.1": 404,
    b"BREW /healthz HTTP/1.1": 405,
    b"OPTIONS * HTTP/1.1": 404,
    b"CONNECT a:443 HTTP/1.1": 404,
    b"GET /%zz%00 HTTP/1.1": 400,
    b"GET /docs HTTP/1.1": 200,
    b"GET /openapi.json HTTP/1.1": 200,
    b"GET /v1/Devices HTTP/1.1": 401,
    b"GET /v1/Devices/nobody HTTP/1.1": 401,
    b"POST /v1/Devices HTTP/1.1" + FORM + b"\r\ntransfer-encoding: chunked": 401,
    b"GET /DEFAULT/controller/v1/x HTTP/1.1": 401,
    b"GET /device/v1/desired HTTP/1.1": 401,
    b"GET /device/v1/nothing HTTP/1.1": 404,
}


@pytest.fixture(scope="module")
def careless(tmp_path_factory):
    """A server whose given keys everybody may read, and whose certificate lacks the public name."""
    folder = tmp_path_factory.mktemp("careless")
    authority = make_authority(RealClock().now())
    made = issue(authority, ("localhost", "127.0.0.1", "other.example.com"), RealClock().now())
    for name, content in {
        "ca.pem": authority.pem,
        "c.pem": made.pem,
        "c.key": made.key_pem,
        "s.key": bytes(32),
    }.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o644)
    options = ["--host", "::", "--hsts-s", "3600", "--trusted-proxy", "127.0.0.1", "--public-url", f"https://{PUBLIC}"]
    options += ["--tls-cert", folder / "c.pem", "--tls-key", folder / "c.key", "--seal-key-file", folder / "s.key"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))  # the credentials of such a server name no CA
        with running(folder / "data", *map(str, options)) as found:
            yield found


def ask(server, request, host="127.0.0.1"):
    """Send one request on a connection of its own; return its status, its headers in lower case, and its body."""
    with (
        socket.create_connection((host, address(server)[1]), timeout=20) as plain,
        context(server).wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.lower().split(b"\r\n")
    return int(status.split()[1]), dict(line.split(b": ", 1) for line in lines), body


def basic(server, password=None):
    account, token = server.auth
    return b"\r\nauthorization: Basic " + base64.b64encode(f"{account}:{password or token}".encode())


def made(server, request):
    status, _, body = ask(server, request)
    assert status in {200, 201, 202}, body
    return json.loads(body)


def doctor(server, *options):
    command = [sys.executable, "-m", "fleetvisor.cli.main", "doctor", "--data", str(server.data), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_serve_warns_of_given_keys_that_others_may_read_and_of_a_certificate_without_the_name(careless):
    told = careless.log.read_text()
    folder = careless.data.parent
    assert f"does not carry the name {PUBLIC}" in told
    for name in ("c.key", "s.key"):
        assert f"Others may read or write the key file {folder / name}. Run: chmod go= {folder / name}" in told


def test_doctor_fails_for_given_keys_that_others_may_read_and_for_a_certificate_without_the_name(careless):
    status, found = doctor(careless)
    assert status == 1
    failed = [(check["check"], check["finding"], check["advice"]) for check in found if check["verdict"] == "fail"]
    folder = careless.data.parent
    for name in ("c.key", "s.key"):
        finding = f"others may read or write the key file {folder / name}"
        assert ("given keys", finding, f"Run: chmod go= {folder / name}") in failed
    [(_, finding, advice)] = [entry for entry in failed if entry[0] == "certificate"]
    assert f"not trusted for {PUBLIC}: Hostname mismatch" in finding
    assert f"subjectAltName {PUBLIC}" in advice


def test_doctor_follows_the_files_that_were_given(careless, monkeypatch):
    keys = [careless.data.parent / name for name in ("c.key", "s.key")]

    def given():
        return [
            (check.verdict, check.finding) for check in directory_checks(careless.data) if check.check == "given keys"
        ]

    for key in keys:
        key.chmod(0o600)
    try:
        assert [verdict for verdict, _ in given()] == ["ok"]
        if os.geteuid() == 0:  # a group that root lets read
            keys[0].chmod(0o640)
            assert [verdict for verdict, _ in given()] == ["ok"]
            os.chown(keys[0], 4242, 0)
            assert [("belongs to user 4242" in text or "others may read" in text) for _, text in given()] == [
                True,
                True,
            ]
            os.chown(keys[0], 0, 0)
        keys[1].rename(keys[1].with_suffix(".away"))
        assert [verdict for verdict, _ in given()] == ["fail"]
        keys[1].with_suffix(".away").rename(keys[1])
    finally:
        for key in keys:
            key.chmod(0o644)


@pytest.mark.parametrize("line", ANSWERS, ids=lambda line: line.split(b"\r")[0].decode())
def test_every_kind_of_answer_asks_for_https_and_forbids_guessing(careless, line):
    body = b"zz\r\nnothing\r\n" if b"chunked" in line else b""
    status, headers, _ = ask(careless, line + CLOSE + body)
    assert status == ANSWERS[line]
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"strict-transport-security"] == b"max-age=3600"
    assert (headers.get(b"cache-control") == b"no-store") == (
        b"/v1/Devices" in line or b"healthz" in line and status == 200
    )


def test_so_do_downloads_and_malformed_bodies(careless):
    auth = basic(careless)
    chunked = FORM + b"\r\ntransfer-encoding: chunked"
    status, headers, _ = ask(careless, b"POST /v1/Devices HTTP/1.1" + auth + chunked + CLOSE + b"zz\r\nnothing\r\n")
    assert (status, headers[b"cache-control"]) == (400, b"no-store")
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"strict-transport-security"] == b"max-age=3600"
    parts = (b'name="Kind"\r\n\r\nraw', b'name="File"; filename="f"\r\n\r\n' + bytes(300_000))
    raw = b"".join(b"--b\r\ncontent-disposition: form-data; " + part + b"\r\n" for part in parts) + b"--b--\r\n"
    form = auth + b"\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: %d" % len(raw)
    app = made(careless, b"POST /v1/Apps HTTP/1.1" + form + CLOSE + raw)
    form = auth + FORM + b"\r\ncontent-length: 14"
    device = made(careless, b"POST /v1/Devices HTTP/1.1" + form + CLOSE + b"UniqueName=abc")
    form = auth + FORM + b"\r\ncontent-length: 44"
    made(careless, b"POST /v1/Devices/abc HTTP/1.1" + form + CLOSE + b"TargetApp=" + app["sid"].encode())
    bearer = b"\r\nauthorization: Bearer " + device["device_token"].encode()
    desired = made(careless, b"GET /device/v1/desired HTTP/1.1" + bearer + CLOSE)
    path = b"/device/v1/layers/" + desired["app"]["layers"][0]["sha256"].encode()
    status, headers, body = ask(careless, b"GET " + path + b" HTTP/1.1" + bearer + CLOSE)
    assert (status, len(body)) == (200, 300_000)
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"strict-transport-security"] == b"max-age=3600"


def test_an_ipv4_client_of_a_socket_of_both_families_has_its_own_address(careless):
    denied = b"GET /v1/Devices HTTP/1.1" + basic(careless, "wrong")
    ask(careless, denied + CLOSE)
    ask(careless, denied + b"\r\nx-forwarded-for: 192.0.2.9" + CLOSE)  # 127.0.0.1 is a trusted proxy, ::1 is none
    if socket.has_ipv6:
        ask(careless, denied + b"\r\nx-forwarded-for: 192.0.2.10" + CLOSE, host="::1")
    query = b"GET /v1/Events?Type=request.denied&PageSize=50 HTTP/1.1" + basic(careless) + CLOSE
    expected, seen = {"127.0.0.1", "192.0.2.9", *(["::1"] * socket.has_ipv6)}, set()
    ends = time.monotonic() + 20
    while not expected <= seen and time.monotonic() < ends:
        time.sleep(0.2)
        seen = {event["address"] for event in made(careless, query)["events"]}
    assert expected <= seen
    assert not {address for address in seen if "ffff" in address or address == "192.0.2.10"}
