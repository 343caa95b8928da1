"""The process that serves: real sockets, real signals, real files."""

import contextlib
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.server import address, connect, context, healthz, launch, running

from fleetvisor.pki.ca import make_authority
from fleetvisor.pki.serving import issue
from fleetvisor.reality import RealClock

pytestmark = [pytest.mark.service, pytest.mark.slow]

IDLE = 2000
BACKUP_PAGE = Path(__file__).parents[2] / "docs/how-to/back-up.md"
PROGRAM = [sys.executable, "-m", "fleetvisor.cli.main", "serve"]


def serve(*options, seconds=20, **extra):
    """Run the program to its end; for starts that are refused."""
    return subprocess.run([*PROGRAM, *map(str, options)], capture_output=True, text=True, timeout=seconds, **extra)


def tree(directory):
    return {
        str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode)
        for path in directory.rglob("*")
        if "blobs" not in path.parts
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("serving") / "data") as found:
        yield found


def test_the_first_start_makes_everything_and_only_the_owner_may_read_it(server):
    modes = tree(server.data)
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    for name, mode in modes.items():
        assert mode == (0o700 if (server.data / name).is_dir() else 0o600), name
    assert {"ca.pem", "tls/ca.key", "tls/server.key", "keys/seal-1.key", "credentials.json", "lock"} <= set(modes)
    found = server.credentials
    assert set(found) == {"base_url", "account_sid", "auth_token", "ca_file", "local_url"}
    assert found["base_url"] == found["local_url"] == f"https://127.0.0.1:{address(server)[1]}"
    assert found["ca_file"] == str(server.data / "ca.pem")
    answer = httpx.get(f"{server.url}/v1/Devices", auth=server.auth, verify=context(server))
    assert answer.json()["devices"] == []


def test_what_is_printed_tells_how_to_call_and_holds_no_secret(server):
    text = server.log.read_text()
    assert server.url in text
    assert f'eval "$(fleetvisor env --data {server.data})"' in text
    assert 'curl --cacert "$FLEETVISOR_CA_FILE" -u "$TWILIO_ACCOUNT_SID:$TWILIO_AUTH_TOKEN"' in text
    assert f'client.microvisor.base_url = "{server.url}"' in text
    assert server.credentials["auth_token"] not in text
    pem = ssl.PEM_cert_to_DER_cert((server.data / "ca.pem").read_text())
    digest = hashlib.sha256(pem).hexdigest().upper()
    assert ":".join(digest[place : place + 2] for place in range(0, 64, 2)) in text


def test_anyone_may_fetch_the_ca(server):
    answer = httpx.get(f"{server.url}/ca.pem", verify=context(server))
    assert answer.content == (server.data / "ca.pem").read_bytes()


def test_a_header_block_over_the_bound_is_refused(server):
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # it may be refused before all of it is sent
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-much: " + b"a" * 40_000 + b"\r\n\r\n")
            answer = connection.recv(1000)
            assert not answer or answer.startswith(b"HTTP/1.1 431 ")
    assert healthz(server) == 200


def test_a_second_server_on_the_directory_is_refused_and_the_first_goes_on(server):
    done = serve("--data", server.data, "--port", "0")
    assert done.returncode == 5
    assert f"process {server.process.pid}" in done.stderr
    assert "Traceback" not in done.stderr
    assert healthz(server) == 200


def test_a_port_in_use_is_refused_also_when_our_own_kind_listens_there(server, tmp_path):
    """Granian binds with SO_REUSEPORT, by which two servers would share the port without a word."""
    done = serve("--data", tmp_path / "other", "--port", address(server)[1])
    assert done.returncode == 5
    assert "in use" in done.stderr
    assert not (tmp_path / "other" / "credentials.json").exists()


def test_without_a_data_directory_there_is_no_server():
    done = serve()
    assert done.returncode == 2
    assert "--data" in done.stderr


