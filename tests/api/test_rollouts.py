"""Rollouts through the API: waves, guards, pauses, penalties, who leaves and who is left out. On every engine."""

from tests.api.rollout_world import Fleet


async def test_a_release_goes_wave_by_wave_until_every_device_runs_it(server):
    fleet = await Fleet.make(server, 40)
    rollout = await fleet.start(Waves="10%,50%,100%")
    assert rollout["state"] == "running"
    first = rollout["counts"]["updating"]
    assert 1 <= first < 20
    seen = set()
    while not rollout["date_ended"]:
        seen.add(rollout["wave"])
        for board in fleet.boards.values():
            await board.follow()
        server.clock.advance(1)
        rollout = await fleet.tick(rollout)
    assert rollout["state"] == "completed"
    assert seen >= {1, 2}
    assert rollout["counts"]["succeeded"] == 40
    decisions = (await fleet.hands.get(f"/v1/Rollouts/{rollout['sid']}/Decisions")).json["decisions"]
    assert decisions[0]["code"] == "unproven_within"
    assert (await fleet.hands.get("/v1/DeviceCounts", By="status")).json["groups"] == [
        {"value": "up-to-date", "count": 40}
    ]
