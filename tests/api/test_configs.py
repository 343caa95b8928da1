"""Configs and Secrets, of the account and of a Device: the same five operations four times."""

from urllib.parse import quote

import pytest
from tests.api.world import BASE, serving

from fleetvisor.db.sqlite import memory

WHERE = ["/v1/Configs", "/v1/Secrets", "/v1/Devices/d/Configs", "/v1/Devices/d/Secrets"]


@pytest.fixture(params=WHERE)
async def base(request, hands):
    await hands.device("d")
    return request.param


def is_secret(base):
    return base.endswith("Secrets")


def fields_of(base):
    own = {"key", "url", "date_rotated"} if is_secret(base) else {"key", "url", "date_updated", "value"}
    return own | ({"device_sid"} if "Devices" in base else set())


async def test_a_key_is_made_read_set_and_removed(server, hands, base):
    date = "date_rotated" if is_secret(base) else "date_updated"
    made = (await hands.post(base, ok=201, Key="wifi", Value="one")).json
    assert set(made) == fields_of(base)
    assert made[date] == "2026-01-01T00:00:00Z"
    device = (await hands.get("/v1/Devices/d")).json
    assert made["url"] == BASE + base.replace("/d/", f"/{device['sid']}/") + "/wifi"
    assert made.get("device_sid", device["sid"]) == device["sid"]
    assert (await hands.get(f"{base}/wifi")).json == made
    assert (await hands.get(made["url"])).json == made
    server.clock.advance(9)
    after = (await hands.post(f"{base}/wifi", Value="two")).json
    assert after[date] == "2026-01-01T00:00:09Z"
    if not is_secret(base):
        assert (made["value"], after["value"]) == ("one", "two")
    assert (await hands.delete(f"{base}/wifi")).text == ""
    await hands.get(f"{base}/wifi", ok=404)
    await hands.delete(f"{base}/wifi", ok=404)


async def test_a_key_is_made_once(hands, base):
    """A second create is a conflict, and the value stays as it was."""
    await hands.post(base, ok=201, Key="k", Value="one")
    assert (await hands.post(base, ok=409, Key="k", Value="two"))["code"] == 20409
    if not is_secret(base):
        assert (await hands.get(f"{base}/k"))["value"] == "one"


async def test_an_update_never_makes_a_key(hands, base):
    await hands.post(f"{base}/k", ok=404, Value="v")
    assert (await hands.get(base)).json[base.rpartition("/")[2].lower()] == []


async def test_stores_are_apart(hands, base):
    """The same key in one store is nothing to the three others."""
    await hands.post(base, ok=201, Key="k", Value="v")
    for other in set(WHERE) - {base}:
        await hands.get(f"{other}/k", ok=404)
        await hands.post(other, ok=201, Key="k", Value="v")
    await hands.delete(f"{base}/k")
    for other in set(WHERE) - {base}:
        await hands.get(f"{other}/k")


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"Key": "k"},
        {"Value": "v"},
        {"key": "k", "value": "v"},
        {"Key": "", "Value": "v"},
        {"Key": "k" * 101, "Value": "v"},
        {"Key": "k", "Value": "v" * 4097},
        {"Key": "a/b", "Value": "v"},
        {"Key": "a?b", "Value": "v"},
        {"Key": "Küche", "Value": "v"},
        {"Key": "tab\t", "Value": "v"},
        {"Key": ".", "Value": "v"},
        {"Key": "..", "Value": "v"},
    ],
    ids=str,
)
async def test_a_bad_key_or_value_is_refused(hands, base, form):
    assert (await hands.post(base, ok=400, **form))["code"] == 20001


@pytest.mark.parametrize("key", ["k" * 100, "a b", "~!@$^&*()_+`-={}|[]:\";'<>,.", "app.json", ".json", "a+b"])
async def test_every_key_that_may_be_made_works_in_a_path(hands, base, key):
    made = (await hands.post(base, ok=201, Key=key, Value="v")).json
    assert made["key"] == key
    assert (await hands.get(f"{base}/{quote(key, safe='')}")).json == made
    assert (await hands.get(made["url"])).json == made
    await hands.delete(made["url"])


@pytest.mark.parametrize(
    "value",
    ["", "v" * 4096, "☕" * 4096, "line\r\nline\t\x01", "𝄞"],
    ids=["empty", "longest", "longest in bytes", "controls", "astral"],
)
async def test_values_are_text_counted_in_characters(hands, base, value):
    made = await hands.post(base, ok=201, Key="k", Value=value)
    if not is_secret(base):
        assert made["value"] == value
        assert (await hands.get(f"{base}/k"))["value"] == value


async def test_a_secret_is_in_no_answer(hands):
    value = "correct horse battery staple"
    await hands.device("d")
    for base in ("/v1/Secrets", "/v1/Devices/d/Secrets"):
        replies = [
            await hands.post(base, ok=201, Key="k", Value=value),
            await hands.post(base, ok=409, Key="k", Value=value),
            await hands.post(base, ok=400, Key="a/b", Value=value),
            await hands.get(f"{base}/k"),
            await hands.post(f"{base}/k", Value=value),
            await hands.post(f"{base}/missing", ok=404, Value=value),
            await hands.get(base),
        ]
        for reply in replies:
            assert value not in reply.text
            assert "value" not in reply.json


async def test_keys_are_listed_in_order(hands, base):
    keys = ["b", "B", "a.json", "~", "! x", "a", "0", "aa"]
    for key in keys:
        await hands.post(base, ok=201, Key=key, Value="v")
    pages = await hands.walk(base, base.rpartition("/")[2].lower(), PageSize=3)
    assert [len(page) for page in pages] == [3, 3, 2]
    assert [entry["key"] for page in pages for entry in page] == sorted(keys)
    assert all(set(entry) == fields_of(base) for page in pages for entry in page)


async def test_their_number_is_bounded(tmp_path):
    async with serving(memory(), tmp_path, configs_per_owner_max=2) as server:
        await server.hands.device("d")
        for base in WHERE:
            await server.hands.post(base, ok=201, Key="1", Value="")
            await server.hands.post(base, ok=201, Key="2", Value="")
            assert (await server.hands.post(base, ok=409, Key="3", Value=""))["code"] == 20409
            await server.hands.post(f"{base}/2", Value="again")


@pytest.mark.parametrize("store", ["Configs", "Secrets"])
async def test_an_unknown_device_has_no_configs(hands, store):
    base = f"/v1/Devices/nobody/{store}"
    await hands.get(base, ok=404)
    await hands.post(base, ok=404, Key="k", Value="v")
    await hands.get(f"{base}/k", ok=404)
    await hands.post(f"{base}/k", ok=404, Value="v")
    await hands.delete(f"{base}/k", ok=404)
