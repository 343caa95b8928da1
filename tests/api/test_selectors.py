"""Selectors against fleets made by chance: what is selected is what a plain reading of each term says, on every engine."""

import random
import re
import time
from collections import Counter
from fnmatch import fnmatchcase

import pytest
from tests.api.world import BASE, serving

from fleetvisor.db.sqlite import memory
from fleetvisor.features.devices import counting, labels

TERMS = [
    "site=graz", "site!=graz", "site in (graz,linz)", "site not in (graz,linz)", "site", "!site", 'note="a, b"',
    "ring=1", "ring!=1", "app=v1", "app!=v1", "app", "!app", "target=v2", "target not in (v1,v2)", "target", "!target",
    "status=error", "status=pending", "status=up-to-date", "status!=pending", "access=disabled", "access=active",
    "access in (waiting,disabled)", "hardware=a", "hardware!=a", "!hardware", "seen<5m", "seen>5m", "seen", "!seen",
    "name~d1*", "name~*[5]?", "name~*5", "name=d7", "name!=d7", "!name",
]  # fmt: skip


def holds(term, device, apps, now_s):
    """Read one term plainly, from the Device as the API shows it."""
    marks, app = device["labels"], device["app"]
    fields = {
        "app": app["reported_sid"],
        "target": app["target_sid"],
        "status": app["update_status"],
        "access": device["access"],
        "hardware": device["hardware_class"],
        "name": device["unique_name"],
        "seen": device["date_last_seen"],
    }
    if term.startswith("!"):
        return (fields | marks).get(term[1:]) is None
    for mark in ("!=", " not in ", " in ", "~", "<", ">", "="):
        if mark in term:
            key, _, rest = term.partition(mark)
            break
    else:
        return (fields | marks).get(term) is not None
    value = fields.get(key) if key in fields else marks.get(key)
    if key == "seen":
        age = None if value is None else now_s - device["seen_s"]
        return (age is not None and age < 300) if mark == "<" else (age is None or age > 300)
    if mark == "~":
        return value is not None and fnmatchcase(value, rest.replace("[", "[[]"))
    values = [part.strip().strip('"') for part in rest.strip("()").split(",")] if "in" in mark else [rest.strip('"')]
    if key in {"app", "target"}:
        values = [apps[name] for name in values]
    return (value in values) != (mark in {"!=", " not in "})


async def fleet(server, count, seed):
    """Make devices of every kind; give them as the API shows them, newest first, and the apps."""
    rng, hands = random.Random(seed), server.hands
    apps = {name: (await hands.app(name))["sid"] for name in ("v1", "v2")}
    for number in range(count):
        server.clock.advance(rng.choice([0, 0, 1]))
        given = [f"site={site}"] if (site := rng.choice(["graz", "linz", "wien", None])) else []
        given += [f"ring={ring}"] if (ring := rng.choice(["1", "2", None])) else []
        given += ["note=a, b"] if rng.random() < 0.2 else []
        made = await hands.device(
            f"d{number}" if rng.random() < 0.9 else f"d[{number}]" if rng.random() < 0.5 else None,
            Labels=given,
            **({"HardwareClass": rng.choice("ab")} if rng.random() < 0.7 else {}),
        )
        token = {"authorization": f"Bearer {made['device_token']}"}
        if rng.random() < 0.6:
            await hands.http.get(f"{BASE}/device/v1/desired", headers=token)
        if rng.random() < 0.7:
            await hands.post(f"/v1/Devices/{made['sid']}", TargetApp=rng.choice(list(apps)))
            fate = rng.choice(["succeeded", "failed", "downloading", None])
            device = (await hands.get(f"/v1/Devices/{made['sid']}")).json
            if fate:
                update = {
                    "number": device["update"]["number"],
                    "state": fate,
                    "error_code": 6 if fate == "failed" else 0,
                }
                target = (await hands.get(f"/v1/Apps/{device['app']['target_sid']}")).json
                running = (
                    {"manifest": target["hash"].removeprefix("sha256:")} if fate == "succeeded" else {"manifest": None}
                )
                body = {"journal": "0" * 32, "sequence": 1, "running": running, "update": update}
                answer = await hands.http.post(f"{BASE}/device/v1/report", json=body, headers=token)
                assert answer.status_code == 200, answer.text
            if rng.random() < 0.3:
                change = rng.choice(
                    [{"TargetApp": rng.choice(list(apps))}, {"TargetApp": ""}, {"CancelUpdate": "true"}]
                )
                await hands.post(f"/v1/Devices/{made['sid']}", **change)
        if rng.random() < 0.2:
            await hands.post(f"/v1/Devices/{made['sid']}", Access="disabled")
        if rng.random() < 0.05:
            server.clock.advance(400)
        await server.world.presence.flush()
    return apps


