"""The rows of what proves a device: its tokens and its public keys. Deliberately holds hashes and public keys only.

Who may have which, and what they prove, ``features/identity`` says; a device is made and removed with them.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, DeviceSid

TOKEN_PREFIX: Final = "fvd_"
_BY_TOKEN: Final = """
SELECT d.device_sid, d.account_sid, t.date_expires, d.access FROM device_tokens t
JOIN devices d ON d.device_sid = t.device_sid
JOIN accounts a ON a.account_sid = d.account_sid AND a.status = 'active'
WHERE t.token_hash = :token_hash AND d.access <> 'disabled'"""
_ADMITTED: Final = """
SELECT d.device_sid, d.account_sid FROM devices d
JOIN accounts a ON a.account_sid = d.account_sid AND a.status = 'active'
WHERE d.device_sid = :device_sid AND d.account_sid = :account_sid AND d.access <> 'disabled'"""
_KEYS: Final = """
SELECT k.point, k.account_sid, d.access FROM device_keys k
JOIN devices d ON d.device_sid = k.device_sid AND d.account_sid = k.account_sid
JOIN accounts a ON a.account_sid = d.account_sid AND a.status = 'active'
WHERE k.device_sid = :device_sid AND k.refused = 0 AND d.access <> 'disabled' ORDER BY k.date_created"""
_KEY: Final = """
SELECT k.device_sid, k.refused, d.access FROM device_keys k
LEFT JOIN devices d ON d.device_sid = k.device_sid AND d.account_sid = k.account_sid
WHERE k.account_sid = :account_sid AND k.key_hash = :key_hash"""
#: As ``ground/clock.is_over`` says it, of the token ``t``.
TOKEN_VALID: Final = "(t.date_expires IS NULL OR t.date_expires > :now)"
#: Whether anything proves device ``d`` at ``:now``: a token or key of its own, or its account's gateway token.
PROVABLE: Final = f"""(
    EXISTS (SELECT 1 FROM device_tokens t WHERE t.device_sid = d.device_sid AND {TOKEN_VALID})
    OR EXISTS (SELECT 1 FROM device_keys k
        WHERE k.device_sid = d.device_sid AND k.account_sid = d.account_sid AND k.refused = 0)
    OR (d.by_gateway = 1 AND EXISTS (SELECT 1 FROM gateway_tokens g WHERE g.account_sid = d.account_sid)))"""
_ELSEWHERE: Final = """
SELECT k.device_sid, k.account_sid FROM device_keys k
JOIN devices d ON d.device_sid = k.device_sid AND d.account_sid = k.account_sid AND d.access <> 'disabled'
JOIN accounts a ON a.account_sid = k.account_sid AND a.status = 'active'
WHERE k.key_hash = :key_hash AND k.account_sid <> :account_sid AND k.refused = 0
ORDER BY k.date_created, k.account_sid LIMIT 1"""
_INSERT_KEY: Final = """
INSERT INTO device_keys (account_sid, key_hash, device_sid, point, date_created)
VALUES (:account_sid, :key_hash, :device_sid, :point, :now)"""
_INSERT_TOKEN: Final = """
INSERT INTO device_tokens (token_hash, device_sid, date_created) VALUES (:token_hash, :device_sid, :now)"""
_TOKENS_OF: Final = f"""
SELECT t.token_hash, t.date_created, t.date_expires FROM device_tokens t
WHERE t.device_sid = :device_sid AND {TOKEN_VALID} ORDER BY t.date_created, t.token_hash"""
_KEYS_OF: Final = """
SELECT key_hash, date_created FROM device_keys
WHERE account_sid = :account_sid AND device_sid = :device_sid AND refused = 0 ORDER BY date_created, key_hash"""
_RETIRE: Final = """
UPDATE device_tokens SET date_expires = :expires
WHERE device_sid = :device_sid AND (date_expires IS NULL OR date_expires > :expires)"""


class RefusedKey(msgspec.Struct, frozen=True):
    """A key that enrols no more until it is freed, and the device whose it was."""

    fingerprint: str
    device_sid: DeviceSid
    date_created: Millis


class ProvenToken(msgspec.Struct, frozen=True):
    """Which device, active or waiting, a token proves, and until when."""

    device_sid: DeviceSid
    account_sid: AccountSid
    date_expires: Millis | None
    access: str

    @property
    def identity(self) -> DeviceIdentity:
        """Return the device that is proven."""
        return DeviceIdentity(self.device_sid, self.account_sid, self.access == "waiting")


class KeyRow(msgspec.Struct, frozen=True):
    """A public key of a device that is active or waits."""

    point: bytes
    account_sid: AccountSid
    access: str


class KeyOwner(msgspec.Struct, frozen=True):
    """Whose a key is or was; ``access`` is ``None`` when the device is gone."""

    device_sid: DeviceSid
    refused: bool
    access: str | None


class _Owner(msgspec.Struct, frozen=True):
    device_sid: DeviceSid
    account_sid: AccountSid


class TokenRow(msgspec.Struct, frozen=True):
    """A device token by its hash."""

    token_hash: bytes
    date_created: Millis
    date_expires: Millis | None


class KeyHash(msgspec.Struct, frozen=True):
    """A device's key by its hash."""

    key_hash: str
    date_created: Millis


