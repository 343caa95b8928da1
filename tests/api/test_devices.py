"""The Device resource, as its users see it."""

import re

import pytest
from tests.api.world import BASE, FIRST_NUMBER

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
NESTED = {"sid", "unique_name", "account_sid", "app", "logging", "date_created", "date_updated", "url", "links"}
FLAT = {"logging_enabled", "date_logging_expires", "app_update", "info", "status"}
EXTENSIONS = {"access", "date_last_seen", "update", "poll_interval_s", "hardware_class", "labels", "controller_id"} | {
    "account_secrets"
}


async def test_a_registered_device_has_every_field_of_every_generation(hands):
    made = (await hands.post("/v1/Devices", ok=201, UniqueName="boiler-7")).json
    assert set(made) == NESTED | FLAT | EXTENSIONS | {"device_token"}
    assert re.fullmatch("UV[0-9a-f]{32}", made["sid"])
    assert made["device_token"].startswith("fvd_")
    url = f"{BASE}/v1/Devices/{made['sid']}"
    device = (await hands.get("/v1/Devices/boiler-7")).json
    assert device == {
        "sid": made["sid"],
        "unique_name": "boiler-7",
        "account_sid": hands.auth[0],
        "app": {
            "target_sid": None,
            "target_hash": None,
            "date_targeted": None,
            "update_status": "up-to-date",
            "update_error_code": 0,
            "reported_sid": None,
            "date_reported": None,
        },
        "logging": {"enabled": False, "date_expires": None},
        "date_created": "2026-01-01T00:00:00Z",
        "date_updated": "2026-01-01T00:00:00Z",
        "url": url,
        "links": {
            "device_configs": f"{url}/Configs",
            "device_secrets": f"{url}/Secrets",
            "device_updates": f"{url}/Updates",
        },
        "logging_enabled": False,
        "date_logging_expires": None,
        "app_update": None,
        "info": None,
        "status": "up-to-date",
        "access": "active",
        "date_last_seen": None,
        "update": None,
        "poll_interval_s": None,
        "hardware_class": None,
        "labels": {},
        "controller_id": "boiler-7",
        "account_secrets": True,
    }


async def test_the_token_is_shown_once(hands):
    """Only the answer that registered a device holds its token."""
    made = await hands.device("a")
    for reply in (await hands.get("/v1/Devices/a"), await hands.get("/v1/Devices"), await hands.post("/v1/Devices/a")):
        assert made["device_token"] not in reply.text


async def test_a_board_keeps_the_sid_it_has(hands):
    sid = "UV" + "0123456789ABCDEF" * 2
    made = await hands.device(Sid=sid)
    assert made["sid"].lower() == sid.lower()
    assert (await hands.get(f"/v1/Devices/{sid}"))["sid"] == made["sid"]
    assert (await hands.get(f"/v1/Devices/UV{sid[2:].lower()}"))["sid"] == made["sid"]
    await hands.post("/v1/Devices", ok=409, Sid=sid)


@pytest.mark.parametrize("sid", ["UV12", "KA" + "0" * 32, "UV" + "g" * 32, "uv" + "0" * 32])
async def test_what_is_no_device_sid_is_refused(hands, sid):
    assert (await hands.post("/v1/Devices", ok=400, Sid=sid))["code"] == 20001


@pytest.mark.parametrize(
    "name",
    ["a" * 257, "a/b", "a?b", ".", "..", "UV" + "0" * 32, "KA" + "F" * 32, "tab\there", "line\n", "\x7f", "\u0085"],
)
async def test_a_name_that_cannot_stand_in_a_path_is_refused(hands, name):
    assert (await hands.post("/v1/Devices", ok=400, UniqueName=name))["code"] == 20001
    await hands.device("good")
    assert (await hands.post("/v1/Devices/good", ok=400, UniqueName=name))["code"] == 20001


@pytest.mark.parametrize(
    "name", ["a" * 64, "This is my device; there are many like it.", "Kessel Küche 7 ☕", "a:b@c*d", "a+b", "x.json"]
)
async def test_a_name_reaches_the_device_in_every_path(hands, name):
    made = await hands.device(name)
    path = "/v1/Devices/" + quoted(name)
    assert (await hands.get(path))["sid"] == made["sid"]
    assert (await hands.post(path, LoggingEnabled="true"))["sid"] == made["sid"]
    await hands.post(f"{path}/Configs", ok=201, Key="k", Value="v")
    config = (await hands.get(f"{path}/Configs/k")).json
    assert config["device_sid"] == made["sid"]
    assert config["url"] == f"{BASE}/v1/Devices/{made['sid']}/Configs/k"
    await hands.delete(path)
    await hands.get(path, ok=404)


