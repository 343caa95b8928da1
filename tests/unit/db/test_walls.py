"""Walls in the SQL: a table has a home that alone writes it, and a statement on a tenant's rows names the account.

Imports cannot show either, so the SQL text itself is read (``tests/sql_text``). A failure says what to do about it.
"""

import re

import pytest
from tests import sql_text
from tests.sql_text import Statement, columns, statements

#: The modules that write a table, the first of which is its home. All are of one feature.
HOMES = {
    "accounts": ("features/accounts/store.py",),
    "app_failures": ("features/updates/rollout_devices.py",),
    "app_layers": ("features/apps/store.py",),
    "apps": ("features/apps/store.py",),
    "assignments": ("features/updates/store.py", "features/updates/offers.py", "features/updates/ignored.py"),
    "configs": ("features/configs/store.py",),
    "device_attributes": ("features/devices/attributes.py",),
    "device_events": ("features/events/budget.py",),
    "device_keys": ("features/devices/credentials.py",),
    "device_labels": ("features/devices/labels.py",),
    "device_logging": ("features/logs/store.py",),
    "device_tokens": ("features/devices/credentials.py",),
    "devices": (
        "features/devices/store.py",
        "features/devices/controllers.py",
        "features/devices/credentials.py",
        "features/devices/labels.py",
    ),
    "enrollment_tokens": ("features/identity/store.py",),
    "events": ("features/events/store.py", "features/events/budget.py"),
    "gateway_tokens": ("features/identity/store.py",),
    "keepsakes": ("server/shared.py",),
    "keys": ("features/accounts/store.py",),
    "layers": ("features/apps/store.py", "features/apps/damage.py", "features/apps/checking.py"),
    "number_floor": ("features/updates/numbers.py",),
    "presence": ("features/devices/presence.py", "features/devices/store.py"),
    "removed_blobs": ("features/apps/store.py",),
    "rollout_counts": ("features/updates/rollout_devices.py",),
    "rollout_decisions": ("features/rollouts/store.py",),
    "rollout_devices": ("features/updates/rollout_devices.py",),
    "rollout_waves": ("features/rollouts/store.py",),
    "rollouts": ("features/rollouts/store.py",),
    "schema_version": ("db/sqlite_statements.py", "db/postgres_schema.py"),
    "seal_keys": ("server/shared.py", "server/rotation.py"),
    "update_log": ("features/updates/log.py",),
    "update_numbers": ("features/updates/numbers.py",),
    "updates": ("features/updates/store.py", "features/updates/offers.py", "features/updates/fetches.py"),
}
#: A table whose name is composed into the text.
COMPOSED = "⟨"

CLOSING = "the end of an account deletes what is left in one order, which is read best as one list"
WRITERS = {
    "features/closing/closer.py": (
        {"configs", "device_keys", "enrollment_tokens", "events", "gateway_tokens", "keys", "rollouts"},
        CLOSING,
    ),
    "features/clocks/ahead.py": ({COMPOSED}, "one loop mends the moments of all tables after a clock was wrong"),
    "features/configs/store.py": ({"devices"}, "which Secrets a device fetched is noted beside it, from a floor below"),
    "features/updates/offers.py": ({"devices"}, "a new target moves DateUpdated of many devices, from a floor below"),
    "server/disks.py": ({"schema_version"}, "a row is written and deleted at once, to see whether the disk takes it"),
}