def test_json_says_how_to_call_in_one_document(tmp_path):
    data = tmp_path / "data"
    process = subprocess.Popen(
        [*PROGRAM, "--data", str(data), "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        told = json.loads(process.stdout.readline())
        assert told["base_url"] == json.loads((data / "credentials.json").read_text())["base_url"]
        assert len(told["ca_fingerprint"].split(":")) == 32
    finally:
        process.terminate()
        rest, logs = process.communicate(timeout=20)
    assert process.returncode == 0
    assert rest == ""
    assert [json.loads(line)["event"] for line in logs.splitlines()][-2:] == ["server.ready", "server.stopped"]


def test_names_that_mislead_clients_are_warned_of(tmp_path):
    with running(tmp_path / "data", "--host", "0.0.0.0") as server:
        port = urlsplit(server.url).port
        assert (server.url, server.credentials["local_url"]) == (
            f"https://localhost:{port}",
            f"https://127.0.0.1:{port}",
        )
        assert f"--public-url https://HOST:{port}" in server.log.read_text()
    with running(tmp_path / "data", "--public-url", "https://mv.local") as server:
        assert server.url == "https://mv.local"
        assert "mv.local.mv.local" in server.log.read_text()


def test_every_url_in_an_answer_is_built_from_the_public_url(tmp_path):
    with running(tmp_path / "data", "--public-url", "https://mv.example.com:9443") as server:
        local = server.credentials["local_url"]
        answer = httpx.get(f"{local}/v1/Devices", auth=server.auth, verify=context(server))
        assert answer.json()["meta"]["first_page_url"].startswith("https://mv.example.com:9443/v1/Devices")
        with connect(server) as connection:
            assert ("DNS", "mv.example.com") in connection.getpeercert()["subjectAltName"]


def test_a_restart_keeps_account_ca_and_certificate_and_a_new_name_renews_it(tmp_path):
    data = tmp_path / "data"
    with running(data) as server:
        first = server.credentials
        pem, key = (data / "ca.pem").read_bytes(), (data / "tls/server.key").read_bytes()
    with running(data) as server:
        assert (server.credentials["account_sid"], server.credentials["auth_token"]) == (
            first["account_sid"],
            first["auth_token"],
        )
        assert ((data / "ca.pem").read_bytes(), (data / "tls/server.key").read_bytes()) == (pem, key)
    with running(data, "--public-url", "https://mv.example.com") as server:
        assert (data / "ca.pem").read_bytes() == pem
        assert (data / "tls/server.key").read_bytes() != key


def test_after_a_kill_no_process_is_left_and_the_next_start_succeeds_on_the_same_port(tmp_path):
    server = launch(tmp_path / "data")
    port = str(address(server)[1])
    held = connect(server)
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path) not in listing
    with running(tmp_path / "data", "--port", port) as server:
        assert healthz(server) == 200
    held.close()


def test_ctrl_c_ends_the_server_with_130(tmp_path):
    assert launch(tmp_path / "data").stop(signal.SIGINT) == 130


def test_a_stop_closes_idle_connections_and_leaves_the_database_whole(tmp_path):
    server = launch(tmp_path / "data")
    idle = [connect(server) for _ in range(20)]
    plain = socket.create_connection(address(server))
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 3
    for connection in (*idle, plain):
        connection.close()
    assert not (server.data / "fleetvisor.db-wal").exists()


def test_a_client_that_reads_nothing_cannot_keep_the_server_from_stopping(tmp_path):
    """Its answers are larger than what the kernel buffers, and it never takes them."""
    server = launch(tmp_path / "data")
    stuck = connect(server)
    stuck.sendall(b"GET /docs/static/swagger-ui-bundle.js HTTP/1.1\r\nhost: localhost\r\n\r\n" * 60)
    time.sleep(1)
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 13
    stuck.close()


@pytest.fixture
def many_files():
    """Let this process have a socket for every client."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 200:
        pytest.skip(f"only {hard} descriptors are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 200), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_two_thousand_idle_tls_connections_leave_healthz_answering_in_under_a_second(tmp_path, many_files):
    with running(tmp_path / "data") as server:
        made = context(server)
        idle = [connect(server, made) for _ in range(IDLE)]
        started = time.monotonic()
        assert healthz(server) == 200
        assert time.monotonic() - started < 1
        for connection in idle:
            connection.close()


def test_connections_over_the_bound_wait_until_there_is_room(tmp_path):
    """The bound is a setting; what is over it is not refused, it is accepted later."""
    bounds = {"FLEETVISOR_LIMIT_CONNECTIONS_MAX": "70", "FLEETVISOR_LIMIT_CONNECTIONS_PER_ADDRESS_MAX": "0"}
    with running(tmp_path / "data", env=bounds) as server:
        made = context(server)
        idle = [connect(server, made) for _ in range(70)]
        with pytest.raises(OSError, match="timed out"):
            healthz(server, timeout=1)
        for connection in idle:
            connection.close()
        assert healthz(server) == 200


def test_the_operators_own_certificate_is_served_and_taken_anew_at_a_restart(tmp_path):
    authority = make_authority(RealClock().now())
    cert, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "trusted.pem"
    ca.write_bytes(authority.pem)
    made = issue(authority, ("mv.example.com", "127.0.0.1"), RealClock().now())
    cert.write_bytes(made.pem)
    key.write_bytes(made.key_pem)
    data = tmp_path / "data"
    command = [*PROGRAM, "--data", str(data), "--port", "0", "--tls-cert", str(cert), "--tls-key", str(key)]
    command += ["--public-url", "https://mv.example.com", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        told = json.loads(process.stdout.readline())
        assert (told["ca_file"], told["ca_fingerprint"]) == (None, None)
        found = json.loads((data / "credentials.json").read_text())
        assert found["ca_file"] is None
        assert not (data / "ca.pem").exists()
        trusting = ssl.create_default_context(cafile=ca)
        assert urllib.request.urlopen(found["local_url"] + "/healthz", context=trusting, timeout=5).status == 200
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(found["local_url"] + "/ca.pem", context=trusting, timeout=5)
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_a_lost_sealing_key_refuses_the_start_and_makes_no_other(tmp_path):
    data = tmp_path / "data"
    with running(data):
        pass
    kept = (data / "keys/seal-1.key").rename(tmp_path / "kept.key")
    for options in ([], ["--seal-key-file", str(_another_key(tmp_path))]):
        done = serve("--data", data, "--port", "0", *options)
        assert done.returncode == 1
        assert "sealed with the key" in done.stderr
        assert list((data / "keys").iterdir()) == []
    with running(data, "--seal-key-file", str(kept)) as server:
        assert healthz(server) == 200


def _another_key(folder):
    path = folder / "another.key"
    path.write_bytes(os.urandom(32))
    return path


def test_metrics_are_served_on_a_loopback_port_of_their_own_and_only_when_asked_for(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running(tmp_path / "data", "--metrics-port", str(port)) as server:
        httpx.get(f"{server.url}/v1/Devices", auth=server.auth, verify=context(server))
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
        assert 'fleetvisor_requests_total{method="GET",route="v1/Devices",status="200"} 1.0' in text
        assert "fleetvisor_held_polls 0.0" in text
        assert 'fleetvisor_rollouts{waits_for="operator"} 0.0' in text
        assert float(re.search(r"^fleetvisor_certificate_days_left (\S+)$", text, re.MULTILINE)[1]) > 364
        assert float(re.search(r"^fleetvisor_database_commits_total (\S+)$", text, re.MULTILINE)[1]) > 0
        assert httpx.get(f"{server.url}/metrics", verify=context(server)).status_code == 404


def test_the_backup_page_works_as_it_stands(tmp_path):
    """docs/how-to/back-up.md: stop, copy DIR, keep the keys apart; the two together serve in its place."""
    stop, copy, part, restore = re.findall(r"```sh[^\n]*\n(.*?)```", BACKUP_PAGE.read_text(), re.DOTALL)
    with running(tmp_path / "fleet") as server:
        made = httpx.post(f"{server.url}/v1/Devices", auth=server.auth, verify=context(server)).json()
        secret = {"Key": "pin", "Value": "hunter2"}
        httpx.post(f"{server.url}/v1/Secrets", auth=server.auth, verify=context(server), data=secret).raise_for_status()
        before = server.credentials
        for commands in (stop, copy, part):
            subprocess.run(["bash", "-euc", commands], cwd=tmp_path, check=True, timeout=60)
        assert server.process.wait(20) == 0
    shutil.rmtree(tmp_path / "fleet")
    *put_together, start = restore.strip().splitlines()
    assert start == "fleetvisor serve --data ./fleet-restored"
    subprocess.run(["bash", "-euc", "\n".join(put_together)], cwd=tmp_path, check=True, timeout=60)
    with running(tmp_path / "fleet-restored") as server:
        assert server.credentials["auth_token"] == before["auth_token"]
        found = httpx.get(f"{server.url}/v1/Devices/{made['sid']}", auth=server.auth, verify=context(server)).json()
        assert found["date_created"] == made["date_created"]
        fetched = httpx.post(
            f"{server.url}/device/v1/configs/fetch",
            headers={"authorization": f"Bearer {made['device_token']}"},
            json={"items": [{"scope": "account", "store": "secret", "key": "pin"}]},
            verify=context(server),
        )
        assert fetched.json()["items"][0]["value"] == "hunter2"
