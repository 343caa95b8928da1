"""A device's credentials: listed, added, replaced with an overlap, removed; and keys that are refused, freed.

Deliberately proves nothing: ``proofs`` does. A key that was a device's stays refused until an operator frees it, also
when the device is gone. Bells ring after the commit, so that a removed credential ends with the next request.
"""

from typing import Final

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx, UniqueViolated
from fleetvisor.features.devices import credentials as rows
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.events import store as events
from fleetvisor.features.identity.model import Credential, NewCredential
from fleetvisor.ground.clock import Clock, Entropy, Millis, later
from fleetvisor.ground.errors import Conflict, Invalid, NotFound
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import Page, PageRequest, page_of
from fleetvisor.ground.sids import AccountSid
from fleetvisor.pki.identity import new_token, token_hash
from fleetvisor.protocol import jws

_MISSING: Final = "This Device has no credential with this fingerprint."


class Credentials:
    """The verbs on credentials. A device is given as its resolved identity."""

    def __init__(self, *, db: Database, clock: Clock, entropy: Entropy, limits: Limits, bus: Bus) -> None:
        """Keep what the verbs need."""
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._limits = limits
        self._bus = bus

    async def list(self, device: DeviceIdentity) -> list[Credential]:
        """Return what proves a device, tokens first, the oldest first."""
        return await _read(self._db, device, self._clock.now())

    async def add_token(self, device: DeviceIdentity, overlap_s: int) -> NewCredential:
        """Make a new token, shown this once; the older ones end after ``overlap_s`` (0: now).

        Raises ``Invalid``, ``Conflict`` (too many).
        """
        if not 0 <= overlap_s <= self._limits.token_overlap_s_max:
            raise Invalid(f"Overlap must be from 0 to {self._limits.token_overlap_s_max} seconds.")
        token, now = new_token(self._entropy, rows.TOKEN_PREFIX), self._clock.now()
        hashed = token_hash(token)

        async def body(tx: Tx) -> None:
            await rows.retire_tokens(tx, device.device_sid, later(now, overlap_s), now)
            await self._check_room(tx, device, now)
            await rows.insert_token(tx, device.device_sid, hashed, now)
            await rows.set_own(tx, device.account_sid, device.device_sid)
            await _note(tx, device, "credential_added", hashed.hex(), now)

        await self._db.write(body)
        self._bus.ring((device.device_sid,))
        return NewCredential(Credential("token", hashed.hex(), now, None), token)

    async def add_key(self, device: DeviceIdentity, public_key: str) -> NewCredential:
        """Let a public key prove a device. Raises ``Invalid``, ``Conflict`` (too many; it is or was somebody's)."""
        point, now = jws.parse_public_key(public_key), self._clock.now()
        fingerprint = jws.fingerprint(point)

        async def body(tx: Tx) -> None:
            await self._check_room(tx, device, now)
            await rows.insert_key(tx, device, fingerprint, point, now)
            await rows.set_own(tx, device.account_sid, device.device_sid)
            await _note(tx, device, "credential_added", fingerprint, now)

        try:
            await self._db.write(body)
        except UniqueViolated as error:
            raise Conflict(
                "This key belongs or belonged to a Device. First remove it from that Device, or free it."
            ) from error
        self._bus.ring((device.device_sid,))
        return NewCredential(Credential("key", fingerprint, now, None), None)

    async def remove(self, device: DeviceIdentity, fingerprint: str) -> None:
        """Remove a credential: it proves nothing from the next request on. Raises ``NotFound``."""
        now = self._clock.now()
        try:
            hashed = bytes.fromhex(fingerprint)
        except ValueError:
            raise NotFound(_MISSING) from None

        async def body(tx: Tx) -> None:
            removed = await rows.delete_token(tx, device.device_sid, hashed)
            if not removed and not await rows.refuse_key(tx, device, hashed.hex()):
                raise NotFound(_MISSING)
            await _note(tx, device, "credential_removed", hashed.hex(), now)

        await self._db.write(body)
        self._bus.ring((device.device_sid,))

    async def list_refused(self, account_sid: AccountSid, page: PageRequest) -> Page[rows.RefusedKey]:
        """Return a page of the account's refused keys, newest first."""
        cursor = page.cursor
        key = None if cursor is None else (int(cursor.key[0]), str(cursor.key[1]))
        newer = cursor is not None and not cursor.forward
        found = await rows.page_refused(self._db, account_sid, key=key, limit=page.size + 1, newer=newer)
        return page_of(found, page, lambda row: (row.date_created, row.fingerprint))

    async def free(self, account_sid: AccountSid, fingerprint: str) -> None:
        """Forget a refused key, which may enrol again. Raises ``NotFound``."""
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            if not await rows.free_key(tx, account_sid, fingerprint.lower()):
                raise NotFound("This account has no refused key with this fingerprint.")
            await events.append(
                tx, account_sid=account_sid, type="key.freed", subject_sid=account_sid,
                data={"fingerprint": fingerprint.lower()}, now=now,
            )  # fmt: skip

        await self._db.write(body)

    async def _check_room(self, tx: Tx, device: DeviceIdentity, now: Millis) -> None:
        if len(await _read(tx, device, now)) >= self._limits.credentials_max:
            raise Conflict(f"The Device has {self._limits.credentials_max} credentials, which is the maximum.")


async def _read(source: Tx | Database, device: DeviceIdentity, now: Millis) -> list[Credential]:
    tokens = await rows.tokens_of(source, device.device_sid, now)
    keys = await rows.keys_of(source, device)
    return [
        *(Credential("token", row.token_hash.hex(), row.date_created, row.date_expires) for row in tokens),
        *(Credential("key", row.key_hash, row.date_created, None) for row in keys),
    ]


async def _note(tx: Tx, device: DeviceIdentity, what: str, fingerprint: str, now: Millis) -> None:
    await events.append_of_device(
        tx, device.account_sid, device.device_sid, f"device.{what}", {"fingerprint": fingerprint}, now
    )
