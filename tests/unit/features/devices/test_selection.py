"""The compiler of selectors: what each term selects, and along which rows it is looked for."""

from dataclasses import dataclass

import pytest
from msgspec.structs import replace
from tests.unit.features.fleet import Fleet, fleet

from fleetvisor.features.devices import selection
from fleetvisor.features.devices.model import DeviceChange, Registration
from fleetvisor.features.devices.selectors import parse
from fleetvisor.ground.clock import AHEAD_MS
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol.lifecycle import State

MINUTE_MS = 60_000


@dataclass
class World:
    """Six devices, of which no two are alike, and one of another account that is like the first."""

    fleet: Fleet
    names: dict[str, str]
    apps: dict[str, str]

    def compiled(self, text):
        for name, sid in {**self.apps, **{f"SID-{name}": sid for sid, name in self.names.items()}}.items():
            text = text.replace(name, sid)
        return selection.compile_terms(self.fleet.account, parse(text, Limits()), self.fleet.clock.now())

    async def met(self, chosen):
        """Return which devices one comes by along the driver, and which of them are selected."""
        walked = await selection.walk(self.fleet.db, chosen, None, 100)
        assert all(one.device_sid in self.names for one in walked), "a device of another account"
        return (
            [self.names[one.device_sid] for one in walked],
            [self.names[one.device_sid] for one in walked if one.selected],
        )

    async def selected(self, text):
        """Return what a selector selects, along each of its drivers and asked of each device."""
        chosen = self.compiled(text)
        found = {}
        for driver in chosen.drivers:
            found[driver] = (await self.met(replace(chosen, drivers=(driver,))))[1]
        asked = [name for sid, name in self.names.items() if await selection.selects(self.fleet.db, chosen, sid)]
        assert all(sorted(names) == sorted(asked) for names in found.values()), (found, asked)
        return " ".join(sorted(asked))