SHOWN = "a device is shown with its target, its update and its logging: one statement reads a page of them"
OFFERED = "what a device is offered is read in one statement, for each poll that changed"
SELECTED = "selectors and counts compile to one statement over all that they name"
SHUT = "credentials of accounts that are not active prove nothing, which the statement that proves them says"
WHOLE = "it looks through the whole database of a simulated world"
STOPPED = "it reads the files of a server that need not run, so it builds no service"
FACTS = "the facts about many devices are joined in one statement, for each chunk or wave"
READERS = {
    "cli/doctor_blobs.py": ({"layers"}, STOPPED),
    "cli/doctor_names.py": ({"apps", "configs", "devices"}, STOPPED),
    "features/closing/closer.py": (
        {*("accounts", "apps", "configs", "device_keys", "devices", "enrollment_tokens", "events", "keys", "rollouts")},
        CLOSING,
    ),
    "features/clocks/ahead.py": WRITERS["features/clocks/ahead.py"],
    "features/configs/store.py": ({"devices"}, "whether a device is the account's, and may fetch Secrets: from below"),
    "features/devices/attributes.py": ({"assignments"}, "attributes are shown with the date that the assignment has"),
    "features/devices/counting.py": ({"accounts", "assignments", "updates", COMPOSED}, SELECTED),
    "features/devices/credentials.py": ({"accounts", "gateway_tokens"}, SHUT),
    "features/devices/offers.py": ({"apps", "assignments", "device_logging", "updates"}, OFFERED),
    "features/devices/selection.py": ({"assignments", "device_logging", "updates", COMPOSED}, SELECTED),
    "features/devices/spelling.py": (
        {"enrollment_tokens", "rollouts"},
        "a label key that looks misspelled is compared with the keys in use, which tokens and rollouts above hold",
    ),
    "features/devices/store.py": ({"apps", "assignments", "device_logging", "updates"}, SHOWN),
    "features/events/budget.py": ({"devices"}, "no budget is kept for a device that was removed meanwhile"),
    "features/events/denials.py": (
        {"accounts", "devices", "enrollment_tokens", "keys"},
        "a refused request is noted in the account of the SID that it claimed; every feature stands above",
    ),
    "features/identity/imports.py": (
        {"device_keys", "device_tokens", "devices"},
        "an import tells of each row whether its SID, name, key or token is taken, by one read for all rows",
    ),
    "features/identity/store.py": ({"accounts", "devices"}, SHUT + "; a gateway's device is read with what it may"),
    "features/rollouts/members.py": (
        {
            *("app_failures", "app_layers", "apps", "assignments", "device_keys", "device_tokens", "devices"),
            *("gateway_tokens", "layers", "rollout_devices", "updates"),
        },
        FACTS,
    ),
    "features/rollouts/offering.py": ({"apps", "assignments", "devices"}, FACTS),
    "features/rollouts/store.py": (
        {"accounts", "rollout_counts"},
        "a rollout is shown with its counts, which updates change; of accounts that are not active none is moved",
    ),
    "features/rollouts/penalties.py": ({"app_failures", "apps"}, "penalties are shown for apps that still exist"),
    "features/updates/fetches.py": ({"app_layers"}, "a layer that was fetched belongs to the update whose app has it"),
    "features/updates/rollout_devices.py": (
        {"rollouts"},
        "whether a rollout was given up decides about a retry, from below",
    ),
    "features/updates/store.py": ({"devices"}, "an assignment has its device's age, so that selectors walk by it"),
    "server/telemetry.py": ({"events"}, "the number of the last event is a metric"),
    "sim/checks.py": ({"accounts", "app_layers", "assignments", "devices", "layers", "updates"}, WHOLE),
    "sim/rollout_checks.py": (
        {
            *("apps", "assignments", "events", "rollout_counts", "rollout_decisions", "rollout_devices"),
            *("rollout_waves", "rollouts", "updates"),
        },
        WHOLE,
    ),
}

#: Tables whose rows belong to no account.
NOBODYS = {"keepsakes", "layers", "number_floor", "removed_blobs", "schema_version", "seal_keys"}
_CARRIES = re.compile(r"\baccount_sid = :account_sid\b|\bINSERT INTO \w+ \([^)]*\baccount_sid\b")
_OF_PARENT = re.compile(
    r"\b(?:device_sid|rollout_sid) (?:= :\w+|= d\.device_sid|IN \()|\bINSERT INTO \w+ \([^)]*\b(?:device|rollout)_sid\b"
)

