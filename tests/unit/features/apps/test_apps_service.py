"""Apps, through the service, with real blobs and a database in memory."""

import asyncio
from hashlib import sha256

import msgspec
import pytest
from tests import bundles
from tests.unit.features.apps.warehouse import apps_of, digest_of, firmware, warehouse

from fleetvisor.blobs.store import BlobFault, Blobs
from fleetvisor.features.apps.model import Upload
from fleetvisor.features.apps.reading import Inline
from fleetvisor.ground.errors import Conflict, Invalid, NotFound, TooLarge, Unavailable
from fleetvisor.ground.pages import PageRequest
from fleetvisor.reality import inline

A, B, C = b"the bootloader" * 9, b"the application" * 20, b"the second application" * 20


async def test_an_uploaded_bundle_becomes_an_app_with_its_layers_and_its_manifest(tmp_path):
    house = await warehouse(tmp_path)
    app = await house.upload(firmware(A, B), "thermostat 1.0")
    assert app == await house.apps.get(house.at.account, app.app_sid)
    assert app == await house.apps.get(house.at.account, "KA" + app.app_sid[2:].upper())
    assert app == await house.apps.get(house.at.account, "thermostat 1.0")
    layers = await house.apps.layers(house.at.account, app.app_sid)
    assert [layer.digest for layer in layers] == [digest_of(A), digest_of(B)]
    manifest = await house.apps.manifest(house.at.account, "thermostat 1.0")
    assert sha256(manifest.manifest).hexdigest() == manifest.manifest_hash == app.manifest_hash
    assert await house.apps.find_manifest(house.at.account, app.manifest_hash) == manifest.manifest
    for part in (A, B):
        blob = await house.apps.find_layer(house.at.account, digest_of(part))
        assert await house.blobs.get_range(blob.blob, 0, blob.size_bytes) == part
    await house.check()


async def test_an_upload_leaves_nothing_in_the_spool_whether_it_worked_or_not(tmp_path):
    house = await warehouse(tmp_path)
    await house.upload(firmware(A, B), "taken")
    for bundle, name, problem in (
        (firmware(A, C), "taken", Conflict),
        (firmware(A)[:-3], None, Invalid),
        (b"", None, Invalid),
        (firmware(A), "a/b", Invalid),
    ):
        with pytest.raises(problem):
            await house.upload(bundle, name)
    assert house.spooled() == []


async def test_a_bundle_over_the_bound_is_too_large(tmp_path):
    house = await warehouse(tmp_path, bundle_bytes_max=100)
    with pytest.raises(TooLarge):
        await house.upload(firmware(A))


async def test_a_failed_upload_leaves_nothing_but_what_the_sweep_takes(tmp_path):
    house = await warehouse(tmp_path)
    await house.upload(firmware(A), "taken")
    with pytest.raises(Conflict):
        await house.upload(firmware(A, B), "taken")
    assert len((await house.apps.list(house.at.account, PageRequest())).items) == 1
    assert len(await house.at.events("app.")) == 1
    assert await house.apps.find_layer(house.at.account, digest_of(B)) is None
    for _ in range(2):
        house.at.clock.advance(3601)
        await house.sweep()
    assert [path.name.split("-")[0] for path in house.stored()] == [digest_of(A)]
    await house.check()


async def test_a_bundle_that_is_refused_stores_nothing_at_all(tmp_path):
    house = await warehouse(tmp_path)
    with pytest.raises(Invalid):
        await house.upload(bundles.with_manifest(b"garbage"))
    assert house.stored() == []
    assert not await house.at.number("SELECT count(*) AS number FROM layers")


async def test_the_same_bundle_again_is_another_app_on_the_same_bytes(tmp_path):
    house = await warehouse(tmp_path)
    one, two = await house.upload(firmware(A, B)), await house.upload(firmware(A, B))
    assert one.app_sid != two.app_sid
    assert one.manifest_hash == two.manifest_hash
    assert len(house.stored()) == 2
    await house.apps.delete(house.at.account, one.app_sid)
    await house.check()
    assert await house.apps.find_layer(house.at.account, digest_of(A)) is not None


async def test_one_layer_in_two_regions_is_stored_once_and_counted_twice(tmp_path):
    house = await warehouse(tmp_path)
    app = await house.upload(firmware(A, B, A))
    assert len(house.stored()) == 2
    await house.check()
    await house.apps.delete(house.at.account, app.app_sid)
    await house.check()
    assert await house.at.number("SELECT sum(uses) AS number FROM layers") == 0


