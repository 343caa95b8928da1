"""Controller ids are what boards are built with, names are what people give: a rename never locks a board out."""

from urllib.parse import quote

import pytest
from tests.api.test_ddi import Board
from tests.api.test_explain import explain
from tests.api.test_identity import Newcomer


async def shown(hands, ref):
    device = (await hands.get(f"/v1/Devices/{ref}")).json
    return device["unique_name"], device["controller_id"]


async def test_a_board_goes_on_by_its_id_after_a_rename_and_both_are_shown(server, hands):
    board = Board(server, await hands.device("press"), "press")
    await board.poll()
    await hands.post("/v1/Devices/press", UniqueName="hall-2")
    assert await shown(hands, board.sid) == ("hall-2", "press")
    app = await hands.app("v1")
    await hands.post("/v1/Devices/hall-2", TargetApp=app["sid"])
    assert "/press/deploymentBase/" in (await board.links())["deploymentBase"]
    await board.say(1)
    assert (await hands.get("/v1/Devices/hall-2"))["app"]["reported_sid"] == app["sid"]
    assert (await explain(server, "hall-2"))["controller"]["data"] == {"controller": "press"}
    assert (await hands.get("/v1/Devices/hall-2/Explain"))["controller_id"] == "press"
    await Board(server, {"sid": board.sid, "device_token": board.token}, "hall-2").poll()
    await hands.get("/v1/Devices/press", ok=404)


async def test_a_rename_under_a_gateway_token_makes_no_second_device(server, hands):
    token = (await hands.post("/v1/GatewayToken", ok=201))["gateway_token"]
    board = Newcomer(server, token, "press")
    await board.poll()
    made = (await hands.post("/v1/Devices/press", Access="active")).json
    await hands.post("/v1/Devices/press", UniqueName="hall-2")
    assert "configData" in await board.links()
    await hands.get("/v1/Devices/press", ok=404)
    assert (await hands.get("/v1/GatewayToken"))["waiting"] == 0
    assert await shown(hands, made["sid"]) == ("hall-2", "press")


@pytest.mark.parametrize("controller", ["press #1", "100%", "a\\b", " press", "press ", "pre\u200bss"])
async def test_an_id_that_may_be_no_name_registers_a_device_without_a_name(server, hands, controller):
    token = (await hands.post("/v1/GatewayToken", ok=201))["gateway_token"]
    await Newcomer(server, token, quote(controller, safe="")).poll()
    (device,) = (await hands.get("/v1/Devices"))["devices"]
    assert (device["unique_name"], device["controller_id"]) == (None, controller)


async def test_another_board_with_an_id_that_people_gave_as_a_name_is_a_device_of_its_own(server, hands):
    """It must not be taken for the one that has the name: it would get its firmware and speak for it."""
    token = (await hands.post("/v1/GatewayToken", ok=201))["gateway_token"]
    await Newcomer(server, token, "a").poll()
    first = (await hands.get("/v1/Devices/a")).json
    await hands.post("/v1/Devices/a", Access="active")
    await hands.post("/v1/Devices/a", UniqueName="b")
    assert await Newcomer(server, token, "b").links() == {}
    devices = (await hands.get("/v1/Devices"))["devices"]
    found = {(each["unique_name"], each["controller_id"], each["access"]) for each in devices}
    assert found == {("b", "a", "active"), (None, "b", "waiting")}
    second = next(each for each in devices if each["sid"] != first["sid"])
    (event,) = (await hands.get("/v1/Events", Type="device.waiting", DeviceSid=second["sid"]))["events"]
    assert event["data"] == {"unique_name": None, "controller_id": "b"}


async def test_a_token_does_not_serve_under_another_devices_id_whatever_the_names_are(server, hands):
    one, two = await hands.device("a"), await hands.device("b")
    await hands.post("/v1/Devices/b", UniqueName="c")
    await hands.post("/v1/Devices/a", UniqueName="b")
    await Board(server, one, "b").call("GET", ok=401)
    await Board(server, two, "b").call("GET")
    await Board(server, one, "a").call("GET")
    await Board(server, two, "c").call("GET")
    await Board(server, two, "a").call("GET", ok=401)


