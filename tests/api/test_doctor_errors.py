"""``fleetvisor env`` and ``fleetvisor doctor`` when something is wrong: what is wrong, what to do, and no traceback."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import threading

import pytest
from tests.server import running

from fleetvisor.pki.ca import make_authority
from fleetvisor.pki.serving import issue
from fleetvisor.reality import RealClock

pytestmark = [pytest.mark.service, pytest.mark.slow]

FAILED, USAGE, SERVER = 1, 2, 7
DAY_MS = 86_400_000


@pytest.fixture
def data(stopped, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(stopped, tmp_path / "data")


@pytest.fixture
def examined(command):
    """Run doctor; give each check that is not well: its finding and its advice."""

    def run(*options, code=FAILED, **extra):
        done = command("doctor", "--json", *options, **extra)
        assert done.code == code, done.err
        assert "Traceback" not in done.err
        checks = [json.loads(line) for line in done.out.splitlines()]
        bad = {check["check"]: check for check in checks if check["verdict"] == "fail"}
        for check in bad.values():
            assert check["advice"], check
        assert bool(bad) == (code == FAILED)
        return bad

    return run


def told(done, code):
    """Check that a command was refused in words: what is wrong, and what to do."""
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    wrong, advice = done.err.splitlines()
    assert wrong.startswith("Error: ")
    return wrong, advice


def test_without_a_server_named_both_say_how_to_name_one(command, examined):
    wrong, advice = told(command("env"), USAGE)
    assert "No server is named" in wrong
    assert "--data DIR" in advice
    assert "--data DIR" in examined()["credentials"]["advice"]


def test_where_no_server_ever_ran_both_say_how_to_start_one(command, examined, tmp_path):
    missing = tmp_path / "missing"
    wrong, advice = told(command("env", "--data", missing), SERVER)
    assert f"There is no {missing}/credentials.json" in wrong
    assert f"fleetvisor serve --data {missing}" in advice
    bad = examined("--data", missing)
    assert set(bad) == {"data directory", "credentials"}
    assert f"fleetvisor serve --data {missing}" in bad["data directory"]["advice"]
    file = tmp_path / "file"
    file.write_text("")
    assert "Not a directory" in told(command("env", "--data", file), SERVER)[0]
    assert examined("--data", file)["data directory"]["finding"] == f"{file} is not a directory"


def test_a_server_that_is_stopped_is_told(command, examined, stopped):
    assert set(examined("--data", stopped)) == {"certificate", "health"}
    done = command("env", "--data", stopped)  # the variables are right again once it starts on the same port
    assert done.code == 0
    assert "export FLEETVISOR_URL=https://127.0.0.1:" in done.out


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"base_url": "https://mv.example',
        b"\xff\xfe\x00",
        b"[]",
        b'{"base_url": 5, "account_sid": "AC", "auth_token": "x"}',
        b'{"account_sid": "AC", "auth_token": "x"}',
        b'{"base_url": "http://mv.example.com", "account_sid": "AC", "auth_token": "x"}',
        b'{"base_url": "https://mv..example.com", "account_sid": "AC", "auth_token": "x"}',
        b'{"base_url": "https://mv.example.com\\n", "account_sid": "AC", "auth_token": "x"}',
        b'{"base_url": "https://mv.example.com:x", "account_sid": "AC", "auth_token": "x"}',
    ],
)
def test_a_damaged_credentials_file_is_named(command, examined, data, content):
    file = data / "credentials.json"
    file.write_bytes(content)
    assert str(file) in told(command("env", "--data", data), SERVER)[0]
    bad = examined("--data", data)
    assert set(bad) == {"credentials"}
    assert str(file) in bad["credentials"]["finding"]


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"FLEETVISOR_URL": "https://127.0.0.1:1"}, "FLEETVISOR_ACCOUNT_SID and FLEETVISOR_AUTH_TOKEN"),
        (
            {"FLEETVISOR_URL": "https://h/v1", "FLEETVISOR_ACCOUNT_SID": "AC", "FLEETVISOR_AUTH_TOKEN": "x"},
            "'https://h/v1'",
        ),
    ],
)
def test_a_wrong_variable_is_named(command, examined, env, said):
    assert said in told(command("env", env=env), SERVER)[0]
    assert said in examined(env=env)["credentials"]["finding"]


def test_a_database_that_is_gone_is_told_by_doctor_and_by_the_start_that_makes_it_anew(command, data):
    for file in data.glob("fleetvisor.db*"):
        file.unlink()
    done = command("doctor", "--data", data)
    assert "fleetvisor.db is missing" in done.out
    assert "restore it from a backup" in done.err
    with running(data) as server:
        told = server.log.read_text()
    assert "database.made_anew" in told
    assert "restore the database from a backup" in told


def test_a_ca_file_that_is_missing_or_none_is_named(examined, data):
    ca, file = data / "ca.pem", data / "credentials.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "ca_file": str(ca)}))
    for spoil in (lambda: ca.write_text("nonsense"), ca.unlink):
        spoil()
        bad = examined("--data", data)
        assert str(ca) in bad["credentials"]["finding"]
        assert "/ca.pem" in bad["credentials"]["advice"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_is_told_to_be_the_one_who_runs_the_server(command, examined, data):
    wrong, advice = told(command("env", "--data", data, user=65534), SERVER)
    assert "Permission denied" in wrong
    assert "as the user who runs the server" in advice
    bad = examined("--data", data, user=65534)
    assert "as the user who runs the server" in bad["data directory"]["advice"]
    assert "as the user who runs the server" in bad["credentials"]["advice"]


@contextlib.contextmanager
def expired_server(data):
    """Listen where the credentials of ``data`` say, with a certificate of its CA that ran out."""
    authority = make_authority(RealClock().now())
    made = issue(authority, ("127.0.0.1",), RealClock().now() - 400 * DAY_MS)
    (data / "ca.pem").write_bytes(authority.pem)
    file = data / "tls/server.key"
    file.write_bytes(made.pem + made.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        credentials = json.loads((data / "credentials.json").read_text())
        told = {**credentials, "base_url": url, "local_url": url, "ca_file": str(data / "ca.pem")}
        (data / "credentials.json").write_text(json.dumps(told))

        def work():
            with contextlib.suppress(OSError):  # also that of every client that hangs up, and of the end
                while True:
                    plain, _ = listening.accept()
                    with plain, contextlib.suppress(ssl.SSLError, ConnectionError):
                        context.wrap_socket(plain, server_side=True).close()

        thread = threading.Thread(target=work)
        thread.start()
        yield
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_a_certificate_that_ran_out_is_told(command, examined, data):
    with expired_server(data):
        bad = examined("--data", data)
        assert "certificate has expired" in bad["certificate"]["finding"]
        assert "restart it if its certificate ran out" in bad["certificate"]["advice"]
        assert "certificate has expired" in bad["health"]["finding"]
        done = command("devices", "list", "--data", data)
        assert done.code == SERVER
        assert "certificate has expired" in told(done, SERVER)[0]