async def test_a_name_is_taken_within_its_account_only(tmp_path):
    house = await warehouse(tmp_path)
    await house.upload(firmware(A), "one")
    with pytest.raises(Conflict, match="UniqueName"):
        await house.upload(firmware(B), "one")
    other = await house.upload(firmware(A), "one", account=house.at.other)
    await house.upload(firmware(A))
    await house.upload(firmware(A))
    await house.apps.delete(house.at.other, other.app_sid)
    await house.upload(firmware(B), "one", account=house.at.other)


async def test_a_name_is_told_apart_by_every_letter(tmp_path):
    house = await warehouse(tmp_path)
    await house.upload(firmware(A), "one")
    await house.upload(firmware(A), "One")
    with pytest.raises(NotFound):
        await house.apps.get(house.at.account, "ONE")


async def test_an_account_has_a_bounded_number_of_apps(tmp_path):
    house = await warehouse(tmp_path, apps_per_account_max=2)
    app = await house.upload(firmware(A))
    await house.upload(firmware(A))
    with pytest.raises(Conflict, match="2 Apps"):
        await house.upload(firmware(A))
    await house.upload(firmware(A), account=house.at.other)
    await house.apps.delete(house.at.account, app.app_sid)
    await house.upload(firmware(A))


async def test_another_accounts_apps_manifests_and_layers_are_not_found(tmp_path):
    house = await warehouse(tmp_path)
    app = await house.upload(firmware(A), "mine")
    for ref in (app.app_sid, "mine"):
        for verb in (house.apps.get, house.apps.manifest, house.apps.delete):
            with pytest.raises(NotFound):
                await verb(house.at.other, ref)
    assert (await house.apps.list(house.at.other, PageRequest())).items == ()
    assert await house.apps.layers(house.at.account, app.app_sid)
    assert await house.apps.layers(house.at.other, app.app_sid) == ()
    assert await house.apps.find_manifest(house.at.other, app.manifest_hash) is None
    assert await house.apps.find_layer(house.at.other, digest_of(A)) is None


async def test_a_layer_that_two_accounts_share_stays_with_the_one_that_keeps_its_app(tmp_path):
    house = await warehouse(tmp_path)
    await house.upload(firmware(A))
    theirs = await house.upload(firmware(A), account=house.at.other)
    await house.apps.delete(house.at.other, theirs.app_sid)
    assert await house.apps.find_layer(house.at.other, digest_of(A)) is None
    assert await house.apps.find_layer(house.at.account, digest_of(A)) is not None
    await house.check()


async def test_a_removed_app_is_gone_with_its_manifest_layers_and_cached_list(tmp_path):
    house = await warehouse(tmp_path)
    app = await house.upload(firmware(A), "old")
    rung = []
    house.bus.listen(rung.append)
    await house.apps.layers(house.at.account, app.app_sid)
    await house.apps.delete(house.at.account, "old")
    assert app.app_sid in rung[0]
    assert await house.apps.layers(house.at.account, app.app_sid) == ()
    assert await house.apps.find_manifest(house.at.account, app.manifest_hash) is None
    assert await house.apps.find_layer(house.at.account, digest_of(A)) is None
    with pytest.raises(NotFound):
        await house.apps.delete(house.at.account, "old")


@pytest.mark.parametrize("still", ["targeted", "updating"])
async def test_an_app_that_a_device_targets_or_is_updating_to_is_a_conflict_and_stays_whole(tmp_path, still):
    house = await warehouse(tmp_path)
    app = await house.upload(firmware(A, B))
    device = await house.at.add_device(house.at.account)
    if still == "targeted":
        await house.at.run(
            "INSERT INTO assignments (device_sid, account_sid, target_sid) VALUES (:device, :account, :app)",
            device=device,
            account=house.at.account,
            app=app.app_sid,
        )
    else:
        await house.at.run(
            """INSERT INTO updates (device_sid, number, account_sid, app_sid, app_hash, open_app_sid, state,
                date_created, date_updated) VALUES (:device, 1, :account, :app, 'x', :app, 'pending', 0, 0)""",
            device=device,
            account=house.at.account,
            app=app.app_sid,
        )
    before = house.at.everything()
    with pytest.raises(Conflict, match="targets this App"):
        await house.apps.delete(house.at.account, app.app_sid)
    assert house.at.everything() == before
    await house.at.run("UPDATE assignments SET target_sid = NULL")
    await house.at.run("UPDATE updates SET open_app_sid = NULL, state = 'succeeded'")
    await house.apps.delete(house.at.account, app.app_sid)


async def test_apps_are_paged_newest_first_and_back(tmp_path):
    """Two of the five are made in the same millisecond."""
    house = await warehouse(tmp_path)
    made = []
    for number in range(5):
        house.at.clock.advance(number % 2)
        made.append(await house.upload(firmware(A), str(number)))
    expected = sorted(made, key=lambda app: (app.date_created, app.app_sid), reverse=True)
    page = await house.apps.list(house.at.account, PageRequest(2))
    walked = list(page.items)
    while page.next:
        page = await house.apps.list(house.at.account, PageRequest(2, page.next))
        walked += page.items
    assert walked == expected
    back = list(page.items)
    while page.previous:
        page = await house.apps.list(house.at.account, PageRequest(2, page.previous))
        back = [*page.items, *back]
    assert back == expected


