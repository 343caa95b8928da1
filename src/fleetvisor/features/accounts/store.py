"""The rows of accounts and API keys. Deliberately holds hashes and sealed tokens, never plain ones."""

from collections.abc import Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.accounts.model import Key, Role, Status, Tenant
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, KeySid

_KEY_COLUMNS: Final = "key_sid, account_sid, friendly_name, date_created, role, date_expires, date_last_used, maker_sid"
_INSERT: Final = """
INSERT INTO accounts (account_sid, ordinal, auth_token_hash, auth_token_sealed, friendly_name, date_created)
VALUES (:account_sid, (SELECT COALESCE(max(ordinal), 0) + 1 FROM accounts), :hash, :sealed, :friendly_name, :now)
ON CONFLICT DO NOTHING RETURNING account_sid, ordinal, auth_token_hash, auth_token_sealed, date_created, secondary_hash,
    secondary_sealed, date_secondary, status"""
_INSERT_FIRST: Final = """
INSERT INTO accounts (account_sid, ordinal, auth_token_hash, auth_token_sealed, friendly_name, date_created)
VALUES (:account_sid, 1, :hash, :sealed, :friendly_name, :now)
ON CONFLICT DO NOTHING RETURNING account_sid, ordinal, auth_token_hash, auth_token_sealed, date_created, secondary_hash,
    secondary_sealed, date_secondary, status"""
_COLUMNS: Final = """account_sid, ordinal, auth_token_hash, auth_token_sealed, date_created, secondary_hash,
    secondary_sealed, date_secondary, status"""
_TENANT_COLUMNS: Final = "account_sid, ordinal, friendly_name, status, device_count, date_created"
_CREDENTIAL: Final = """
SELECT k.key_sid, k.account_sid, k.secret_hash, k.role, k.date_expires, a.ordinal, a.status FROM keys k
JOIN accounts a ON a.account_sid = k.account_sid WHERE k.key_sid = :key_sid"""


_DESCENDANTS: Final = """
WITH RECURSIVE below (key_sid) AS (
    SELECT key_sid FROM keys WHERE maker_sid = :key_sid AND account_sid = :account_sid
    UNION SELECT k.key_sid FROM keys k JOIN below b ON k.maker_sid = b.key_sid)
SELECT key_sid FROM below ORDER BY key_sid"""


class AccountRow(msgspec.Struct, frozen=True):
    """An account as it lies in its row; ``ordinal`` 1 is the first account."""

    account_sid: AccountSid
    ordinal: int
    auth_token_hash: bytes
    auth_token_sealed: bytes
    date_created: Millis
    secondary_hash: bytes | None = None
    secondary_sealed: bytes | None = None
    date_secondary: Millis | None = None
    status: Status = "active"


class Credential(msgspec.Struct, frozen=True):
    """What an API key is proven against."""

    key_sid: KeySid
    account_sid: AccountSid
    secret_hash: bytes
    role: Role
    date_expires: Millis | None
    ordinal: int
    status: Status


class _Count(msgspec.Struct, frozen=True):
    count: int


class _KeySid(msgspec.Struct, frozen=True):
    key_sid: KeySid


async def insert(
    tx: Tx,
    account_sid: AccountSid,
    token_hash: bytes,
    sealed: bytes,
    friendly_name: str,
    now: Millis,
    *,
    first: bool,
) -> AccountRow | None:
    """Make an account; ``first``: only if there is none yet, ``None`` otherwise."""
    params = {
        "account_sid": account_sid,
        "hash": token_hash,
        "sealed": sealed,
        "friendly_name": friendly_name,
        "now": now,
    }
    return await tx.one(AccountRow, _INSERT_FIRST if first else _INSERT, params)


async def find_first(source: Tx | Database) -> AccountRow | None:
    """Read the first account."""
    return await source.one(AccountRow, f"SELECT {_COLUMNS} FROM accounts WHERE ordinal = 1", {})


async def find(source: Tx | Database, account_sid: AccountSid) -> AccountRow | None:
    """Read an account."""
    sql = f"SELECT {_COLUMNS} FROM accounts WHERE account_sid = :account_sid"
    return await source.one(AccountRow, sql, {"account_sid": account_sid})


