"""Every wrong start ends in a short message that says what to do, and leaves nothing half made."""

import os
import re
import shutil
import socket
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import apsw
import pytest
from cryptography.hazmat.primitives import serialization
from tests.server import running

from fleetvisor.pki.ca import make_authority
from fleetvisor.pki.serving import issue
from fleetvisor.reality import RealClock

pytestmark = [pytest.mark.service, pytest.mark.slow]

FAILED, USAGE, CONFLICT = 1, 2, 5
NOBODY = 65534
DAY_MS = 86_400_000
NOT_OURS = "203.0.113.7"  # an address that no machine has: a start that gets as far as that is refused there


@pytest.fixture
def data(stopped, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(stopped, tmp_path / "data")


@pytest.fixture
def refused(command):
    """Start wrongly; give what is told, which is short and no traceback."""

    def start(code, *options, **extra):
        done = command("serve", "--port", "0", *options, **extra)
        assert done.code == code, (done.code, done.err)
        assert done.out == ""
        told = [line for line in done.err.splitlines() if not line.startswith("{")]
        assert told[0].startswith("Error: ")
        assert len(told) == (2 if code == USAGE else 1), done.err
        assert len(told[0]) < 400
        assert not re.search(r"Traceback|_ssl\.c|pydantic|cryptography", told[0]), told[0]
        return told[0]

    return start


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def kept(directory):
    """Give what a server that goes on keeps: not the marks of its readers, which move when it reads."""
    return {name: content for name, content in contents(directory).items() if not name.endswith("-shm")}


# -- The command line and the environment: nothing is made at all.


@pytest.mark.parametrize("option", ["--data", "--blobs", "--seal-key-file", "--tls-cert", "--tls-key"])
def test_an_empty_path_is_not_the_current_directory(refused, option, tmp_path):
    data = () if option == "--data" else ("--data", tmp_path / "data")
    variable = f"FLEETVISOR_SERVE_{option[2:].upper().replace('-', '_')}"
    variables = {"env": {variable: '[""]' if "seal" in option else ""}}
    for options, extra in (((option, ""), {}), ((), variables)):
        told = refused(USAGE, *data, *options, "--host", NOT_OURS, **extra)
        assert "the path is empty" in told, told
        assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://mv.example.com/fleet", "must not have a path"),
        ("https://mv.example.com?x=1", "must not have a path"),
        ("http://mv.example.com", "must begin with https://"),
        ("mv.example.com", "must begin with https://"),
        ("https://", "name a host"),
        ("https://bad!host", "no host name"),
        ("https://a..b", "no host name"),
        ("https://1.2.3", "no host name"),
        ("https://h\u00f6st.example", "xn--"),
        ("https://[::1", "is not a URL"),
        ("https://mv.example.com:99999", "is not a URL"),
        ("https://mv.example.com:0", "port must not be 0"),
        ("https://me:pw@mv.example.com", "must not carry credentials"),
    ],
)
def test_a_public_url_must_be_https_and_a_host(refused, tmp_path, url, said):
    told = refused(USAGE, "--data", tmp_path / "data", "--public-url", url)
    assert "--public-url" in told
    assert said in told
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tls-cert", "a.pem"], "--tls-cert and --tls-key belong together"),
        (["--tls-key", "a.key"], "--tls-cert and --tls-key belong together"),
        (["--port", "70000"], "--port"),
        (["--port", "https"], "'--port'"),
        (["--metrics-port", "-1"], "--metrics-port"),
        (["--log-level", "loud"], "'debug', 'info', 'warning' or 'error'"),
        (["--host", "no host"], "--host"),
        (["--database", "postgresql://db/fleet", "--blobs", "b"], "--seal-key-file and --blobs are required"),
        (["--database", "postgresql://db/fleet", "--seal-key-file", "k"], "--seal-key-file and --blobs are required"),
        (["--database", "mysql://db/fleet", "--seal-key-file", "k", "--blobs", "b"], "postgresql://"),
        (["--nonsense"], "No such option"),
    ],
)
def test_options_that_cannot_go_together_or_say_nothing_are_usage_errors(refused, tmp_path, options, said):
    assert said in refused(USAGE, "--data", tmp_path / "data", *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["postgresql://u:se/cret@db/x", "postgresql://u:secret@db:x/y", "postgresql://u:secret@[/x"]
)
def test_a_database_url_that_cannot_be_read_is_not_repeated(refused, tmp_path, url):
    """It may hold a password, and supervisors keep what programs say."""
    told = refused(USAGE, "--data", tmp_path / "data", "--database", url, "--seal-key-file", "k", "--blobs", "b")
    assert "--database: the database must be postgresql://" in told
    assert "cret" not in told


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FLEETVISOR_SERVE_METRICS_PORT", "many", "FLEETVISOR_SERVE_METRICS_PORT: "),
        ("FLEETVISOR_SERVE_PUBLIC_URL", "http://x", "FLEETVISOR_SERVE_PUBLIC_URL: the public URL must begin"),
        ("FLEETVISOR_SERVE_LOG_LEVEL", "loud", "FLEETVISOR_SERVE_LOG_LEVEL: must be 'debug'"),
        ("FLEETVISOR_SERVE_SEAL_KEY_FILE", "/a.key", "FLEETVISOR_SERVE_SEAL_KEY_FILE must be a JSON list"),
        ("FLEETVISOR_SERVE_SEAL_KEY_FILE", "[7]", "FLEETVISOR_SERVE_SEAL_KEY_FILE: "),
        ("FLEETVISOR_SERVE_TLS_CERT", "a.pem", "belong together"),
        ("FLEETVISOR_SERVE_TSL_CERT", "a.pem", "FLEETVISOR_SERVE_TSL_CERT: there is no setting of this name"),
        ("FLEETVISOR_LIMIT_NOPE", "1", "FLEETVISOR_LIMIT_NOPE: there is no limit of this name"),
        ("FLEETVISOR_LIMIT_CONNECTIONS_MAX", "-1", "FLEETVISOR_LIMIT_CONNECTIONS_MAX: must be a whole number"),
    ],
)
def test_a_wrong_variable_of_the_environment_is_named(refused, tmp_path, variable, value, said):
    told = refused(USAGE, "--data", tmp_path / "data", "--host", NOT_OURS, env={variable: value})
    assert said in told
    assert not (tmp_path / "data").exists()


