"""What every blob store promises. One adapter so far: a local directory, where durability can be watched too."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from fleetvisor.blobs.store import BlobFault, Blobs
from fleetvisor.reality import Threads

NAME = "layers/ab/abcdef-0011"

THREADS = Threads("blobs", 2)


class Disk:
    """Records what is fsynced, by inode, and really does it."""

    def __init__(self) -> None:
        self.synced: list[int] = []

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)
        self.synced.append(os.fstat(descriptor).st_ino)

    def since(self, count: int) -> list[int]:
        return self.synced[count:]


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def directory(tmp_path) -> Path:
    return tmp_path / "new" / "blobs"


@pytest.fixture
def blobs(directory, disk) -> Blobs:
    return Blobs(directory, offload=THREADS, fsync=disk.fsync)


@pytest.fixture
def spooled(tmp_path) -> Callable[[bytes], Path]:
    def spool(data: bytes) -> Path:
        path = tmp_path / "spooled"
        path.write_bytes(data)
        return path

    return spool


async def put(blobs: Blobs, path: Path, name: str = NAME) -> None:
    data = path.read_bytes()
    await blobs.put_file(name, path, digest=sha256(data).hexdigest(), size_bytes=len(data))


def inode(path: Path) -> int:
    return path.stat().st_ino


async def test_what_was_put_is_read_back_in_ranges(blobs, spooled):
    data = bytes(range(256)) * 5000
    await put(blobs, spooled(data))
    assert await blobs.exists(NAME)
    assert await blobs.get_range(NAME, 0, len(data)) == data
    assert await blobs.get_range(NAME, 1000, 1003) == data[1000:1003]
    assert await blobs.get_range(NAME, 7, 7) == b""


async def test_a_blob_larger_than_a_part_is_put_whole(blobs, spooled):
    """Object stores cut large puts into parts, which know no create-if-absent."""
    data = os.urandom(1 << 20) * 17
    await put(blobs, spooled(data))
    assert await blobs.get_range(NAME, 0, len(data)) == data


async def test_the_source_stays(blobs, spooled):
    path = spooled(b"bytes")
    await put(blobs, path)
    assert path.read_bytes() == b"bytes"


async def test_bytes_that_are_not_all_there_are_a_fault(blobs, spooled):
    """Never fewer bytes than asked for: a device would take them for the layer."""
    with pytest.raises(BlobFault, match="cannot read"):
        await blobs.get_range(NAME, 0, 1)
    await put(blobs, spooled(b"bytes"))
    for start, end in ((0, 6), (4, 9), (5, 6), (100, 200)):
        with pytest.raises(BlobFault, match="cannot read"):
            await blobs.get_range(NAME, start, end)


async def test_deleting_takes_the_bytes_and_may_be_repeated(blobs, spooled):
    await put(blobs, spooled(b"bytes"))
    await blobs.delete(NAME)
    await blobs.delete(NAME)
    assert not await blobs.exists(NAME)


async def test_a_put_ends_only_after_the_file_and_every_folder_above_it_were_fsynced(blobs, spooled, directory, disk):
    """The file first, then the folders: a name that survives a power loss must lead to bytes that did."""
    before = len(disk.synced)
    await put(blobs, spooled(b"bytes"))
    folders = [directory / "layers/ab", directory / "layers", directory]
    assert disk.since(before) == [inode(directory / NAME), *map(inode, folders)]


async def test_a_put_of_bytes_that_are_there_fsyncs_them_again(blobs, spooled, directory, disk):
    """Whoever wrote them may have died before its fsync."""
    await put(blobs, spooled(b"bytes"))
    before = len(disk.synced)
    await put(blobs, spooled(b"bytes"))
    assert inode(directory / NAME) in disk.since(before)
    assert len(disk.since(before)) == 4


@pytest.mark.parametrize("found", [b"", b"byt", b"other", b"longer than it should be"])
async def test_wrong_bytes_under_the_name_are_replaced(blobs, spooled, directory, found, disk):
    """After a power loss a file that was never fsynced may be empty, short or anything."""
    (directory / NAME).parent.mkdir(parents=True)
    (directory / NAME).write_bytes(found)
    await put(blobs, spooled(b"bytes"))
    assert await blobs.get_range(NAME, 0, 5) == b"bytes"
    assert (directory / NAME).read_bytes() == b"bytes"
    assert inode(directory / NAME) in disk.synced


async def test_a_put_whose_fsync_fails_is_no_put(directory, spooled):
    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    directory.mkdir(parents=True)
    with pytest.raises(BlobFault, match="Input/output"):
        await put(Blobs(directory, offload=THREADS, fsync=broken), spooled(b"bytes"))


async def test_a_source_that_is_not_there_is_a_fault_and_leaves_nothing(blobs, tmp_path, directory):
    with pytest.raises(BlobFault, match="cannot store"):
        await blobs.put_file(NAME, tmp_path / "nowhere", digest="00" * 32, size_bytes=1)
    assert not [path for path in directory.rglob("*") if path.is_file()]


async def test_a_removal_is_durable_before_it_is_told(blobs, spooled, directory, disk):
    """Else the bytes could come back when nobody knows of them any more."""
    await put(blobs, spooled(b"bytes"))
    before = len(disk.synced)
    await blobs.delete(NAME)
    assert disk.since(before) == [inode(directory / "layers/ab")]


def test_the_folders_of_a_new_store_are_durable(tmp_path, disk):
    """Each new folder's name stands in its parent, so the parents are fsynced."""
    Blobs(tmp_path / "one" / "two", offload=THREADS, fsync=disk.fsync)
    assert set(disk.synced) == {inode(tmp_path / "one"), inode(tmp_path)}


async def test_leftovers_of_writes_that_never_ended_are_cleared_at_start(blobs, spooled, directory):
    await put(blobs, spooled(b"bytes"))
    (directory / "layers/ab/abcdef-0012#1").write_bytes(b"half")
    (directory / "other#23").write_bytes(b"")
    assert blobs.clear_leftovers() == 2
    assert [path for path in directory.rglob("*") if path.is_file()] == [directory / NAME]


async def test_where_nodes_share_the_directory_a_write_under_way_is_spared(blobs, directory):
    """A node that starts must not take the files from under one that runs."""
    for name, date_s in (("old#1", 1000), ("young#1", 3000)):
        (directory / name).write_bytes(b"half")
        os.utime(directory / name, (date_s, date_s))
    assert blobs.clear_leftovers(before=2_000_000) == 1
    assert [path.name for path in directory.iterdir()] == ["young#1"]


async def test_an_unfinished_write_does_not_stand_in_the_way(blobs, spooled, directory):
    (directory / NAME).parent.mkdir(parents=True)
    (directory / f"{NAME}#1").write_bytes(b"half")
    await put(blobs, spooled(b"bytes"))
    assert await blobs.get_range(NAME, 0, 5) == b"bytes"


async def test_everything_that_waits_for_the_disk_goes_through_offload(directory, spooled):
    """On the event loop it would hold up every poll."""
    asked = []

    async def offload(work):
        asked.append(work)
        return work()

    blobs = Blobs(directory, offload=offload)
    await put(blobs, spooled(b"bytes"))
    await blobs.get_range(NAME, 0, 5)
    await blobs.exists(NAME)
    await blobs.delete(NAME)
    assert len(asked) == 4
