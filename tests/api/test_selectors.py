"""Selectors against fleets made by chance: what is selected is what a plain reading of each term says, on every engine."""

import random
from collections import Counter
from fnmatch import fnmatchcase

import pytest
from tests.api.world import BASE, serving

from fleetvisor.db.sqlite import memory
from fleetvisor.features.devices import counting

TERMS = [
    "site=graz", "site!=graz", "site in (graz,linz)", "site not in (graz,linz)", "site", "!site", 'note="a, b"',
    "ring=1", "ring!=1", "app=v1", "app!=v1", "app", "!app", "target=v2", "target not in (v1,v2)", "target", "!target",
    "status=error", "status=pending", "status=up-to-date", "status!=pending", "access=disabled", "access=active",
    "access in (waiting,disabled)", "hardware=a", "hardware!=a", "!hardware", "seen<5m", "seen>5m", "seen", "!seen",
    "name~d1*", "name~*[5]?", "name~*5", "name=d7", "name!=d7", "!name",
]  # fmt: skip


def holds(term, device, apps, now_s):
    """Read one term plainly, from the Device as the API shows it."""
    labels, app = device["labels"], device["app"]
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
        return (fields | labels).get(term[1:]) is None
    for mark in ("!=", " not in ", " in ", "~", "<", ">", "="):
        if mark in term:
            key, _, rest = term.partition(mark)
            break
    else:
        return (fields | labels).get(term) is not None
    value = fields.get(key) if key in fields else labels.get(key)
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
        labels = [f"site={site}"] if (site := rng.choice(["graz", "linz", "wien", None])) else []
        labels += [f"ring={ring}"] if (ring := rng.choice(["1", "2", None])) else []
        labels += ["note=a, b"] if rng.random() < 0.2 else []
        made = await hands.device(
            f"d{number}" if rng.random() < 0.9 else f"d[{number}]" if rng.random() < 0.5 else None,
            Labels=labels,
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
        for selector, chosen in (("", devices), ("!no-such-label", devices), ("app=v1", on_v1), ("app=v1,site=x", [])):
            counts = (await server.hands.get("/v1/DeviceCounts", By=by, Selector=selector)).json
            values = Counter(read(device) for device in chosen)
            assert {group["value"]: group["count"] for group in counts["groups"]} == values, (by, selector)
            assert (counts["total"], counts["others"], counts["by"]) == (len(chosen), 0, by)
    for wrong in ("seen", "in", "x" * 64):
        await server.hands.get("/v1/DeviceCounts", ok=400, By=wrong)


@pytest.mark.parametrize("selector", ["", "!no-such-label"])
async def test_beyond_the_largest_groups_devices_are_counted_as_others(server, selector, monkeypatch):
    await fleet(server, 40, 7)
    devices = await shown(server)
    sizes = sorted(Counter(device["labels"].get("site") for device in devices).values(), reverse=True)
    assert len(sizes) > 2
    monkeypatch.setattr(counting, "GROUPS_MAX", 2)
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
    await stranger.get("/v1/Devices", ok=400, Selector=f"target={app['sid']}")