# -- The operator's own files.


@pytest.fixture
def pair(tmp_path):
    """Give the function that writes a certificate and its key, made so many days ago."""
    authority, clock = make_authority(RealClock().now()), RealClock()

    def make(name, days_ago=0, password=None):
        made = issue(authority, ("mv.example.com",), clock.now() - days_ago * DAY_MS)
        cert, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        cert.write_bytes(made.pem)
        key.write_bytes(made.key_pem)
        if password:
            private = serialization.load_pem_private_key(made.key_pem, None)
            sealed = serialization.BestAvailableEncryption(password)
            form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
            key.write_bytes(private.private_bytes(*form, sealed))
        return cert, key

    return make


def test_a_certificate_that_cannot_be_served_with_is_refused_in_words(refused, tmp_path, pair):
    (cert, key), (_, other) = pair("mine"), pair("other")
    nonsense, missing = tmp_path / "nonsense.pem", tmp_path / "missing.pem"
    nonsense.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for files, said in (
        ((cert, other), f"--tls-key {other} is not the key of the first certificate in --tls-cert {cert}"),
        ((missing, key), f"--tls-cert {missing} cannot be read: No such file"),
        ((cert, missing), f"--tls-key {missing} cannot be read: No such file"),
        ((tmp_path, key), f"--tls-cert {tmp_path} cannot be read: Is a directory"),
        ((nonsense, key), f"--tls-cert {nonsense} holds no certificate"),
        ((key, cert), f"--tls-cert {key} holds no certificate"),
        ((cert, nonsense), f"--tls-key {nonsense} holds no private key"),
        (pair("sealed", password=b"pw"), "is encrypted: give a key without a password"),
        (pair("old", days_ago=400), "ran out on 20"),
        (pair("early", days_ago=-3), "set this machine's clock"),
    ):
        told = refused(FAILED, "--data", tmp_path / "data", "--tls-cert", files[0], "--tls-key", files[1])
        assert said in told
    assert not (tmp_path / "data").exists()


