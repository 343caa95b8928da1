"""What an old database held arrives unchanged in the present schema, on both engines."""

import asyncio

import apsw
import asyncpg
import pytest

from fleetvisor.db.migrate import migrations
from fleetvisor.db.portable import to_postgres
from fleetvisor.db.postgres import open_postgres
from fleetvisor.db.sqlite import open_sqlite
from fleetvisor.features.rollouts import store
from fleetvisor.protocol.guard_settings import GuardSettings

_VERSIONS = "CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY) STRICT"


def statements_until(name):
    """Return the statements of every migration before the one of that name, with the versions that they make."""
    found = [_VERSIONS]
    for migration in migrations():
        if migration.name.endswith(f"_{name}.sql"):
            return found
        found += [*migration.statements, f"INSERT INTO schema_version VALUES ({migration.version})"]
    raise AssertionError(f"there is no migration {name}")


@pytest.fixture(params=["sqlite", "postgres"])
async def upgrade(request, tmp_path):
    """Make a database as it was before a migration, run ``statements`` on it, and open it with this program."""
    opened = []

    async def run(before, statements):
        script = [*statements_until(before), *statements]
        if request.param == "sqlite":
            connection = apsw.Connection(str(tmp_path / "old.db"))
            for statement in script:
                connection.execute(statement)
            connection.close()
            opened.append(await open_sqlite(tmp_path / "old.db"))
            return opened[-1]
        url = await asyncio.to_thread(request.getfixturevalue("postgres_cluster").url)
        connection = await asyncpg.connect(url)
        for statement in script:
            await connection.execute(to_postgres(statement).replace("X'00'", "'x'"))
        await connection.close()
        opened.append(await open_postgres(url, pool_size=2))
        return opened[-1]

    yield run
    for db in opened:
        await db.close()


_ACCOUNT = "INSERT INTO accounts VALUES ('AC1', 1, X'00', X'00', '', 0, 5, NULL, NULL, NULL, 'active')"
_GUARDS = {
    "RO1": ((50_000, 950_000, 5, 600, 1800, 86_400, "hold", 0), GuardSettings()),
    "RO2": (
        (290_001, 999_999, 0, 0, 1, 31_622_400, "stop", 1),
        GuardSettings(0.290001, 0.999999, 0, 0, 1, 31_622_400, "stop", True),
    ),
    "RO3": (
        (0, 500_000, 10_000_000, 7, 8, 9, "release", 0),
        GuardSettings(0.0, 0.5, 10_000_000, 7, 8, 9, "release", False),
    ),
    "RO4": ((1_000_000, 950_000, 1, 1, 1, 1, "hold", 1), GuardSettings(1.0, 0.95, 1, 1, 1, 1, "hold", True)),
}


async def test_the_guards_of_an_old_database_arrive_unchanged(upgrade):
    """They were columns, with rates in millionths, and are one JSON object since."""
    rows = [
        f"""INSERT INTO rollouts (rollout_sid, account_sid, friendly_name, kind, selector, state, limit_ppm,
            confidence_ppm, sample_min, soak_s, silent_s, offline_s, on_unproven, require_proof, concurrent_max,
            starts_per_minute, date_created, date_updated)
        VALUES ('{sid}', 'AC1', 'n', 'release', '*', 'draft', {", ".join(repr(value) for value in values)}, 3, 4, 5, 6)"""
        for sid, (values, _) in _GUARDS.items()
    ]
    db = await upgrade("guard_settings", [_ACCOUNT, *rows])
    for sid, (values, expected) in _GUARDS.items():
        found = await store.find(db, "AC1", sid)
        assert found.guard == expected
        assert (found.guard.limit_ppm, found.concurrent_max, found.starts_per_minute) == (values[0], 3, 4)
