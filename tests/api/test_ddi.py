"""Devices that speak hawkBit's DDI, against the whole server, on every engine: what each call answers and changes."""

import hashlib
import json

import pytest
from tests.api.world import BASE, FIRST_NUMBER

OPEN = "00:00:05"


def nth(place):
    """Give the number of a device's first, second… update while the clock stands still; others are as they are."""
    return FIRST_NUMBER - 1 + place if 0 < place < FIRST_NUMBER else place


class Board:
    """A DDI device: its URL, its token, and its requests, in which updates are named by their place."""

    def __init__(self, server, made, name=None, tenant="DEFAULT"):
        self.http = server.hands.http
        self.hands = server.hands
        self.sid = made["sid"]
        self.token = made["device_token"]
        self.url = f"{BASE}/{tenant}/controller/v1/{name or self.sid}"

    async def call(self, method, url="", *, ok=200, body=None, **headers):
        url = url if url.startswith("http") else self.url + url
        headers = {"authorization": f"TargetToken {self.token}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        content = None if body is None else json.dumps(body)
        answer = await self.http.request(method, url, headers=headers, content=content)
        assert answer.status_code == ok, f"{method} {url}: {answer.status_code} {answer.text}"
        return answer

    async def poll(self):
        return (await self.call("GET")).json()

    async def links(self):
        return {name: link["href"] for name, link in (await self.poll())["_links"].items()}

    async def number(self, place):
        """Give the number of the device's first, second… update; another number is itself."""
        updates = (await self.hands.get(f"/v1/Devices/{self.sid}/Updates"))["updates"]
        return updates[-place]["number"] if 0 < place <= len(updates) else place

    async def say(self, number, execution="closed", finished="success", details=(), kind="deploymentBase", ok=200):
        number = await self.number(number)
        status = {"execution": execution, "result": {"finished": finished}, "details": list(details)}
        body = {"id": str(number), "time": "20260101T000000", "status": status}
        await self.call("POST", f"/{kind}/{number}/feedback", ok=ok, body=body)


@pytest.fixture
async def board(server, hands):
    return Board(server, await hands.device())


async def state_of(hands, board, number):
    return await hands.get(f"/v1/Devices/{board.sid}/Updates/{await board.number(number)}")


async def target(hands, board, app, **form):
    return (await hands.post(f"/v1/Devices/{board.sid}", TargetApp=app["sid"] if app else "", **form)).json


async def test_a_device_is_offered_its_update_installs_it_and_is_counted(hands, board):
    assert await board.poll() == {
        "config": {"polling": {"sleep": "00:01:00"}},
        "_links": {"configData": {"href": f"{board.url}/configData"}},
    }
    app = await hands.app("thermostat")
    await target(hands, board, app)
    poll = await board.poll()
    assert poll["config"]["polling"]["sleep"] == OPEN
    deployment = (await board.call("GET", poll["_links"]["deploymentBase"]["href"])).json()
    assert deployment["id"] == str(FIRST_NUMBER)
    assert deployment["deployment"]["download"] == deployment["deployment"]["update"] == "forced"
    (chunk,) = deployment["deployment"]["chunks"]
    assert (chunk["part"], chunk["name"]) == ("bApp", "thermostat")
    for artifact in chunk["artifacts"]:
        content = (await board.call("GET", artifact["_links"]["download"]["href"])).content
        assert len(content) == artifact["size"]
        for name, digest in artifact["hashes"].items():
            assert hashlib.new(name, content).hexdigest() == digest
        assert artifact["_links"]["download-http"] == artifact["_links"]["download"]
    await board.say(1, "proceeding", "none", ["Installing"])
    assert (await state_of(hands, board, 1))["state"] == "downloading"
    await board.say(1, details=["Done"])
    device = (await hands.get(f"/v1/Devices/{board.sid}")).json
    assert (device["app"]["reported_sid"], device["app"]["update_status"]) == (app["sid"], "up-to-date")
    update = await state_of(hands, board, 1)
    assert (update["state"], [line["line"] for line in update["log"]]) == ("succeeded", ["Installing", "Done"])
    links = await board.links()
    assert "deploymentBase" not in links
    assert (await board.call("GET", links["installedBase"])).json()["id"] == str(FIRST_NUMBER)


async def test_an_artifact_answers_head_ranges_tags_and_md5(hands, board):
    await target(hands, board, await hands.app())
    href = (await board.links())["deploymentBase"]
    artifact = (await board.call("GET", href)).json()["deployment"]["chunks"][0]["artifacts"][0]
    url = artifact["_links"]["download"]["href"]
    head = await board.call("HEAD", url)
    assert (head.headers["content-length"], head.content) == (str(artifact["size"]), b"")
    whole = (await board.call("GET", url)).content
    rest = await board.call("GET", url, ok=206, range="bytes=10-")
    assert rest.content == whole[10:]
    assert rest.headers["content-range"] == f"bytes 10-{len(whole) - 1}/{len(whole)}"
    await board.call("GET", url, ok=304, if_none_match=head.headers["etag"])
    outside = await board.call("GET", url, ok=416, range=f"bytes={len(whole)}-")
    assert outside.headers["content-range"] == f"bytes */{len(whole)}"
    line = (await board.call("GET", url + ".MD5SUM")).text
    assert line == f"{artifact['hashes']['md5']}  {artifact['filename']}\n"
    listed = (await board.call("GET", url.rpartition("/")[0])).json()
    assert artifact in listed
    await board.call("GET", url.rpartition("/")[0] + "/other.bin", ok=404)


async def test_an_unchanged_poll_is_304_and_a_change_is_seen(hands, board):
    first = await board.call("GET")
    second = await board.call("GET", ok=304, if_none_match=first.headers["etag"])
    assert second.content == b""
    await target(hands, board, await hands.app())
    assert (await board.call("GET", if_none_match=first.headers["etag"])).headers["etag"] != first.headers["etag"]


async def test_a_failure_is_an_error_with_its_code_and_the_same_target_makes_a_new_update(hands, board):
    app = await hands.app()
    await board.poll()
    await target(hands, board, app)
    await board.say(1, "closed", "failure", ["no space"])
    device = (await hands.get(f"/v1/Devices/{board.sid}")).json
    assert (device["app"]["update_status"], device["app"]["update_error_code"]) == ("error", 6)
    assert "deploymentBase" not in await board.links()
    await board.say(1, ok=410)
    await board.say(2, ok=404)
    await target(hands, board, app)
    assert f"/deploymentBase/{nth(2)}" in (await board.links())["deploymentBase"]


async def test_a_new_target_waits_until_the_device_has_canceled(hands, board):
    old, new = await hands.app(), await hands.app()
    await board.poll()
    await target(hands, board, old)
    await board.links()
    device = await target(hands, board, new)
    assert (device["update"]["app_sid"], device["update"]["cancel_requested"]) == (old["sid"], True)
    links = await board.links()
    assert "deploymentBase" not in links
    question = (await board.call("GET", links["cancelAction"])).json()
    assert question == {"id": str(nth(1)), "cancelAction": {"stopId": str(nth(1))}}
    await board.say(1, kind="cancelAction")
    assert (await state_of(hands, board, 1))["state"] == "superseded"
    assert f"/deploymentBase/{nth(2)}" in (await board.links())["deploymentBase"]
    await board.say(2)
    assert (await hands.get(f"/v1/Devices/{board.sid}"))["app"]["reported_sid"] == new["sid"]
    await board.say(1, kind="cancelAction", ok=410)


async def test_a_rejected_cancel_lets_the_update_go_on_and_the_next_follows_it(hands, board):
    old, new = await hands.app(), await hands.app()
    await board.poll()
    await target(hands, board, old)
    await target(hands, board, new)
    await board.say(1, "rejected", "none", kind="cancelAction")
    assert f"/deploymentBase/{nth(1)}" in (await board.links())["deploymentBase"]
    await board.say(1, kind="cancelAction", ok=404)
    await board.say(1)
    device = (await hands.get(f"/v1/Devices/{board.sid}")).json
    assert (device["app"]["reported_sid"], device["update"]["number"]) == (old["sid"], nth(2))
    await board.say(2)
    assert (await hands.get(f"/v1/Devices/{board.sid}"))["app"]["update_status"] == "up-to-date"


async def test_a_cancel_that_nobody_answers_closes_after_its_time(server, hands, board):
    old, new = await hands.app(), await hands.app()
    await board.poll()
    await target(hands, board, old)
    await target(hands, board, new)
    await board.say(1, "proceeding", "none")
    server.clock.advance(server.limits.cancel_timeout_s - 1)
    assert await server.world.updates.expire() == 0
    server.clock.advance(2)
    assert await server.world.updates.expire() == 1
    assert (await state_of(hands, board, 1))["state"] == "superseded"
    assert (
        f"/deploymentBase/{FIRST_NUMBER + server.limits.cancel_timeout_s + 1}"
        in (await board.links())["deploymentBase"]
    )


async def test_cancel_update_asks_the_device_and_puts_the_target_back(hands, board):
    await board.poll()
    await target(hands, board, await hands.app())
    device = (await hands.post(f"/v1/Devices/{board.sid}", CancelUpdate="true")).json
    assert (device["app"]["target_sid"], device["update"]["cancel_requested"]) == (None, True)
    await board.say(1, "canceled", "none")
    assert (await state_of(hands, board, 1))["state"] == "canceled"
    assert set(await board.links()) == {"configData"}


async def test_a_device_that_turns_native_is_not_asked(server, hands, board):
    old, new = await hands.app(), await hands.app()
    await board.poll()
    await target(hands, board, old)
    await target(hands, board, new)
    headers = {"authorization": f"Bearer {board.token}"}
    desired = (await board.http.get(f"{BASE}/device/v1/desired", headers=headers)).json()
    assert (desired["app"]["sid"], desired["app"]["update"]) == (new["sid"], nth(2))
    assert (await state_of(hands, board, 1))["state"] == "superseded"


async def test_an_update_to_be_skipped_is_canceled_and_not_offered_again(hands, board):
    app = await hands.app()
    await board.poll()
    await target(hands, board, app, UpdateMode="skip")
    deployment = (await board.call("GET", (await board.links())["deploymentBase"])).json()["deployment"]
    assert deployment["update"] == "skip"
    await board.say(1, details=["Skipped Update."])
    device = (await hands.get(f"/v1/Devices/{board.sid}")).json
    assert (device["update"]["state"], device["app"]["reported_sid"]) == ("canceled", None)
    assert device["app"]["update_status"] == "up-to-date"
    assert "deploymentBase" not in await board.links()


async def test_an_update_with_confirm_is_offered_once_somebody_consented(hands, board):
    await board.poll()
    await target(hands, board, await hands.app(), Confirm="true", UpdateMode="attempt")
    links = await board.links()
    assert "deploymentBase" not in links
    assert (await board.call("GET", links["confirmationBase"])).json()["confirmation"]["update"] == "attempt"
    await board.call("GET", f"/deploymentBase/{nth(1)}", ok=404)
    await board.call(
        "POST", f"/confirmationBase/{nth(1)}/feedback", body={"confirmation": "denied", "details": ["busy"]}
    )
    assert "confirmationBase" in await board.links()
    await board.call("POST", f"/confirmationBase/{nth(1)}/feedback", body={"confirmation": "confirmed"})
    await board.call("GET", (await board.links())["deploymentBase"])
    update = await state_of(hands, board, 1)
    assert (update["confirmation"], update["mode"], update["log"][0]["line"]) == ("confirmed", "attempt", "busy")


async def test_attributes_are_merged_replaced_and_removed(hands, board):
    path = f"/v1/Devices/{board.sid}/Attributes"
    assert (await hands.get(path))["attributes"] == {}
    await board.call("PUT", "/configData", body={"id": "", "time": "x", "status": {}, "data": {"a": "1", "b": "2"}})
    assert "configData" not in await board.links()
    await board.call("PUT", "/configData", body={"mode": "merge", "data": {"b": "3", "c": "4"}})
    assert (await hands.get(path))["attributes"] == {"a": "1", "b": "3", "c": "4"}
    await board.call("PUT", "/configData", body={"mode": "remove", "data": {"b": ""}})
    assert (await hands.get(path))["attributes"] == {"a": "1", "c": "4"}
    await board.call("PUT", "/configData", body={"mode": "replace", "data": {"z": "9"}})
    assert (await hands.get(path))["attributes"] == {"z": "9"}


async def test_a_device_is_found_by_its_name_and_by_either_tenant(server, hands):
    name = "bench ä+1" + "x" * 200
    made = await hands.device(name)
    by_name = Board(server, made, "bench%20%C3%A4%2B1" + "x" * 200)
    await by_name.poll()
    lower = Board(server, made, tenant="default")
    assert "/DEFAULT/controller/v1/" in (await lower.links())["configData"]
    account = Board(server, made, tenant=hands.auth[0])
    assert (await account.links())["configData"] == f"{account.url}/configData"


async def test_a_token_reaches_only_its_own_device(server, hands, board):
    other = Board(server, await hands.device("other"))
    stranger = await server.stranger()
    foreign = Board(server, await stranger.device(), tenant=stranger.auth[0])
    await foreign.poll()
    other.token = board.token
    await other.call("GET", ok=401)
    other.url = f"{BASE}/DEFAULT/controller/v1/other"
    await other.call("GET", ok=401)
    other.url = f"{BASE}/DEFAULT/controller/v1/nobody"
    refused = await other.call("GET", ok=401)
    assert refused.headers["www-authenticate"].startswith("TargetToken")
    assert "date" in refused.headers
    foreign.url = foreign.url.replace(stranger.auth[0], "DEFAULT")
    await foreign.call("GET", ok=401)
    app = await stranger.app()
    await board.call("GET", f"/softwaremodules/{app['sid']}/artifacts", ok=404)


async def test_a_disabled_device_is_refused_and_comes_back_when_active(hands, board):
    await board.poll()
    assert (await hands.post(f"/v1/Devices/{board.sid}", Access="disabled"))["access"] == "disabled"
    await board.call("GET", ok=401)
    await hands.post(f"/v1/Devices/{board.sid}", Access="active")
    await board.poll()


async def test_the_poll_interval_is_the_devices_own(hands, board):
    await hands.post(f"/v1/Devices/{board.sid}", PollInterval="3725")
    assert (await board.poll())["config"]["polling"]["sleep"] == "01:02:05"
    assert (await hands.get(f"/v1/Devices/{board.sid}"))["poll_interval_s"] == 3725
    await hands.post(f"/v1/Devices/{board.sid}", PollInterval="")
    assert (await board.poll())["config"]["polling"]["sleep"] == "00:01:00"


@pytest.mark.parametrize(
    "form",
    [{"UpdateMode": "later"}, {"UpdateMode": "skip"}, {"Confirm": "true"}, {"PollInterval": "0"}, {"Access": "waiting"}]
    + [{"PollInterval": "x"}, {"PollInterval": "86401"}, {"TargetApp": "", "UpdateMode": "skip"}],
)
async def test_a_wrong_parameter_is_400_and_changes_nothing(hands, board, form):
    before = (await hands.get(f"/v1/Devices/{board.sid}")).json
    await hands.post(f"/v1/Devices/{board.sid}", ok=400, **form)
    assert (await hands.get(f"/v1/Devices/{board.sid}")).json == before


@pytest.mark.parametrize("body", [[], {}, {"status": {}}, {"status": {"execution": "flying"}}, {"status": None}, "x"])
async def test_a_feedback_that_is_none_is_400(hands, board, body):
    await target(hands, board, await hands.app())
    await board.call("POST", f"/deploymentBase/{nth(1)}/feedback", ok=400, body=body)


async def test_json_that_is_nested_without_end_is_400(hands, board):
    await target(hands, board, await hands.app())
    auth = {"authorization": f"TargetToken {board.token}"}
    for path in (f"/deploymentBase/{nth(1)}/feedback", "/configData"):
        method = "PUT" if path == "/configData" else "POST"
        answer = await board.http.request(method, board.url + path, headers=auth, content=b'{"more": ' + b"[" * 9000)
        assert answer.status_code == 400, answer.text


async def test_paths_that_are_none_are_404_and_wrong_methods_405(board):
    for path in ("/x", "/x/1", "/x/1/feedback", "/deploymentBase", "/deploymentBase/x", "/cancelAction/0", "/a/b/c/d"):
        await board.call("GET", path, ok=404)
    await board.call("POST", ok=405)
    await board.call("GET", "/configData", ok=405)
    await board.call("DELETE", f"/deploymentBase/{nth(1)}", ok=405)
    await board.call("GET", f"/deploymentBase/{1 << 31}", ok=404)


async def test_the_log_keeps_the_newest_lines_cut_to_their_bound(hands, board):
    await target(hands, board, await hands.app())
    for first in range(0, 240, 48):
        await board.say(1, "proceeding", "none", [f"{place}" for place in range(first, first + 48)])
    await board.say(1, "proceeding", "none", ["x" * 5000 + "\0"])
    log = [line["line"] for line in (await state_of(hands, board, 1))["log"]]
    assert (len(log), log[0], len(log[-1])) == (200, "41", 1000)
