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


@pytest.mark.parametrize("selector", SLIPS)
async def test_lists_and_counts_answer_with_a_warning(hands, selector):
    await hands.app("v2")
    await hands.device("d", Labels="canary=yes")
    await hands.post("/v1/EnrollmentTokens", ok=201, Labels="site=graz")
    made = (
        await hands.post(
            "/v1/Rollouts", ok=201, App="v2", Selector='canary, label.kiln in (x,"a \\", b)", c), !label.oven'
        )
    ).json
    paths = ("/v1/Devices", "/v1/DeviceCounts", f"/v1/Rollouts/{made['sid']}/Devices")
    for path in paths:
        [warning] = (await hands.get(path, Selector=f"canary,{selector}"))["warnings"]
        assert f"did you mean {SLIPS[selector]}?" in warning
        assert "Write label." in warning
        meant = "canary,!label.canry,site=graz,label.kiln=1,kiln=2,oven=3,status=error"
        assert (await hands.get(path, Selector=meant))["warnings"] == []
        assert (await hands.get(path, Selector="*"))["warnings"] == []
    assert "warnings" not in (await hands.get("/v1/Devices")).json
    for value in ("x", "c", "b"):  # they stand where values stand
        assert len((await hands.get("/v1/Devices", Selector=f"{value}=1"))["warnings"]) == 1


async def test_a_warning_ends_when_something_has_the_label(server, hands):
    async def warned():
        return len((await hands.get("/v1/Devices", Selector="canary,kiln=1"))["warnings"])

    assert await warned() == 2
    await hands.device("d", Labels="canary=yes")
    assert await warned() == 1
    await hands.post("/v1/EnrollmentTokens", ok=201, Labels="kiln=1")
    server.clock.advance(6)
    assert await warned() == 0
    stranger = await server.stranger()
    assert len((await stranger.get("/v1/Devices", Selector="canary,kiln=1"))["warnings"]) == 2
    assert len((await hands.get("/v1/Devices", Selector=",".join(f"k{n}" for n in range(100))))["warnings"]) == 3


async def test_unknown_labels_cost_a_list_one_look_up_and_no_scan(engine, hands, monkeypatch):
    await hands.device("d", Labels="canary=yes")
    await hands.get("/v1/Devices", Selector="canry")
    told, engine = [], type(engine)
    for name in ("one", "all", "scan"):
        wrapped = getattr(engine, name)

        async def read(self, row, sql, params, wrapped=wrapped, name=name):
            told.append((name, sql))
            return await wrapped(self, row, sql, params)

        monkeypatch.setattr(engine, name, read)  # keeps the statements that were run
    many = ",".join(f"label{number}" for number in range(99))
    await hands.get("/v1/Devices", Selector=f"canry,{many}")
    assert sum("EXISTS (SELECT 1 FROM device_labels s\n" in sql for _, sql in told) == 1
    assert not [sql for name, sql in told if name == "scan"]
    assert len(told) <= 4, told
