"""A first start without a clock: what is said is true, and whoever follows it word by word has a server that is trusted."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.server import healthz, running

from fleetvisor.pki.seal import Seal
from fleetvisor.reality import RealClock, RealEntropy
from fleetvisor.server.files import DataDirectory
from fleetvisor.server.shared import shared_authority

pytestmark = [pytest.mark.service, pytest.mark.slow]

PROGRAM = [sys.executable, "-m", "fleetvisor.cli.main"]
FAKETIME = next((str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


class In1970(RealClock):
    """A board without a battery."""

    def now(self):
        return 86_400_000


def fleetvisor(*options, env=None):
    done = subprocess.run([*PROGRAM, *map(str, options)], capture_output=True, text=True, timeout=90, env=env)
    return done.returncode, done.stdout + done.stderr


def on_sqlite(tmp_path, _):
    data = DataDirectory(tmp_path / "data")
    data.publish(data.authority(In1970()))
    return []


def on_postgres(tmp_path, request):
    url, seal = request.getfixturevalue("postgres_cluster").url(), tmp_path / "seal.key"
    seal.write_bytes(os.urandom(32))
    seal.chmod(0o600)

    async def plant():
        from fleetvisor.db.postgres import open_postgres

        db = await open_postgres(url)
        await shared_authority(db, Seal.load([seal], RealEntropy()), In1970())
        await db.close()

    asyncio.run(plant())
    return ["--database", url, "--seal-key-file", str(seal), "--blobs", str(tmp_path / "blobs")]


@pytest.mark.parametrize("make", [on_sqlite, on_postgres])
def test_a_ca_of_1970_is_refused_and_what_is_said_leads_out(tmp_path, request, make):
    options = make(tmp_path, request)
    code, told = fleetvisor("serve", "--data", tmp_path / "data", "--port", "0", *options)
    assert code == 1
    assert "The local CA is not valid now: it ended on 1989" in told
    (advice,) = set(re.findall(r"restart with (--[a-z-]+)", told))
    with running(tmp_path / "data", *options, advice) as server:
        assert healthz(server) == 200
        made = Path(server.ca_file).read_bytes()
        code, told = fleetvisor("doctor", "--data", tmp_path / "data")
        assert re.search(r"CA +ok +valid until 20", told), told
        assert re.search(r"certificate +ok", told), told
        assert code == 0, told
    with running(tmp_path / "data", *options) as server:  # and from then on without it
        assert Path(server.ca_file).read_bytes() == made
    if options:
        with running(tmp_path / "another", *options) as node:
            assert Path(node.ca_file).read_bytes() == made


def test_the_doctor_of_a_ca_of_1970_names_the_same_way_out(tmp_path):
    on_sqlite(tmp_path, None)
    code, told = fleetvisor("doctor", "--data", tmp_path / "data")
    assert code == 1
    assert re.search(r"CA +fail +not valid now: it ended on 1989", told), told
    assert "--new-ca" in told


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
def test_a_start_in_1970_says_that_the_clock_is_not_set(tmp_path):
    env = {
        **os.environ,
        "LD_PRELOAD": FAKETIME,
        "FAKETIME": "@1970-01-02 00:00:00",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    log = tmp_path / "log"
    command = [*PROGRAM, "serve", "--data", str(tmp_path / "data"), "--port", "0"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env)
    try:
        end = time.monotonic() + 60
        while "clock is not set" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        assert "it says 1970-01-02" in log.read_text()
        assert "--new-ca" in log.read_text()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    code, told = fleetvisor("serve", "--data", tmp_path / "data", "--port", "0")
    assert code == 1
    assert "restart with --new-ca" in told
