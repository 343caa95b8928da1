"""How the engines go about statements: by the devices that they name, or the index that holds what they count.

Without statistics SQLite prefers an equality to a list: ``account_sid = … AND device_sid IN (…)`` on ``devices`` walks the
index by age of every device that the account has. PostgreSQL has none of a table that an import has just filled.
"""

import asyncio
import itertools
import re
from typing import Any, cast

import apsw
import asyncpg
import pytest
from tests.api.rollout_world import Fleet
from tests.api.world import serving

from fleetvisor.db.portable import numbered
from fleetvisor.db.postgres import open_postgres
from fleetvisor.db.sqlite import MemoryDatabase, memory
from fleetvisor.features.devices import counting, selection, selectors
from fleetvisor.features.events import store as events
from fleetvisor.features.events.store import Filter
from fleetvisor.features.rollouts import store
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import Cursor, PageRequest
from fleetvisor.ground.sids import AccountSid
from fleetvisor.sim.rollout_world import RolloutRecipe, run_rollouts


def _plan(connection: apsw.Connection, sql: str) -> list[str]:
    values = dict.fromkeys(re.findall(r":(\w+)", sql))
    return [row[3] for row in cast("Any", connection).execute(f"EXPLAIN QUERY PLAN {sql}", values)]


def test_what_names_devices_is_found_by_their_sids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statement that the product runs in a few worlds of rollouts is asked for its plan."""
    seen: set[str] = set()
    made: list[MemoryDatabase] = []
    init = MemoryDatabase.__init__

    def watched(self: MemoryDatabase) -> None:
        init(self)
        made.append(self)
        connection = cast("Any", self)._connection
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: seen.add(event["sql"]))

    monkeypatch.setattr(MemoryDatabase, "__init__", watched)  # keeps every database that the tests make
    for seed in (3, 5, 8):
        run_rollouts(RolloutRecipe(seed))
    monkeypatch.undo()
    naming = [sql for sql in seen if re.search(r"device_sid IN\s+\(", sql)]
    assert len(naming) > 6
    assert any("json_each" in sql for sql in naming)
    assert any("FROM devices d JOIN assignments" in sql for sql in naming)
    connection = cast("Any", MemoryDatabase())._connection
    for sql in naming:
        steps = [step for step in _plan(connection, sql) if "json_each" not in step]
        assert any("(device_sid=?" in step or "AND device_sid=?" in step for step in steps), (sql, steps)
        for step in steps:
            assert not step.startswith("SCAN"), (sql, steps)
            assert "(account_sid=?)" not in step, (sql, steps)


@pytest.mark.parametrize("by", ["app", "target", "hardware", "access", "site"])
def test_counts_of_a_whole_fleet_are_read_from_indexes_that_hold_them(by: str) -> None:
    """Whoever draws a dashboard asks for them every few seconds: no device may be looked up for it."""
    connection = cast("Any", MemoryDatabase())._connection
    steps = _plan(connection, f"SELECT value, count FROM {counting.grouped_all(by)}")
    reads = [step for step in steps if re.match(r"(SEARCH|SCAN) (s|devices|assignments)\b", step)]
    assert reads
    assert all("USING COVERING INDEX" in step for step in reads), steps


def test_what_is_under_way_is_read_from_an_index_without_the_drafts() -> None:
    """It is read before each step of a rollout, on the event loop; an account may have thousands of drafts."""
    connection = cast("Any", MemoryDatabase())._connection
    sql = f"SELECT state FROM rollouts WHERE {store.UNDER_WAY} ORDER BY date_created, rollout_sid"
    assert _plan(connection, sql) == ["SCAN rollouts USING INDEX rollouts_under_way"]


class _Noted:
    """Reads nothing, and keeps the statements."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    async def scan(self, _row: Any, sql: str, params: dict[str, Any]) -> list[Any]:
        self.said.append((sql, params))
        return []

    all = scan


