"""A misspelt parameter never means "absent": every route is walked with its names misspelt, in form and in query."""

import re

import pytest
from tests.jws import Key

FORM = {"content-type": "application/x-www-form-urlencoded"}
PAGING = ("PageSize", "Page", "PageToken")


async def operations(hands):
    """Give each operation: method, path with invented names, whether it is ours, its parameters and their place."""
    document = (await hands.get("/openapi.json")).json
    for template, by_method in document["paths"].items():
        path = re.sub(r"\{\w+\}", "x", template)
        for method, operation in by_method.items():
            body = operation.get("requestBody", {}).get("content", {})
            schema = next(iter(body.values()), {}).get("schema", {})
            form = schema.get("properties", {})
            query = {item["name"]: item for item in operation["parameters"] if item["in"] == "query"}
            media = next(iter(body), None)
            yield method.upper(), path, "x-fleetvisor-extension" in operation, form, query, media


async def send(hands, method, path, place, name, media=None, value="1"):
    if place == "query":
        headers = {} if media is None or media.startswith("multipart") else {"content-type": media}
        content = None if media == "application/x-www-form-urlencoded" or method != "POST" else b""
        return await hands.call(method, path, params={name: value}, content=content, headers=headers)
    return await hands.call(method, path, content=f"{name}={value}".encode(), headers=FORM)


async def test_every_operation_of_ours_refuses_each_of_its_names_misspelt(hands):
    walked = 0
    async for method, path, ours, form, query, media in operations(hands):
        if not ours:
            continue
        places = ["query"] if media not in (None, FORM["content-type"]) else ["query", "form"]
        for name in (*form, *query, "Nonsense"):
            for place in places:
                for slip in {name.lower(), name[:-1], name + "s", name[0] + name} if name != "Nonsense" else {name}:
                    reply = await send(hands, method, path, place, slip, media)
                    assert reply.status == 400, (method, path, place, slip, reply.text)
                    assert reply["code"] == 20001
                    assert "no parameter" in reply["detail"]
                    walked += 1
                    nearest = re.search(r"nearest is (\w+)", reply["detail"])
                    assert name == "Nonsense" or nearest[1] == name, (slip, reply["detail"])
    assert walked > 300


#: What an operation of ours takes empty, and Selector, whose refusal says more (see below).
MAY_BE_EMPTY = {"Selector", "FriendlyName", "UniqueName", "HardwareClass", "ControllerId"}


async def test_every_operation_of_ours_refuses_an_empty_value_that_could_mean_for_ever_or_all(hands):
    walked = 0
    async for method, path, ours, form, query, media in operations(hands):
        if not ours or media not in (None, FORM["content-type"]):
            continue
        for place, names in (("form", form), ("query", query)):
            for name in set(names) - MAY_BE_EMPTY - set(PAGING):
                reply = await send(hands, method, path, place, name, value="")
                assert reply.status == 400, (method, path, name, reply.text)
                assert reply["detail"].startswith(f"{name} is empty"), (method, path, reply.text)
                walked += 1
    assert walked > 40


async def test_a_variable_that_was_never_set_makes_no_key_for_ever_and_replaces_no_token(server, hands):
    await hands.post("/v1/Keys", ok=400, Role="viewer", Ttl="")
    assert (await hands.get("/v1/Keys"))["keys"] == []
    made = await hands.device("d")
    many = "/v1/Devices/d/Credentials"
    await hands.post(many, ok=400, Type="", PublicKey=Key().public)
    assert "Type=key" in (await hands.post(many, ok=400, PublicKey=Key().public))["detail"]
    assert "Type=token" in (await hands.post(many, ok=400, Type="key", PublicKey=Key().public, Overlap=1))["detail"]
    assert len((await hands.get(many))["credentials"]) == 1
    await hands.app("v2")
    draft = (await hands.post("/v1/Rollouts", ok=201, App="v2", Selector="*")).json
    await hands.post(f"/v1/Rollouts/{draft['sid']}", ok=400, Action="")
    assert "Action" in (await hands.post(f"/v1/Rollouts/{draft['sid']}", ok=400))["detail"]
    assert (await hands.get("/v1/Events", ok=400, DeviceSid=""))["code"] == 20001
    assert made["access"] == "active"


async def test_evidence_is_not_counted_from_a_day_that_is_yet_to_come(hands):
    await hands.app("v2")
    told = await hands.post("/v1/Rollouts", ok=400, App="v2", Selector="*", KnownSince="2099-01-01")
    assert "future" in told["detail"]
    assert (await hands.get("/v1/Rollouts"))["rollouts"] == []


async def test_a_known_name_in_the_wrong_place_is_unknown_there(hands):
    async for method, path, ours, form, query, media in operations(hands):
        if ours and media in (None, FORM["content-type"]):
            for place, names in (("query", form), ("form", query)):
                for name in names:
                    reply = await send(hands, method, path, place, name)
                    assert reply.status == 400, (method, path, place, name, reply.text)
                    assert f"send it in the {'form' if place == 'query' else 'query'}" in reply["detail"]