async def find_credential(db: Database, key_sid: KeySid) -> Credential | None:
    """Read what an API key is proven against."""
    return await db.one(Credential, _CREDENTIAL, {"key_sid": key_sid})


async def count_keys(tx: Tx, account_sid: AccountSid) -> int:
    """Count an account's API keys."""
    sql = "SELECT count(*) AS count FROM keys WHERE account_sid = :account_sid"
    row = await tx.one(_Count, sql, {"account_sid": account_sid})
    return row.count if row else 0


async def insert_key(tx: Tx, key: Key, secret_hash: bytes) -> None:
    """Make an API key."""
    sql = """INSERT INTO keys
            (key_sid, account_sid, friendly_name, secret_hash, role, date_expires, date_created, maker_sid)
        VALUES (:key_sid, :account_sid, :friendly_name, :secret_hash, :role, :date_expires, :date_created,
            :maker_sid)"""
    params = msgspec.structs.asdict(key) | {"secret_hash": secret_hash}
    del params["date_last_used"]
    await tx.run(sql, params)


async def find_key(source: Tx | Database, account_sid: AccountSid, key_sid: str) -> Key | None:
    """Read an API key of an account."""
    sql = f"SELECT {_KEY_COLUMNS} FROM keys WHERE account_sid = :account_sid AND key_sid = :key_sid"
    return await source.one(Key, sql, {"account_sid": account_sid, "key_sid": key_sid})


async def descendants(tx: Tx, account_sid: AccountSid, key_sid: str) -> list[KeySid]:
    """Read the keys that a key made, those that they made, and so on."""
    rows = await tx.all(_KeySid, _DESCENDANTS, {"account_sid": account_sid, "key_sid": key_sid})
    return [row.key_sid for row in rows]


async def page_keys(
    db: Database, account_sid: AccountSid, *, key: tuple[int, str] | None, limit: int, newer: bool
) -> list[Key]:
    """Read API keys beside ``key`` (date_created, SID): older ones, newest first, or (``newer``) the reverse."""
    sign, order = (">", "ASC") if newer else ("<", "DESC")
    beside = f"AND (date_created, key_sid) {sign} (:created, :sid)" if key else ""
    sql = f"""SELECT {_KEY_COLUMNS} FROM keys WHERE account_sid = :account_sid {beside}
        ORDER BY date_created {order}, key_sid {order} LIMIT :limit"""
    params: dict[str, str | int] = {"account_sid": account_sid, "limit": limit}
    if key:
        params |= {"created": key[0], "sid": key[1]}
    return await db.all(Key, sql, params)


async def delete_key(tx: Tx, account_sid: AccountSid, key_sid: str) -> bool:
    """Remove an API key; false when it is not there."""
    sql = "DELETE FROM keys WHERE account_sid = :account_sid AND key_sid = :key_sid"
    return await tx.run(sql, {"account_sid": account_sid, "key_sid": key_sid}) == 1


async def page_sealed(db: Database, after: str, limit: int) -> list[AccountRow]:
    """Read accounts after a SID, for sealing their tokens anew."""
    sql = f"SELECT {_COLUMNS} FROM accounts WHERE account_sid > :after ORDER BY account_sid LIMIT :limit"
    return await db.all(AccountRow, sql, {"after": after, "limit": limit})


async def reseal(tx: Tx, row: AccountRow, sealed: bytes, secondary: bytes | None) -> bool:
    """Replace the sealed tokens unless they changed meanwhile."""
    sql = """UPDATE accounts SET auth_token_sealed = :sealed, secondary_sealed = :secondary
        WHERE account_sid = :account_sid AND auth_token_sealed = :seen
        AND COALESCE(secondary_sealed, :none) = :seen_secondary"""
    return (
        await tx.run(
            sql,
            {
                "sealed": sealed,
                "secondary": secondary,
                "account_sid": row.account_sid,
                "seen": row.auth_token_sealed,
                "none": b"",
                "seen_secondary": row.secondary_sealed or b"",
            },
        )
        == 1
    )


