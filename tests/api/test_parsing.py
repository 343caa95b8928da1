"""Uploads whose reading hangs: they cost a worker process for a while, and nobody else anything."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import uvloop
from tests.bundles import simple_bundle
from tests.server import context, running

from fleetvisor.features.apps.reading import Reading
from fleetvisor.ground.errors import Invalid, TooLarge, Unavailable
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import AccountSid
from fleetvisor.server.parser_worker import Task, encode
from fleetvisor.server.parsing import WORKER, Parsers

# Loaded by every Python process of the server: in a parser it makes a file hang as a bad pattern does, with the GIL held.
HANGS = """
import sys
if "fleetvisor.server.parser_worker" in sys.orig_argv:
    import re
    from fleetvisor.features.apps import reading
    recognise = reading.recognise
    def patched(file):
        with file.open("rb") as source:
            head = source.read(4)
        if head == b"HANG":
            re.match(r"(a+)+$", "a" * 60 + "b")
        if head == b"DIES":
            raise SystemExit(3)
        if head == b"GROW":
            bytearray(8 << 30)
        return recognise(file)
    reading.recognise = patched
"""
ONE, OTHER = AccountSid("AC" + "1" * 32), AccountSid("AC" + "2" * 32)


@pytest.fixture
def hangs(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HANGS)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def reading(tmp_path, content):
    file = tmp_path / f"upload-{os.urandom(4).hex()}"
    file.write_bytes(content)
    return Reading(file, "raw" if content[:2] != b"PK" else None, tmp_path / f"parse-{file.name}")


def workers():
    """The ids of the parser processes that this process started."""
    told = subprocess.run(["ps", "-wweo", "pid,ppid,args"], capture_output=True, text=True).stdout
    found = re.findall(rf"^\s*(\d+)\s+{os.getpid()}\s.*parser_worker", told, re.MULTILINE)
    return [int(pid) for pid in found]


def writing_into(folder):
    """The ids of processes whose standard error goes into a folder: a server, and its parsers."""
    found = []
    for place in Path("/proc").glob("[0-9]*/fd/2"):
        with suppress(OSError):
            if place.readlink().is_relative_to(folder):
                found.append(int(place.parts[2]))
    return found


@pytest.fixture
async def parsers():
    made = Parsers(Limits(parse_time_s=2, parse_wait_s=60))
    yield made
    await made.close()
    assert workers() == []


async def test_files_are_read_in_a_process_that_is_used_again(tmp_path, parsers):
    bundle = reading(tmp_path, simple_bundle())
    parsed = await parsers(ONE, bundle)
    assert {layer.path.parent for layer in parsed.layers} == {bundle.folder}
    assert all(layer.path.is_file() for layer in parsed.layers)
    (first,) = workers()
    assert (await parsers(ONE, reading(tmp_path, b"any"))).size_bytes == 3
    assert workers() == [first]
    with pytest.raises(Invalid, match="is empty"):
        await parsers(ONE, reading(tmp_path, b""))
    os.kill(first, signal.SIGKILL)
    assert (await parsers(ONE, reading(tmp_path, b"more"))).size_bytes == 4, "one that ended meanwhile is replaced"


async def ended(worker):
    """Wait until the event loop knows that a process of its own has ended."""
    async with asyncio.timeout(20):
        while worker in workers():
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)


def test_the_loop_that_serves_takes_a_file_after_its_worker_ended_for_want_of_work(tmp_path):
    async def upload_and_pause():
        parsers = Parsers(Limits(parse_time_s=20, parse_wait_s=60))
        try:
            await parsers(ONE, reading(tmp_path, b"first"))
            (first,) = workers()
            os.kill(first, signal.SIGKILL)
            await ended(first)
            return await parsers(ONE, reading(tmp_path, b"second"))
        finally:
            await parsers.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(upload_and_pause()).size_bytes == 6


async def test_refusals_and_faults_of_the_disk_arrive_as_what_they_are(tmp_path):
    parsers = Parsers(Limits(firmware_bytes_max=10))
    with pytest.raises(TooLarge, match="more than the 10 allowed"):
        await parsers(ONE, reading(tmp_path, b"eleven bytes"))
    gone = reading(tmp_path, simple_bundle())
    gone.folder.mkdir()
    with pytest.raises(FileExistsError) as told:
        await parsers(ONE, gone)
    assert told.value.filename == str(gone.folder)
    await parsers.close()


async def test_a_file_that_hangs_is_refused_and_its_process_ends(tmp_path, hangs, parsers):
    with pytest.raises(Invalid, match="takes longer to read than the 2 s"):
        await parsers(ONE, reading(tmp_path, b"HANG"))
    assert workers() == []


async def test_a_parser_that_dies_or_grows_is_the_files_fault_alone(tmp_path, hangs, parsers):
    with pytest.raises(Invalid, match="its parser failed"):
        await parsers(ONE, reading(tmp_path, b"DIES"))
    with pytest.raises(Invalid, match="more memory"):
        await parsers(ONE, reading(tmp_path, b"GROW"))
    assert (await parsers(ONE, reading(tmp_path, b"good"))).size_bytes == 4


async def test_one_account_has_half_of_the_workers(tmp_path, hangs):
    parsers = Parsers(Limits(parse_time_s=60, parse_wait_s=2))
    stuck = [asyncio.ensure_future(parsers(ONE, reading(tmp_path, b"HANG"))) for _ in range(3)]
    assert (await parsers(OTHER, reading(tmp_path, b"good"))).size_bytes == 4
    with pytest.raises(Unavailable) as told:
        await stuck[2]
    assert told.value.retry_after_s
    assert not stuck[0].done()
    assert not stuck[1].done()
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    assert len(workers()) == 1, "a reading whose caller left ends with its process"
    await parsers.close()


def test_a_worker_whose_server_is_gone_when_it_answers_ends_without_a_traceback(tmp_path):
    task = Task(reading(tmp_path, b"any"), Limits(), 30)
    with subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        worker.stdout.close()
        worker.stdin.write(encode(task))
        worker.stdin.close()
        assert (worker.stderr.read(), worker.wait(30)) == (b"", 0)


def test_a_worker_whose_server_is_gone_ends(tmp_path, hangs):
    """Its own bound of CPU time ends it where nobody else can."""
    (tmp_path / "file").write_bytes(b"HANG")
    script = f"""
