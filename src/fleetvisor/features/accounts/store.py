"""The rows of accounts and API keys. Deliberately holds hashes and sealed tokens, never plain ones."""

from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.accounts.model import Key
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, KeySid

_KEY_COLUMNS: Final = "key_sid, account_sid, friendly_name, date_created"
_INSERT: Final = """
INSERT INTO accounts (account_sid, ordinal, auth_token_hash, auth_token_sealed, friendly_name, date_created)
VALUES (:account_sid, (SELECT COALESCE(max(ordinal), 0) + 1 FROM accounts), :hash, :sealed, :friendly_name, :now)
ON CONFLICT DO NOTHING RETURNING account_sid, ordinal, auth_token_hash, auth_token_sealed, date_created"""
_INSERT_FIRST: Final = """
INSERT INTO accounts (account_sid, ordinal, auth_token_hash, auth_token_sealed, friendly_name, date_created)
VALUES (:account_sid, 1, :hash, :sealed, :friendly_name, :now)
ON CONFLICT DO NOTHING RETURNING account_sid, ordinal, auth_token_hash, auth_token_sealed, date_created"""
_COLUMNS: Final = "account_sid, ordinal, auth_token_hash, auth_token_sealed, date_created"
_CREDENTIAL: Final = """
SELECT k.key_sid, k.account_sid, k.secret_hash, a.ordinal FROM keys k
JOIN accounts a ON a.account_sid = k.account_sid WHERE k.key_sid = :key_sid"""


class AccountRow(msgspec.Struct, frozen=True):
    """An account as it lies in its row; ``ordinal`` 1 is the first account."""

    account_sid: AccountSid
    ordinal: int
    auth_token_hash: bytes
    auth_token_sealed: bytes
    date_created: Millis


class Credential(msgspec.Struct, frozen=True):
    """What an API key is proven against."""

    key_sid: KeySid
    account_sid: AccountSid
    secret_hash: bytes
    ordinal: int


class _Count(msgspec.Struct, frozen=True):
    count: int


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


async def find(db: Database, account_sid: AccountSid) -> AccountRow | None:
    """Read an account."""
    sql = f"SELECT {_COLUMNS} FROM accounts WHERE account_sid = :account_sid"
    return await db.one(AccountRow, sql, {"account_sid": account_sid})


async def find_credential(db: Database, key_sid: KeySid) -> Credential | None:
    """Read what an API key is proven against."""
    return await db.one(Credential, _CREDENTIAL, {"key_sid": key_sid})


async def count_keys(tx: Tx, account_sid: AccountSid) -> int:
    """Count an account's API keys."""
    row = await tx.one(_Count, "SELECT count(*) AS count FROM keys WHERE account_sid = :a", {"a": account_sid})
    return row.count if row else 0


async def insert_key(tx: Tx, key: Key, secret_hash: bytes) -> None:
    """Make an API key."""
    sql = """INSERT INTO keys (key_sid, account_sid, friendly_name, secret_hash, date_created)
        VALUES (:key_sid, :account_sid, :friendly_name, :secret_hash, :date_created)"""
    await tx.run(sql, msgspec.structs.asdict(key) | {"secret_hash": secret_hash})


async def find_key(db: Database, account_sid: AccountSid, key_sid: str) -> Key | None:
    """Read an API key of an account."""
    sql = f"SELECT {_KEY_COLUMNS} FROM keys WHERE account_sid = :account_sid AND key_sid = :key_sid"
    return await db.one(Key, sql, {"account_sid": account_sid, "key_sid": key_sid})


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


async def reseal(tx: Tx, row: AccountRow, sealed: bytes) -> bool:
    """Replace a sealed token unless it changed meanwhile."""
    sql = """UPDATE accounts SET auth_token_sealed = :sealed
        WHERE account_sid = :account_sid AND auth_token_sealed = :seen"""
    return await tx.run(sql, {"sealed": sealed, "account_sid": row.account_sid, "seen": row.auth_token_sealed}) == 1