async def test_a_name_belongs_to_one_device(hands):
    await hands.device("a")
    b = await hands.device("b")
    await hands.post("/v1/Devices", ok=409, UniqueName="a")
    reply = await hands.post(f"/v1/Devices/{b['sid']}", ok=409, UniqueName="a", LoggingEnabled="true")
    assert reply["code"] == 20409
    after = (await hands.get("/v1/Devices/b")).json
    assert after["logging"]["enabled"] is False, "all or nothing"
    assert (await hands.post("/v1/Devices/a", UniqueName="a"))["unique_name"] == "a"


async def test_an_empty_name_unsets_it(hands):
    made = await hands.device("a")
    assert (await hands.post("/v1/Devices/a", UniqueName=""))["unique_name"] is None
    await hands.get("/v1/Devices/a", ok=404)
    await hands.device("a")
    await hands.get(f"/v1/Devices/{made['sid']}")


async def test_one_post_carries_several_changes(server, hands):
    app = await hands.app("v1")
    made = await hands.device()
    server.clock.advance(5)
    changed = (
        await hands.post(
            f"/v1/Devices/{made['sid']}", UniqueName="n", TargetApp="v1", LoggingEnabled="TRUE", RestartApp="False"
        )
    ).json
    assert changed["unique_name"] == "n"
    assert changed["app"]["target_sid"] == app["sid"]
    assert changed["app"]["target_hash"] == app["hash"]
    assert changed["app"]["date_targeted"] == changed["date_updated"] == "2026-01-01T00:00:05Z"
    assert changed["app"]["update_status"] == changed["status"] == "pending"
    assert changed["app_update"] == app["sid"]
    assert changed["logging"] == {"enabled": True, "date_expires": "2026-01-02T00:00:05Z"}
    assert changed["logging_enabled"] is True
    assert changed["date_logging_expires"] == "2026-01-02T00:00:05Z"
    assert changed["update"] == {
        "number": FIRST_NUMBER + 5,
        "app_sid": app["sid"],
        "rollout_sid": None,
        "state": "pending",
        "cancel_requested": False,
        "bytes_done": 0,
        "bytes_total": changed["update"]["bytes_total"],
        "error_code": 0,
        "date_created": "2026-01-01T00:00:05Z",
        "date_updated": "2026-01-01T00:00:05Z",
        "date_fetched": None,
    }
    assert changed["update"]["bytes_total"] > 0


@pytest.mark.parametrize(
    "bad",
    [
        {"TargetApp": "nobody"},
        {"TargetApp": "KA" + "0" * 32},
        {"LoggingEnabled": "yes"},
        {"LoggingEnabled": ""},
        {"RestartApp": "1"},
        {"CancelUpdate": "nil"},
        {"UniqueName": "a/b"},
        {"TargetApp": "v1", "AppSid": "v2"},
        {"TargetApp": "v1", "CancelUpdate": "true"},
    ],
)
async def test_one_bad_parameter_changes_nothing(hands, bad):
    await hands.app("v1")
    await hands.app("v2")
    made = await hands.device("d")
    good = {"UniqueName": "e", "LoggingEnabled": "true", "TargetApp": "v1"}
    reply = await hands.post(f"/v1/Devices/{made['sid']}", ok=400, **good | bad)
    assert reply["code"] == 20001
    after = (await hands.get(f"/v1/Devices/{made['sid']}")).json
    made.pop("device_token")
    assert after == made


async def test_a_repeated_parameter_is_refused(hands):
    await hands.device("d")
    body = b"LoggingEnabled=true&LoggingEnabled=true"
    reply = await hands.post("/v1/Devices/d", ok=400, content=body, headers=FORM)
    assert "LoggingEnabled" in reply["detail"]


async def test_no_parameters_change_nothing(server, hands):
    """The answer is 200 with the Device, and date_updated stays; unknown and misspelt parameters are ignored."""
    made = await hands.device("d")
    made.pop("device_token")
    server.clock.advance(60)
    assert (await hands.post("/v1/Devices/d")).json == made
    assert (await hands.post("/v1/Devices/d", uniquename="x", Nonsense="1", loggingenabled="true")).json == made
    assert (await hands.get("/v1/Devices/d")).json == made


async def test_the_old_name_of_the_target_parameter_works(hands):
    app = await hands.app("v1")
    await hands.device("d")
    assert (await hands.post("/v1/Devices/d", AppSid=app["sid"]))["app"]["target_sid"] == app["sid"]
    assert (await hands.post("/v1/Devices/d", AppSid="v1", TargetApp="v1"))["update"]["number"] == FIRST_NUMBER


