"""A server of one's own for a while: a real ``fleetvisor serve`` process, started, waited for, and stopped.

For the demo and for tests. Deliberately the same program that a user runs, in a process of its own; it is stopped by
its process id and nothing else.
"""

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from fleetvisor.cli.options import Failure
from fleetvisor.cli.output import Output
from fleetvisor.client import credentials
from fleetvisor.client.answers import ApiProblem, Unreachable
from fleetvisor.client.credentials import NoServer, Server

_PR_SET_PDEATHSIG: Final = 1
START_S: Final = 20.0
STOP_S: Final = 12.0


@contextmanager
def serving(data: Path, out: Output, *options: str) -> Generator[Server]:
    """Run a server on ``data`` and a free port, with further ``options``; return it once it is ready, and stop it."""
    command = [sys.executable, "-m", "fleetvisor.cli.main", "serve", "--data", str(data), "--port", "0", *options]
    log = data.parent / "server.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  (called by the main thread, before there are others)
        )
    try:
        yield _ready(process, data, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            out.warn("The server did not stop when asked to; it is killed.")
            process.kill()
            process.wait()


@contextmanager
def stoppable() -> Generator[None]:
    """Make SIGTERM end the command as Ctrl-C does, so that it cleans up."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_with_parent() -> None:
    """Let the kernel stop the server should this process be killed, which then cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> Server:
    """Wait until the server answers."""
    from fleetvisor.client.http import Http

    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            server = credentials.from_directory(data)
            with Http(server, attempts=1) as http:
                http.get("/healthz")
        except (NoServer, ApiProblem, Unreachable):
            time.sleep(0.05)
        else:
            return server
    ended = "ended" if process.poll() is not None else f"was not ready in {START_S:.0f} s"
    raise Failure(f"The server {ended}. It said:\n{log.read_text(errors='replace')[-2000:]}")
