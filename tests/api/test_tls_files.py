"""A running server whose certificate files change under it: it goes on with what it has, says why, and takes good ones."""

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import load_pem_x509_certificate
from tests.unit.server.test_certificates import NOT_SERVED, SERVED

pytestmark = [pytest.mark.service, pytest.mark.slow]
PATIENCE_S = 60


class Files:
    """The operator's two files, each replaced in one step as programs that renew certificates do."""

    def __init__(self, folder):
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"

    def write(self, pair):
        for path, content in zip((self.cert, self.key), pair, strict=True):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(content)
            fresh.rename(path)
        return pair[0]


class Served:
    """A ``fleetvisor serve`` of these files that looks at them each second."""

    def __init__(self, folder, files):
        self.log = folder / "log"
        command = [sys.executable, "-m", "fleetvisor.cli.main", "serve", "--data", folder / "data", "--port", "0"]
        command += ["--tls-cert", files.cert, "--tls-key", files.key, "--tls-check-s", "1"]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=out, env={**os.environ})
        credentials = folder / "data/credentials.json"
        self.wait(credentials.exists)
        self.url = json.loads(credentials.read_text())["local_url"]
        self.wait(self.answers)

    def wait(self, seen):
        end = time.monotonic() + PATIENCE_S
        while not seen():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.1)

    def answers(self):
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        try:
            return urllib.request.urlopen(f"{self.url}/healthz", context=trusting, timeout=5).status == 200
        except OSError:
            return False

    def shows(self):
        """Return the certificate that a new connection sees, as DER."""
        host, port = self.url.removeprefix("https://").rsplit(":", 1)
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port)), timeout=10))

    def said(self):
        return self.log.read_text().count("cannot be served with")


def der(pem):
    return load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def with_a_mark(pair):
    return tuple(b"\xef\xbb\xbf" + part for part in pair)


def rsa_pss(folder):
    """A self-signed certificate of a key that may sign by RSA-PSS alone; pyca makes none."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-nodes"]
    made = folder / "pss.key", folder / "pss.pem"
    command += ["-keyout", made[0], "-out", made[1], "-subj", "/CN=fleet", "-days", "9"]
    subprocess.run(command, check=True, capture_output=True)
    return made[1].read_bytes(), made[0].read_bytes()


@pytest.fixture
def served(tmp_path):
    files = Files(tmp_path)
    first = files.write(SERVED["P-256"]())
    server = Served(tmp_path, files)
    try:
        yield server, files, first
    finally:
        server.process.terminate()
        try:
            server.process.wait(20)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


def test_bad_files_change_nothing_but_the_log_and_good_ones_are_taken(served, tmp_path):
    server, files, first = served
    assert server.shows() == der(first)
    bad = {name: NOT_SERVED[name]() for name in ("P-521",)}
    bad["RSA-PSS"] = rsa_pss(tmp_path)
    bad["a byte order mark"] = with_a_mark(SERVED["P-256"]())
    for name, pair in bad.items():
        before = server.said() + holds_no(server)
        files.write(pair)
        server.wait(lambda before=before: server.said() + holds_no(server) > before)
        assert server.answers(), name
        assert server.shows() == der(first), name
        assert "panicked" not in server.log.read_text(), name
    good = files.write(SERVED["Ed25519"]())
    server.wait(lambda: server.shows() == der(good))
    assert "Served are ECDSA keys on P-256 and P-384" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()


def holds_no(server):
    """Count what was refused before the trial: what Python's library cannot read either."""
    return server.log.read_text().count("holds no ")


def test_files_that_change_ever_anew_never_end_the_server(served):
    """Between the look, the trial and the use they are others: what was tried is what is served."""
    server, files, _ = served
    pairs = [SERVED["P-256"](), NOT_SERVED["P-521"](), SERVED["P-384"](), NOT_SERVED["Ed448"]()]
    end, turn = time.monotonic() + 8, 0
    while time.monotonic() < end:
        files.write(pairs[turn % len(pairs)])
        turn += 1
        time.sleep(0.03)
        assert server.process.poll() is None, server.log.read_text()[-3000:]
    assert server.answers()
    good = files.write(SERVED["P-256"]())
    server.wait(lambda: server.shows() == der(good))
    assert Path(files.cert).exists()
