"""A factory's batch becomes devices: all of it in one transaction, or nothing.

What exists already is told by line and column, as faults of the file are. Each device has its event, as one that is
registered by hand.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx, UniqueViolated
from fleetvisor.features.accounts import store as accounts_store
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
_PIECE: Final = 500
_EXISTS: Final = "a Device already has or had it."


class Imported(msgspec.Struct, frozen=True):
    """A device that an import made, and the line that it stood in."""

    line: int
    device_sid: DeviceSid
    unique_name: str | None


class _Made(msgspec.Struct, frozen=True, array_like=True):
    """A row, and the device that it becomes."""

    device_sid: DeviceSid
    row: BatchRow


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
        self, account_sid: AccountSid, spooled: Path, *, account_secrets: bool = False
    ) -> list[Imported]:
        """Make the devices of a CSV file, all or none; ``account_secrets``: they may fetch the account's Secrets.

        Memory holds a piece of it, and the answer. Beside the file another one is written, and removed again.
        Raises ``Invalid`` (the file), ``Conflict`` (what exists).
        """
        kept = Path(f"{spooled}.rows")
        try:
            count = await self._offload(lambda: self._read(spooled, kept))
            return await self._make(account_sid, kept, count, account_secrets=account_secrets)
        finally:
            await self._offload(lambda: kept.unlink(missing_ok=True))

    def _read(self, spooled: Path, kept: Path) -> int:
        """Write the rows of a CSV file, each with the SID of its device; return how many they are."""
        encoder = msgspec.msgpack.Encoder()
        count = 0
        with spooled.open("rb") as file, kept.open("xb") as rows:
            for row in parse(file, self._limits):
                count += 1
                raw = encoder.encode(_Made(row.device_sid or new_device_sid(self._entropy), row))
                rows.write(len(raw).to_bytes(4) + raw)
        return count

    async def _make(self, account_sid: AccountSid, kept: Path, count: int, *, account_secrets: bool) -> list[Imported]:
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            faults = Faults()
            for piece in _pieces(kept):
                await _find_existing(tx, account_sid, [made.row for made in piece], faults)
            if faults:
                raise Conflict(f"Nothing was imported: {faults}")
            if not await accounts_store.count_devices_up(tx, account_sid, self._limits.devices_per_account_max, count):
                most = self._limits.devices_per_account_max
                raise Conflict(
                    f"Nothing was imported: the account may have {most} Devices, and this file would exceed that."
                )
            for piece in _pieces(kept):
                rows, sids = [made.row for made in piece], [made.device_sid for made in piece]
                await _insert(tx, account_sid, rows, sids, now, account_secrets=account_secrets)

        async def refuse(tx: Tx) -> None:
            await _refuse_tokens(tx, (made.row for piece in _pieces(kept) for made in piece))

        try:
            await self._db.write(body)
        except UniqueViolated:  # a token's hash, or what another request made at this moment
            await self._db.write(refuse)
            raise Conflict("Nothing was imported: another request created one of these Devices meanwhile.") from None
        pieces = _pieces(kept)
        return [Imported(made.row.line, made.device_sid, made.row.unique_name) for piece in pieces for made in piece]


def _pieces(kept: Path) -> Iterator[list[_Made]]:
    """Return the rows again, some at a time: what is read at once is little, also on the event loop."""
    decoder = msgspec.msgpack.Decoder(_Made)
    with kept.open("rb") as file:
        piece: list[_Made] = []
        while head := file.read(4):
            piece.append(decoder.decode(file.read(int.from_bytes(head))))
            if len(piece) == _PIECE:
                yield piece
                piece = []
        if piece:
            yield piece


async def _find_existing(tx: Tx, account_sid: AccountSid, rows: Sequence[BatchRow], faults: Faults) -> None:
    """Add SIDs, names and keys that exist, each with its line and column."""
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


async def _refuse_tokens(tx: Tx, rows: Iterable[BatchRow]) -> None:
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
