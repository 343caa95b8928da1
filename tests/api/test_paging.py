"""Lists: the envelope, the tokens, and walks that stay whole while rows come and go."""

import asyncio
import base64
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.api.world import BASE, serving

from fleetvisor.db.sqlite import memory

META = {"page", "page_size", "first_page_url", "previous_page_url", "url", "next_page_url", "key"}
LISTS = {
    "/v1/Devices": "devices",
    "/v1/Apps": "apps",
    "/v1/Configs": "configs",
    "/v1/Secrets": "secrets",
    "/v1/Keys": "keys",
    "/v1/Devices/d/Configs": "configs",
    "/v1/Devices/d/Secrets": "secrets",
    "/v1/Devices/d/Updates": "updates",
}


@pytest.fixture(params=LISTS)
async def path(request, hands):
    """A list with three rows."""
    await hands.device("d")
    for number in range(3):
        app = await hands.app()
        await hands.post("/v1/Devices/d", TargetApp=app["sid"])
        await hands.post("/v1/Keys", ok=201, Role="admin")
        await hands.device("spare" if number == 0 else None)
        for where in ("/v1", "/v1/Devices/d"):
            for store in ("Configs", "Secrets"):
                await hands.post(f"{where}/{store}", ok=201, Key=f"k{number}", Value="v")
    if request.param == "/v1/Devices":
        await hands.delete("/v1/Devices/spare")
    return request.param


async def test_the_first_page_describes_itself(hands, path):
    body = (await hands.get(path)).json
    assert set(body) == {LISTS[path], "meta"}
    assert len(body[LISTS[path]]) == 3
    meta = body["meta"]
    assert set(meta) == META
    url = meta["url"]
    assert meta == {
        "page": 0,
        "page_size": 50,
        "first_page_url": url,
        "previous_page_url": None,
        "url": url,
        "next_page_url": None,
        "key": LISTS[path],
    }
    assert url.startswith(BASE + "/v1/")
    assert urlsplit(url).query == "PageSize=50&Page=0"
    assert (await hands.get(url)).json == body


async def test_pages_lead_forth_and_back(hands, path):
    key = LISTS[path]
    first = (await hands.get(path, PageSize=2)).json
    assert first["meta"]["previous_page_url"] is None
    query = parse_qs(urlsplit(first["meta"]["next_page_url"]).query)
    assert (query["PageSize"], query["Page"], set(query)) == (["2"], ["1"], {"PageSize", "Page", "PageToken"})
    second = (await hands.get(first["meta"]["next_page_url"])).json
    assert len(second[key]) == 1
    assert second["meta"]["page"] == 1
    assert second["meta"]["next_page_url"] is None
    assert second["meta"]["url"] == first["meta"]["next_page_url"]
    back = (await hands.get(second["meta"]["previous_page_url"])).json
    assert back[key] == first[key]
    assert back["meta"]["page"] == 0
    assert back["meta"]["previous_page_url"] is None
    assert (await hands.get(back["meta"]["next_page_url"]))[key] == second[key]


async def test_a_token_of_another_list_is_refused(server, hands, path):
    token = _token((await hands.get(path, PageSize=1))["meta"]["next_page_url"])
    await hands.device("e")
    for other in [*LISTS, "/v1/Devices/e/Configs", "/v1/Devices/e/Updates"]:
        if other != path:
            assert (await hands.get(other, ok=400, PageToken=token))["code"] == 21481
    stranger = await server.stranger()
    await stranger.device("d")
    assert (await stranger.get(path, ok=400, PageToken=token))["code"] == 21481


async def test_an_altered_token_is_refused(hands, path):
    token = _token((await hands.get(path, PageSize=1))["meta"]["next_page_url"])
    raw = json.loads(base64.urlsafe_b64decode(token + "=="))
    others = [
        raw[:-1],
        [*raw, 1],
        [*raw[:2], 1, *raw[3:]],
        [*raw[:2], "true", *raw[3:]],
        [*raw[:3], None, *raw[4:]],
        [*raw[:3], [1], *raw[4:]],
        [*raw[:3], 1.5, *raw[4:]],
        [*raw[:-1], "\0" if isinstance(raw[-1], str) else 2**63],
        [*raw[:-1], 10**30],
        [*raw[:-1], "x\ud800"],
        {},
        "x",
        7,
    ]
    tokens = [
        base64.urlsafe_b64encode(json.dumps(other, separators=(",", ":")).encode()).rstrip(b"=").decode()
        for other in others
    ]
    tokens += [
        token + "=",
        "!" + token,
        token + "A",
        token[:-1],
        "x",
        "A" * 5000,
        "é",
        "{}",
        " " + token,
        token.swapcase(),
    ]
    tokens.append(base64.urlsafe_b64encode(json.dumps(raw).encode()).decode().rstrip("="))
    for bad in tokens:
        if bad != token:
            assert (await hands.get(path, ok=400, PageToken=bad))["code"] == 21481, bad