def test_sealing_keys_that_are_none_are_refused_before_anything_is_made(refused, tmp_path):
    short = tmp_path / "short.key"
    short.write_bytes(b"short")
    assert "has 5 bytes; it must have 32" in refused(FAILED, "--data", tmp_path / "data", "--seal-key-file", short)
    missing = tmp_path / "missing.key"
    told = refused(FAILED, "--data", tmp_path / "data", "--seal-key-file", missing)
    assert f"{missing} cannot be read: No such file" in told
    assert not (tmp_path / "data").exists()


# -- The place.


def test_a_data_directory_that_is_a_file_or_lies_in_one_is_refused(refused, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "data"):
        told = refused(FAILED, "--data", path)
        assert f"The data directory {path} cannot be made: " in told
        assert "give another --data" in told
    assert contents(tmp_path) == {"file": b"mine"}
    assert "give another --data" in refused(FAILED, "--data", "/proc/fleetvisor")


@pytest.fixture
def foreign():
    """A directory that another user owns, and that user (this one, unless this is root)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o555)
        yield path, NOBODY if os.geteuid() == 0 else None
        path.chmod(0o700)


def test_a_data_directory_that_may_not_be_written_is_refused(refused, foreign):
    path, user = foreign
    for data in (path, path / "data"):
        told = refused(FAILED, "--data", data, user=user)
        assert "may not be written; run as the user who owns it, or give another --data" in told
    assert list(path.iterdir()) == []


def test_a_directory_of_something_else_that_others_may_read_is_left_as_it_is(refused, tmp_path):
    place = tmp_path / "thesis"
    place.mkdir(mode=0o755)
    place.chmod(0o755)
    (place / "thesis.txt").write_text("precious")
    told = refused(FAILED, "--data", place)
    assert "give a directory of its own, or run chmod go=" in told
    assert contents(place) == {"thesis.txt": b"precious"}
    assert place.stat().st_mode & 0o777 == 0o755


def test_a_blob_directory_that_is_a_file_is_refused(refused, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    told = refused(FAILED, "--data", tmp_path / "data", "--blobs", file)
    assert f"The blob directory {file} cannot be used" in told
    assert "--blobs" in told
    assert set(contents(tmp_path / "data")) == {"lock"}


def test_a_port_that_cannot_be_had_is_refused_before_anything_is_made(refused, tmp_path):
    data = tmp_path / "data"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused(CONFLICT, "--data", data, "--port", port)
        assert f"Port {port} of 127.0.0.1 is in use: stop the program that listens there" in told
        told = refused(FAILED, "--data", data, "--metrics-port", port)
        assert f"The metrics port {port} cannot be used" in told
    assert "give another --host" in refused(FAILED, "--data", data, "--host", NOT_OURS)
    assert "give another --host" in refused(FAILED, "--data", data, "--host", "no-such-host.invalid")
    if os.geteuid() and int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) > 1:
        assert "give another --port" in refused(FAILED, "--data", data, "--port", "1")
    assert not (data / "credentials.json").exists()


def test_a_second_server_is_refused_and_the_first_goes_on(refused, tmp_path):
    with running(tmp_path / "data") as server:
        before = kept(server.data)
        own = str(urlsplit(server.url).port)
        for port in ("0", own):
            told = refused(CONFLICT, "--data", server.data, "--port", port)
            assert f"(process {server.process.pid}) serves {server.data}: stop it, or give another --data" in told
        assert kept(server.data) == before


# -- The database, the keys, the CA.


def test_a_postgresql_that_cannot_be_reached_is_told_without_its_password(refused, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://fleet:hunter2@127.0.0.1:{closed.getsockname()[1]}/fleet"
        key = tmp_path / "seal.key"
        key.write_bytes(os.urandom(32))
        shared = ["--seal-key-file", key, "--blobs", tmp_path / "blobs"]
        told = refused(FAILED, "--data", tmp_path / "data", "--database", url, *shared)
    assert "Connection refused" in told
    assert "Check that PostgreSQL runs" in told
    assert "hunter2" not in told
    assert set(contents(tmp_path / "data")) == {"lock"}


def overwrite(path, start, content):
    with path.open("r+b") as file:
        file.seek(start)
        file.write(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: overwrite(path, 0, b"garbage!" * 512), "estore it from a backup"),
        (lambda path: overwrite(path, 4096, os.urandom(path.stat().st_size - 4096)), "estore it from a backup"),
        (lambda path: os.truncate(path, 0), "is empty, and"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be opened"),
    ],
    ids=["no database", "damaged pages", "empty", "a directory"],
)
def test_a_database_that_is_damaged_is_left_for_a_backup_to_take_its_place(refused, data, damage, said):
    path = data / "fleetvisor.db"
    damage(path)
    before = contents(data)
    told = refused(FAILED, "--data", data)
    assert f"The database {path} " in told
    assert said in told
    after = contents(data)
    assert {name: after[name] for name in before if name != "lock"} == {n: c for n, c in before.items() if n != "lock"}


def test_a_database_of_a_newer_program_is_not_touched(refused, data):
    connection = apsw.Connection(str(data / "fleetvisor.db"))
    connection.execute("INSERT INTO schema_version VALUES (999)")
    connection.close()
    told = refused(FAILED, "--data", data)
    assert "schema version 999" in told
    assert "run the newer program, or restore a backup" in told


def test_a_sealing_key_that_is_lost_or_damaged_is_never_made_anew(refused, data):
    key = data / "keys/seal-1.key"
    whole = key.read_bytes()
    key.write_bytes(whole[:31])
    assert f"The sealing key {key} has 31 bytes" in refused(FAILED, "--data", data)
    key.write_bytes(whole[:31] + bytes([whole[31] ^ 1]))
    assert "none of the key files is that key. Put it back" in refused(FAILED, "--data", data)
    key.unlink()
    assert "none of the key files is that key. Put it back" in refused(FAILED, "--data", data)
    assert not key.exists()


def test_a_damaged_ca_is_never_made_anew(refused, data):
    path = data / "tls/ca.key"
    whole = path.read_bytes()
    half = whole.index(b"-----BEGIN PRIVATE")
    line = b"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEH"
    assert line in whole
    published = (data / "ca.pem").read_bytes()
    other = make_authority(RealClock().now())
    for damaged in (
        b"",
        b"nonsense",
        whole[:half],
        whole[half:],
        whole.replace(line, b"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AxEH"),  # the curve's name
        other.pem + whole[half:],
    ):
        path.write_bytes(damaged)
        told = refused(FAILED, "--data", data)
        assert f"The CA in {path} cannot be read" in told
        assert "restore the file from a backup" in told
        assert path.read_bytes() == damaged
    assert (data / "ca.pem").read_bytes() == published


def test_after_every_refusal_the_right_start_succeeds(refused, data):
    """A damaged server certificate alone needs nobody: a new one takes its place."""
    refused(FAILED, "--data", data, "--host", NOT_OURS)
    path = data / "tls/server.key"
    path.write_bytes(
        path.read_bytes().replace(b"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEH", b"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AxEH")
    )
    with running(data) as server:
        assert server.ca_file == str(data / "ca.pem")
    assert not list(data.rglob("*.new"))
