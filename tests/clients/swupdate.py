"""Debian's swupdate as a device: one process with its own configuration, files and sockets."""

import os
import signal
import subprocess
import time

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests import images

PATIENCE_S = 30.0
INSTALLED = "An already installed update is pending testing"
CONFIRM = {"success": "2", "failure": "3"}


def wait_for(what, patience_s=PATIENCE_S):
    """Wait until ``what()`` is true, and give it."""
    deadline = time.monotonic() + patience_s
    while not (found := what()):
        assert time.monotonic() < deadline, f"{what} did not come true in {patience_s} s"
        time.sleep(0.05)
    return found


class Signer:
    """Signs images as swupdate's users do, with openssl; ``certificate`` is what the devices trust."""

    def __init__(self, folder):
        self._folder = folder
        self.certificate = folder / "cert.pem"
        certificate, key = images.signer(rsa_key=True)
        self.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def __call__(self, description):
        told, signature = self._folder / "sw-description", self._folder / "sw-description.sig"
        told.write_bytes(description)
        command = ["openssl", "cms", "-sign", "-in", told, "-out", signature, "-signer", self.certificate, "-inkey",
                   self._folder / "key.pem", "-outform", "DER", "-nosmimecap", "-binary"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        return signature.read_bytes()


class Device:
    """One board that runs swupdate; its partition is a file in its folder."""

    def __init__(self, folder, server, signer, name, *, url=None, target_token=None, gateway_token=None):
        folder.mkdir()
        self.folder = folder
        self.name = name
        self._process = None
        self._runs = 0
        token = f'targettoken = "{target_token}";' if target_token else f'gatewaytoken = "{gateway_token}";'
        self._config = folder / "swupdate.cfg"
        self._config.write_text(f"""
globals: {{ verbose = true; loglevel = 5; syslog = false; public-key-file = "{signer.certificate}"; bootloader = "none"; }};
suricatta: {{
    tenant = "DEFAULT"; id = "{name}"; url = "{url or server.url}"; polldelay = 1; retry = 9; retrywait = 1;
    cafile = "{server.ca_file}"; {token} nocheckcert = false; enable = true; initial-report-resend-period = 1;
}};
identify: ( {{ name = "serialNo"; value = "{name[-6:]}"; }} );
""")

    @property
    def log(self):
        """What it printed in this run."""
        return (self.folder / f"log{self._runs}").read_text(errors="replace")

    def start(self, confirm=None):
        """Boot; ``confirm`` tells what the boot loader found of an update on trial."""
        self._runs += 1
        options = f"-c {CONFIRM[confirm]}" if confirm else ""
        environment = {**os.environ, "TMPDIR": str(self.folder), "RUNTIME_DIRECTORY": str(self.folder)}
        with (self.folder / f"log{self._runs}").open("wb") as log:
            self._process = subprocess.Popen(
                ["swupdate", "-f", self._config, "-H", "board:1.0", "-u", options],
                env=environment, stdout=log, stderr=log, start_new_session=True, cwd=self.folder,
                restore_signals=False,  # SIGPIPE stays ignored, as for each service of systemd: swupdate leans on it
            )  # fmt: skip

    def await_log(self, text):
        """Wait until it printed ``text``."""
        try:
            wait_for(lambda: text in self.log or self._process.poll() is not None)
            assert text in self.log
        except AssertionError:
            status = self._process.poll()
            raise AssertionError(f"{text!r} is not in the log (exit status {status}):\n{self.log[-4000:]}") from None

    def stop(self):
        """Turn off; give the exit status."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(10)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                process.poll()
