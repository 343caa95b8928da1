"""What is odd or optional in what a device says never costs the state beside it, and somebody is told of it."""

import json

from tests.api.world import BASE

JOURNAL = "0123456789abcdef" * 2


async def say(server, made, sequence, body=b"", **more):
    raw = json.dumps({"journal": JOURNAL, "sequence": sequence, "running": {}} | more).encode()
    headers = {"authorization": f"Bearer {made['device_token']}", "content-type": "application/json"}
    reply = await server.hands.http.post(f"{BASE}/device/v1/report", headers=headers, content=body or raw)
    return reply.status_code, reply.json()


async def told(hands):
    reasons = (await hands.get("/v1/Devices/board/Explain"))["reasons"]
    names = [reason["data"]["names"] for reason in reasons if reason["code"] == "values_left_out"]
    events = (await hands.get("/v1/Events", Type="device.report_mended"))["events"]
    return names, [event["data"]["left_out"] for event in events]


async def test_a_native_report_counts_without_what_cannot_be_read_and_it_is_told_once(server, hands):
    app = await hands.app("v1")
    made = await hands.device("board")
    await hands.post("/v1/Devices/board", TargetApp=app["sid"])
    update = (await hands.get("/v1/Devices/board/Updates"))["updates"][0]
    failed = {"number": update["number"], "state": "failed", "error_code": "EIO", "bytes_done": -1}
    assert await say(server, made, 1, update=failed, boot_count="many") == (200, {"taken": True})
    update = (await hands.get("/v1/Devices/board/Updates"))["updates"][0]
    assert (update["state"], update["error_code"]) == ("failed", 99)
    names = "boot_count, update.bytes_done, update.error_code"
    assert await told(hands) == ([names], [names])
    await say(server, made, 2, boot_count="many", update=failed)
    assert await told(hands) == ([names], [names])
    await say(server, made, 3, boot_count=4)
    assert await told(hands) == ([], [names])


async def test_a_native_report_with_bytes_that_are_no_text_counts(server, hands):
    made = await hands.device("board")
    raw = json.dumps({"journal": JOURNAL, "sequence": 1, "running": {}, "note": "X"}).encode()
    assert await say(server, made, 1, raw.replace(b"X", b"K\xfche \x1b")) == (200, {"taken": True})
    assert await told(hands) == ([], [])
    assert (await say(server, made, 0))[0] == 400
    assert (await say(server, made, 2, update={"number": 1, "state": "perhaps"}))[0] == 400


class Attributes:
    """What a DDI device says of itself."""

    def __init__(self, server, made):
        self.hands, self.made = server.hands, made

    async def send(self, data, mode="merge"):
        url = f"{BASE}/DEFAULT/controller/v1/{self.made['sid']}/configData"
        headers = {"authorization": f"TargetToken {self.made['device_token']}"}
        reply = await self.hands.http.put(url, json={"mode": mode, "data": data}, headers=headers)
        assert reply.status_code == 200, reply.text

    async def shown(self):
        event = (await self.hands.get("/v1/Events", Type="device.attributes"))["events"][0]["data"]
        return (await self.hands.get("/v1/Devices/board/Attributes"))["attributes"], event


async def test_one_attribute_that_cannot_be_kept_is_left_out_and_named_and_the_others_stay(server, hands):
    board = Attributes(server, await hands.device("board"))
    bad = {"": "v", "k" * 129: "v", "long": "v" * 513, "none": None, "nul\0": "a\0b"}
    await board.send({"VIN": "J", **bad, "slot": 1})
    attributes, event = await board.shown()
    assert attributes == {"VIN": "J", "slot": "1", r"nul\x00": r"a\x00b"}
    assert event == {
        "mode": "merge",
        "count": 3,
        "left_out": 4,
        "left_out_keys": f"none, , {'k' * 40}, long",
    }
    await board.send({"VIN": "K", "more": []}, "replace")
    assert (await board.shown())[0] == {"VIN": "K"}
    await board.send({"VIN": "x" * 600, "": ""}, "remove")
    assert (await board.shown())[0] == {"VIN": "K"}


async def test_of_too_many_attributes_the_first_are_kept_and_the_rest_is_counted(server, hands):
    board = Attributes(server, await hands.device("board"))
    await board.send({f"k{place}": "v" for place in range(103)})
    attributes, event = await board.shown()
    assert attributes == {f"k{place}": "v" for place in range(100)}
    assert (event["count"], event["left_out"], event["left_out_keys"]) == (100, 3, "k100, k101, k102")
    await board.send({"k0": "new", "another": "v"})
    attributes, event = await board.shown()
    assert (attributes["k0"], len(attributes), event["left_out_keys"]) == ("new", 100, "another")
