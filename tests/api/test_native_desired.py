"""``GET /device/v1/desired``: the exact rules of the poll, held and not."""

import asyncio
import time
from email.utils import parsedate_to_datetime

import pytest
from tests.native_world import Worlds, settle


@pytest.fixture
async def worlds(tmp_path):
    return Worlds(tmp_path)


@pytest.fixture
async def world(worlds):
    world = worlds.make()
    yield world
    await world.close()


@pytest.fixture
async def device(worlds, world):
    return await worlds.device(world, "sensor")


async def etag_of(device):
    return (await device.get("desired")).header("etag")


async def test_a_device_without_a_target_gets_200_and_a_null_app(device):
    answer = await device.get("desired")
    assert answer.status == 200
    assert answer.json == {
        "app": None,
        "logging": {"enabled": False, "until": None},
        "restart": 0,
        "poll_interval_s": 60,
        "policy": {"politeness_s": 0, "connection_grace_s": 0, "check_in_s": 0},
    }
    assert answer.header("content-type") == "application/json"
    assert answer.header("content-length") == str(len(answer.body))


async def test_a_target_names_its_manifest_its_update_and_its_layers(worlds, world, device):
    app, layers = await worlds.app(world, device.account_sid)
    await device.change(target_app=app.app_sid)
    desired = (await device.get("desired")).json["app"]
    assert desired == {
        "sid": app.app_sid,
        "manifest": app.manifest_hash,
        "update": desired["update"],
        "layers": [
            {
                "sha256": layers[0].digest,
                "size_bytes": 4500,
                "measurement": layers[0].measurement,
                "region": "internal",
                "region_start": 0,
                "region_size": 0x10000,
            }
        ],
    }


@pytest.mark.parametrize("wrap", ["{}", "W/{}", '"other", {}', '"a" ,W/{} , "b"', "*"])
async def test_an_unchanged_poll_gets_304_without_a_body(device, wrap):
    """If-None-Match compares weakly, takes lists and ``*``."""
    etag = await etag_of(device)
    answer = await device.get("desired", ("If-None-Match", wrap.format(etag)))
    assert (answer.status, answer.body) == (304, b"")
    assert answer.header("etag") == etag
    assert answer.header("content-length") is None


async def test_several_if_none_match_lines_are_one_list(device):
    etag = await etag_of(device)
    answer = await device.get("desired", ("If-None-Match", '"a"'), ("If-None-Match", etag))
    assert answer.status == 304


@pytest.mark.parametrize("match", ['"other"', "", "nonsense", '"'])
async def test_a_tag_that_does_not_match_gets_the_whole(device, match):
    assert (await device.get("desired", ("If-None-Match", match))).status == 200


@pytest.mark.parametrize("unchanged", [False, True])
async def test_every_answer_has_date_and_says_how_it_may_be_kept(device, unchanged):
    match = ("If-None-Match", "*" if unchanged else '"no"')
    answer = await device.get("desired", match)
    assert answer.status == (304 if unchanged else 200)
    assert answer.header("cache-control") == "private, no-cache"
    assert answer.header("vary").lower() == "authorization"
    assert abs(parsedate_to_datetime(answer.header("date")).timestamp() - time.time()) < 5


async def test_head_has_the_headers_of_get_and_no_body(device):
    get, head = await device.get("desired"), await device.head("desired")
    assert head.body == b""
    assert {**head.headers, "date": 0} == {**get.headers, "date": 0}
    assert (await device.head("desired", ("If-None-Match", get.header("etag")))).status == 304


async def test_a_changed_device_gets_another_tag_and_the_same_one_back(worlds, world, device):
    app, _ = await worlds.app(world, device.account_sid)
    before = await etag_of(device)
    await device.change(target_app=app.app_sid)
    changed = await etag_of(device)
    assert changed != before
    await device.change(target_app=None)
    assert await etag_of(device) == before


@pytest.mark.parametrize("token", ["fvd_unknown", "", "x" * 5000])
async def test_a_wrong_token_is_401_with_a_challenge(device, token):
    answer = await device.get("desired", token=token)
    assert answer.status == 401
    assert answer.header("www-authenticate").startswith("Bearer")
    assert answer.header("date")
    assert set(answer.json) == {"code", "detail", "message", "more_info", "status"}
    assert answer.json["code"] == 20003


