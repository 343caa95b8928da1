"""Servers for the API tests: every test of ``server`` or ``hands`` runs on each engine."""

import msgspec
import pytest
from tests.api.world import serving
from tests.conftest import ENGINES

from fleetvisor.db.sqlite import memory, open_sqlite


class _Table(msgspec.Struct):
    tablename: str


_TABLES = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_version'"


@pytest.fixture(scope="session")
def postgres_url(postgres_cluster):
    """One database for all API tests: each empties its tables, which is faster than making one."""
    return postgres_cluster.url()


async def emptied(url):
    """Open the PostgreSQL database with no rows in it."""
    from fleetvisor.db.postgres import open_postgres

    db = await open_postgres(url, pool_size=4)
    tables = ", ".join(row.tablename for row in await db.all(_Table, _TABLES, {}))

    async def body(tx):
        await tx.run(f"TRUNCATE {tables}", {})

    await db.write(body)
    return db


@pytest.fixture(params=ENGINES)
async def engine(request, tmp_path):
    """An empty database of each engine; the server that gets it closes it."""
    if request.param == "memory":
        return memory()
    if request.param == "sqlite":
        return await open_sqlite(tmp_path / "api.db")
    return await emptied(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def server(engine, tmp_path):
    async with serving(engine, tmp_path) as running:
        yield running


@pytest.fixture
def hands(server):
    return server.hands