@pytest.mark.parametrize(
    "selector", ["access=active", "hardware=a", "!hardware", "hardware in (a,b)", "!name", "name in (a,b)"]
)
async def test_devices_just_imported_are_found_by_their_sids(postgres_cluster: Any, selector: str) -> None:
    """PostgreSQL has counted nothing yet: it may not look through all devices of the account for each one."""
    url, noted, account_sid = await asyncio.to_thread(postgres_cluster.url), _Noted(), AccountSid("AC" + "0" * 32)
    chosen = selection.compile_terms(account_sid, selectors.parse(selector, Limits()), Millis(0))
    database = cast("Any", noted)
    await counting.counts(database, chosen, None)
    await counting.counts(database, chosen, "access")
    await selection.page(database, chosen, Millis(0), PageRequest(1000), Limits())
    await (await open_postgres(url)).close()
    connection = await cast("Any", asyncpg).connect(url)
    try:
        await connection.execute("INSERT INTO accounts VALUES ($1, 1, '', '', '', 0, 0)", account_sid)
        await connection.execute(
            """INSERT INTO devices (device_sid, account_sid, hardware_class, date_created, date_updated)
            SELECT 'UV' || number, $1, CASE number % 2 WHEN 0 THEN 'a' END, 0, 0 FROM generate_series(1, 5000) number""",
            account_sid,
        )
        assert len(noted.said) == 3
        for sql, params in noted.said:
            text, names = numbered(sql)
            plan = "\n".join(
                row[0] for row in await connection.fetch(f"EXPLAIN {text}", *[params[name] for name in names])
            )
            assert "Join Filter: (s.device_sid = d.device_sid)" not in plan, plan
    finally:
        await connection.close()


_SID = "UV" + "0" * 32


@pytest.mark.parametrize("selector", ["name=a", "name in (a,b)", f"sid={_SID}", f"sid in ({_SID},{_SID})"])
async def test_devices_that_are_named_are_looked_up(selector: str) -> None:
    """Among a million others they would be found last."""
    noted, account_sid = _Noted(), AccountSid("AC" + "0" * 32)
    chosen = selection.compile_terms(account_sid, selectors.parse(selector, Limits()), Millis(0))
    database, place = cast("Any", noted), PageRequest(50, Cursor((0, _SID), forward=True))
    await counting.counts(database, chosen, "access")
    await selection.page(database, chosen, Millis(0), place, Limits())
    await selection.walk(database, chosen, (0, _SID), 50)
    connection = cast("Any", MemoryDatabase())._connection
    for sql, _ in noted.said:
        steps = [step for step in _plan(connection, sql) if re.match(r"(SEARCH|SCAN) (s|devices)\b", step)]
        assert steps
        assert all("(device_sid=?)" in step or "unique_name=?" in step for step in steps), steps


def _events_statement(wanted: Filter, key: tuple[int, int] | None, *, newer: bool) -> str:
    noted = _Noted()
    asyncio.run(events.page(cast("Any", noted), AccountSid("AC"), wanted, key=key, limit=5, newer=newer))
    return noted.said[0][0]


def test_events_are_found_along_an_index_of_all_that_is_asked_for() -> None:
    """Whatever is asked together: another index would walk by all events of the account, on the event loop."""
    connection = cast("Any", MemoryDatabase())._connection
    sides = itertools.product((None, "a"), (None, "UV1"), (None, 1), (None, 9), (None, (5, 5)), (False, True))
    for kind, device_sid, since, until, key, newer in sides:
        sql = _events_statement(Filter(kind, device_sid, since, until), key, newer=newer)
        (step,) = _plan(connection, sql)
        assert "date_created<?" in step or "date_created>?" in step, (sql, step)
        for column in ["type"] * (kind is not None) + ["device_sid"] * (device_sid is not None):
            assert f"{column}=?" in step, (sql, step)


