"""A real server in a process of its own, for tests that need sockets, signals or a client that is not ours."""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

START_S = 30.0


@dataclass
class RunningServer:
    """A server that is ready; ``credentials`` is its credentials.json."""

    process: subprocess.Popen
    data: Path
    credentials: dict
    log: Path

    @property
    def url(self) -> str:
        return self.credentials["base_url"]

    @property
    def auth(self) -> tuple[str, str]:
        return self.credentials["account_sid"], self.credentials["auth_token"]

    @property
    def ca_file(self) -> str:
        return self.credentials["ca_file"]

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)


def launch(
    data: Path, *options: str, env: dict[str, str] | None = None, descriptors: int | None = None
) -> RunningServer:
    """Start ``fleetvisor serve``, with a limit of open files if one is given, and wait until it is ready."""
    credentials = data / "credentials.json"
    before = credentials.stat().st_mtime_ns if credentials.exists() else 0
    log = data.with_name(data.name + ".log")
    command = [sys.executable, "-m", "fleetvisor.cli.main", "serve", "--data", str(data), "--port", "0", *options]
    if descriptors is not None:
        command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *command]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **(env or {})})
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server did not start:\n{log.read_text()}")
        if credentials.exists() and credentials.stat().st_mtime_ns != before:
            found = json.loads(credentials.read_text())
            if _is_ready(found):
                return RunningServer(process, data, found, log)
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise RuntimeError(f"the server was not ready within {START_S} s:\n{log.read_text()}")


def _is_ready(credentials: dict) -> bool:
    context = ssl.create_default_context(cafile=credentials["ca_file"])
    with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
        answer = urllib.request.urlopen(credentials["local_url"] + "/healthz", context=context, timeout=2)
        return answer.status == 200
    return False


@contextlib.contextmanager
def running(
    data: Path, *options: str, env: dict[str, str] | None = None, descriptors: int | None = None
) -> Iterator[RunningServer]:
    """Run a server for the block; it is stopped by its process id."""
    server = launch(data, *options, env=env, descriptors=descriptors)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
            try:
                server.process.wait(15)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()


def address(server):
    """Where it listens: host and port."""
    parts = urlsplit(server.credentials["local_url"])
    return parts.hostname, parts.port


def context(server, **flags):
    """A TLS context that trusts its CA; ``flags`` are set on it."""
    made = ssl.create_default_context(cafile=server.ca_file)
    for name, value in flags.items():
        setattr(made, name, value)
    return made


def connect(server, made=None):
    """A TLS connection to it."""
    plain = socket.create_connection(address(server), timeout=20)
    return (made or context(server)).wrap_socket(plain, server_hostname="localhost")


def ask(connection, path="/healthz"):
    """What it answers to a GET on that connection, as far as it comes at once."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    return connection.recv(65536)


def healthz(server, timeout=5):
    """The status of its /healthz on a new connection."""
    url = server.credentials["local_url"] + "/healthz"
    return urllib.request.urlopen(url, context=context(server), timeout=timeout).status