async def shown(server):
    from datetime import datetime

    pages = await server.hands.walk("/v1/Devices", "devices", PageSize=1000)
    devices = [device for page in pages for device in page]
    for device in devices:
        seen = device["date_last_seen"]
        device["seen_s"] = datetime.fromisoformat(seen).timestamp() if seen else None
    return devices


async def test_a_hundred_labels_are_planned_at_once(server):
    """PostgreSQL took half a minute for the joins of as many labels, and then gave up."""
    await server.hands.device("all", Labels=[f"k{number}=x" for number in range(30)])
    await server.hands.device("some", Labels=[f"k{number}=x" for number in range(29)])
    terms = ",".join([f"k{number % 30}=x" for number in range(50)] + [f"!no{number}" for number in range(50)])
    began = time.monotonic()
    for selector, found in ((terms, 1), (f"{terms[:-1]}", 1), (terms.replace("!no49", "!k29"), 0)):
        rows = (await server.hands.get("/v1/Devices", Selector=selector))["devices"]
        assert len(rows) == found
        counts = (await server.hands.get("/v1/DeviceCounts", Selector=selector)).json
        assert counts["total"] == found
    assert time.monotonic() - began < 12, "usually it is less than a second"


@pytest.mark.parametrize("seed", range(2))
async def test_what_is_selected_is_what_each_term_says(server, seed):
    apps = await fleet(server, 60, seed)
    server.clock.advance(7)
    devices, rng = await shown(server), random.Random(seed)
    now_s = server.clock.millis / 1000
    chosen = [[term] for term in TERMS] + [rng.sample(TERMS, rng.randint(2, 4)) for _ in range(40)]
    sizes = set()
    for terms in chosen:
        wanted = [d["sid"] for d in devices if all(holds(term, d, apps, now_s) for term in terms)]
        selector = rng.choice([",", " , "]).join(terms)
        pages = await server.hands.walk("/v1/Devices", "devices", Selector=selector, PageSize=rng.choice([1, 7, 100]))
        assert [device["sid"] for page in pages for device in page] == wanted, selector
        counts = (await server.hands.get("/v1/DeviceCounts", Selector=selector)).json
        assert counts["total"] == len(wanted), selector
        sizes.add(len(wanted))
    assert len(sizes) > 10


async def test_counts_by_what_the_api_shows(server):
    apps = await fleet(server, 40, 7)
    devices = await shown(server)
    reads = {
        "status": lambda d: d["app"]["update_status"],
        "app": lambda d: d["app"]["reported_sid"],
        "target": lambda d: d["app"]["target_sid"],
        "hardware": lambda d: d["hardware_class"],
        "access": lambda d: d["access"],
        "site": lambda d: d["labels"].get("site"),
        "no/such": lambda _: None,
    }
    on_v1 = [device for device in devices if device["app"]["reported_sid"] == apps["v1"]]
    assert 0 < len(on_v1) < 40
    for by, read in reads.items():
        for selector, chosen in (("*", devices), ("!no-such-label", devices), ("app=v1", on_v1), ("app=v1,site=x", [])):
            counts = (await server.hands.get("/v1/DeviceCounts", By=by, Selector=selector)).json
            values = Counter(read(device) for device in chosen)
            assert {group["value"]: group["count"] for group in counts["groups"]} == values, (by, selector)
            assert (counts["total"], counts["others"], counts["by"]) == (len(chosen), 0, by)
    for wrong in ("seen", "in", "x" * 64, "a b", "%", "status ", "\N{LATIN SMALL LETTER U WITH DIAERESIS}"):
        await server.hands.get("/v1/DeviceCounts", ok=400, By=wrong)


