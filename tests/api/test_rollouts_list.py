"""The list of rollouts shows of each what it shows of it alone, newest first, in pages; on every engine."""

from tests.api.rollout_world import Fleet


async def test_a_page_shows_of_each_rollout_what_is_shown_of_it_alone(server):
    fleet = await Fleet.make(server, 12)
    made = []
    for selector, fate in (("name=d1", "succeeded"), ("name~d?", "failed"), ("", "succeeded")):
        rollout = await fleet.start(Waves="3,100%", Selector=selector, OnUnproven="stop")
        made.append((await fleet.run(rollout, lambda _, fate=fate: fate))["sid"])
        server.clock.advance(1)
    made.append((await fleet.hands.post("/v1/Rollouts", ok=201, App="v2", Waves="1%,50%,100%")).json["sid"])
    alone = [(await fleet.hands.get(f"/v1/Rollouts/{sid}")).json for sid in reversed(made)]
    assert {rollout["state"] for rollout in alone} == {"completed", "stopped", "draft"}
    assert len({len(rollout["waves"]) for rollout in alone}) == 2
    for size in (1, 3, 50):
        pages = await fleet.hands.walk("/v1/Rollouts", "rollouts", PageSize=size)
        assert [rollout for page in pages for rollout in page] == alone
    assert (await server.nobody().get("/v1/Rollouts", ok=401)).status == 401
    assert (await fleet.hands.get("/v1/Rollouts", PageSize=50)).json["meta"]["next_page_url"] is None


async def test_an_account_without_rollouts_has_an_empty_list(hands):
    assert (await hands.get("/v1/Rollouts")).json["rollouts"] == []
