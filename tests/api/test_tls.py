"""What the port speaks and to whom: TLS 1.2 and 1.3, with a certificate that every kind of verifier takes."""

import contextlib
import platform
import select
import shutil
import socket
import ssl
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from tests.server import address, ask, connect, context, healthz, running

from fleetvisor.pki.ca import make_authority
from fleetvisor.reality import RealClock

pytestmark = [pytest.mark.service, pytest.mark.slow]

MBED_TLS = sys.platform == "linux" and platform.machine() == "x86_64" and sys.version_info < (3, 13)  # as its lock says
CLOSED_S = 15  # a connection that finishes no handshake is closed after ten seconds
NODE = """
require("https").get(process.argv[1] + "/healthz", {ca: require("fs").readFileSync(process.argv[2])},
  (answer) => { console.log(answer.statusCode); answer.resume(); }).on("error", (error) => console.log(error.code));
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("tls") / "data") as found:
        yield found


def only(server, version):
    """A context for one version of TLS, also for one that OpenSSL speaks only when it is asked to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made = context(server, minimum_version=version, maximum_version=version)
    made.set_ciphers("ALL:@SECLEVEL=0")
    return made


@pytest.mark.parametrize(
    ("version", "name"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")]
)
def test_tls_1_2_and_1_3_are_spoken(server, version, name):
    with connect(server, only(server, version)) as connection:
        assert connection.version() == name
        assert ask(connection).startswith(b"HTTP/1.1 200 ")


def test_the_newest_version_is_chosen(server):
    with connect(server) as connection:
        assert connection.version() == "TLSv1.3"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_are_refused_by_the_server(server, version):
    """By its alert: that this client's own OpenSSL would not speak them proves nothing."""
    with pytest.raises(ssl.SSLError) as refused:
        connect(server, only(server, version))
    assert refused.value.reason in {"TLSV1_ALERT_PROTOCOL_VERSION", "SSLV3_ALERT_HANDSHAKE_FAILURE"}
    assert healthz(server) == 200


def test_http_2_is_not_spoken_because_its_answers_carry_no_date(server):
    made = context(server)
    made.set_alpn_protocols(["h2", "http/1.1"])
    with connect(server, made) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
        assert ask(connection).lower().count(b"\r\ndate: ") == 1


def test_strict_verifiers_take_the_certificate(server):
    with connect(server, context(server, verify_flags=ssl.VERIFY_X509_STRICT)) as connection:
        assert ask(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_takes_the_certificate(server):
    host, port = address(server)
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", "-verify_return_error", "-x509_strict"]
    command += ["-CAfile", server.ca_file, "-verify_ip", "127.0.0.1", "-servername", "localhost"]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=20)
    assert "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_node_takes_the_certificate(server, host):
    command = ["node", "-e", NODE, f"https://{host}:{address(server)[1]}", server.ca_file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "200", done.stdout + done.stderr


def mbed_tls(server, host, ca_pem):
    """Ask for /healthz through Mbed TLS, which trusts that CA and expects that host name."""
    from mbedtls import tls
    from mbedtls.x509 import CRT

    trusted = tls.TrustStore()
    trusted.add(CRT.from_PEM(ca_pem))
    client = tls.ClientContext(tls.TLSConfiguration(trust_store=trusted, validate_certificates=True))
    with socket.create_connection(address(server), timeout=CLOSED_S) as plain:
        connection = client.wrap_socket(plain, server_hostname=host)

        def patiently(work, *args):
            while True:
                try:
                    return work(*args)
                except tls.WantReadError:
                    assert select.select([plain], [], [], CLOSED_S)[0], "the server says nothing"

        patiently(connection.do_handshake)
        patiently(connection.send, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        return patiently(connection.recv, 1000)


@pytest.mark.skipif(not MBED_TLS, reason="python-mbedtls has no wheel for this machine")
def test_mbed_tls_takes_the_certificate_for_its_host_name_and_our_ca_only(server):
    """As most devices with it: version 2.28. It compares host names, never IP addresses."""
    from mbedtls.exceptions import TLSError

    ours = Path(server.ca_file).read_text()
    assert mbed_tls(server, "localhost", ours).startswith(b"HTTP/1.1 200 ")
    with pytest.raises(TLSError, match="verification failed"):
        mbed_tls(server, "mv.example.com", ours)
    with pytest.raises(TLSError, match="verification failed"):
        mbed_tls(server, "localhost", make_authority(RealClock().now()).pem.decode())
    assert healthz(server) == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"POST /v1/Apps HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + bytes(200),
        bytes(40_000),
    ],
    ids=["HTTP/1.1", "a body", "HTTP/2", "a broken hello", "noise"],
)
def test_what_is_not_tls_gets_no_service_and_is_closed(server, sent):
    """At most an alert of seven bytes comes back, then the end; the server goes on."""
    with socket.create_connection(address(server), timeout=CLOSED_S) as plain:
        got = b""
        with contextlib.suppress(ConnectionError):  # a reset is an end too
            plain.sendall(sent)
            while more := plain.recv(1000):
                got += more
    assert got == b"" or (got[:2] == b"\x15\x03" and len(got) == 7)
    assert healthz(server) == 200
    assert server.process.poll() is None
