"""A disk that is full or read-only: 503 with Retry-After, told of in ``degraded``, and over when there is room again."""

import errno
import itertools
import os
import shutil
import subprocess
import sys

import pytest
from tests.bundles import simple_bundle

from fleetvisor.db.database import DatabaseUnfit

FULL = OSError(errno.ENOSPC, "No space left on device")
_names = itertools.count(1)
UNUSABLE = "A folder of the server is missing, or the server has no access to it."


async def upload(hands, ok):
    content = simple_bundle(b"firmware %d" % next(_names))
    return await hands.call("POST", "/v1/Apps", ok=ok, files={"File": ("x.zip", content)})


def failing(error):
    def fail(*_args, **_kwargs):
        raise error

    return fail


def check_unavailable(reply, detail):
    assert reply.json["code"] == 20503
    assert reply.headers["retry-after"] == "10"
    assert reply.json["detail"] == detail


@pytest.mark.parametrize(
    ("number", "detail"),
    [
        (errno.ENOSPC, "The server's disk is full."),
        (errno.EDQUOT, "The server's disk is full."),
        (errno.EROFS, "The server's disk is read-only."),
    ],
)
async def test_a_store_of_blobs_that_cannot_be_written_is_503(server, number, detail):
    server.disk.fault = OSError(number, os.strerror(number))
    check_unavailable(await upload(server.hands, 503), detail)
    assert server.world.disks.degraded() == {"blobs": "read_only" if number == errno.EROFS else "disk_full"}
    server.disk.fault = None
    await upload(server.hands, 201)
    assert server.world.disks.degraded() == {}


async def test_a_spool_that_cannot_be_written_is_503(server, monkeypatch):
    with monkeypatch.context() as broken:
        # no disk is full on demand, and opening a file has no port
        broken.setattr("fleetvisor.api.uploads._create", failing(FULL))
        check_unavailable(await upload(server.hands, 503), "The server's disk is full.")
    await upload(server.hands, 201)


async def test_a_spool_that_somebody_removed_is_made_again(server):
    shutil.rmtree(server.spool)
    await upload(server.hands, 201)


async def test_a_spool_that_is_no_folder_is_503_and_told_of_until_it_is_one_again(server):
    disks = server.world.disks
    shutil.rmtree(server.spool)
    server.spool.touch()
    check_unavailable(await upload(server.hands, 503), UNUSABLE)
    imported = {"content": b"name,public_key\n", "headers": {"content-type": "text/csv"}}
    check_unavailable(await server.hands.call("POST", "/v1/DeviceImports", ok=503, **imported), UNUSABLE)
    await disks.look()
    assert disks.degraded() == {"uploads": "unusable"}
    server.spool.unlink()
    await disks.look()
    assert disks.degraded() == {}
    await upload(server.hands, 201)


async def test_a_folder_of_blobs_that_is_gone_is_told_of_until_it_is_back(server):
    disks = server.world.disks
    folder = disks._blobs._directory
    aside = folder.rename(folder.with_name("aside"))
    await disks.look()
    assert disks.degraded() == {"blobs": "unusable"}
    aside.rename(folder)
    await disks.look()
    assert disks.degraded() == {}


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
async def test_too_few_descriptors_processes_or_memory_are_503(server, monkeypatch, number):
    with monkeypatch.context() as broken:
        # no process is short of descriptors on demand, and opening a file has no port
        broken.setattr("fleetvisor.api.uploads._create", failing(OSError(number, os.strerror(number))))
        reply = await upload(server.hands, 503)
        check_unavailable(reply, "The server has run out of open files, processes or memory.")
    await upload(server.hands, 201)


async def test_a_database_that_cannot_be_written_is_503_and_reads_go_on(server, monkeypatch):
    device = await server.hands.device()
    with monkeypatch.context() as broken:

        async def write(_body):
            raise DatabaseUnfit("disk_full", "database or disk is full")

        # no engine's disk is full on demand
        broken.setattr(type(server.world.db), "write", lambda _self, body: write(body))
        check_unavailable(await server.hands.post("/v1/Devices", ok=503), "The server's disk is full.")
        await server.hands.get(f"/v1/Devices/{device['sid']}")
    await server.hands.device()


async def test_looking_finds_a_full_disk_and_that_it_is_not_full_any_more(server, monkeypatch):
    disks = server.world.disks
    with monkeypatch.context() as broken:
        broken.setattr("fleetvisor.ground.disk.os.write", failing(FULL))  # no disk is full on demand
        await disks.look()
        assert disks.degraded() == {"blobs": "disk_full", "uploads": "disk_full"}
    await disks.look()
    assert disks.degraded() == {}


@pytest.mark.service
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="mounting a small disk takes root")
@pytest.mark.parametrize("size_kib", [4, 16, 64, 256])
def test_a_start_on_a_full_disk_names_the_file(tmp_path, size_kib):
    """The disk is mounted in a namespace of its own, which ends with the process."""
    script = 'mount -t tmpfs -o size="$2"k tmpfs "$1" && exec "$3" -m fleetvisor.cli.main serve --data "$1/d" --port 0'
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(tmp_path), str(size_kib), sys.executable]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "mount" in ended.stderr and "denied" in ended.stderr:
        pytest.skip("this machine lets nobody mount")
    assert ended.returncode == 1, ended.stderr
    assert f"{tmp_path}/d/" in ended.stderr
    assert "The server's disk is full." in ended.stderr
    assert "Make room on that disk" in ended.stderr
    assert "Traceback" not in ended.stderr
