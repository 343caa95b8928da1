"""Databases of earlier versions: what their rows mean after the upgrade, on both engines."""

import asyncio

import msgspec
import pytest

from fleetvisor.db import migrate
from fleetvisor.db.postgres import open_postgres
from fleetvisor.db.sqlite import open_sqlite

ACCOUNT = "AC" + "0" * 32
DEVICES = ["UV" + digit * 32 for digit in "1234"]


@pytest.fixture(params=["sqlite", "postgres"])
async def database_of(request, tmp_path):
    """Return what opens the same database with the migrations before one, or with all of them."""
    url = (
        None if request.param == "sqlite" else await asyncio.to_thread(request.getfixturevalue("postgres_cluster").url)
    )
    everything = migrate.migrations()

    async def open_at(*, before=None):
        known = [each for each in everything if before is None or each.version < version_of(before)]
        with pytest.MonkeyPatch.context() as patch:
            # the program as it was, which knew fewer of them
            patch.setattr(migrate, "migrations", lambda: tuple(known))
            return await (open_sqlite(tmp_path / "old.db") if url is None else open_postgres(url))

    return open_at


def version_of(name):
    (found,) = [each.version for each in migrate.migrations() if each.name[5:] == f"{name}.sql"]
    return found


async def insert(db, table, **values):
    async def body(tx):
        names = ", ".join(values)
        await tx.run(f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + name for name in values)})", values)

    await db.write(body)


async def fleet(db):
    """Insert an account and its devices."""
    token = {"auth_token_hash": b"x", "auth_token_sealed": b"x"}
    await insert(db, "accounts", account_sid=ACCOUNT, ordinal=1, date_created=1, **token)
    for place, sid in enumerate(DEVICES):
        name = f"boiler {place}"
        dates = {"date_created": 1, "date_updated": 1}
        await insert(
            db, "devices", device_sid=sid, account_sid=ACCOUNT, unique_name=name, controller_id=f"c-{place}", **dates
        )


class _Protocol(msgspec.Struct, frozen=True):
    device_sid: str
    protocol: str


async def test_a_device_keeps_the_protocol_by_which_it_polled_last(database_of):
    db = await database_of(before="protocol")
    await fleet(db)
    for sid, asks in zip(DEVICES, (1, 0, 1, 0), strict=True):
        await insert(db, "assignments", device_sid=sid, account_sid=ACCOUNT, asks=asks)
    await db.close()
    db = await database_of()
    found = await db.all(_Protocol, "SELECT device_sid, protocol FROM assignments ORDER BY device_sid", {})
    await db.close()
    assert [row.protocol for row in found] == ["ddi", "native", "ddi", "native"]


class _Refused(msgspec.Struct, frozen=True):
    event_id: int
    refused_sid: str | None


REFUSED = [
    ("/device/v1/desired", DEVICES[0], 401, DEVICES[0]),
    ("/device/v1/desired", DEVICES[0], 403, None),
    (f"/DEFAULT/controller/v1/{DEVICES[1]}", "a1b2", 401, None),
    ("/DEFAULT/controller/v1/c-2", "", 401, None),
    ("/DEFAULT/controller/v1/c-2", "", 429, None),
    ("/v1/Devices", "SK" + "1" * 32, 401, None),
]


async def test_a_refused_request_of_before_belongs_to_the_device_whose_sid_it_showed(database_of):
    db = await database_of(before="refused")
    await fleet(db)
    for place, (path, identity, status, _) in enumerate(REFUSED):
        data = {"count": 1, "status": status, "method": "GET", "path": path, "identity": identity}
        rest = {"writer": 0, "account_sid": ACCOUNT, "subject_sid": "", "type": "request.denied"}
        text = msgspec.json.encode(data).decode()
        await insert(db, "events", event_id=place + 1, data=text, date_created=place, **rest)
    await db.close()
    db = await database_of()
    found = await db.all(_Refused, "SELECT event_id, refused_sid FROM events ORDER BY event_id", {})
    await db.close()
    assert [row.refused_sid for row in found] == [refused for *_, refused in REFUSED]