async def find_by_token(db: Database, token_hash: bytes) -> ProvenToken | None:
    """Read which device, active or waiting, a token (by its SHA-256) proves."""
    return await db.one(ProvenToken, _BY_TOKEN, {"token_hash": token_hash})


async def is_admitted(db: Database, account_sid: AccountSid, device_sid: DeviceSid) -> bool:
    """Return whether a device is there and active or waits, and its account is active."""
    return await db.one(_Owner, _ADMITTED, {"account_sid": account_sid, "device_sid": device_sid}) is not None


async def is_provable(db: Database, account_sid: AccountSid, device_sid: DeviceSid, now: Millis) -> bool:
    """Return whether anything proves a device: a token or a key of its own, or its account's gateway token."""
    sql = f"""SELECT d.device_sid, d.account_sid FROM devices d
        WHERE d.device_sid = :device_sid AND d.account_sid = :account_sid AND {PROVABLE}"""
    return await db.one(_Owner, sql, {"device_sid": device_sid, "account_sid": account_sid, "now": now}) is not None


async def keys_of_enabled(db: Database, device_sid: str) -> list[KeyRow]:
    """Read the keys that prove a device, if it is active or waits."""
    return await db.all(KeyRow, _KEYS, {"device_sid": device_sid})


async def find_key(source: Tx | Database, account_sid: AccountSid, key_hash: str) -> KeyOwner | None:
    """Read whose a key is or was."""
    return await source.one(KeyOwner, _KEY, {"account_sid": account_sid, "key_hash": key_hash})


async def find_elsewhere(tx: Tx, account_sid: AccountSid, key_hash: str) -> DeviceIdentity | None:
    """Read which device of another account a key proves now."""
    found = await tx.one(_Owner, _ELSEWHERE, {"account_sid": account_sid, "key_hash": key_hash})
    return None if found is None else DeviceIdentity(found.device_sid, found.account_sid)


async def forget_key(tx: Tx, account_sid: AccountSid, key_hash: str) -> None:
    """Forget a key of a device that moved to another account: it may come back."""
    sql = "DELETE FROM device_keys WHERE account_sid = :account_sid AND key_hash = :key_hash"
    await tx.run(sql, {"account_sid": account_sid, "key_hash": key_hash})


async def insert_key(tx: Tx, identity: DeviceIdentity, key_hash: str, point: bytes, now: Millis) -> None:
    """Let a key prove a device; ``UniqueViolated`` comes out of the write when it is somebody's."""
    params = {
        "account_sid": identity.account_sid,
        "device_sid": identity.device_sid,
        "key_hash": key_hash,
        "point": point,
        "now": now,
    }
    await tx.run(_INSERT_KEY, params)


async def insert_token(tx: Tx, device_sid: DeviceSid, token_hash: bytes, now: Millis) -> None:
    """Let a token (by its SHA-256) prove a device."""
    await tx.run(_INSERT_TOKEN, {"token_hash": token_hash, "device_sid": device_sid, "now": now})


async def insert_keys(
    tx: Tx, account_sid: AccountSid, keys: Iterable[tuple[DeviceSid, str, bytes]], now: Millis
) -> None:
    """Let keys prove devices: (SID, fingerprint, point)."""
    names = ("device_sid", "key_hash", "point")
    rows = [{**dict(zip(names, key, strict=True)), "account_sid": account_sid, "now": now} for key in keys]
    await tx.write_many(_INSERT_KEY, rows)


