"""Damaged firmware: devices get 503 and never wrong bytes; rollouts of it are held, blame nobody, and go on once mended."""

import itertools
from hashlib import sha256

import pytest
from tests.api.rollout_world import Fleet
from tests.api.world import BASE, serving
from tests.corpus import simple_bundle

V2 = bytes(itertools.islice(itertools.cycle(range(251)), 3000))


def files_of(server, data):
    return list(server.spool.parent.glob(f"blobs/layers/*/{sha256(data).hexdigest()}-*"))


def flip(server, data):
    """Change one bit of the stored bytes."""
    [path] = files_of(server, data)
    damaged = bytearray(data)
    damaged[len(data) // 3] ^= 4
    path.write_bytes(damaged)


async def upload(server, data, name=None, ok=201):
    form = {"UniqueName": name} if name else {}
    files = {"File": ("x.zip", simple_bundle(data))}
    return await server.hands.call("POST", "/v1/Apps", ok=ok, data=form, files=files)


async def fetch(server, token, data, span=None):
    headers = {"authorization": f"Bearer {token}"} | ({"range": f"bytes={span}"} if span else {})
    return await server.hands.http.get(f"{BASE}/device/v1/layers/{sha256(data).hexdigest()}", headers=headers)


async def events(server, kind):
    return (await server.hands.get("/v1/Events", Type=kind))["events"]


@pytest.mark.parametrize("harm", [flip, lambda server, data: files_of(server, data)[0].write_bytes(b"")])
@pytest.mark.parametrize("kept", [256 << 20, 0])
async def test_a_device_gets_503_and_no_wrong_byte_until_the_same_file_is_uploaded_again(engine, tmp_path, harm, kept):
    async with serving(engine, tmp_path, layer_cache_bytes=kept) as server:
        token = (await server.hands.device())["device_token"]
        app = (await upload(server, V2, "v2")).json
        await upload(server, V2 + b"other")  # the store holds something else, too
        assert app["damaged"] is False
        harm(server, V2)
        for span in (None, "0-9", "2990-"):
            reply = await fetch(server, token, V2, span)
            assert reply.status_code == 503
            assert reply.headers["retry-after"] == "300"
            assert "upload the same file again to repair them" in reply.json()["detail"]
        assert (await server.hands.get("/v1/Apps/v2"))["damaged"] is True
        [told] = await events(server, "app.damaged")
        assert told["subject_sid"] == app["sid"]
        await upload(server, V2, "v2", ok=409)
        assert (await fetch(server, token, V2)).content == V2
        assert (await fetch(server, token, V2, "2990-")).content == V2[2990:]
        assert (await server.hands.get("/v1/Apps/v2"))["damaged"] is False
        [told] = await events(server, "app.mended")
        assert told["subject_sid"] == app["sid"]


async def test_a_layer_that_is_known_to_be_damaged_is_not_read_for_each_device(server, monkeypatch):
    read, blobs = [], server.world.apps._blobs

    def noted(name, real):
        async def call(*args, **keys):
            read.append(name)
            return await real(*args, **keys)

        return call

    for name in ("get_whole", "prove", "get_range"):
        monkeypatch.setattr(blobs, name, noted(name, getattr(blobs, name)))  # counts what is read of the store
    token = (await server.hands.device())["device_token"]
    await upload(server, V2)
    await upload(server, V2 + b"other")
    flip(server, V2)
    read.clear()
    for _ in range(5):
        assert (await fetch(server, token, V2)).status_code == 503
    assert read == ["get_whole"]


async def test_a_large_layer_is_proved_at_its_first_piece_and_again_when_its_file_was_written(engine, tmp_path):
    async with serving(engine, tmp_path, layer_cache_bytes=4096) as server:
        token = (await server.hands.device())["device_token"]
        await upload(server, V2)
        await upload(server, V2 + b"other")
        assert (await fetch(server, token, V2, "5-9")).content == V2[5:10]
        flip(server, V2)
        assert (await fetch(server, token, V2, "5-9")).status_code == 503


async def test_the_digests_that_ddi_asks_for_are_of_bytes_that_are_right(server):
    made = await server.hands.device("boiler-7")
    app = (await upload(server, V2)).json
    await upload(server, V2 + b"other")
    await server.hands.post(f"/v1/Devices/{made['sid']}", TargetApp=app["sid"])
    headers = {"authorization": f"TargetToken {made['device_token']}"}
    base = f"{BASE}/default/controller/v1/boiler-7"
    poll = (await server.hands.http.get(base, headers=headers)).json()
    flip(server, V2)
    url = poll["_links"]["deploymentBase"]["href"]
    assert (await server.hands.http.get(url, headers=headers)).status_code == 503
    assert (await server.hands.get(f"/v1/Apps/{app['sid']}"))["damaged"] is True


async def damaged_fleet(server, count=6, **form):
    """Make a fleet with a rollout of ``V2`` whose bytes are damaged once the first devices were offered them."""
    fleet = await Fleet.make(server, count)
    await upload(server, V2, "v3")
    rollout = await fleet.start(App="v3", **form)
    flip(server, V2)
    token = next(iter(fleet.boards.values())).token
    assert (await fetch(server, token, V2)).status_code == 503
    return fleet, rollout


async def test_a_rollout_of_a_damaged_app_is_held_and_says_so(server):
    fleet, rollout = await damaged_fleet(server, 6, Waves="100%", MaxConcurrent=2)
    assert rollout["counts"]["updating"] == 2
    for board in list(fleet.boards.values()):
        await board.follow()
    server.clock.advance(1)
    rollout = await fleet.tick(rollout)
    assert rollout["counts"]["updating"] == 0, "nothing more is offered"
    assert rollout["waits_for"]["code"] == "damaged"
    assert "upload" in rollout["waits_for"]["sentence"]
    shown = (await server.hands.get(f"/v1/Rollouts/{rollout['sid']}/Devices")).text
    waiting = next(sid for sid in fleet.boards if sid not in shown)
    said = (await server.hands.get(f"/v1/Devices/{waiting}/Explain"))["reasons"]
    assert "damaged" in {(reason.get("data") or {}).get("wait_code") for reason in said}
    await upload(server, V2, "v3", ok=409)
    server.clock.advance(1)
    rollout = await fleet.tick(rollout)
    assert rollout["counts"]["updating"] == 2
    assert rollout["waits_for"]["code"] != "damaged"


async def test_no_further_wave_begins_while_the_app_is_damaged(server):
    fleet, rollout = await damaged_fleet(server, 4, Waves="2,100%", Limit="50%", MinimumSample=1)
    for board in fleet.boards.values():
        if (await board.desired())["app"]:
            await board.follow()
    for _ in range(3):
        server.clock.advance(1)
        rollout = await fleet.tick(rollout)
    assert (rollout["counts"]["succeeded"], rollout["wave"], rollout["waits_for"]["code"]) == (2, 1, "damaged")
    await upload(server, V2)
    for _ in range(3):
        server.clock.advance(1)
        rollout = await fleet.tick(rollout)
    assert rollout["wave"] == 2


async def test_what_fails_while_the_app_is_damaged_is_no_evidence_and_no_penalty_and_is_offered_again(server):
    fleet, rollout = await damaged_fleet(server, 4, Waves="100%", Limit="1%")
    assert rollout["counts"]["updating"] == 4
    for board in fleet.boards.values():
        await board.follow("failed")
    for _ in range(5):
        server.clock.advance(3)
        rollout = await fleet.tick(rollout)
    assert rollout["state"] == "running", "the guard has nothing to stop it for, and it does not end"
    assert rollout["counts"]["failed"] == 0
    assert rollout["counts"]["skipped"] == 4
    assert rollout["waits_for"]["code"] == "damaged"
    for sid in fleet.boards:
        assert (await server.hands.get(f"/v1/Devices/{sid}/Penalties"))["penalties"] == []
    await upload(server, V2)
    for _ in range(5):
        server.clock.advance(3)
        rollout = await fleet.tick(rollout)
    assert rollout["counts"]["updating"] == 4
    for board in fleet.boards.values():
        await board.follow()
    for _ in range(3):
        server.clock.advance(3)
        rollout = await fleet.tick(rollout)
    assert (rollout["state"], rollout["counts"]["succeeded"]) == ("completed", 4)


async def test_a_device_that_cannot_download_damaged_bytes_does_not_count_as_silent(server):
    fleet, rollout = await damaged_fleet(server, 3, Waves="100%", SilentAfter=60, OfflineAfter=3600)
    for board in fleet.boards.values():
        await board.follow("installing")
    for _ in range(4):
        server.clock.advance(50)
        rollout = await fleet.tick(rollout)
    assert rollout["counts"]["updating"] == 3
    await upload(server, V2)
    server.clock.advance(20)
    rollout = await fleet.tick(rollout)
    assert rollout["counts"]["updating"] == 3, "they get their time once the bytes are right"
    for _ in range(4):
        server.clock.advance(30)
        rollout = await fleet.tick(rollout)
    assert rollout["counts"]["silent"] == 3


async def test_a_rollback_leaves_out_whose_previous_app_is_damaged_and_is_held_before_its_end(server):
    fleet = await Fleet.make(server, 3)
    old = (await upload(server, V2, "old")).json
    board = next(iter(fleet.boards.values()))
    board.running = {"app": old["sid"], "manifest": old["hash"][7:]}
    await board.report()
    rollout = await fleet.start(App="v2", Waves="100%")
    for each in fleet.boards.values():
        await each.follow()
    for _ in range(3):
        server.clock.advance(1)
        rollout = await fleet.tick(rollout)
    assert rollout["state"] == "completed"
    flip(server, V2)
    assert (await fetch(server, board.token, V2)).status_code == 503
    back = (await server.hands.post("/v1/Rollouts", ok=201, Kind="rollback", RollbackOf=rollout["sid"], Soak=0)).json
    plan = (await server.hands.get(f"/v1/Rollouts/{back['sid']}/Plan")).json
    assert "damaged" in {group["reason"] for group in plan["left_out"]}
    await fleet.act(back, "start")
    for _ in range(4):
        server.clock.advance(1)
        back = await fleet.tick(back)
        for each in fleet.boards.values():
            await each.follow()
    assert back["state"] == "running"
    assert (back["counts"]["succeeded"], back["counts"]["skipped"]) == (2, 1)
    assert back["waits_for"]["code"] == "damaged"
    said = (await server.hands.get(f"/v1/Devices/{board.sid}/Explain"))["reasons"]
    assert any((reason.get("data") or {}).get("reason") == "damaged" for reason in said)
    await upload(server, V2)
    for _ in range(4):
        server.clock.advance(1)
        back = await fleet.tick(back)
        for each in fleet.boards.values():
            await each.follow()
    assert (back["state"], back["counts"]["succeeded"]) == ("completed", 3)