async def test_each_change_has_its_event(tmp_path):
    house = await warehouse(tmp_path)
    app = await house.upload(firmware(A), "one")
    await house.apps.delete(house.at.account, "one")
    created, deleted = await house.at.events("app.")
    assert (created.type, created.subject_sid, created.account_sid) == ("app.created", app.app_sid, house.at.account)
    assert msgspec.json.decode(created.data) == {"unique_name": "one", "manifest": app.manifest_hash}
    assert (deleted.type, deleted.subject_sid) == ("app.deleted", app.app_sid)


async def test_an_apps_bytes_are_durable_before_the_row_that_names_them_commits(tmp_path):
    """At the fsync of each layer no app is there yet; when create returned, file and folders were fsynced."""
    house = await warehouse(tmp_path)
    apps_seen = []

    def fsync(_descriptor):
        apps_seen.append(house.at.db._connection.execute("SELECT count(*) FROM apps").fetchone()[0])

    blobs = Blobs(tmp_path / "blobs", offload=inline, fsync=fsync)
    await house.upload(firmware(A, B), apps=apps_of(house.at, tmp_path, blobs))
    assert apps_seen == [0] * 8  # two layers: the file, its folder, layers/ and the store's own
    files = {path: path.stat().st_ino for path in house.stored()}
    await house.upload(firmware(A, B), apps=apps_of(house.at, tmp_path, blobs))
    assert {path: path.stat().st_ino for path in house.stored()} == files, "bytes that are right are not written again"


async def test_bytes_that_an_earlier_upload_left_unproven_are_proved_or_replaced(tmp_path):
    """A process died between the write and the commit, and the power went: the file is there, empty."""
    house = await warehouse(tmp_path)
    with pytest.raises(Conflict):
        await house.upload(firmware(A), await _taken(house))
    (left,) = [path for path in house.stored() if path.name.startswith(digest_of(A))]
    left.write_bytes(b"")
    await house.upload(firmware(A))
    assert left.read_bytes() == A
    await house.check()


async def _taken(house) -> str:
    await house.upload(firmware(B), "taken")
    return "taken"


async def test_a_disk_that_fails_makes_no_app(tmp_path):
    house = await warehouse(tmp_path)

    def broken(_descriptor):
        raise OSError(5, "Input/output error")

    blobs = Blobs(tmp_path / "blobs", offload=inline, fsync=broken)
    with pytest.raises(BlobFault):
        await house.upload(firmware(A), apps=apps_of(house.at, tmp_path, blobs))
    assert not await house.at.number("SELECT count(*) AS number FROM apps")
    assert house.spooled() == []
    await house.upload(firmware(A))
    await house.check()


async def test_an_upload_whose_layers_are_swept_again_and_again_gives_up(tmp_path):
    house = await warehouse(tmp_path)

    async def offload(work):
        result = work()
        await house.at.run("DELETE FROM layers")
        return result

    blobs = Blobs(tmp_path / "blobs", offload=offload)
    with pytest.raises(Unavailable):
        await house.upload(firmware(A), apps=apps_of(house.at, tmp_path, blobs))
    assert house.spooled() == []
    house.at.clock.advance(3601)
    await house.sweep()
    assert house.stored() == [], "each try's bytes were noted for removal"


async def test_a_bundle_is_read_off_the_event_loop(tmp_path):
    house = await warehouse(tmp_path)
    asked = []

    async def offload(work):
        asked.append(work)
        return work()

    await house.upload(firmware(A), apps=apps_of(house.at, tmp_path, house.blobs, offload=offload))
    assert len(asked) == 2  # the reading, and the removal of what it spooled


async def test_an_upload_that_is_cancelled_while_it_is_read_leaves_nothing_in_the_spool(tmp_path):
    house = await warehouse(tmp_path)

    class Endless(Inline):
        async def __call__(self, account_sid, reading):
            await super().__call__(account_sid, reading)
            assert len(house.spooled()) == 1
            await asyncio.get_running_loop().create_future()

    apps = apps_of(house.at, tmp_path, house.blobs, reader=Endless(inline, house.at.limits))
    path = tmp_path / "bundle"
    path.write_bytes(firmware(A, B))
    task = asyncio.ensure_future(apps.create(house.at.account, path, Upload()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert house.spooled() == []
    assert not await house.at.number("SELECT count(*) AS number FROM apps")
