"""How SQLite goes about statements: by the devices that they name, or the index that holds what they count.

Without statistics it prefers an equality to a list: ``account_sid = … AND device_sid IN (…)`` on ``devices`` walks the
index by age of every device that the account has.
"""

import re
from typing import Any, cast

import apsw
import pytest

from fleetvisor.db.sqlite import MemoryDatabase
from fleetvisor.features.devices import counting
from fleetvisor.features.rollouts import store
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

    monkeypatch.setattr(MemoryDatabase, "__init__", watched)
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