ALL = "it is for all accounts: "
PROOF = "it finds whose a credential is, by a SID or hash that is unique among all accounts"
WHOSE = "it finds the account of a SID that a refused request claimed; nothing of it is shown"
ACCOUNTLESS = {
    ("cli/doctor_names.py", "_APPS"): ALL + STOPPED,
    ("cli/doctor_names.py", "_DEVICES"): ALL + STOPPED,
    ("cli/doctor_names.py", "_KEYS"): ALL + STOPPED,
    ("features/accounts/store.py", "_CREDENTIAL"): PROOF,
    ("features/accounts/store.py", "find_first"): "it finds the account that owns the server",
    ("features/accounts/store.py", "note_uses"): "the SIDs are of keys that were proven; they are noted together",
    ("features/accounts/store.py", "page_sealed"): ALL + "secrets are sealed anew under a new key",
    ("features/accounts/store.py", "page_tenants"): ALL + "only the account that owns the server may list accounts",
    ("features/apps/damage.py", "_APPS"): ALL + "a damaged layer is told of in each account that has an app with it",
    ("features/apps/store.py", "damaged"): "the SIDs are of apps that were read from the account",
    ("features/clocks/ahead.py", "_find"): ALL + "moments of the future are mended",
    ("features/clocks/ahead.py", "_set"): ALL + "moments of the future are mended",
    ("features/closing/closer.py", "_ENDING"): ALL + "the next account that ends",
    ("features/configs/store.py", "_SEALED_PAGE"): ALL + "secrets are sealed anew under a new key",
    ("features/devices/credentials.py", "_BY_TOKEN"): PROOF,
    ("features/devices/credentials.py", "_KEYS"): PROOF,
    ("features/devices/credentials.py", "_ELSEWHERE"): "it finds the account that a key's device leaves",
    ("features/devices/presence.py", "_SEEN"): "the SIDs are of devices that were proven; they are noted together",
    ("features/events/budget.py", "_COUNT"): "the device is the one that the event beside it is of",
    ("features/events/denials.py", "_BY_ACCOUNT"): WHOSE,
    ("features/events/denials.py", "_BY_DEVICE"): WHOSE,
    ("features/events/denials.py", "_BY_GRANT"): WHOSE,
    ("features/events/denials.py", "_BY_KEY"): WHOSE,
    ("features/events/denials.py", "_FIRST"): WHOSE,
    ("features/events/store.py", "forget"): ALL + "old events are deleted",
    ("features/events/store.py", "forget_refusals"): ALL + "old events are deleted",
    ("features/events/tail.py", "_LAST"): ALL + "a node follows what other nodes changed",
    ("features/events/tail.py", "_LATE"): ALL + "a node follows what other nodes changed",
    ("features/events/tail.py", "_NEW"): ALL + "a node follows what other nodes changed",
    (
        "features/identity/imports.py",
        "_SIDS",
    ): "a SID may be used once among all accounts; only that it is taken is told",
    ("features/identity/imports.py", "_TOKEN"): "a token may be used once among all accounts; only that is told",
    ("features/identity/store.py", "find_gateway_by_token"): PROOF,
    ("features/identity/store.py", "find_secret"): PROOF,
    ("features/rollouts/store.py", "unfinished"): ALL + "rollouts are moved",
    ("features/rollouts/store.py", "_LAST_RULINGS"): "the SIDs are of rollouts that were read from the account",
    ("features/updates/fetches.py", "_WRITE"): "the SIDs are of devices that were proven; they are noted together",
    ("features/updates/store.py", "_OVERDUE"): ALL + "updates whose time is over are closed",
    ("features/updates/store.py", "_START_CLOCK"): "the SIDs are of devices that were proven; they are noted together",
    ("server/telemetry.py", "_LAST_EVENT"): ALL + "the number of the last event is a metric",
}
#: Statements that walk along a driver, and parts of them. Each driver names the account: see the test of drivers.
DRIVEN = {
    ("features/devices/counting.py", "_grouped"),
    ("features/devices/counting.py", "_selected"),
    ("features/devices/counting.py", "counts"),
    ("features/devices/selection.py", "_label_condition"),
    ("features/devices/selection.py", "_piece"),
    ("features/devices/selection.py", "narrowed"),
    ("features/devices/selection.py", "walk"),
}


def strangers(found: list[Statement]) -> list[str]:
    """Return the writes of tables from outside of their home, but those that stand in the map."""
    return [
        f"{each.place} writes {table}"
        for each in found
        for table in sorted(each.writes)
        if each.module not in HOMES.get(table, ()) and table not in WRITERS.get(each.module, (frozenset(),))[0]
    ]


def peeks(found: list[Statement]) -> list[str]:
    """Return the reads of another feature's tables, but those that stand in the map."""
    return [
        f"{each.place} reads {table}"
        for each in found
        for table in sorted(each.reads)
        if not _is_at_home(each.module, table) and table not in READERS.get(each.module, (frozenset(),))[0]
    ]


def _is_at_home(module: str, table: str) -> bool:
    return table in HOMES and module.rpartition("/")[0] == HOMES[table][0].rpartition("/")[0]


def accountless(found: list[Statement]) -> list[Statement]:
    """Return the statements on tenants' rows that neither carry the account nor the SID of their one parent."""
    return [each for each in found if not _names_its_tenant(each) and not _is_part(each, found)]


def _is_part(part: Statement, found: list[Statement]) -> bool:
    """Return whether a text stands whole in another one. Of a text with variants, one is no part of the next."""
    here = (part.module, part.line)
    return any(part.text in each.text for each in found if (each.module, each.line) != here)


def _names_its_tenant(each: Statement) -> bool:
    tables = (each.writes | each.reads) - NOBODYS
    if not tables or _CARRIES.search(each.text) or each.module.startswith("sim/"):
        return True
    children = all(table in columns() and "account_sid" not in columns()[table] for table in tables)
    return children and _OF_PARENT.search(each.text) is not None


def test_every_statement_is_read():
    """Were texts no longer found, the tests below would all pass."""
    found = statements()
    assert len(found) > 350
    assert {table for each in found for table in each.writes} - {COMPOSED} == set(HOMES)
    assert set(columns()) | {"schema_version"} == set(HOMES)


def test_only_its_home_writes_a_table():
    wrong = strangers(list(statements()))
    assert not wrong, f"call a function of the table's home (HOMES), or give WRITERS a reason: {wrong}"