def _token(url):
    return parse_qs(urlsplit(url).query)["PageToken"][0]


@pytest.mark.parametrize("size", ["0", "-1", "x", "1.0", "", " 1", "1 ", "+1", "0x1", "٣", "1e3", "null", "-0"])
async def test_a_page_size_that_is_no_count_is_refused(hands, size):
    assert (await hands.get("/v1/Devices", ok=400, PageSize=size))["code"] == 20001


@pytest.mark.parametrize(("asked", "given"), [("1", 1), ("0050", 50), ("1000", 1000), ("1001", 1000), ("9" * 30, 1000)])
async def test_a_large_page_size_is_clamped(hands, asked, given):
    meta = (await hands.get("/v1/Devices", PageSize=asked))["meta"]
    assert meta["page_size"] == given
    assert f"PageSize={given}&" in meta["url"]


@pytest.mark.parametrize("page", ["-1", "x", "1.5"])
async def test_a_page_index_that_is_none_is_refused(hands, page):
    assert (await hands.get("/v1/Devices", ok=400, Page=page))["code"] == 20001


async def test_the_page_index_is_the_clients_own(hands):
    """It moves nothing: the place is in the token."""
    await hands.device("d")
    body = (await hands.get("/v1/Devices", Page=7)).json
    assert len(body["devices"]) == 1
    assert body["meta"]["page"] == 7


async def test_repeated_paging_parameters_are_refused(hands):
    for name in ("PageSize", "Page", "PageToken"):
        await hands.get(f"/v1/Devices?{name}=1&{name}=1", ok=400)


async def test_unknown_query_parameters_are_ignored(hands):
    await hands.get("/v1/Devices?pagesize=x&Nothing=1&&=")


async def test_a_thousand_devices_come_on_one_page(hands):
    for number in range(1001):
        await hands.device(f"d{number}")
    pages = await hands.walk("/v1/Devices", "devices", PageSize=5000)
    assert [len(page) for page in pages] == [1000, 1]


# Walks

Step = st.tuples(st.sampled_from(["add", "remove", "next", "next", "previous"]), st.integers(0, 30), st.integers(0, 2))


@given(start=st.integers(0, 12), size=st.integers(1, 4), steps=st.lists(Step, max_size=14))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_walk_misses_and_repeats_nothing_that_stayed(tmp_path_factory, start, size, steps):
    """While devices come and go, a walk forth and back shows each that stayed, once, in order of age."""
    asyncio.run(_walk(tmp_path_factory.mktemp("walk"), start, size, steps))


async def _walk(folder, start, size, steps):
    async with serving(memory(), folder) as server:
        hands = server.hands
        alive = {}

        async def add(seconds):
            server.clock.advance(seconds)
            made = await hands.device()
            alive[made["sid"]] = server.clock.now()

        for _ in range(start):
            await add(0)
        lasting = dict(alive)
        page = (await hands.get("/v1/Devices", PageSize=size)).json
        seen = [device["sid"] for device in page["devices"]]
        for kind, pick, seconds in steps:
            if kind == "add":
                await add(seconds)
            elif kind == "remove" and alive:
                gone = sorted(alive)[pick % len(alive)]
                await hands.delete(f"/v1/Devices/{gone}")
                alive.pop(gone)
                lasting.pop(gone, None)
            elif kind == "previous" and page["meta"]["previous_page_url"] and page["devices"]:
                before = page["devices"]
                page = (await hands.get(page["meta"]["previous_page_url"])).json
                assert not {device["sid"] for device in page["devices"]} & {device["sid"] for device in before}
                if not page["devices"]:
                    return
            elif kind == "next" and page["meta"]["next_page_url"]:
                page = (await hands.get(page["meta"]["next_page_url"])).json
                seen += [device["sid"] for device in page["devices"]]
        while page["meta"]["next_page_url"]:
            page = (await hands.get(page["meta"]["next_page_url"])).json
            seen += [device["sid"] for device in page["devices"]]
        order = sorted(set(seen), key=lambda sid: (alive.get(sid, 0), sid), reverse=True)
        assert set(lasting) <= set(seen)
        assert [sid for sid in dict.fromkeys(seen) if sid in lasting] == [sid for sid in order if sid in lasting]
        if not any(kind == "previous" for kind, _, _ in steps):
            assert len(seen) == len(set(seen))
