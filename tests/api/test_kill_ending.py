"""An account that ends goes on ending after each SIGKILL: nothing of it is left, and nothing of another is touched."""

import asyncio
import hashlib
import signal
import sqlite3
import ssl
import time

import asyncpg
import httpx
import pytest
from tests.corpus import simple_bundle
from tests.server import launch

pytestmark = [pytest.mark.service, pytest.mark.slow]

DEVICES = 2500
CHUNK = {"FLEETVISOR_LIMIT_ACCOUNT_CHUNK": "20"}
KILLED_BELOW = (0.8, 0.3)
"""The shares of the devices that are left when the process is killed."""
CHANGES = {"accounts", "events"}
"""Tables whose rows of the other account may change: it tells of the ending."""


class Sqlite:
    """The rows of a data directory's database, read by another process than the server."""

    def __init__(self, path):
        self._path = path

    async def rows(self, sql, *values):
        connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)
        try:
            return [tuple(row) for row in connection.execute(sql, values)]
        finally:
            connection.close()

    async def columns(self):
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        names = [name for (name,) in await self.rows(tables)]
        return {
            name: [row[0] for row in await self.rows(f"SELECT name FROM pragma_table_info('{name}')")] for name in names
        }


class Postgres:
    """The same of a PostgreSQL database."""

    def __init__(self, url):
        self._url = url

    async def rows(self, sql, *values):
        connection = await asyncpg.connect(self._url)
        try:
            numbered = sql
            for number in range(1, len(values) + 1):
                numbered = numbered.replace("?", f"${number}", 1)
            return [tuple(row) for row in await connection.fetch(numbered, *values)]
        finally:
            await connection.close()

    async def columns(self):
        found = {}
        sql = (
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
        )
        for table, column in await self.rows(sql):
            found.setdefault(table, []).append(column)
        return found


async def rows_of(database, accounts, devices):
    """Return how each table's rows of an account, or of one of its devices, read; tables without any are left out."""
    found = {}
    for table, columns in (await database.columns()).items():
        for column, value in (("account_sid", accounts), ("device_sid", devices)):
            if column in columns:
                rows = await database.rows(f"SELECT {', '.join(columns)} FROM {table} WHERE {column} = ?", value)
                if rows:
                    found[table, column] = sorted(map(repr, rows))
    return found


async def furnish(client, name, devices):
    """Give an account many devices, apps, configs, keys and a rollout; return one device of it."""
    rows = "".join(
        f"{name}-{number},{hashlib.sha256(f'{name}{number}'.encode()).hexdigest()},site=x\n"
        for number in range(devices)
    )
    csv = "name,token_hash,labels\n" + rows
    made = await client.post("/v1/DeviceImports", content=csv, headers={"content-type": "text/csv"})
    assert made.status_code == 201, made.text
    for number in range(3):
        files = {"File": ("b.zip", simple_bundle(f"{name} {number}".encode() * 200))}
        made_app = await client.post("/v1/Apps", files=files, data={"UniqueName": f"app-{number}"})
        assert made_app.status_code == 201, made_app.text
    await post(client, "/v1/Rollouts", App="app-0", Selector="site=x")
    for number in range(20):
        for path in ("/v1/Configs", "/v1/Secrets", f"/v1/Devices/{name}-0/Secrets"):
            await post(client, path, Key=f"k{number}", Value="v")
    for _ in range(5):
        await post(client, "/v1/Keys", Role="viewer")
    await post(client, "/v1/EnrollmentTokens")
    await post(client, "/v1/GatewayToken")
    await post(client, f"/v1/Devices/{name}-0", TargetApp="app-1")
    return made.json()["devices"][0]["sid"]


async def post(client, path, **form):
    answer = await client.post(path, data=form)
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


async def left(database, account):
    [(number,)] = await database.rows("SELECT count(*) FROM devices WHERE account_sid = ?", account)
    return number


def client_of(server, auth):
    context = ssl.create_default_context(cafile=server.ca_file)
    return httpx.AsyncClient(base_url=server.credentials["local_url"], auth=auth, verify=context, timeout=60)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_an_ending_goes_on_after_each_kill_and_touches_no_other_account(engine, tmp_path, request):
    data, options, database = tmp_path / "data", (), Sqlite(tmp_path / "data" / "fleetvisor.db")
    if engine == "postgres":
        url = await asyncio.to_thread(request.getfixturevalue("postgres_cluster").url)
        (tmp_path / "s.key").write_bytes(bytes(32))
        (tmp_path / "s.key").chmod(0o600)
        options = ("--database", url, "--blobs", str(tmp_path / "blobs"), "--seal-key-file", str(tmp_path / "s.key"))
        database = Postgres(url)
    server = await asyncio.to_thread(launch, data, *options, env=CHUNK)
    try:
        async with client_of(server, server.auth) as mine:
            own = await furnish(mine, "own", 40)
            other = await post(mine, "/v1/Accounts", FriendlyName="other")
            account = other["sid"] if "sid" in other else other["account_sid"]
            auth = (account, other["auth_token"])
            async with client_of(server, auth) as theirs:
                gone = await furnish(theirs, "gone", DEVICES)
            await asyncio.sleep(3)  # presence, uses of keys and denials are written
            before = await rows_of(database, server.auth[0], own)
            assert len(await rows_of(database, account, gone)) > 10
            assert (await mine.delete(f"/v1/Accounts/{account}")).status_code == 204
        seen = []
        for share in KILLED_BELOW:
            ends = time.monotonic() + 60
            while (number := await left(database, account)) > share * DEVICES:
                assert time.monotonic() < ends, f"{number} devices are left"
                await asyncio.sleep(0.01)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(10)
            seen.append(await left(database, account))
            [(status,)] = await database.rows("SELECT status FROM accounts WHERE account_sid = ?", account)
            assert status == "ending"
            server = await asyncio.to_thread(launch, data, *options, env=CHUNK)
            async with client_of(server, auth) as theirs:
                assert (await theirs.get("/v1/Devices")).status_code == 401
        assert seen == sorted(seen, reverse=True)
        assert seen[-1] > 0, "each kill must have been in the middle"
        async with client_of(server, server.auth) as mine:
            ends = time.monotonic() + 90
            while (await mine.get(f"/v1/Accounts/{account}")).status_code != 404:
                assert time.monotonic() < ends
                await asyncio.sleep(0.2)
            events = (await mine.get("/v1/Events", params={"Type": "account.ended"})).json()["events"]
            assert [event["subject_sid"] for event in events] == [account]
            assert [place for place, _ in await rows_of(database, account, gone)] == ["update_numbers"]
            after = await rows_of(database, server.auth[0], own)
            differ = {place for place in before | after if before.get(place) != after.get(place)}
            assert {table for table, _ in differ} <= CHANGES
            assert (await mine.get("/v1/Devices/own-0")).json()["app"]["target_sid"]
            assert (await mine.get("/v1/Secrets/k1")).status_code == 200
        if engine == "sqlite":
            assert await database.rows("PRAGMA foreign_key_check") == []
            assert await database.rows("PRAGMA integrity_check") == [("ok",)]
    finally:
        server.process.kill()
        server.process.wait(10)
