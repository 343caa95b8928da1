"""What most tests stand on: a database of each engine, and a PostgreSQL server for the whole run."""

import asyncio
import signal
from pathlib import Path

import pytest
from tests import postgres

from fleetvisor.db.sqlite import memory, open_sqlite

# A shell that starts the tests in its background lets them ignore Ctrl-C, and every program that they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)

UNIT = Path(__file__).parent / "unit"


def pytest_collection_modifyitems(items):
    """Mark the unit tests: `make check` runs those that are not slow, and the rest of `make test` all others."""
    for item in items:
        if item.path.is_relative_to(UNIT) or item.path.name == "test_house.py":
            item.add_marker("unit")


ENGINES = ["memory", "sqlite", "postgres"]


@pytest.fixture(scope="session")
def postgres_cluster():
    """A PostgreSQL server for the whole run; skips with its reason where there is none."""
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian's package is postgresql)")
    with postgres.cluster() as cluster:
        yield cluster


async def open_engine(engine, tmp_path, request):
    """Open an empty database with the present schema."""
    if engine == "memory":
        return memory()
    if engine == "sqlite":
        return await open_sqlite(tmp_path / "test.db")
    from fleetvisor.db.postgres import open_postgres

    cluster = request.getfixturevalue("postgres_cluster")
    url = await asyncio.to_thread(cluster.url)
    return await open_postgres(url)


@pytest.fixture(params=ENGINES)
async def database(request, tmp_path):
    """An empty database, once for each adapter of the port."""
    db = await open_engine(request.param, tmp_path, request)
    yield db
    await db.close()
