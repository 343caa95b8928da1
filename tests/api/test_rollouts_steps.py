"""The steps of rollouts where something stands in their way: limits, other clocks, removed apps, a wave half offered."""

from tests.api.rollout_world import Fleet


async def test_a_node_whose_clock_is_behind_starts_nothing_beyond_the_rate(server):
    fleet = await Fleet.make(server, 12)
    rollout = await fleet.start(Waves="100%", StartsPerMinute=1)
    assert rollout["counts"]["updating"] == 1
    server.clock.advance(-5)
    assert (await fleet.tick(rollout))["counts"]["updating"] == 1