@pytest.mark.parametrize("selector", ["*", "!no-such-label"])
async def test_beyond_the_largest_groups_devices_are_counted_as_others(server, selector, monkeypatch):
    await fleet(server, 40, 7)
    devices = await shown(server)
    sizes = sorted(Counter(device["labels"].get("site") for device in devices).values(), reverse=True)
    assert len(sizes) > 2
    monkeypatch.setattr(counting, "GROUPS_MAX", 2)  # a bound that takes thousands of devices to reach
    counts = (await server.hands.get("/v1/DeviceCounts", By="site", Selector=selector)).json
    assert [group["count"] for group in counts["groups"]] == sizes[:2]
    assert (counts["total"], counts["others"]) == (40, 40 - sum(sizes[:2]))


async def test_a_page_looks_at_a_bounded_number_of_devices_and_a_walk_finds_all(tmp_path):
    async with serving(memory(), tmp_path, selector_rows_max=10) as server:
        for number in range(45):
            await server.hands.device(f"d{number}", **({"Labels": "rare=yes"} if number in {3, 4, 30} else {}))
        pages = await server.hands.walk("/v1/Devices", "devices", Selector="rare!=no,name~d*", PageSize=50)
        assert [len(page) for page in pages] == [10, 10, 10, 10, 5]
        pages = await server.hands.walk("/v1/Devices", "devices", Selector="rare in (yes,no)", PageSize=50)
        assert sorted(device["unique_name"] for page in pages for device in page) == ["d3", "d30", "d4"]
        assert len(pages) > 3
        (page,) = await server.hands.walk("/v1/Devices", "devices", Selector="rare=yes", PageSize=50)
        assert len(page) == 3


async def test_the_narrowest_term_is_followed_wherever_it_stands(tmp_path):
    async with serving(memory(), tmp_path, selector_rows_max=10) as server:
        for number in range(45):
            given = ["ring=1", "owner=us", *(["rare=yes"] if number in {3, 30} else [])]
            await server.hands.device(f"d{number}", Labels=given)
        for selector, wanted in (
            ("ring=1,owner=us,rare=yes", ["d3", "d30"]),
            ("ring=1,rare=yes,name!=d3", ["d30"]),
            ("ring=1,name=d7", ["d7"]),
            ("name in (d7,d40,none,d7),ring=1", ["d40", "d7"]),
            ("ring=1,rare=no", []),
        ):
            (page,) = await server.hands.walk("/v1/Devices", "devices", Selector=selector, PageSize=50)
            assert sorted(device["unique_name"] for device in page) == wanted
            assert (await server.hands.get("/v1/DeviceCounts", Selector=selector))["total"] == len(wanted)


class Restless:
    """A database in which something happens after every read, before the next."""

    def __init__(self, db):
        self._db = db
        self.stir = None

    def __getattr__(self, name):
        return getattr(self._db, name)

    async def _read(self, read, *given):
        found = await read(*given)
        if self.stir:
            await self._db.write(self.stir)
        return found

    async def one(self, *given):
        return await self._read(self._db.one, *given)

    async def all(self, *given):
        return await self._read(self._db.all, *given)

    async def scan(self, *given):
        return await self._read(self._db.scan, *given)


@pytest.mark.parametrize("seed", range(3))
async def test_devices_that_come_and_go_meanwhile_move_no_others(engine, tmp_path, seed):
    db, rng = Restless(engine), random.Random(seed)
    async with serving(db, tmp_path, selector_rows_max=25) as server:
        made = [await server.hands.device(f"d{number}", Labels=f"odd={number % 2}") for number in range(60)]
        account_sid = server.hands.auth[0]

        async def stir(tx):
            for device in rng.sample(made[1::2], 3):
                change = {"site": rng.choice(["graz", None])}
                await labels.change(tx, account_sid, device["sid"], change, server.limits)

        for device in made:
            await server.hands.post(f"/v1/Devices/{device['sid']}", Labels="site=graz")
        db.stir = stir
        pages = await server.hands.walk("/v1/Devices", "devices", Selector="site=graz,odd!=1", PageSize=4)
        names = [device["unique_name"] for page in pages for device in page]
        assert sorted(names) == sorted(device["unique_name"] for device in made[::2])


