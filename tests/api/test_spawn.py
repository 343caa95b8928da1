"""A server that a program of ours started for itself does not outlive it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.service

PROGRAM = """
import sys, time
from pathlib import Path
from fleetvisor.cli.output import Output
from fleetvisor.cli.spawn import serving
with serving(Path(sys.argv[1]), Output(quiet=True)):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_a_killed_demo_leaves_no_server(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "data")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout.readline() == "ready\n"
    server = int((tmp_path / "data/lock").read_text())
    assert _lives(server)
    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=10)
    end = time.monotonic() + 10
    while _lives(server):
        assert time.monotonic() < end, "the server goes on"
        time.sleep(0.05)


def _lives(number):
    """Whether a process runs; one that ended and waits for its new parent to notice does not."""
    try:
        state = (Path("/proc") / str(number) / "stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