async def test_basic_credentials_are_no_device_token(device):
    answer = await device.call("GET", "/device/v1/desired", headers=[("authorization", "Basic QUM6eA==")], token="")
    assert answer.status == 401


async def test_a_removed_device_is_refused_at_once(device):
    etag = await etag_of(device)
    await device.world.devices.delete(device.account_sid, device.sid)
    assert (await device.get("desired", ("If-None-Match", etag))).status == 401


async def test_a_poll_with_nothing_new_reads_no_database(device, monkeypatch):
    """The unchanged poll is answered from memory alone."""
    etag = await etag_of(device)
    reads = []
    monkeypatch.setattr(type(device.world.db), "one", lambda *_: reads.append(1))  # counts the reads
    assert (await device.get("desired", ("If-None-Match", etag))).status == 304
    assert reads == []


async def test_answers_in_memory_are_not_trusted_while_the_bus_is_stale(device, monkeypatch):
    etag = await etag_of(device)
    device.world.bus.fresh = False
    reads = []
    one = type(device.world.db).one

    async def counted(self, *args):
        reads.append(1)
        return await one(self, *args)

    monkeypatch.setattr(type(device.world.db), "one", counted)  # counts the reads
    assert (await device.get("desired", ("If-None-Match", etag))).status == 304
    assert len(reads) >= 2


async def test_presence_and_the_clock_of_the_update_are_written_behind(worlds, world, device):
    app, _ = await worlds.app(world, device.account_sid)
    await device.change(target_app=app.app_sid)
    assert (await world.devices.get(device.account_sid, device.sid)).date_last_seen is None
    await device.get("desired")
    await world.presence.flush()
    found = await world.devices.get(device.account_sid, device.sid)
    assert abs(found.date_last_seen - worlds.clock.now()) < 5000
    update = await world.updates.get(device.account_sid, device.sid, found.update.number)
    assert abs(update.date_deadline - worlds.clock.now() - 3_600_000) < 5000


async def test_an_unfetched_update_has_no_deadline(worlds, world, device):
    app, _ = await worlds.app(world, device.account_sid)
    await device.get("desired")
    await device.change(target_app=app.app_sid)
    await device.head("desired")
    await world.presence.flush()
    number = (await world.devices.get(device.account_sid, device.sid)).update.number
    assert (await world.updates.get(device.account_sid, device.sid, number)).date_deadline is None


# ---- held polls


async def test_wait_holds_and_a_change_answers_at_once(worlds, world, device):
    app, _ = await worlds.app(world, device.account_sid)
    held = device.poll(await etag_of(device), 60)
    await settle(world, 1)
    started = time.monotonic()
    await device.change(target_app=app.app_sid)
    answer = await held
    assert time.monotonic() - started < 1
    assert answer.status == 200
    assert answer.json["app"]["sid"] == app.app_sid
    assert answer.header("preference-applied") == "wait=60"
    assert world.channel.held == 0


async def test_the_end_of_a_wait_is_the_same_304(world, device):
    etag = await etag_of(device)
    started = time.monotonic()
    answer = await device.poll(etag, 1)
    assert 0.95 <= time.monotonic() - started < 3
    assert (answer.status, answer.body, answer.header("etag")) == (304, b"", etag)
    assert answer.header("preference-applied") == "wait=1"
    assert world.channel.held == 0


@pytest.mark.parametrize("match", [(), (("If-None-Match", '"other"'),)])
async def test_wait_without_a_matching_tag_is_answered_at_once(device, match):
    answer = await device.get("desired", *match, ("Prefer", "wait=60"))
    assert answer.status == 200
    assert answer.header("preference-applied") is None


@pytest.mark.parametrize("prefer", ["wait=0", "wait=-1", "wait=x", "wait", "respond-async"])
async def test_a_preference_that_asks_for_no_wait_is_ignored(device, prefer):
    answer = await device.get("desired", ("If-None-Match", "*"), ("Prefer", prefer))
    assert answer.status == 304
    assert answer.header("preference-applied") is None


async def test_several_prefer_lines_are_one_list(worlds):
    world = worlds.make()
    device = await worlds.device(world)
    etag = await etag_of(device)
    held = asyncio.create_task(
        device.get("desired", ("If-None-Match", etag), ("Prefer", "respond-async"), ("Prefer", 'Wait="1"'))
    )
    assert (await held).header("preference-applied") == "wait=1"


