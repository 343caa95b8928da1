"""The doctor lists the names and keys that clients cannot address."""

import sqlite3
from contextlib import closing

import pytest

from fleetvisor.cli.checks import Verdict
from fleetvisor.cli.doctor_names import name_check
from fleetvisor.db.sqlite import open_sqlite

TENANT = "AC" + "0" * 32


@pytest.fixture
async def database(tmp_path):
    """A database of this version, with an account and plain names."""
    path = tmp_path / "fleetvisor.db"
    await (await open_sqlite(path)).close()
    plant(path, devices=["plain", None, "ü: a+b"], keys=[("config", "a b"), ("secret", "a@b")])
    return path


def plant(path, devices=(), keys=()):
    with closing(sqlite3.connect(path)) as connection, connection:
        start = connection.execute("SELECT count(*) FROM devices").fetchone()[0]
        connection.executemany(
            "INSERT INTO devices (device_sid, account_sid, unique_name, date_created, date_updated)"
            " VALUES (?, ?, ?, 1, 1)",
            [(f"UV{start + number:032x}", TENANT, name) for number, name in enumerate(devices)],
        )
        connection.executemany(
            "INSERT INTO configs (owner_sid, store, key, account_sid, value, sealed, date_updated)"
            " VALUES (?, ?, ?, ?, ?, ?, 1)",
            [(TENANT, kind, key, TENANT, *(("v", None) if kind == "config" else (None, b"s"))) for kind, key in keys],
        )


async def test_names_that_clients_carry_are_well(database):
    assert name_check(database).verdict is Verdict.OK


async def test_each_that_clients_cannot_address_is_listed_on_every_page(database):
    plant(database, devices=["line #1"], keys=[("config", "a%41"), ("secret", "a\\b")])
    check = name_check(database, page=2)
    assert check.verdict is Verdict.WARN
    assert check.finding.startswith("3 that clients cannot address: ")
    for part in (f"Device 'line #1' (UV{3:032x})", f"config 'a%41' ({TENANT})", f"secret 'a\\\\b' ({TENANT})"):
        assert part in check.finding


async def test_its_words_and_its_time_are_bounded(database):
    plant(database, devices=[f"{number}#" + "\x9b" * 200 for number in range(500)])
    check = name_check(database)
    assert "500 that" in check.finding
    assert "and 490 more" in check.finding
    assert len(check.finding) < 5_000
    assert "enough to look through" in name_check(database, time_s=-1, page=2).finding


async def test_a_database_that_cannot_be_asked_is_a_warning(tmp_path):
    (tmp_path / "x.db").write_bytes(b"")
    assert name_check(tmp_path / "x.db").verdict is Verdict.WARN
