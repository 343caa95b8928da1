"""Servers for the API tests: every test of ``server`` or ``hands`` runs on each engine."""

import json
import shlex

import msgspec
import pytest
from tests.api.world import serving
from tests.commands import commands
from tests.conftest import ENGINES
from tests.server import launch

from fleetvisor.cli import spawn
from fleetvisor.cli.main import run
from fleetvisor.cli.output import Output
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


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The data directory of a running server; some modules have another one."""
    directory = tmp_path_factory.mktemp("cli") / "data"
    with spawn.serving(directory, Output(quiet=True)):
        yield directory


@pytest.fixture
def bare_environment(monkeypatch):
    """No server is named by the environment."""
    for name in ("FLEETVISOR_URL", "FLEETVISOR_ACCOUNT_SID", "FLEETVISOR_AUTH_TOKEN", "FLEETVISOR_CA_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cli(data, capsys):
    """Run a command line on the server; give the lines of JSON that it wrote, or its error."""

    def call(line, *more, status=0):
        capsys.readouterr()
        assert run([*shlex.split(line), *more, "--data", str(data), "--json"]) == status, capsys.readouterr().err
        out, err = capsys.readouterr()
        if status:
            return json.loads(err)
        try:
            return [json.loads(out)]
        except ValueError:
            return [json.loads(line) for line in out.splitlines()]

    return call


@pytest.fixture
def eyes(data, capsys):
    """Run a command line as a person does; give what it wrote on stdout and on stderr."""

    def call(line, *more):
        capsys.readouterr()
        assert run([*shlex.split(line), *more, "--data", str(data)]) == 0
        return capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    with commands(tmp_path_factory.mktemp("commands")) as made:
        yield made


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The data directory of a server that ran."""
    server = launch(tmp_path_factory.mktemp("stopped") / "data")
    assert server.stop() == 0
    return server.data