async def insert_tokens(tx: Tx, tokens: Iterable[tuple[DeviceSid, bytes]], now: Millis) -> None:
    """Let tokens (by their SHA-256) prove devices."""
    rows = [{"device_sid": sid, "token_hash": token_hash, "now": now} for sid, token_hash in tokens]
    await tx.write_many(_INSERT_TOKEN, rows)


async def tokens_of(source: Tx | Database, device_sid: DeviceSid, now: Millis) -> list[TokenRow]:
    """Read a device's tokens that have not ended."""
    return await source.all(TokenRow, _TOKENS_OF, {"device_sid": device_sid, "now": now})


async def keys_of(source: Tx | Database, identity: DeviceIdentity) -> list[KeyHash]:
    """Read a device's keys that are not refused."""
    keys = {"account_sid": identity.account_sid, "device_sid": identity.device_sid}
    return await source.all(KeyHash, _KEYS_OF, keys)


async def retire_tokens(tx: Tx, device_sid: DeviceSid, expires: Millis, now: Millis) -> None:
    """Let a device's tokens end at ``expires`` at the latest, and forget those that ended before ``now``."""
    sql = "DELETE FROM device_tokens WHERE device_sid = :device_sid AND date_expires <= :now"
    await tx.run(sql, {"device_sid": device_sid, "now": now})
    await tx.run(_RETIRE, {"device_sid": device_sid, "expires": expires})


async def delete_token(tx: Tx, device_sid: DeviceSid, token_hash: bytes) -> bool:
    """Remove a token; false when the device has no such one."""
    sql = "DELETE FROM device_tokens WHERE device_sid = :device_sid AND token_hash = :token_hash"
    return await tx.run(sql, {"device_sid": device_sid, "token_hash": token_hash}) == 1


async def refuse_key(tx: Tx, identity: DeviceIdentity, key_hash: str) -> bool:
    """Refuse a key of a device from now on; false when it has no such one."""
    sql = """UPDATE device_keys SET refused = 1
        WHERE account_sid = :account_sid AND device_sid = :device_sid AND key_hash = :key_hash AND refused = 0"""
    keys = {"account_sid": identity.account_sid, "device_sid": identity.device_sid}
    return await tx.run(sql, {**keys, "key_hash": key_hash}) == 1


async def refuse_keys(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid) -> None:
    """Refuse all keys of a device that is removed."""
    sql = "UPDATE device_keys SET refused = 1 WHERE account_sid = :account_sid AND device_sid = :device_sid"
    await tx.run(sql, {"account_sid": account_sid, "device_sid": device_sid})


async def page_refused(
    db: Database, account_sid: AccountSid, *, key: tuple[int, str] | None, limit: int, newer: bool
) -> list[RefusedKey]:
    """Read refused keys beside ``key`` (date_created, hash): older ones, newest first, or (``newer``) the reverse."""
    sign, order = (">", "ASC") if newer else ("<", "DESC")
    beside = f"AND (date_created, key_hash) {sign} (:created, :hash)" if key else ""
    sql = f"""SELECT key_hash AS fingerprint, device_sid, date_created FROM device_keys
        WHERE account_sid = :account_sid AND refused = 1 {beside}
        ORDER BY date_created {order}, key_hash {order} LIMIT :limit"""
    params: dict[str, str | int] = {"account_sid": account_sid, "limit": limit}
    if key:
        params |= {"created": key[0], "hash": key[1]}
    return await db.all(RefusedKey, sql, params)


async def free_key(tx: Tx, account_sid: AccountSid, key_hash: str) -> bool:
    """Forget a refused key; false when there is no such one."""
    sql = "DELETE FROM device_keys WHERE account_sid = :account_sid AND key_hash = :key_hash AND refused = 1"
    return await tx.run(sql, {"account_sid": account_sid, "key_hash": key_hash}) == 1


async def set_own(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid) -> None:
    """Note that a device has a credential of its own: the gateway's proves it no more."""
    sql = "UPDATE devices SET by_gateway = 0 WHERE account_sid = :account_sid AND device_sid = :device_sid"
    await tx.run(sql, {"account_sid": account_sid, "device_sid": device_sid})
