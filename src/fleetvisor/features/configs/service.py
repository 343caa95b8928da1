"""Configs and secrets: made, read, set, removed, and fetched by the device they are for.

Deliberately never gives a secret's value to anyone but the device. Spec: the API reference, section 4.
"""

from collections.abc import Sequence
from typing import Final

import structlog

from fleetvisor.db.database import Body, Database, Tx
from fleetvisor.features.configs import rules, store
from fleetvisor.features.configs.model import Entry, Owner, Store
from fleetvisor.features.configs.store import Reach, SealedRow, Stored
from fleetvisor.features.events import store as events
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.errors import Conflict, Invalid, NotFound
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.names import check_key, check_value, is_text
from fleetvisor.ground.pages import Page, PageRequest, page_of
from fleetvisor.ground.sids import AccountSid, DeviceSid
from fleetvisor.pki.seal import Seal, SealFault, key_id_of
from fleetvisor.protocol.native import FetchAnswer, FetchItem

_log = structlog.get_logger()
_DAY_MS: Final = 24 * 3600 * 1000


class Configs:
    """The verbs on configs and secrets."""

    def __init__(self, *, db: Database, clock: Clock, seal: Seal, limits: Limits) -> None:
        """Keep what the verbs need."""
        self._db = db
        self._clock = clock
        self._seal = seal
        self._limits = limits

    async def create(self, owner: Owner, kind: Store, key: str, value: str) -> Entry:
        """Make a key. Raises ``Invalid``, ``NotFound`` (the device), ``Conflict`` (there already, or too many)."""
        check_key(key, self._limits.config_key_chars_max)
        stored = self._stored(owner, kind, key, value)
        most = self._limits.configs_per_owner_max
        now = self._clock.now()

        async def body(tx: Tx) -> Entry:
            if not await store.owner_exists(tx, owner):
                raise NotFound("No Device matches the given identifier.")
            if await store.count(tx, owner, kind) >= most:
                raise Conflict(f"There are {most} {kind.value}s, which is the maximum.")
            entry = await store.insert(tx, owner, kind, key, stored, now)
            if entry is None:
                raise Conflict(f"A {kind.value} with this Key already exists. Its value was not changed.")
            await _note(tx, owner, f"{kind.value}.created", key, now)
            return entry

        return await self._db.write(body)

    async def get(self, owner: Owner, kind: Store, key: str) -> Entry:
        """Return a key; a secret's value never. Raises ``NotFound``."""
        entry = await store.find(self._db, owner, kind, key)
        if entry is None:
            raise _missing(kind)
        return entry

    async def list(self, owner: Owner, kind: Store, page: PageRequest) -> Page[Entry]:
        """Return a page of an owner's keys, in ascending order."""
        cursor = page.cursor
        key = str(cursor.key[0]) if cursor else None
        before = cursor is not None and not cursor.forward
        rows = await store.page(self._db, owner, kind, key=key, limit=page.size + 1, before=before)
        return page_of(rows, page, lambda entry: (entry.key,))

    async def set(self, owner: Owner, kind: Store, key: str, value: str) -> Entry:
        """Set the value of a key that is there. Raises ``Invalid``, ``NotFound``; never makes one."""
        stored = self._stored(owner, kind, key, value)
        now = self._clock.now()

        async def body(tx: Tx) -> Entry:
            entry = await store.update(tx, owner, kind, key, stored, now)
            if entry is None:
                raise _missing(kind)
            await _note(tx, owner, f"{kind.value}.updated", key, now)
            return entry

        return await self._db.write(body)

    async def delete(self, owner: Owner, kind: Store, key: str) -> None:
        """Remove a key. Raises ``NotFound``."""
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            if not await store.delete(tx, owner, kind, key):
                raise _missing(kind)
            await _note(tx, owner, f"{kind.value}.deleted", key, now)

        await self._db.write(body)

    async def fetch(self, account_sid: AccountSid, device_sid: DeviceSid, items: Sequence[FetchItem]) -> FetchAnswer:
        """Return the values that a device asks for, in the order of its request, each with its own result.

        A device that may not fetch the account's Secrets gets the result of keys that do not exist. The first fetch
        of a Secret on a day (UTC) is an event. Raises ``Invalid`` for no items or more than the bound.
        """
        most = self._limits.config_fetch_items_max
        if not 1 <= len(items) <= most:
            raise Invalid(f"items: send 1 to {most} of them.")
        owner = Owner(account_sid, device_sid)
        wanted: dict[tuple[str, Store], set[str]] = {}
        for item in items:
            if is_text(item.key):  # no other key can have been made
                wanted.setdefault((item.scope, Store(item.store)), set()).add(item.key)
        values: dict[tuple[str, str, str], str | None] = {}
        secret = any(kind is Store.SECRET for _, kind in wanted)
        reach = await store.find_reach(self._db, account_sid, device_sid) if secret else None
        if reach is None or not reach.account_secrets:
            wanted.pop(("account", Store.SECRET), None)
        for (scope, kind), keys in wanted.items():
            of = Owner(account_sid) if scope == "account" else owner
            for key, stored in (await store.find_values(self._db, of, kind, sorted(keys))).items():
                values[(of.sid, kind.value, key)] = self._open(stored, of, key)
        if reach is not None:
            await self._note_fetch(owner, reach, [sid for sid, kind, _ in values if kind == Store.SECRET])
        return FetchAnswer(rules.answer(items, owner, values))

    async def _note_fetch(self, owner: Owner, reach: Reach, of: Sequence[str]) -> None:
        """Append the event of a device's first fetch of Secrets on a day; ``of`` has the owner of each of them."""
        now, device_sid = self._clock.now(), owner.device_sid
        day = now // _DAY_MS
        if not of or device_sid is None or day <= reach.day_secrets_fetched:
            return
        account = sum(sid == owner.account_sid for sid in of)
        data: dict[str, str | int | None] = {"account_secrets": account, "device_secrets": len(of) - account}

        async def body(tx: Tx) -> None:
            if await store.note_fetch(tx, owner.account_sid, device_sid, day):
                await events.append_of_device(tx, owner.account_sid, device_sid, "secret.fetched", data, now)

        await self._db.write(body)

    async def reseal(self, batch: int = 100) -> int:
        """Seal anew, in chunks, every secret that an older key sealed; return how many."""
        done = 0
        after = ("", "")
        while rows := await store.sealed_page(self._db, after, batch):
            stale = [(row, self._reseal(row)) for row in rows if key_id_of(row.sealed) != self._seal.active_id]
            if stale:
                done += await self._db.write(_resealing(stale))
            after = (rows[-1].owner_sid, rows[-1].key)
        return done

    def _reseal(self, row: SealedRow) -> bytes:
        context = rules.context(row.account_sid, row.owner_sid, row.key)
        return self._seal.seal(self._seal.unseal(row.sealed, context), context)

    def _stored(self, owner: Owner, kind: Store, key: str, value: str) -> Stored:
        check_value(value, self._limits.config_value_chars_max)
        if kind is Store.CONFIG:
            return Stored(value, None)
        return Stored(None, self._seal.seal(value.encode(), rules.context(owner.account_sid, owner.sid, key)))

    def _open(self, stored: Stored, owner: Owner, key: str) -> str | None:
        if stored.sealed is None:
            return stored.value
        try:
            return self._seal.unseal(stored.sealed, rules.context(owner.account_sid, owner.sid, key)).decode()
        except SealFault as error:
            _log.error("secret.unopened", owner_sid=owner.sid, key=key, reason=str(error))
            return None


def _resealing(stale: Sequence[tuple[SealedRow, bytes]]) -> Body[int]:
    async def body(tx: Tx) -> int:
        return sum([await store.reseal(tx, row, fresh) for row, fresh in stale])

    return body


def _missing(kind: Store) -> NotFound:
    return NotFound(f"No {kind.value} has this Key.")


async def _note(tx: Tx, owner: Owner, event: str, key: str, now: Millis) -> None:
    await events.append(
        tx,
        account_sid=owner.account_sid,
        type=event,
        subject_sid=owner.sid,
        device_sid=owner.device_sid,
        data={"key": key},
        now=now,
    )