_MANY = 4000
_STEPS_MAX = 20_000  # of SQLite's machine: a page of 50 rows takes some 5,000, a look at each of many rows 40,000
_FILL = (
    """INSERT INTO devices (device_sid, account_sid, hardware_class, date_created, date_updated)
    SELECT 'UV' || printf('%032x', value), :account, 'many', value, value FROM numbers""",
    """INSERT INTO assignments (device_sid, account_sid, target_sid, reported_sid)
    SELECT 'UV' || printf('%032x', value), :account, :app, :app FROM numbers""",
    """INSERT INTO device_labels (device_sid, account_sid, key, value, date_created)
    SELECT 'UV' || printf('%032x', value), :account, 'site', 'many', value FROM numbers""",
    """INSERT INTO events (writer, account_sid, type, subject_sid, device_sid, data, date_created)
    SELECT 0, :account, CASE value % 2 WHEN 0 THEN 'many' ELSE 'other' END, 'x', :device, '{}', value FROM numbers""",
)


async def test_what_is_read_on_the_event_loop_looks_at_few_rows(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statement that ``one`` or ``all`` runs while each list and resource is read from an account that has much."""
    db = memory()
    async with serving(db, tmp_path) as server:
        fleet = await Fleet.make(server, 3, Labels="site=graz")
        rollout = await fleet.start(Waves="1,100%")
        draft = (await server.hands.post("/v1/Rollouts", ok=201, App="v2", Selector="site=graz")).json
        board = next(iter(fleet.boards.values()))
        numbers = f"WITH RECURSIVE numbers(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers LIMIT {_MANY})"
        connection = cast("Any", db)._connection
        for sql in _FILL:
            head, select = sql.split("SELECT", 1)
            names = {"account": server.hands.auth[0], "app": fleet.v1["sid"], "device": board.sid}
            connection.execute(f"{head}{numbers} SELECT{select}", names)
        looked = _watch(monkeypatch, connection)
        sids = {"Devices": board.sid, "Apps": fleet.v1["sid"], "Rollouts": rollout["sid"]}
        for path in (
            "/v1/Devices", "/v1/Apps", "/v1/Rollouts", "/v1/Events", "/v1/Keys", "/v1/EnrollmentTokens",
            *(f"/v1/{name}/{sid}" for name, sid in sids.items()),
            *(f"/v1/Devices/{board.sid}/{name}" for name in ("Configs", "Secrets", "Updates", "Credentials")),
            *(f"/v1/Rollouts/{rollout['sid']}/{name}" for name in ("Devices", "Decisions")),
            f"/v1/Devices/{board.sid}/Explain", f"/v1/Devices/{board.sid}/Penalties", f"/v1/Rollouts/{draft['sid']}",
        ):  # fmt: skip
            await server.hands.get(path)
        for selector in ("site=many", "site=graz", "hardware=many", f"app={fleet.v1['sid']}", "!site", "status=error"):
            await server.hands.get("/v1/Devices", Selector=selector)
        for asked in itertools.product((None, "many", "device.created"), (None, board.sid), (None, "2020-01-01")):
            named = zip(("Type", "DeviceSid", "StartDate"), asked, strict=True)
            await server.hands.call("GET", "/v1/Events", params={name: value for name, value in named if value})
        await board.desired()
        await board.report()
        await server.world.rollouts.tick()
    assert len(looked) > 30
    many = {sql: steps for sql, steps in looked.items() if steps > _STEPS_MAX}
    assert not many, many


def _watch(monkeypatch: pytest.MonkeyPatch, connection: Any) -> dict[str, int]:
    """Note how many steps each statement takes that is run by the port's ``one`` and ``all``, outside transactions."""
    looked: dict[str, int] = {}
    reading: list[bool] = []

    def profiled(event: dict[str, Any]) -> None:
        if reading:
            steps = event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]
            looked[event["sql"]] = max(steps, looked.get(event["sql"], 0))

    for name in ("one", "all"):
        wrapped = getattr(MemoryDatabase, name)

        async def read(self: MemoryDatabase, row: Any, sql: str, params: Any, wrapped: Any = wrapped) -> Any:
            reading.append(True)
            try:
                return await wrapped(self, row, sql, params)
            finally:
                reading.pop()

        monkeypatch.setattr(MemoryDatabase, name, read)  # keeps the statements that were run
    connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, profiled)
    return looked