async def test_the_originals_operations_ignore_names_as_published_but_not_a_slip_of_one_of_ours(hands):
    await hands.device("x")
    slips = 0
    async for method, path, ours, form, query, _ in operations(hands):
        if ours:
            continue
        for place, params in (("form", form), ("query", query)):
            if place == "form" and method != "POST":
                continue
            reply = await send(hands, method, path, place, "Nonsense")
            assert "no parameter" not in reply.text, (method, path, place)
            for name, param in params.items():
                reply = await send(hands, method, path, place, name.lower())
                refused = reply.status == 400 and "no parameter" in reply["detail"]
                assert refused == bool(param.get("x-fleetvisor-extension")), (method, path, name)
                slips += refused
    assert slips >= 9


@pytest.mark.parametrize("name", ["Label", "label", "Labelss", "acess", "Confrm"])
async def test_a_slip_of_a_device_parameter_of_ours_changes_nothing(hands, name):
    made = await hands.device("d")
    assert "nearest" in (await hands.post("/v1/Devices/d", ok=400, UniqueName="e", **{name: "1"}))["detail"]
    assert (await hands.get(f"/v1/Devices/{made['sid']}"))["unique_name"] == "d"
    await hands.post("/v1/Devices/d", UniqueName="e", Colour="red", uniqueName="f")
    assert (await hands.get(f"/v1/Devices/{made['sid']}"))["unique_name"] == "e"


async def test_a_slip_does_not_widen_what_is_done(hands):
    await hands.app("v2")
    for form in ({"selector": "site=graz"}, {"Selectors": "site=graz"}, {}, {"Selector": ""}):
        await hands.post("/v1/Rollouts", ok=400, App="v2", **form)
    await hands.call("POST", "/v1/Rollouts?Selector=site%3Dgraz", ok=400, data={"App": "v2"})
    for form in ({"role": "viewer"}, {}, {"Role": "viewer", "ExpiresIn": "60"}):
        await hands.post("/v1/Keys", ok=400, **form)
    draft = (await hands.post("/v1/Rollouts", ok=201, App="v2", Selector=" * ")).json
    assert draft["selector"] == "*"
    for form in ({"StartAfter": "2099-01-01"}, {"startAt": "2099-01-01"}):
        await hands.post(f"/v1/Rollouts/{draft['sid']}", ok=400, Action="start", **form)
    assert (await hands.get(f"/v1/Rollouts/{draft['sid']}"))["state"] == "draft"
    assert (await hands.get("/v1/Rollouts"))["rollouts"] == [draft]
    assert (await hands.get("/v1/Keys"))["keys"] == []


async def test_a_star_alone_selects_every_device_and_an_empty_selector_is_refused(hands):
    for name in ("a", "b", "c"):
        await hands.device(name)
    assert [len(page) for page in await hands.walk("/v1/Devices", "devices", Selector="*", PageSize=2)] == [2, 1]
    counts = (await hands.get("/v1/DeviceCounts", Selector="*")).json
    assert (counts["total"], counts["selector"]) == (3, "*")
    for path in ("/v1/Devices", "/v1/DeviceCounts"):
        await hands.get(path, ok=400, Selector=" ")
        await hands.get(path, ok=400, Selector="*,site=graz")


async def test_a_label_to_count_by_that_nothing_has_is_warned_of(hands):
    await hands.device("a", Labels="site=graz")
    for by in ("site", "status", "access"):
        assert (await hands.get("/v1/DeviceCounts", By=by))["warnings"] == []
    for by, near in (("label", "label"), ("sight", "site"), ("stattus", "status")):
        [warning] = (await hands.get("/v1/DeviceCounts", By=by))["warnings"]
        assert warning.startswith(f"By: '{by}' is nothing to count by")
        assert near in warning
    told = (await hands.get("/v1/DeviceCounts", By="a b", ok=400)).json["detail"]
    assert "the key of a label" in told


async def test_who_may_not_is_told_that_before_what_is_misspelt(server, hands):
    made = (await hands.post("/v1/Keys", ok=201, Role="viewer")).json
    viewer = server.as_account(made["sid"], made["secret"])
    admin = (await hands.post("/v1/Keys", ok=201, Role="admin")).json
    admin = server.as_account(admin["sid"], admin["secret"])
    await server.nobody().post("/v1/Rollouts", ok=401, selector="x")
    await viewer.post("/v1/Rollouts", ok=403, selector="x")
    for path in ("/v1/Accounts", "/v1/AuthTokens/Secondary", "/v1/AuthTokens/Promote"):
        await admin.post(path, ok=403, nonsense="x")
        await hands.post(path, ok=400, nonsense="x")


@pytest.mark.parametrize("value", [" graz", "graz ", " "])
async def test_a_blank_around_a_label_is_refused_since_no_selector_would_find_it(hands, value):
    await hands.device("d")
    for path in ("/v1/Devices/d", "/v1/Devices", "/v1/EnrollmentTokens"):
        assert "blank" in (await hands.post(path, ok=400, Labels=f"site={value}"))["detail"]
    assert (await hands.post("/v1/Devices/d", Labels="site=graz ost"))["labels"] == {"site": "graz ost"}