def quoted(text):
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@pytest.mark.parametrize("seed", range(3))
async def test_names_and_values_of_any_characters_are_compared_as_they_are(server, seed):
    """Case, wildcards of other languages, brackets and what more than one byte has: alike on every engine."""
    rng, letters = (
        random.Random(seed),
        "aA%_*[]\\^-!\"', \N{KELVIN SIGN}K\N{LATIN SMALL LETTER E WITH ACUTE}\N{GRINNING FACE}",
    )
    for _ in range(40):
        name, value = ("".join(rng.choices(letters, k=rng.randint(1, 4))) for _ in range(2))
        await server.hands.call("POST", "/v1/Devices", data={"UniqueName": name, "Labels": f"v={value}"})
    devices = await shown(server)
    assert len(devices) > 20
    for _ in range(60):
        pattern, value = "".join(rng.choices(letters + "?***", k=rng.randint(1, 4))), rng.choice(devices)["labels"]["v"]
        like = re.compile("".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern))
        for selector, wanted in (
            (f"name~{quoted(pattern)}", [d for d in devices if like.fullmatch(d["unique_name"])]),
            (f"v={quoted(value)}", [d for d in devices if d["labels"]["v"] == value]),
            (f"name!={quoted(pattern)}", [d for d in devices if d["unique_name"] != pattern]),
        ):
            found = (await server.hands.get("/v1/Devices", Selector=selector))["devices"]
            assert [d["sid"] for d in found] == [d["sid"] for d in wanted], selector
            assert (await server.hands.get("/v1/DeviceCounts", Selector=selector))["total"] == len(wanted)


async def test_a_long_selector_has_pages_too(hands):
    for number in range(5):
        await hands.device(f"d{number}", Labels=f"site=s{number}")
    for filler in ("x", "\N{LATIN SMALL LETTER U WITH DIAERESIS}"):
        values = [f"s{number}" for number in range(5)] + [filler * 20 + str(number) for number in range(60)]
        selector = f"site in ({', '.join(values)})"
        pages = await hands.walk("/v1/Devices", "devices", Selector=selector, PageSize=2)
        assert [len(page) for page in pages] == [2, 2, 1], len(selector)


async def test_pages_go_back_as_they_came(server):
    for number in range(9):
        await server.hands.device(f"d{number}", Labels=f"odd={'yes' if number % 2 else 'no'}")
        server.clock.advance(1)
    there = []
    url = f"{BASE}/v1/Devices?Selector=odd%3Dno&PageSize=2"
    while url:
        body = (await server.hands.get(url)).json
        there.append([device["unique_name"] for device in body["devices"]])
        last, url = body, body["meta"]["next_page_url"]
    assert there == [["d8", "d6"], ["d4", "d2"], ["d0"]]
    back = (await server.hands.get(last["meta"]["previous_page_url"])).json
    assert [device["unique_name"] for device in back["devices"]] == ["d4", "d2"]
    first = (await server.hands.get(back["meta"]["previous_page_url"])).json
    assert [device["unique_name"] for device in first["devices"]] == ["d8", "d6"]
    assert first["meta"]["previous_page_url"] is None
    token = back["meta"]["next_page_url"].rsplit("=", 1)[1]
    await server.hands.get("/v1/Devices", ok=400, Selector="odd=yes", PageToken=token)
    await server.hands.get("/v1/Devices", ok=400, PageToken=token)


async def test_a_wrong_selector_is_400_and_says_where(server, hands):
    assert "at character 6" in (await hands.get("/v1/Devices", ok=400, Selector="site==x"))["detail"]
    assert "no-such" in (await hands.get("/v1/DeviceCounts", ok=400, Selector="app=no-such"))["detail"]
    stranger = await server.stranger()
    await hands.device("mine", Labels="site=graz")
    assert (await stranger.get("/v1/Devices", Selector="site=graz"))["devices"] == []
    app = await hands.app("ours")
    await hands.device("aimed")
    await hands.post("/v1/Devices/aimed", TargetApp="ours")
    assert (await stranger.get("/v1/Devices", Selector=f"target={app['sid']}"))["devices"] == []
    await stranger.get("/v1/Devices", ok=400, Selector="target=ours")
