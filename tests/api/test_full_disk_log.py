"""A log that cannot be written costs lines: no background job, no request and no start."""

import json
import os
import re
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.request

import pytest

pytestmark = [pytest.mark.service, pytest.mark.slow]


@pytest.fixture
def server(tmp_path):
    """A server whose standard error is a full disk; where its metrics are is found by trying."""
    data = tmp_path / "data"
    command = [sys.executable, "-m", "fleetvisor.cli.main", "serve", "--data", str(data), "--port", "0", "--quiet"]
    with open("/dev/full", "wb") as full, open(os.devnull, "wb") as nothing:
        process = subprocess.Popen(command, stdout=nothing, stderr=full)
    try:
        deadline = time.monotonic() + 60
        while not (data / "credentials.json").exists() and time.monotonic() < deadline:
            assert process.poll() is None, "the start ended because it could not be told of"
            time.sleep(0.05)
        yield data
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(30) == 0


def health(data):
    found = json.loads((data / "credentials.json").read_text())
    context = ssl.create_default_context(cafile=found["ca_file"])
    for _ in range(100):
        try:
            return json.load(urllib.request.urlopen(found["local_url"] + "/healthz", context=context, timeout=10))
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
        except urllib.error.URLError:
            pass
        time.sleep(0.1)
    raise AssertionError("the server never became ready")


def test_jobs_that_fail_while_the_log_cannot_be_written_go_on_afterwards(server):
    before = health(server)
    assert before["status"] == "ok"
    assert {"presence", "rollouts", "sweep", "certificate", "overdue"} <= set(before["jobs"])
    held = sqlite3.connect(server / "fleetvisor.db", isolation_level=None)
    held.execute("ALTER TABLE events RENAME TO events_away")  # every job that reads or writes events fails
    held.execute("ALTER TABLE rollouts RENAME TO rollouts_away")
    time.sleep(6)
    held.execute("ALTER TABLE events_away RENAME TO events")
    held.execute("ALTER TABLE rollouts_away RENAME TO rollouts")
    held.close()
    time.sleep(6)
    after = health(server)
    assert after["status"] == "ok"
    assert after["jobs"]["rollouts"] < 6, "the job that moves rollouts no longer comes round"
    assert all(age < 70 for job, age in after["jobs"].items() if job != "certificate")
    assert not re.search("away", json.dumps(after))