def test_another_feature_reads_a_table_by_its_owner():
    wrong = peeks(list(statements()))
    assert not wrong, f"call a function of the table's home (HOMES), or give READERS a reason: {wrong}"


def test_every_exception_is_needed():
    """What no statement needs any more leaves the map."""
    found = statements()
    written = {(each.module, table) for each in found for table in each.writes}
    read = {(each.module, table) for each in found for table in each.reads}
    stale = [(home, table) for table, homes in HOMES.items() for home in homes if (home, table) not in written]
    stale += [(who, table) for who, (tables, _) in WRITERS.items() for table in tables if (who, table) not in written]
    stale += [(who, table) for who, (tables, _) in READERS.items() for table in tables if (who, table) not in read]
    stale += [(who, table) for who, (tables, _) in READERS.items() for table in tables if _is_at_home(who, table)]
    needed = {(each.module, each.name) for each in accountless(list(found))}
    stale += [place for place in [*ACCOUNTLESS, *DRIVEN] if place not in needed]
    assert not stale, f"delete from the map: {stale}"


def test_a_home_is_in_one_feature():
    assert all(len({home.rpartition("/")[0] for home in homes}) == 1 for homes in HOMES.values())


def test_a_statement_on_a_tenants_rows_names_the_account():
    wrong = [
        f"{each.place}: {each.text[:200]}"
        for each in accountless(list(statements()))
        if (each.module, each.name) not in ACCOUNTLESS and (each.module, each.name) not in DRIVEN
    ]
    assert not wrong, f"add account_sid = :account_sid, or give ACCOUNTLESS a reason: {wrong}"


def test_a_driver_of_a_selection_names_the_account():
    """What walks along a driver need not name the account again, because each driver does."""
    from fleetvisor.features.devices import selection

    drivers = [
        *selection._DRIVERS.values(),
        *selection._ACCESS_DRIVERS.values(),
        selection._BY_AGE,
        selection._BY_LABEL,
    ]
    named = [each.text for each in statements() if each.name == "_named_driver"]
    assert named
    assert all(_CARRIES.search(driver) for driver in [*drivers, *named])


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE devices SET access = :access WHERE account_sid = :account_sid",
        "update devices set access = :access where account_sid = :account_sid",
        "DELETE FROM devices WHERE account_sid = :account_sid",
        "INSERT INTO devices (device_sid, account_sid) VALUES (:device_sid, :account_sid)",
        "INSERT INTO devices (device_sid) VALUES (1) ON CONFLICT (device_sid) DO UPDATE SET access = 'active'",
        "WITH one AS (SELECT 1) DELETE FROM devices WHERE device_sid IN (SELECT * FROM one)",
    ],
)
def test_a_write_from_elsewhere_is_found(text):
    found = sql_text.of_source(f'SQL = """{text}"""', "features/logs/store.py", dict)
    assert strangers(found) == ["features/logs/store.py:1 (SQL) writes devices"]


def test_a_write_whose_text_is_composed_is_found():
    source = """
async def change(tx, table, column, wide):
    where, order = ("WHERE account_sid = :account_sid", "ASC") if wide else ("", "DESC")
    start = f"UPDATE {TABLE} "
    await tx.run(start + f"SET {column} = 1 {where}", {})
    await tx.run(f"DELETE FROM {table}", {})
"""
    found = sql_text.of_source(
        "import fleetvisor.db.database\n" + source, "features/logs/store.py", lambda: {"TABLE": "devices"}
    )
    assert sorted(set(strangers(found))) == [
        "features/logs/store.py:6 (change) writes devices",
        "features/logs/store.py:7 (change) writes ⟨",
    ]
    assert [each.text.strip() for each in accountless(found)] == [
        "UPDATE devices SET ⟨column⟩ = 1",
        "DELETE FROM ⟨table⟩",
    ]


def test_a_read_from_elsewhere_is_found():
    source = 'SQL = "SELECT line FROM update_log l LEFT JOIN devices d ON d.device_sid = l.device_sid"'
    assert peeks(sql_text.of_source(source, "features/updates/log.py", dict)) == [
        "features/updates/log.py:1 (SQL) reads devices"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT account_sid FROM devices WHERE device_sid = :device_sid",
        "UPDATE devices SET access = :access WHERE device_sid = :device_sid",
        "DELETE FROM presence",
        "SELECT line FROM update_log ORDER BY position",
        "SELECT d.access FROM devices d WHERE d.device_sid IN (:keys) OR account_sid = 'x'",
    ],
)
def test_a_statement_without_the_account_is_found(text):
    assert accountless(sql_text.of_source(f'SQL = "{text}"', "features/devices/store.py", dict))
