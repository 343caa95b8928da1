"""A layer that is damaged or lost is noticed, told of, and mended by an upload of the same bytes or by its file."""

import shutil

import msgspec
import pytest
from tests.unit.features.apps.warehouse import digest_of, firmware, warehouse

from fleetvisor.blobs.store import BlobDamaged, BlobFault
from fleetvisor.features.apps.checking import Checks
from fleetvisor.ground.errors import Conflict

A, B = b"one layer" * 9, b"another layer" * 9


def flip(path):
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def file_of(house, part):
    [path] = [path for path in house.stored() if path.name.startswith(digest_of(part))]
    return path


def checks_of(house):
    at = house.at
    return Checks(db=at.db, blobs=house.blobs, damage=house.apps.damage, clock=at.clock, limits=at.limits)


async def note(house, part):
    layer = await house.apps.find_layer(house.at.account, digest_of(part))
    await house.apps.damage.note(layer, "seen by a test")


async def is_damaged(house, app):
    return (await house.apps.get(house.at.account, app.app_sid)).damaged


async def test_what_is_read_whole_is_proved(tmp_path):
    house = await warehouse(tmp_path)
    await house.upload(firmware(A, B))
    layer = await house.apps.find_layer(house.at.account, digest_of(A))
    keys = {"digest": layer.digest, "size_bytes": layer.size_bytes}
    assert await house.blobs.get_whole(layer.blob, **keys) == A
    path = file_of(house, A)
    flip(path)
    with pytest.raises(BlobDamaged, match="SHA-256"):
        await house.blobs.get_whole(layer.blob, **keys)
    path.write_bytes(A[:-1])
    with pytest.raises(BlobDamaged, match="has 80 bytes in place of 81"):
        await house.blobs.get_whole(layer.blob, **keys)
    path.unlink()
    with pytest.raises(BlobDamaged, match="is missing"):
        await house.blobs.get_whole(layer.blob, **keys)


async def test_while_no_blob_at_all_is_there_nothing_is_said_of_one(tmp_path):
    """An unmounted directory damages no app: what is mounted again is right at once."""
    house = await warehouse(tmp_path)
    await house.upload(firmware(A))
    layer = await house.apps.find_layer(house.at.account, digest_of(A))
    shutil.rmtree(tmp_path / "blobs" / "layers")
    with pytest.raises(BlobFault, match="is it mounted") as fault:
        await house.blobs.get_whole(layer.blob, digest=layer.digest, size_bytes=layer.size_bytes)
    assert not isinstance(fault.value, BlobDamaged)


async def test_a_damaged_layer_is_an_event_of_each_app_that_has_it_once(tmp_path):
    house = await warehouse(tmp_path)
    one, two, other = [await house.upload(firmware(*parts)) for parts in ((A,), (A, B), (B,))]
    rung = []
    house.bus.listen(rung.append)
    for _ in range(2):
        await note(house, A)
    told = await house.at.events("app.damaged")
    assert {event.subject_sid for event in told} == {one.app_sid, two.app_sid}
    assert len(told) == 2
    assert msgspec.json.decode(told[0].data) == {"layer": digest_of(A), "reason": "seen by a test"}
    assert {one.app_sid, two.app_sid} <= frozenset().union(*rung)
    assert [await is_damaged(house, app) for app in (one, two, other)] == [True, True, False]
    assert (await house.apps.find_layer(house.at.account, digest_of(A))).damaged
    assert await house.apps.damage.count() == 1


@pytest.mark.parametrize("noted", [False, True])
@pytest.mark.parametrize("harm", [flip, lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
async def test_an_upload_of_the_same_bytes_mends_them(tmp_path, harm, noted):
    house = await warehouse(tmp_path)
    old = await house.upload(firmware(A, B))
    harm(file_of(house, A))
    if noted:
        await note(house, A)
    new = await house.upload(firmware(A, B))
    await house.check()
    assert not await is_damaged(house, old)
    assert not await is_damaged(house, new)
    assert len(await house.at.events("app.mended")) == int(noted)


async def test_an_upload_that_is_refused_for_its_name_mends_all_the_same(tmp_path):
    """The same file under the same name is what people send first."""
    house = await warehouse(tmp_path)
    app = await house.upload(firmware(A), "boiler-1.0")
    flip(file_of(house, A))
    await note(house, A)
    with pytest.raises(Conflict):
        await house.upload(firmware(A), "boiler-1.0")
    await house.check()
    assert not await is_damaged(house, app)


async def test_checks_find_a_flipped_bit_and_a_missing_file_in_their_time(tmp_path):
    house = await warehouse(tmp_path, layer_check_s=3600, layer_check_bytes_per_s=30)
    await house.upload(firmware(A, B))
    checks = checks_of(house)
    flip(file_of(house, A))
    file_of(house, B).unlink()
    for _ in range(3):
        await checks.step()
        house.at.clock.advance(61)
    assert checks.damaged == 0, "an upload has just proved them"
    house.at.clock.advance(3600)
    steps = 0
    while checks.damaged < 2:
        await checks.step()
        house.at.clock.advance(1)
        steps += 1
        assert steps < 200
    assert steps > 1, "the rate bounds what is read in a second"


async def test_checks_read_each_layer_once_in_their_time(tmp_path, monkeypatch):
    house = await warehouse(tmp_path, layer_check_s=3600)
    await house.upload(firmware(A, B))
    checks, read = checks_of(house), []

    async def get_range(name, start, end, real=house.blobs.get_range):
        read.append(name)
        return await real(name, start, end)

    monkeypatch.setattr(house.blobs, "get_range", get_range)  # lets something happen while a blob is read
    house.at.clock.advance(3601)
    for _ in range(100):
        await checks.step()
        house.at.clock.advance(20)
    assert len(read) == len(set(read)) == 2


async def test_a_file_that_is_put_back_mends_and_a_wrong_one_is_read_once(tmp_path, monkeypatch):
    house = await warehouse(tmp_path, layer_check_s=0)
    app = await house.upload(firmware(A))
    path, checks, proofs = file_of(house, A), checks_of(house), []

    async def prove(name, real=house.blobs.prove, **keys):
        proofs.append(name)
        return await real(name, **keys)

    monkeypatch.setattr(house.blobs, "prove", prove)  # lets something happen while a blob is read
    flip(path)
    await note(house, A)
    for _ in range(5):
        await checks.step()
        house.at.clock.advance(20)
    assert (len(proofs), checks.damaged) == (1, 1)
    path.unlink()
    path.write_bytes(A)
    await checks.step()
    assert not await is_damaged(house, app)
    assert checks.damaged == 0
    assert len(await house.at.events("app.mended")) == 1


async def test_a_directory_is_lost_when_none_of_what_should_be_there_is(tmp_path):
    house = await warehouse(tmp_path)
    damage = house.apps.damage
    assert not await damage.lost_directory(), "a new server has no firmware"
    one, two = await house.upload(firmware(A)), await house.upload(firmware(B))
    file_of(house, A).unlink()
    assert not await damage.lost_directory()
    file_of(house, B).unlink()
    assert await damage.lost_directory()
    assert await damage.note_missing() == 2
    assert await is_damaged(house, one)
    assert await is_damaged(house, two)
    assert not await damage.lost_directory(), "what is known to be lost does not keep the next start from happening"
