"""The rows of configs and secrets: one table, keyed by owner, store and key.

Deliberately decides nothing, and never sees a secret's plain text.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.configs.model import Entry, Owner, Store
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, DeviceSid

_WHERE: Final = """owner_sid = :owner_sid AND store = :store AND account_sid = :account_sid"""
_INSERT: Final = """
INSERT INTO configs (owner_sid, store, key, account_sid, value, sealed, date_updated)
VALUES (:owner_sid, :store, :key, :account_sid, :value, :sealed, :now)
ON CONFLICT DO NOTHING RETURNING key, value, date_updated"""
_SET: Final = f"""
UPDATE configs SET value = :value, sealed = :sealed, date_updated = :now WHERE {_WHERE} AND key = :key
RETURNING key, value, date_updated"""
_GET: Final = f"SELECT key, value, date_updated FROM configs WHERE {_WHERE} AND key = :key"
_VALUES: Final = f"SELECT value, sealed, key FROM configs WHERE {_WHERE} AND key IN "
_PAGE: Final = f"SELECT key, value, date_updated FROM configs WHERE {_WHERE}"
_DEVICE: Final = "SELECT 1 AS count FROM devices WHERE device_sid = :device_sid AND account_sid = :account_sid"
_SEALED_PAGE: Final = """
SELECT owner_sid, key, account_sid, sealed FROM configs
WHERE store = 'secret' AND (owner_sid, store, key) > (:owner_sid, 'secret', :key)
ORDER BY owner_sid, store, key LIMIT :limit"""
_RESEAL: Final = """
UPDATE configs SET sealed = :sealed
WHERE owner_sid = :owner_sid AND store = 'secret' AND key = :key AND account_sid = :account_sid AND sealed = :seen"""


_REACH: Final = """
SELECT account_secrets, day_secrets_fetched FROM devices
WHERE device_sid = :device_sid AND account_sid = :account_sid"""
_NOTE_FETCH: Final = """
UPDATE devices SET day_secrets_fetched = :day
WHERE device_sid = :device_sid AND account_sid = :account_sid AND day_secrets_fetched < :day"""


class Reach(msgspec.Struct, frozen=True):
    """Whether a device may fetch its account's Secrets, and the day (since the epoch) when a fetch was last noted."""

    account_secrets: bool
    day_secrets_fetched: int


class _Count(msgspec.Struct, frozen=True):
    count: int


class Stored(msgspec.Struct, frozen=True):
    """A value as it lies in its row: plain for a config, sealed for a secret."""

    value: str | None
    sealed: bytes | None


class _Keyed(Stored, frozen=True):
    key: str


class SealedRow(msgspec.Struct, frozen=True):
    """A secret's row, for sealing anew."""

    owner_sid: str
    key: str
    account_sid: AccountSid
    sealed: bytes


def _where(owner: Owner, store: Store) -> dict[str, str | int | bytes | None]:
    return {"owner_sid": owner.sid, "store": store.value, "account_sid": owner.account_sid}


async def owner_exists(tx: Tx, owner: Owner) -> bool:
    """Return whether the owner is there: an account that called always is, a device must be the account's."""
    if owner.device_sid is None:
        return True
    params = {"device_sid": owner.device_sid, "account_sid": owner.account_sid}
    return await tx.one(_Count, _DEVICE, params) is not None


async def has_secrets(db: Database, account_sid: AccountSid) -> bool:
    """Return whether the account has Secrets of its own, beside those of its devices."""
    sql = """SELECT 1 AS count FROM configs
        WHERE owner_sid = :account_sid AND account_sid = :account_sid AND store = 'secret' LIMIT 1"""
    return await db.one(_Count, sql, {"account_sid": account_sid}) is not None


async def count(tx: Tx, owner: Owner, store: Store) -> int:
    """Count an owner's keys in one store."""
    row = await tx.one(_Count, f"SELECT count(*) AS count FROM configs WHERE {_WHERE}", _where(owner, store))
    return row.count if row else 0


async def insert(tx: Tx, owner: Owner, store: Store, key: str, stored: Stored, now: Millis) -> Entry | None:
    """Make a key; ``None`` when it is there already."""
    params = _where(owner, store) | {"key": key, "value": stored.value, "sealed": stored.sealed, "now": now}
    return await tx.one(Entry, _INSERT, params)


async def update(tx: Tx, owner: Owner, store: Store, key: str, stored: Stored, now: Millis) -> Entry | None:
    """Set a key's value; ``None`` when it is not there."""
    params = _where(owner, store) | {"key": key, "value": stored.value, "sealed": stored.sealed, "now": now}
    return await tx.one(Entry, _SET, params)


async def find(db: Database, owner: Owner, store: Store, key: str) -> Entry | None:
    """Read one key."""
    return await db.one(Entry, _GET, _where(owner, store) | {"key": key})


async def find_values(db: Database, owner: Owner, store: Store, keys: Sequence[str]) -> dict[str, Stored]:
    """Read the values of some keys as they lie there; a key that is not there is left out. A bounded number of keys."""
    names = {f"k{place}": key for place, key in enumerate(keys)}
    sql = f"{_VALUES} ({', '.join(f':{name}' for name in names)})"
    return {row.key: row for row in await db.all(_Keyed, sql, _where(owner, store) | names)}


async def page(db: Database, owner: Owner, store: Store, *, key: str | None, limit: int, before: bool) -> list[Entry]:
    """Read keys in ascending order after ``key``, or (``before``) those before it in descending order."""
    sign, order = ("<", "DESC") if before else (">", "ASC")
    beside = f" AND key {sign} :key" if key is not None else ""
    params = _where(owner, store) | {"limit": limit}
    if key is not None:
        params["key"] = key
    return await db.all(Entry, f"{_PAGE}{beside} ORDER BY key {order} LIMIT :limit", params)


async def find_reach(db: Database, account_sid: AccountSid, device_sid: DeviceSid) -> Reach | None:
    """Read which Secrets a device may fetch."""
    return await db.one(Reach, _REACH, {"device_sid": device_sid, "account_sid": account_sid})


async def note_fetch(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, day: int) -> bool:
    """Note that a device fetched Secrets on a day; false when that, or a later day, is noted already."""
    return await tx.run(_NOTE_FETCH, {"device_sid": device_sid, "account_sid": account_sid, "day": day}) == 1


async def delete(tx: Tx, owner: Owner, store: Store, key: str) -> bool:
    """Remove a key; false when it is not there."""
    return await tx.run(f"DELETE FROM configs WHERE {_WHERE} AND key = :key", _where(owner, store) | {"key": key}) == 1


async def delete_of_device(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid) -> None:
    """Remove every config and secret of a device."""
    sql = "DELETE FROM configs WHERE owner_sid = :device_sid AND account_sid = :account_sid"
    await tx.run(sql, {"device_sid": device_sid, "account_sid": account_sid})


async def sealed_page(db: Database, after: tuple[str, str], limit: int) -> list[SealedRow]:
    """Read secrets of all owners after a place, for sealing anew."""
    return await db.all(SealedRow, _SEALED_PAGE, {"owner_sid": after[0], "key": after[1], "limit": limit})


async def reseal(tx: Tx, row: SealedRow, sealed: bytes) -> bool:
    """Replace a sealed value unless it changed meanwhile."""
    place = {"owner_sid": row.owner_sid, "key": row.key, "account_sid": row.account_sid}
    return await tx.run(_RESEAL, place | {"sealed": sealed, "seen": row.sealed}) == 1