import asyncio, os
from pathlib import Path
from fleetvisor.features.apps.reading import Reading
from fleetvisor.ground.limits import Limits
from fleetvisor.server.parser_worker import Task, encode
from fleetvisor.server.parsing import WORKER, Parsers
async def main():
    parsers = Parsers(Limits(parse_time_s=1))
    asyncio.ensure_future(parsers("AC", Reading(Path({str(tmp_path / "file")!r}), "raw", Path("none"))))
    while not parsers._workers:
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)
    print(next(iter(parsers._workers)).pid, flush=True)
    os._exit(0)
asyncio.run(main())
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    pid = int(told.stdout)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < deadline, "the worker outlives its server"
        time.sleep(0.2)


def upload(server, content, **fields):
    parts = {"File": content, **{name: (None, value) for name, value in fields.items()}}
    with httpx.Client(base_url=server.credentials["local_url"], verify=context(server), timeout=60) as client:
        return client.post("/v1/Apps", files=parts, auth=server.auth)


def test_an_upload_that_hangs_stops_neither_uploads_nor_downloads_nor_the_end(tmp_path, hangs):
    env = {"FLEETVISOR_LIMIT_PARSE_TIME_S": "100", "FLEETVISOR_LIMIT_LAYER_CACHE_BYTES": "0"}
    with running(tmp_path / "data", env=env) as server, ThreadPoolExecutor(8) as pool:
        stuck = [pool.submit(upload, server, b"HANG", Kind="raw")]
        time.sleep(1)
        made = upload(server, simple_bundle())
        assert made.status_code == 201, made.text
        stuck += [pool.submit(upload, server, b"HANG", Kind="raw") for _ in range(5)]
        time.sleep(1)
        base = {"base_url": server.credentials["local_url"], "verify": context(server), "timeout": 20}
        with httpx.Client(**base) as client:
            named = client.post("/v1/Devices", data={"UniqueName": "one"}, auth=server.auth).json()
            target = client.post(
                f"/v1/Devices/{named['sid']}", data={"TargetApp": made.json()["sid"]}, auth=server.auth
            )
            assert target.status_code < 300, target.text
            head = {"Authorization": f"TargetToken {named['device_token']}"}
            root = client.get("/DEFAULT/controller/v1/one", headers=head).json()
            offer = client.get(root["_links"]["deploymentBase"]["href"], headers=head).json()
            (artifact,) = offer["deployment"]["chunks"][0]["artifacts"]
            got = client.get(artifact["_links"]["download"]["href"], headers=head)
            assert (got.status_code, len(got.content)) == (200, artifact["size"])
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 15
        time.sleep(1)
        assert not writing_into(tmp_path), "a parser goes on for its 100 s"
        assert not any(ended.exception() is None and ended.result().status_code == 201 for ended in stuck)
    listing = subprocess.run(["ps", "-wweo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path) not in listing
