"""A factory's batch becomes devices: all of it in one transaction, or nothing.

What exists already is told by line and column, as faults of the file are. Each device has its event, as one that is
registered by hand.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx, UniqueViolated
from fleetvisor.features.devices import credentials as rows_of
from fleetvisor.features.devices import labels as label_rules
from fleetvisor.features.devices import store as devices_store
from fleetvisor.features.events import store as events
from fleetvisor.features.identity.batch import BatchRow, Faults, parse
from fleetvisor.features.updates import store as updates_store
from fleetvisor.ground.clock import Clock, Entropy, Millis
from fleetvisor.ground.errors import Conflict
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.offload import Offload
from fleetvisor.ground.sids import AccountSid, DeviceSid, new_device_sid

_SIDS: Final = "SELECT device_sid AS found FROM devices WHERE device_sid IN (:keys)"
_NAMES: Final = """
SELECT unique_name AS found FROM devices WHERE account_sid = :account_sid AND unique_name IN (:keys)"""
_KEYS: Final = """
SELECT key_hash AS found FROM device_keys WHERE account_sid = :account_sid AND key_hash IN (:keys)"""
_TOKEN: Final = "SELECT device_sid AS found FROM device_tokens WHERE token_hash = :token_hash"
_EXISTS: Final = "a Device has or had it already."


class Imported(msgspec.Struct, frozen=True):
    """A device that an import made, and the line that it stood in."""

    line: int
    device_sid: DeviceSid
    unique_name: str | None


class _Found(msgspec.Struct, frozen=True):
    found: str


class Imports:
    """The verb on batches."""

    def __init__(self, *, db: Database, clock: Clock, entropy: Entropy, limits: Limits, offload: Offload) -> None:
        """Keep what the verb needs."""
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._limits = limits
        self._offload = offload

    async def import_batch(
        self, account_sid: AccountSid, content: bytes, *, account_secrets: bool = False
    ) -> list[Imported]:
        """Make the devices of a CSV file, all or none; ``account_secrets``: they may fetch the account's Secrets.

        Raises ``Invalid`` (the file), ``Conflict`` (what exists).
        """
        rows = await self._offload(lambda: parse(content, self._limits))
        sids = [row.device_sid or new_device_sid(self._entropy) for row in rows]
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            await _refuse_existing(tx, account_sid, rows)
            if not await devices_store.count_up(tx, account_sid, self._limits.devices_per_account_max, len(rows)):
                most = self._limits.devices_per_account_max
                raise Conflict(f"Nothing was imported: the account may have {most} Devices, and would have more.")
            await _insert(tx, account_sid, rows, sids, now, account_secrets=account_secrets)

        try:
            await self._db.write(body)
        except UniqueViolated:  # a token's hash, or what another request made at this moment
            await self._db.write(lambda tx: _refuse_tokens(tx, rows))
            raise Conflict("Nothing was imported: another request made one of these Devices meanwhile.") from None
        return [Imported(row.line, sid, row.unique_name) for row, sid in zip(rows, sids, strict=True)]


async def _refuse_existing(tx: Tx, account_sid: AccountSid, rows: Sequence[BatchRow]) -> None:
    """Raise ``Conflict`` for SIDs, names and keys that exist, each with its line and column."""
    faults = Faults()
    given: list[tuple[str, str, list[str | None]]] = [
        ("sid", _SIDS, [row.device_sid for row in rows]),
        ("name", _NAMES, [row.unique_name for row in rows]),
        ("public_key", _KEYS, [row.key_hash for row in rows]),
    ]
    for column, sql, values in given:
        keys = [value for value in values if value is not None]
        found = {row.found for row in await tx.read_many(_Found, sql, keys, {"account_sid": account_sid})}
        for row, value in zip(rows, values, strict=True):
            if value in found:
                faults.add(row.line, column, _EXISTS)
    if faults:
        raise Conflict(f"Nothing was imported: {faults}")


async def _refuse_tokens(tx: Tx, rows: Sequence[BatchRow]) -> None:
    """Raise ``Conflict`` for tokens that exist, each with its line."""
    faults = Faults()
    for row in rows:
        if row.token_hash and await tx.one(_Found, _TOKEN, {"token_hash": row.token_hash}):
            faults.add(row.line, "token_hash", _EXISTS)
    if faults:
        raise Conflict(f"Nothing was imported: {faults}")


async def _insert(
    tx: Tx,
    account_sid: AccountSid,
    rows: Sequence[BatchRow],
    sids: Sequence[DeviceSid],
    now: Millis,
    *,
    account_secrets: bool,
) -> None:
    pairs = list(zip(rows, sids, strict=True))
    await devices_store.insert_many(
        tx,
        account_sid,
        [(sid, row.unique_name, row.hardware_class, label_rules.encode(row.labels)) for row, sid in pairs],
        now,
        account_secrets=account_secrets,
    )
    await updates_store.insert_assignments(tx, account_sid, sids)
    keys = [(sid, row.key_hash, row.point) for row, sid in pairs if row.key_hash is not None and row.point is not None]
    await rows_of.insert_keys(tx, account_sid, keys, now)
    tokens = [(sid, row.token_hash) for row, sid in pairs if row.token_hash is not None]
    await rows_of.insert_tokens(tx, tokens, now)
    await label_rules.insert_many(tx, account_sid, [(sid, row.labels) for row, sid in pairs if row.labels])
    created = [(sid, {"unique_name": row.unique_name, "line": row.line}) for row, sid in pairs]
    await events.append_devices(tx, account_sid=account_sid, type="device.created", devices=created, now=now)
