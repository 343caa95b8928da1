"""The list of rollouts shows of each what it shows of it alone, newest first, in pages; on every engine."""

from tests.api.rollout_world import Fleet
from tests.api.world import BASE, serving

from fleetvisor.db.sqlite import memory


async def test_a_page_shows_of_each_rollout_what_is_shown_of_it_alone(server):
    fleet = await Fleet.make(server, 12)
    made = []
    for selector, fate in (("name=d1", "succeeded"), ("name~d?", "failed"), ("*", "succeeded")):
        rollout = await fleet.start(Waves="3,100%", Selector=selector, OnUnproven="stop")
        made.append((await fleet.run(rollout, lambda _, fate=fate: fate))["sid"])
        server.clock.advance(1)
    made.append(
        (await fleet.hands.post("/v1/Rollouts", ok=201, App="v2", Selector="*", Waves="1%,50%,100%")).json["sid"]
    )
    alone = [(await fleet.hands.get(f"/v1/Rollouts/{sid}")).json for sid in reversed(made)]
    assert {rollout["state"] for rollout in alone} == {"completed", "stopped", "draft"}
    assert len({len(rollout["waves"]) for rollout in alone}) == 2
    for size in (1, 3, 50):
        pages = await fleet.hands.walk("/v1/Rollouts", "rollouts", PageSize=size)
        assert [rollout for page in pages for rollout in page] == alone
    assert (await server.nobody().get("/v1/Rollouts", ok=401)).status == 401
    assert (await fleet.hands.get("/v1/Rollouts", PageSize=50)).json["meta"]["next_page_url"] is None


async def test_the_devices_of_a_rollout_are_selected_and_paged(server):
    fleet = await Fleet.make(server, 30)
    for number, sid in enumerate(fleet.boards):
        await fleet.hands.post(f"/v1/Devices/{sid}", Labels=f"site={('graz', 'linz', 'wien')[number % 3]}")
    rollout = await fleet.run(
        await fleet.start(Waves="100%"), lambda sid: "failed" if sid[-1] in "0123" else "succeeded"
    )
    every = await fleet.members(rollout)
    failed = await fleet.members(rollout, State="failed")
    assert 0 < len(failed) < len(every) == 30
    graz = {
        row["sid"] for page in await fleet.hands.walk("/v1/Devices", "devices", Selector="site=graz") for row in page
    }
    for rows, wanted in ((every, {}), (failed, {"State": "failed"})):
        expected = [row for row in rows if row["device_sid"] in graz]
        for size in (1, 4, 50):
            assert await fleet.members(rollout, Selector="site = graz", PageSize=size, **wanted) == expected
    assert await fleet.members(rollout, Selector="site=nowhere") == []
    v1 = await fleet.members(rollout, Selector="app=v1")
    assert [row["device_sid"] for row in v1] == [row["device_sid"] for row in failed]
    path = f"/v1/Rollouts/{rollout['sid']}/Devices"
    assert "character 6" in (await fleet.hands.get(path, ok=400, Selector="site==x")).json["detail"]
    token = (await fleet.hands.get(path, Selector="site=graz", PageSize=2)).json["meta"]["next_page_url"]
    await fleet.hands.get(token.replace("graz", "linz"), ok=400)


async def test_a_page_of_selected_devices_looks_at_a_bounded_number_and_a_walk_finds_all(tmp_path):
    async with serving(memory(), tmp_path, selector_rows_max=4) as server:
        fleet = await Fleet.make(server, 30)
        rare = list(fleet.boards)[:2]
        for sid in rare:
            await fleet.hands.post(f"/v1/Devices/{sid}", Labels="ring=1")
        rollout = await fleet.start(Waves="100%")
        path, sizes, last = f"/v1/Rollouts/{rollout['sid']}/Devices", [], None
        for key, size in (("next", 3), ("previous", 3)):
            url, found = (last if key == "previous" else f"{BASE}{path}?Selector=ring&PageSize={size}"), []
            while url:
                reply = (await fleet.hands.get(url)).json
                found.append([row["device_sid"] for row in reply["rollout_devices"]])
                last, url = url, reply["meta"][f"{key}_page_url"]
            sizes.append(len(found))
            assert sorted(sid for page in found for sid in page) == sorted(rare)
        assert min(sizes) >= 7  # of 30 devices, four at a time


async def test_an_account_without_rollouts_has_an_empty_list(hands):
    assert (await hands.get("/v1/Rollouts")).json["rollouts"] == []


async def test_a_rollout_means_the_apps_that_its_selector_named_when_it_was_drafted(server):
    """They may be removed while it goes on, and their names be given to others."""
    fleet = await Fleet.make(server, 6)
    v1, v2 = fleet.v1["sid"], fleet.v2["sid"]
    rollout = await fleet.start(Waves="1,100%", Selector='app in ( "v1" ), target!=v2,name~d*')
    assert rollout["selector"] == f"app in ( {v1} ), target!={v2},name~d*"
    await fleet.hands.delete("/v1/Apps/v1")
    await fleet.hands.app("v1")
    assert (await fleet.hands.get(f"/v1/Rollouts/{rollout['sid']}/Plan"))["selected"] == 5
    for sid in fleet.boards:
        await fleet.hands.get(f"/v1/Devices/{sid}/Explain")
    assert (await fleet.hands.get("/v1/DeviceCounts", Selector=f"app={v1}"))["total"] == 6
    assert sum(wave["counts"]["succeeded"] for wave in (await fleet.run(rollout))["waves"]) == 6
    await fleet.hands.post("/v1/Rollouts", ok=400, App="v2", Selector="app=v0")
    many = ",".join(f"target!={'v2' if n % 2 else 'v1'}" for n in range(60))
    await fleet.hands.post("/v1/Rollouts", ok=400, App="v2", Selector=many)