async def set_secondary(tx: Tx, account_sid: AccountSid, token_hash: bytes, sealed: bytes, now: Millis) -> bool:
    """Store an account's second Auth Token; false when it has one."""
    sql = """UPDATE accounts SET secondary_hash = :hash, secondary_sealed = :sealed, date_secondary = :now
        WHERE account_sid = :account_sid AND secondary_hash IS NULL"""
    return await tx.run(sql, {"account_sid": account_sid, "hash": token_hash, "sealed": sealed, "now": now}) == 1


async def clear_secondary(tx: Tx, account_sid: AccountSid) -> bool:
    """Take an account's second Auth Token away; false when it has none."""
    sql = """UPDATE accounts SET secondary_hash = NULL, secondary_sealed = NULL, date_secondary = NULL
        WHERE account_sid = :account_sid AND secondary_hash IS NOT NULL"""
    return await tx.run(sql, {"account_sid": account_sid}) == 1


async def promote(tx: Tx, account_sid: AccountSid) -> bool:
    """Make the second Auth Token the first; false when there is none."""
    sql = """UPDATE accounts SET auth_token_hash = secondary_hash, auth_token_sealed = secondary_sealed,
        secondary_hash = NULL, secondary_sealed = NULL, date_secondary = NULL
        WHERE account_sid = :account_sid AND secondary_hash IS NOT NULL"""
    return await tx.run(sql, {"account_sid": account_sid}) == 1


async def note_uses(tx: Tx, uses: Sequence[tuple[KeySid, Millis]]) -> None:
    """Note when keys were last used; a later time that is there stays."""
    sql = """UPDATE keys SET date_last_used = :now
        WHERE key_sid = :key_sid AND (date_last_used IS NULL OR date_last_used < :now)"""
    await tx.write_many(sql, [{"key_sid": key_sid, "now": now} for key_sid, now in uses])


async def count_devices_up(tx: Tx, account_sid: AccountSid, devices_max: int, count: int = 1) -> bool:
    """Count ``count`` more devices of the account; false when it would have more than ``devices_max``."""
    sql = """UPDATE accounts SET device_count = device_count + :count
        WHERE account_sid = :account_sid AND device_count + :count <= :devices_max"""
    return await tx.run(sql, {"account_sid": account_sid, "devices_max": devices_max, "count": count}) == 1


async def count_devices_down(tx: Tx, account_sid: AccountSid) -> None:
    """Count one device less."""
    sql = "UPDATE accounts SET device_count = device_count - 1 WHERE account_sid = :account_sid"
    await tx.run(sql, {"account_sid": account_sid})


async def find_tenant(source: Tx | Database, account_sid: AccountSid) -> Tenant | None:
    """Read an account as the first account's operator sees it."""
    sql = f"SELECT {_TENANT_COLUMNS} FROM accounts WHERE account_sid = :account_sid"
    return await source.one(Tenant, sql, {"account_sid": account_sid})


async def page_tenants(db: Database, *, key: tuple[int, str] | None, limit: int, newer: bool) -> list[Tenant]:
    """Read accounts beside ``key`` (date_created, SID): older ones, newest first, or (``newer``) the reverse."""
    sign, order = (">", "ASC") if newer else ("<", "DESC")
    beside = f"WHERE (date_created, account_sid) {sign} (:created, :sid)" if key else ""
    sql = f"""SELECT {_TENANT_COLUMNS} FROM accounts {beside}
        ORDER BY date_created {order}, account_sid {order} LIMIT :limit"""
    params: dict[str, str | int] = {"limit": limit}
    if key:
        params |= {"created": key[0], "sid": key[1]}
    return await db.all(Tenant, sql, params)


async def set_status(tx: Tx, account_sid: AccountSid, status: Status) -> None:
    """Suspend an account, let it in again, or end it."""
    sql = "UPDATE accounts SET status = :status WHERE account_sid = :account_sid"
    await tx.run(sql, {"account_sid": account_sid, "status": status})


async def delete(tx: Tx, account_sid: AccountSid) -> None:
    """Remove an account that has nothing any more; if it has, ``ReferenceViolated`` comes out of the write."""
    await tx.run("DELETE FROM accounts WHERE account_sid = :account_sid", {"account_sid": account_sid})