async def test_an_id_is_given_taken_back_and_never_to_two(hands, server):
    made = await hands.device("a", ControllerId="line 3/#1".replace("/", "-"))
    assert await shown(hands, "a") == ("a", "line 3-#1")
    await Board(server, made, "line%203-%231").poll()
    refused = await hands.post("/v1/Devices", ok=409, UniqueName="x", ControllerId="line 3-#1")
    assert made["sid"] in refused["detail"]
    await hands.post("/v1/Devices/a", ControllerId="")
    assert await shown(hands, "a") == ("a", None)
    await hands.device("x", ControllerId="line 3-#1")
    assert await shown(hands, "x") == ("x", "line 3-#1")
    await hands.post("/v1/Devices/a", ok=409, ControllerId="line 3-#1")
    assert await shown(hands, "a") == ("a", None)
    await hands.post("/v1/Devices/a", ok=400, UniqueName="line 3-#1")  # a name is less free than an id
    await hands.post("/v1/Devices/x", ControllerId="line 3-1")
    await hands.post("/v1/Devices/a", UniqueName="line 3-1")
    assert await shown(hands, made["sid"]) == ("line 3-1", None), "the name is free, the id is not"
    await hands.device("n", ControllerId="")
    assert await shown(hands, "n") == ("n", None)
    nameless = await hands.device()
    await hands.post(f"/v1/Devices/{nameless['sid']}", UniqueName="later")
    assert await shown(hands, "later") == ("later", "later")


async def test_a_new_device_named_as_the_id_that_a_renamed_one_keeps_has_none_and_is_told_so(server, hands):
    made = await hands.device("a")
    await hands.post("/v1/Devices/a", UniqueName="b")
    again = await hands.device("a")
    assert await shown(hands, "a") == ("a", None)
    await Board(server, again, "a").call("GET", ok=401)
    assert (await explain(server, "a"))["namesake"]["data"] == {"name": "a", "other": made["sid"]}
    await hands.post("/v1/Devices/a", UniqueName="c")
    line = f"name,token_hash\na,{'0' * 64}\n".encode()
    await hands.post("/v1/DeviceImports", ok=201, content=line, headers={"content-type": "text/csv"})
    assert await shown(hands, "a") == ("a", None)
    assert await shown(hands, made["sid"]) == ("b", "a")


@pytest.mark.parametrize("bad", ["a/b", "a?b", ".", "..", "UV" + "0" * 32, "a\nb", "x" * 1000])
async def test_an_id_that_no_path_can_carry_is_refused(hands, bad):
    await hands.device("a")
    await hands.post("/v1/Devices", ok=400, UniqueName="b", ControllerId=bad)
    await hands.post("/v1/Devices/a", ok=400, ControllerId=bad)


@pytest.mark.parametrize("char", [*"!\"#$%&'()*+,-.:;<=>@[\\]^_`{|}~ ü漢"])
async def test_an_id_keeps_every_character_that_it_may_have(server, hands, char):
    name = f"a{char}b"
    token = (await hands.post("/v1/GatewayToken", ok=201))["gateway_token"]
    await Newcomer(server, token, quote(name, safe="")).poll()
    (device,) = (await hands.get("/v1/Devices"))["devices"]
    assert device["controller_id"] == name
    made = await hands.device("own", ControllerId=f"{name}2")
    await Board(server, made, quote(f"{name}2", safe="")).poll()


async def test_a_refusal_by_an_id_is_explained_at_the_device_that_has_it(server, hands):
    board = Board(server, await hands.device("press"), "press")
    await hands.post("/v1/Devices/press", UniqueName="hall-2")
    board.token = "nonsense"
    await board.call("GET", ok=401)
    await server.world.denials.flush()
    assert "credentials_refused" in await explain(server, board.sid)


async def test_the_numbers_of_an_id_that_passes_to_another_device_do_not_come_back(server, hands):
    await hands.app("v1")
    old = Board(server, await hands.device("old"), "old")
    for app in ("v1", "", "v1", "", "v1"):
        await hands.post("/v1/Devices/old", TargetApp=app)
    had = (await hands.get("/v1/Devices/old"))["update"]["number"]
    await hands.post("/v1/Devices/old", ControllerId="")
    await hands.device("new", ControllerId="old")
    await hands.post("/v1/Devices/new", TargetApp="v1")
    assert (await hands.get("/v1/Devices/new"))["update"]["number"] == had + 1
    await old.call("GET", ok=401)
