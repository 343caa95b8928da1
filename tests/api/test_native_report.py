"""Reports, config values, and what every answer of the device API has in common."""

import json

import pytest
import structlog
from tests.native_world import BASE, Worlds

from fleetvisor.features.configs.model import Owner, Store

JOURNAL = "0123456789abcdef" * 2
REPORT = {"journal": JOURNAL, "sequence": 1, "running": {"manifest": None, "app": None}}
FIELDS = {"code", "detail", "message", "more_info", "status"}


@pytest.fixture
async def worlds(tmp_path):
    return Worlds(tmp_path)


@pytest.fixture
async def world(worlds):
    world = worlds.make()
    yield world
    await world.close()


@pytest.fixture
async def device(worlds, world):
    return await worlds.device(world)


async def test_a_report_is_taken_once(device):
    first = await device.post("report", REPORT)
    assert (first.status, first.json) == (200, {"taken": True})
    again = await device.post("report", REPORT)
    assert (again.status, again.json) == (200, {"taken": False})


async def test_a_report_of_success_closes_the_update(worlds, world, device):
    app, _ = await worlds.app(world, device.account_sid)
    await device.change(target_app=app.app_sid)
    running = {"manifest": app.manifest_hash, "app": app.app_sid}
    await device.post("report", REPORT | {"running": running, "update": {"number": 1, "state": "succeeded"}})
    found = await world.devices.get(device.account_sid, device.sid)
    assert found.update.state == "succeeded"
    assert found.reported_sid == app.app_sid
    assert (await device.get("desired")).json["app"]["update"] is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sequence": 0}, "$.sequence"),
        ({"sequence": "1"}, "$.sequence"),
        ({"sequence": 1 << 63}, "$.sequence"),
        ({"sequence": 1.5}, "$.sequence"),
        ({"journal": "short"}, "$.journal"),
        ({"journal": JOURNAL + "\n"}, "$.journal"),
        ({"running": None}, "$.running"),
        ({"running": {"manifest": "A" * 64}}, "$.running.manifest"),
        ({"running": {"app": "KAx"}}, "$.running.app"),
        ({"update": {"number": 0, "state": "pending"}}, "$.update.number"),
        ({"update": {"number": 1, "state": "flying"}}, "$.update.state"),
    ],
)
async def test_a_wrong_field_is_400_and_named(device, change, field):
    answer = await device.post("report", REPORT | change)
    assert answer.status == 400
    assert answer.json["code"] == 20001
    assert field in answer.json["detail"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"journal": "\xff"}', b"nope", b"{}", json.dumps(REPORT).encode() + b"x"]
    + [b'{"journal": "\\ud800"}', b"[" * 60_000, b'{"more": ' + b"[" * 60_000],
)
@pytest.mark.parametrize("path", ["report", "configs/fetch"])
async def test_a_body_that_is_no_json_of_the_right_shape_is_400(device, path, body):
    answer = await device.post(path, body)
    assert answer.status == 400
    assert set(answer.json) == FIELDS


async def test_unknown_fields_are_ignored_so_that_newer_agents_can_speak_to_older_servers(device):
    assert (await device.post("report", REPORT | {"colour": "red"})).status == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
async def test_another_content_type_is_415(device, kind):
    answer = await device.post("report", REPORT, ("content-type", kind))
    assert answer.status == 415
    assert answer.json["code"] == 20415


@pytest.mark.parametrize("kind", ["application/json;charset=utf-8", "Application/JSON", 'application/json; a="b"'])
async def test_json_is_json_however_it_is_written(device, kind):
    assert (await device.post("report", REPORT, ("content-type", kind))).status == 200


async def test_a_body_beyond_the_bound_is_413_said_or_not(device):
    big = json.dumps(REPORT | {"colour": "x" * 70_000}).encode()
    kind = ("content-type", "application/json")
    assert (await device.post("report", big, kind)).status == 413
    assert (await device.post("report", b"", kind, ("content-length", "70000"))).status == 413


async def test_a_client_that_leaves_in_the_middle_of_its_body_gets_nothing(device):
    import asyncio

    gone = asyncio.Event()
    gone.set()
    answer = await device.call(
        "POST", "/device/v1/report", headers=[("content-type", "application/json")], chunks=[], gone=gone
    )
    assert answer.status == 400  # for a client whose chunks are malformed; one that is gone never sees it