async def test_a_longer_wait_is_clamped_and_says_so(worlds):
    world = worlds.make(wait_s_max=1)
    device = await worlds.device(world)
    answer = await device.poll(await etag_of(device), 100_000)
    assert answer.header("preference-applied") == "wait=1"


async def test_a_bell_that_changes_nothing_keeps_holding(world, device):
    etag = await etag_of(device)
    held = device.poll(etag, 1)
    await settle(world, 1)
    started = time.monotonic()
    for _ in range(5):
        world.bus.ring([device.sid])
        await asyncio.sleep(0.02)
    assert not held.done()
    assert (await held).status == 304
    assert time.monotonic() - started > 0.8


async def test_a_change_during_the_registration_is_not_lost(worlds, monkeypatch):
    """The change comes after the first comparison and before the poll is held: the second comparison sees it."""
    world = worlds.make()
    device = await worlds.device(world)
    app, _ = await worlds.app(world, device.account_sid)
    etag = await etag_of(device)
    held_polls = world.channel._held_polls
    hold = held_polls.hold

    def late(*args):
        poll = hold(*args)
        monkeypatch.setattr(held_polls, "hold", hold)  # lets a change come before the poll is held
        return poll

    change = device.change(target_app=app.app_sid)

    def first_change_then_hold(*args):
        with pytest.raises(StopIteration):
            change.send(None)  # the database in memory never suspends: the whole change happens here
        return late(*args)

    monkeypatch.setattr(held_polls, "hold", first_change_then_hold)  # lets a change come before the poll is held
    async with asyncio.timeout(2):
        assert (await device.poll(etag, 60)).status == 200


async def test_a_star_is_held_and_a_change_ends_it_with_the_new_tag(worlds, world, device):
    """``*`` matches every state, so the answer stays 304; its tag tells of the change."""
    etag = await etag_of(device)
    held = device.poll("*", 60)
    await settle(world, 1)
    await device.change(restart=True)
    answer = await held
    assert answer.status == 304
    assert answer.header("etag") != etag


async def test_the_end_of_logging_changes_the_tag_and_wakes_held_polls(worlds, world, device):
    await device.change(logging_enabled=True)
    answer = await device.get("desired")
    assert answer.json["logging"]["enabled"] is True
    worlds.clock.shift_ms = 24 * 3600 * 1000 - 500
    held = device.poll(answer.header("etag"), 60)
    await settle(world, 1)
    started = time.monotonic()
    ended = await held
    assert time.monotonic() - started < 5
    assert ended.status == 200
    assert ended.json["logging"] == {"enabled": False, "until": None}


async def test_a_client_that_goes_away_leaves_no_waiter(world, device):
    gone = asyncio.Event()
    held = device.poll(await etag_of(device), 60, gone=gone)
    await settle(world, 1)
    gone.set()
    assert (await held).status == 400  # for a client whose body is malformed; one that is gone never sees it
    assert world.channel.held == 0


async def test_removing_the_device_ends_its_held_poll_with_401(world, device):
    held = device.poll(await etag_of(device), 60)
    await settle(world, 1)
    await world.devices.delete(device.account_sid, device.sid)
    assert (await held).status == 401
    assert world.channel.held == 0


async def test_shutdown_answers_every_held_poll_each_with_its_own_pause(world, device):
    etag = await etag_of(device)
    polls = [device.poll(etag, 60) for _ in range(4)]
    await settle(world, 4)
    world.channel.release_all()
    answers = await asyncio.gather(*polls)
    assert {answer.status for answer in answers} == {304}
    pauses = {int(answer.header("retry-after")) for answer in answers}
    assert len(pauses) > 1
    assert pauses <= set(range(1, 11))
    late = await device.poll(etag, 60)
    assert late.status == 304
    assert late.header("retry-after")
    assert late.header("preference-applied") is None


async def test_above_the_bound_a_wait_is_answered_at_once(worlds):
    world = worlds.make(held_polls_max=1)
    device = await worlds.device(world)
    etag = await etag_of(device)
    held = device.poll(etag, 60)
    await settle(world, 1)
    answer = await device.poll(etag, 60)
    assert answer.status == 304
    assert answer.header("preference-applied") is None
    world.channel.release_all()
    await held


async def test_head_is_held_too(world, device):
    held = asyncio.create_task(device.head("desired", ("If-None-Match", await etag_of(device)), ("Prefer", "wait=60")))
    await settle(world, 1)
    await device.change(restart=True)
    answer = await held
    assert (answer.status, answer.body) == (200, b"")