async def test_an_empty_target_clears_it(hands):
    await hands.app("v1")
    await hands.device("d")
    await hands.post("/v1/Devices/d", TargetApp="v1")
    cleared = (await hands.post("/v1/Devices/d", TargetApp="")).json
    assert cleared["app"]["target_sid"] is cleared["app"]["target_hash"] is cleared["app"]["date_targeted"] is None
    assert cleared["status"] == "up-to-date"
    assert cleared["update"]["state"] == "canceled"


async def test_a_canceled_update_leaves_no_target(hands):
    """The device reported nothing yet, so there is nothing to go back to."""
    await hands.app("v1")
    await hands.device("d")
    await hands.post("/v1/Devices/d", TargetApp="v1")
    after = (await hands.post("/v1/Devices/d", CancelUpdate="true")).json
    assert after["update"]["state"] == "canceled"
    assert after["app"]["target_sid"] is None


async def test_logging_ends_by_itself(server, hands):
    await hands.device("d")
    await hands.post("/v1/Devices/d", LoggingEnabled="true")
    server.clock.advance(24 * 3600 - 1)
    assert (await hands.get("/v1/Devices/d"))["logging"]["enabled"] is True
    server.clock.advance(1)
    device = (await hands.get("/v1/Devices/d")).json
    assert device["logging"] == {"enabled": False, "date_expires": None}
    assert device["logging_enabled"] is False
    assert device["date_logging_expires"] is None


async def test_logging_can_be_extended_and_switched_off(server, hands):
    await hands.device("d")
    await hands.post("/v1/Devices/d", LoggingEnabled="true")
    server.clock.advance(3600)
    assert (await hands.post("/v1/Devices/d", LoggingEnabled="true"))["logging"][
        "date_expires"
    ] == "2026-01-02T01:00:00Z"
    assert (await hands.post("/v1/Devices/d", LoggingEnabled="false"))["logging"] == {
        "enabled": False,
        "date_expires": None,
    }


async def test_updates_are_listed_newest_first(hands):
    apps = [await hands.app(f"v{number}") for number in range(5)]
    made = await hands.device("d")
    for app in apps:
        await hands.post("/v1/Devices/d", TargetApp=app["sid"])
    pages = await hands.walk("/v1/Devices/d/Updates", "updates", PageSize=2)
    assert [[update["number"] for update in page] for page in pages] == [
        [FIRST_NUMBER + 4, FIRST_NUMBER + 3],
        [FIRST_NUMBER + 2, FIRST_NUMBER + 1],
        [FIRST_NUMBER],
    ]
    assert [update["state"] for page in pages for update in page] == ["pending"] + ["superseded"] * 4
    one = (await hands.get(f"/v1/Devices/d/Updates/{FIRST_NUMBER + 2}")).json
    assert one == pages[1][0] | {"mode": "forced", "confirmation": "none", "log": []}
    assert one["app_sid"] == apps[2]["sid"]
    assert (await hands.get(f"/v1/Devices/{made['sid']}"))["update"] == pages[0][0]


@pytest.mark.parametrize("number", ["0", "2", "-1", "one", "1.0", "²", "1" * 40, "01 "])
async def test_an_update_that_is_not_there_is_not_found(hands, number):
    await hands.app("v1")
    await hands.device("d")
    await hands.post("/v1/Devices/d", TargetApp="v1")
    await hands.get(f"/v1/Devices/d/Updates/{quoted(number)}", ok=404)


async def test_a_removed_device_is_gone_with_what_it_had(hands):
    made = await hands.device("d")
    await hands.app("v1")
    await hands.post("/v1/Devices/d", TargetApp="v1")
    await hands.post("/v1/Devices/d/Configs", ok=201, Key="k", Value="v")
    await hands.delete("/v1/Devices/d")
    await hands.delete("/v1/Devices/d", ok=404)
    await hands.get(f"/v1/Devices/{made['sid']}/Configs", ok=404)
    again = await hands.device("d", Sid=made["sid"])
    assert again["update"] is None
    assert (await hands.get("/v1/Devices/d/Configs"))["configs"] == []
    await hands.post("/v1/Devices/d", TargetApp="v1")
    assert (await hands.get("/v1/Devices/d"))["update"]["number"] == FIRST_NUMBER + 1, "no number comes back"
    await hands.post("/v1/Devices/d", TargetApp="")
    await hands.delete("/v1/Apps/v1")


async def test_the_device_count_is_bounded(tmp_path):
    from tests.api.world import serving

    from fleetvisor.db.sqlite import memory

    async with serving(memory(), tmp_path, devices_per_account_max=2) as server:
        await server.hands.device("a")
        await server.hands.device("b")
        await server.hands.post("/v1/Devices", ok=409, UniqueName="c")
        await server.hands.delete("/v1/Devices/a")
        await server.hands.device("c")


FORM = {"content-type": "application/x-www-form-urlencoded"}


def quoted(text):
    from urllib.parse import quote

    return quote(text, safe="")