async def test_values_come_in_the_order_of_the_request_each_with_its_result(world, device):
    account, own = Owner(device.account_sid), Owner(device.account_sid, device.sid)
    await world.configs.create(account, Store.CONFIG, "colour", "red")
    await world.configs.create(own, Store.CONFIG, "colour", "blue")
    await world.configs.create(own, Store.SECRET, "pin", "1234")
    items = [
        {"scope": "device", "store": "secret", "key": "pin"},
        {"scope": "account", "store": "config", "key": "colour"},
        {"scope": "account", "store": "config", "key": "nothing"},
        {"scope": "device", "store": "config", "key": "colour"},
        {"scope": "account", "store": "secret", "key": "pin"},
    ]
    answer = await device.post("configs/fetch", {"items": items})
    assert answer.status == 200
    assert [(item["result"], item["value"]) for item in answer.json["items"]] == [
        ("ok", "1234"),
        ("ok", "red"),
        ("key_not_found", None),
        ("ok", "blue"),
        ("key_not_found", None),
    ]
    assert [{name: item[name] for name in ("scope", "store", "key")} for item in answer.json["items"]] == items
    assert answer.header("cache-control") == "no-store"


@pytest.mark.parametrize("count", [0, 65])
async def test_no_items_or_too_many_are_400(device, count):
    items = [{"scope": "device", "store": "config", "key": "a"}] * count
    answer = await device.post("configs/fetch", {"items": items})
    assert answer.status == 400
    assert "items" in answer.json["detail"]


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"scope": "planet", "store": "config", "key": "a"}, "$.items[0].scope"),
        ({"scope": "device", "store": "shoe", "key": "a"}, "$.items[0].store"),
        ({"scope": "device", "store": "config"}, "$.items[0]"),
        ({"scope": "device", "store": "config", "key": "a\0b"}, "$.items[0].key"),
    ],
)
async def test_a_wrong_item_is_400_and_named(device, item, field):
    answer = await device.post("configs/fetch", {"items": [item]})
    assert answer.status == 400
    assert field in answer.json["detail"]


@pytest.mark.parametrize("path", ["report", "configs/fetch"])
async def test_writes_without_a_good_token_are_401(device, path):
    for token in ("fvd_wrong", ""):
        answer = await device.post(path, REPORT, token=token)
        assert answer.status == 401
        assert answer.header("www-authenticate").startswith("Bearer")
        assert answer.header("date")


async def test_a_report_of_a_removed_device_is_401(device):
    await device.get("desired")
    await device.world.devices.delete(device.account_sid, device.sid)
    assert (await device.post("report", REPORT)).status == 401


@pytest.mark.parametrize("path", ["", "desired/", "nothing", "report/1", "configs", "v1"])
async def test_an_unknown_path_is_404_with_five_fields_and_a_request_id(device, path):
    answer = await device.get(path)
    assert answer.status == 404
    assert set(answer.json) == FIELDS
    assert answer.json["more_info"] == f"{BASE}/docs/errors/20404"
    assert answer.header("twilio-request-id").startswith("RQ")
    assert answer.header("date")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "desired", {"GET", "HEAD"}),
        ("DELETE", "layers/" + "0" * 64, {"GET", "HEAD"}),
        ("PUT", "manifests/" + "0" * 64, {"GET", "HEAD"}),
        ("GET", "report", {"POST"}),
        ("GET", "configs/fetch", {"POST"}),
        ("POST", "openapi.json", {"GET", "HEAD"}),
    ],
)
async def test_a_wrong_method_is_405_and_names_the_right_ones(device, method, path, allowed):
    answer = await device.call(method, "/device/v1/" + path)
    assert answer.status == 405
    assert set(answer.header("allow").split(", ")) == allowed
    assert answer.json["code"] == 20004


async def test_a_fault_is_500_with_the_request_id_of_the_log_line_and_nothing_else(device, monkeypatch):
    async def fail(*_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(type(device.world.db), "one", fail)  # a mistake of the program's own, which it does not have
    device.world.bus.ring((device.sid,))
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        answer = await device.get("desired")
    assert answer.status == 500
    assert b"secret detail" not in answer.body
    assert [line["request_id"] for line in lines if line["log_level"] == "error"] == [
        answer.header("twilio-request-id")
    ]


async def test_the_token_is_in_no_log_line_and_no_error(device):
    with structlog.testing.capture_logs() as lines:
        answer = await device.get("desired", token="fvd_visible")
    assert "visible" not in answer.body.decode() + repr(lines)