@pytest.fixture
async def world():
    made = await fleet()
    apps = {"APP-1": await made.app("a"), "APP-2": await made.app("b")}

    async def device(name, seen_ago_s=None, access=None, account=None, **given):
        labels = tuple(f"{key}={value}" for key, value in given.pop("labels", {}).items())
        registration = Registration(name, hardware_class=given.get("hardware"), labels=labels)
        sid = (await made.devices.create(account or made.account, registration)).device.device_sid
        if access:
            await made.devices.update(account or made.account, sid, DeviceChange(access=access))
        if seen_ago_s is not None:
            at = made.clock.now() - seen_ago_s * 1000

            async def body(tx):
                await tx.run("INSERT INTO presence (device_sid, date_seen) VALUES (:sid, :at)", {"sid": sid, "at": at})

            await made.db.write(body)
        return sid

    ran = await device("ran", 60, labels={"site": "graz", "ring": "1"}, hardware="a")
    waits = await device("waits", 300, labels={"site": "graz", "ring": "2"}, hardware="b")
    broke = await device("broke", 301, "disabled", labels={"site": "linz", "canary": "1"})
    back = await device("b[ck", -(AHEAD_MS // 1000), labels={"site": "wien, 2"}, hardware="a")
    ahead = await device("ahead", -(AHEAD_MS // 1000) - 1)
    blank = await device(None)
    await device("ran", 60, account=made.other, labels={"site": "graz", "ring": "1"}, hardware="a")
    for sid, target, running, state in (
        (ran, "APP-1", "a", State.SUCCEEDED),
        (waits, "APP-2", "a", State.DOWNLOADING),
        (broke, "APP-2", None, State.FAILED),
    ):
        await made.target(sid, apps[target])
        await made.report(sid, running, state, number=await number_of(made, sid), error_code=6)
    names = {ran: "ran", waits: "waits", broke: "broke", back: "back", ahead: "ahead", blank: "blank"}
    yield World(made, names, {name: app.app_sid for name, app in apps.items()})
    await made.db.close()


async def number_of(made, sid):
    return (await made.get(sid)).update.number


ALL = "ahead back blank broke ran waits"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ALL),
        ("*", ALL),
        ("site=graz", "ran waits"),
        ("site!=graz", "ahead back blank broke"),
        ('site in (graz,"wien, 2")', "back ran waits"),
        ("site not in (graz,linz)", "ahead back blank"),
        ("site", "back broke ran waits"),
        ("!site", "ahead blank"),
        ("canary", "broke"),
        ("site=graz,ring=1", "ran"),
        ("site=graz,!canary,ring!=1", "waits"),
        ("site=graz,site=linz", ""),
        ("site,ring,ring=2,site=graz,ring!=1,!canary", "waits"),
        ("site,site,site,site,!ring,!canary", "back"),
        ("app=APP-1", "ran waits"),
        ("app!=APP-1", "ahead back blank broke"),
        ("app", "ran waits"),
        ("!app", "ahead back blank broke"),
        ("target=APP-2", "broke waits"),
        ("target not in (APP-1,APP-2)", "ahead back blank"),
        ("target=APP-2,app=APP-1", "waits"),
        ("status=up-to-date", "ahead back blank ran"),
        ("status=pending", "waits"),
        ("status!=pending", "ahead back blank broke ran"),
        ("status in (error,pending)", "broke waits"),
        ("access=disabled", "broke"),
        ("access!=disabled", "ahead back blank ran waits"),
        ("access=active,site=graz", "ran waits"),
        ("access=waiting", ""),
        ("hardware=a", "back ran"),
        ("!hardware", "ahead blank broke"),
        ("hardware not in (a)", "ahead blank broke waits"),
        ("seen", "ahead back broke ran waits"),
        ("!seen", "blank"),
        ("seen<5m", "back ran"),
        ("seen>5m", "blank broke"),
        ("seen<301s", "back ran waits"),
        ("name=waits", "waits"),
        ("name in (waits,ran,nobody)", "ran waits"),
        ("name!=waits", "ahead back blank broke ran"),
        ("!name", "blank"),
        ("name~*a*", "ahead ran waits"),
        ("name~b[*", "back"),
        ("name~b?oke", "broke"),
        ("name in (waits,ran),name=ran", "ran"),
        ("sid=SID-ran", "ran"),
        ("sid in (SID-ran,SID-blank),site", "ran"),
        ("sid!=SID-ran", "ahead back blank broke waits"),
    ],
)
async def test_a_selector_selects_these_devices(world, text, names):
    assert await world.selected(text) == names


@pytest.mark.parametrize(
    ("text", "looked_at"),
    [
        ("", [ALL]),
        ("site", [ALL]),
        ("site!=graz", [ALL]),
        ("site in (graz,linz)", [ALL]),
        ("seen<5m", [ALL]),
        ("access=active", [ALL]),
        ("access=disabled", ["broke"]),
        ("access=waiting", [""]),
        ("status=error", [ALL]),
        ("hardware=a", ["back ran"]),
        ("target=APP-2", ["broke waits"]),
        ("app=APP-1,site=linz", ["ran waits", "broke"]),
        ("!canary,ring=1,site=graz", ["ran", "ran waits"]),
        ("site=graz,ring=1,app=APP-1,hardware=a,target=APP-2", ["ran waits", "ran", "ran waits", "back ran"]),
        ("site=graz,name in (blank,ran,broke),name in (ran,waits)", ["ran waits"]),
        ("name=ran,sid in (SID-waits,SID-broke)", ["ran"]),
        ("name!=ran", [ALL]),
    ],
)
async def test_devices_are_looked_for_along_the_narrowest_rows_that_have_an_index(world, text, looked_at):
    """At most four of them; where devices are named, these and no others."""
    chosen = world.compiled(text)
    found = [(await world.met(replace(chosen, drivers=(driver,))))[0] for driver in chosen.drivers]
    assert [" ".join(sorted(names)) for names in found] == looked_at
    assert chosen.driver == chosen.drivers[0]


async def test_a_sid_is_found_however_its_digits_are_written(world):
    sid = next(iter(world.names))
    for text in (f"sid=UV{sid[2:].upper()}", f"sid in ({sid},UV{sid[2:].upper()})"):
        assert await world.selected(text) == "ran"
    assert await world.selected(f"sid!=UV{sid[2:].upper()}") == "ahead back blank broke waits"


def test_only_sids_are_compared_without_regard_to_the_case_of_their_digits():
    text = "site=ABCDEF,hardware=ABCDEF,name~ABCDEF"
    chosen = selection.compile_terms("AC1", parse(text, Limits()), 0)
    assert [value for value in chosen.terms.values() if "ab" in str(value).lower()] == ["ABCDEF"] * 3


async def test_a_compiled_selector_knows_whether_it_selects_all_and_what_its_condition_needs(world):
    assert world.compiled("*").whole
    assert not world.compiled("site").whole
    chosen = world.compiled("site=graz,name=ran")
    assert {"graz", "site", "ran", world.fleet.account} == set(chosen.terms.values())
    assert not any(name.startswith("driver") for name in chosen.terms)
    assert len(chosen.params) > len(chosen.terms)


def test_only_the_tables_that_a_text_names_are_joined_and_updates_by_way_of_assignments():
    assert selection.joins("d.access = 'active'") == ""
    assert [word for word in selection.joins("a.target_sid", "p.date_seen").split() if word in "apu"] == ["a", "p"]
    joined = selection.joins("u.state")
    assert joined.index("JOIN assignments a") < joined.index("LEFT JOIN updates u")


def test_from_the_fifth_label_on_conditions_are_kept_from_becoming_joins():
    """Planning a hundred joins takes PostgreSQL half a minute; the first four are few enough to be good."""
    chosen = selection.compile_terms("AC1", parse(",".join(f"k{number}" for number in range(6)), Limits()), 0)
    assert ["OFFSET 0" in condition for condition in chosen.where.split(" AND EXISTS")] == [False] * 4 + [True] * 2
