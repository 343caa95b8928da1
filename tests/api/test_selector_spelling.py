"""A label that nothing of the account has is refused where a selector is written for a change: it is a slip."""

import pytest

SLIPS = {"!canry": "'canary'", "stauts=error": "'status'", "hardware_class=x": "'hardware'", "sit in (a,b)": "'site'"}


@pytest.mark.parametrize("selector", SLIPS)
async def test_an_unknown_bare_key_is_refused_and_the_nearest_is_named(hands, selector):
    await hands.app("v2")
    await hands.device("d", Labels="canary=yes")
    await hands.post("/v1/EnrollmentTokens", ok=201, Labels="site=graz")
    refused = (await hands.post("/v1/Rollouts", ok=400, App="v2", Selector=f"canary,{selector}")).json
    assert f"did you mean {SLIPS[selector]}?" in refused["detail"]
    assert "Write label." in refused["detail"]
    assert (await hands.get("/v1/Rollouts"))["rollouts"] == []
    await hands.get("/v1/Devices", Selector="!canry")


async def test_a_label_of_a_device_a_token_or_a_stored_rollout_is_known(server, hands):
    await hands.app("v2")
    device = await hands.device("d", Labels="canary=yes")
    await hands.post("/v1/EnrollmentTokens", ok=201, Labels="site=graz")
    await hands.post("/v1/Rollouts", ok=201, App="v2", Selector="!canary,site=linz")
    await hands.post("/v1/Rollouts", ok=400, App="v2", Selector="kiln_a=1")
    made = (await hands.post("/v1/Rollouts", ok=201, App="v2", Selector="label.kiln_a=1")).json
    assert made["selector"] == "label.kiln_a=1"
    await hands.post("/v1/Rollouts", ok=201, App="v2", Selector="kiln_a=2")
    await hands.post("/v1/Rollouts", ok=400, App="v2", Selector="kilnxa=2")
    await hands.post("/v1/Rollouts", ok=400, App="v2", Selector="kiln=2")
    stranger = await server.stranger()
    await stranger.app("v2")
    await stranger.post("/v1/Rollouts", ok=400, App="v2", Selector="canary")
    rows = (await hands.get("/v1/Devices", Selector="label.canary=yes"))["devices"]
    assert [row["sid"] for row in rows] == [device["sid"]]


async def test_a_stored_selector_is_not_judged_again(hands):
    await hands.app("v2")
    await hands.device("d", Labels="canary=yes")
    made = (await hands.post("/v1/Rollouts", ok=201, App="v2", Selector="canary")).json
    await hands.post("/v1/Devices/d", Labels="canary-")
    await hands.post(f"/v1/Rollouts/{made['sid']}", Action="start")
