"""Enrolment: a token lets a bounded number of new devices in, each by its own public key and proof that it has it.

The proof is judged before anything is looked up. Uses are counted by one compare-and-set in the transaction that makes
the device, so that no interleaving lets in one too many. The same key enrols once: a repeat, as after a lost answer,
gets the same SID and uses nothing. A key that proves a device of another account moves that device: its SID stays,
all else that it had is removed. Spec: ``docs/reference/device-api.md``, Enrolment.
"""

from typing import Final, NamedTuple

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.accounts import store as accounts_store
from fleetvisor.features.configs import store as configs_store
from fleetvisor.features.devices import credentials as rows
from fleetvisor.features.devices import labels as label_rules
from fleetvisor.features.devices import store as devices_store
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.events import store as events
from fleetvisor.features.identity import store
from fleetvisor.features.identity.model import Enrolled, EnrollmentToken, Grant, NewEnrollmentToken
from fleetvisor.features.identity.refusals import Refusals, place_of
from fleetvisor.features.updates import numbers, rollout_devices
from fleetvisor.features.updates import store as updates_store
from fleetvisor.ground.clock import Clock, Entropy, Millis, is_over, later
from fleetvisor.ground.errors import AccessDenied, Conflict, Invalid, NotFound, Unauthenticated
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.names import check_label
from fleetvisor.ground.pages import Page, PageRequest, page_of
from fleetvisor.ground.sids import (
    AccountSid,
    DeviceSid,
    EnrollmentTokenSid,
    is_sid,
    new_device_sid,
    new_enrollment_token_sid,
    normalize,
)
from fleetvisor.pki.identity import new_token, same, token_hash
from fleetvisor.protocol import jws

TOKEN_PREFIX: Final = "fve_"
_SID_CHARS: Final = 32
_NAME_CHARS_MAX: Final = 64
_UNKNOWN: Final = "The enrolment token is unknown."
_OVER: Final = "The enrolment token is used up, expired or revoked. Use another one."
_NO_HASH: Final = bytes(32)


class _Asked(NamedTuple):
    """An enrolment whose proof holds."""

    token_sid: str
    secret_hash: bytes
    point: bytes
    fingerprint: str


class Enrollment:
    """The verbs on enrolment tokens, and enrolment itself."""

    def __init__(
        self, *, db: Database, clock: Clock, entropy: Entropy, limits: Limits, bus: Bus, audiences: tuple[str, ...]
    ) -> None:
        """Keep what the verbs need; a proof must be for one of ``audiences``."""
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._limits = limits
        self._bus = bus
        self._audiences = audiences
        self._refusals = Refusals(clock=clock, limits=limits)

    async def create(self, account_sid: AccountSid, grant: Grant) -> NewEnrollmentToken:
        """Make an enrolment token; its text is shown this once. Raises ``Invalid``, ``Conflict`` (too many)."""
        labels = self._check(grant)
        now = self._clock.now()
        token = EnrollmentToken(
            token_sid=new_enrollment_token_sid(self._entropy),
            account_sid=account_sid,
            friendly_name=grant.friendly_name,
            uses=0,
            uses_max=grant.uses_max,
            date_expires=later(now, grant.ttl_s) if grant.ttl_s else None,
            hardware_class=grant.hardware_class,
            labels=label_rules.encode(labels),
            revoked=False,
            date_created=now,
            account_secrets=grant.account_secrets,
            waits=grant.waits,
        )
        secret = new_token(self._entropy)

        async def body(tx: Tx) -> None:
            if await store.count_grants(tx, account_sid) >= self._limits.enrollment_tokens_max:
                raise Conflict(
                    f"The account has {self._limits.enrollment_tokens_max} enrolment tokens, which is the"
                    " maximum. Remove some."
                )
            await store.insert_grant(tx, token, token_hash(secret))
            await self._note(tx, token.account_sid, token.token_sid, "created", now)

        await self._db.write(body)
        return NewEnrollmentToken(token, f"{TOKEN_PREFIX}{token.token_sid[2:]}_{secret}")

    async def get(self, account_sid: AccountSid, token_sid: str) -> EnrollmentToken:
        """Return an enrolment token. Raises ``NotFound``."""
        found = await store.find_grant(self._db, account_sid, EnrollmentTokenSid(normalize(token_sid)))
        if found is None:
            raise _missing()
        return found

    async def list(self, account_sid: AccountSid, page: PageRequest) -> Page[EnrollmentToken]:
        """Return a page of the account's enrolment tokens, newest first."""
        cursor = page.cursor
        key = None if cursor is None else (int(cursor.key[0]), str(cursor.key[1]))
        newer = cursor is not None and not cursor.forward
        rows = await store.page_grants(self._db, account_sid, key=key, limit=page.size + 1, newer=newer)
        return page_of(rows, page, lambda token: (token.date_created, token.token_sid))

    async def revoke(self, account_sid: AccountSid, token_sid: str) -> EnrollmentToken:
        """Let nobody in with a token any more; the devices that it let in stay. Raises ``NotFound``."""
        now = self._clock.now()

        async def body(tx: Tx) -> EnrollmentToken:
            if not await store.revoke_grant(tx, account_sid, EnrollmentTokenSid(normalize(token_sid))):
                raise _missing()
            await self._note(tx, account_sid, EnrollmentTokenSid(normalize(token_sid)), "revoked", now)
            found = await store.find_grant(tx, account_sid, EnrollmentTokenSid(normalize(token_sid)))
            if found is None:
                raise _missing()
            return found

        return await self._db.write(body)

    async def delete(self, account_sid: AccountSid, token_sid: str) -> None:
        """Remove a token. Raises ``NotFound``."""
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            if not await store.delete_grant(tx, account_sid, EnrollmentTokenSid(normalize(token_sid))):
                raise _missing()
            await self._note(tx, account_sid, EnrollmentTokenSid(normalize(token_sid)), "deleted", now)

        await self._db.write(body)

    async def enroll(self, token: str, public_key: str, proof: str) -> Enrolled:
        """Let a device in, or give the SID that its key has already.

        Raises ``Invalid`` (no P-256 key), ``Unauthenticated`` (token or proof), ``ClockSkew``, ``AccessDenied`` (the
        token is used up, over or revoked; the key is refused) and ``Conflict`` (the account is full).
        """
        place = place_of(token, public_key, proof)
        try:
            self._refusals.check(place)
            asked = self._judge(token, public_key, proof)
            return await self._look_up(asked) or await self._enroll(asked)
        except (Unauthenticated, AccessDenied) as error:
            if isinstance(error, Unauthenticated):
                error.identity = "ET" + token.removeprefix(TOKEN_PREFIX)[:_SID_CHARS]
            if isinstance(error, Unauthenticated) or error.detail == _OVER:
                self._refusals.note(place, error)
            raise

    async def _look_up(self, asked: _Asked) -> Enrolled | None:
        """Judge an enrolment by what is committed, without a transaction that writes; ``None``: it may let a device in.

        Raises as ``enroll`` does. What it finds good is judged again in the transaction that makes the device.
        """
        secret = await store.find_secret(self._db, asked.token_sid)
        account_sid, known = await _known(self._db, secret, asked)
        if known is None:
            grant = await store.find_grant(self._db, account_sid, asked.token_sid)
            if grant is None or not is_open(grant, self._clock.now()):
                raise AccessDenied(_OVER)
        return known

    async def _enroll(self, asked: _Asked) -> Enrolled:
        device_sid, now = new_device_sid(self._entropy), self._clock.now()

        async def body(tx: Tx) -> Enrolled:
            secret = await store.find_secret(tx, asked.token_sid)
            account_sid, known = await _known(tx, secret, asked)
            if known is not None:
                return known
            if not await store.use_grant(tx, account_sid, asked.token_sid, now):
                raise AccessDenied(_OVER)
            before = await rows.find_elsewhere(tx, account_sid, asked.fingerprint)
            if before is not None:
                await _leave(tx, before, asked.fingerprint, now)
            sid = device_sid if before is None else before.device_sid
            await self._give_birth(tx, account_sid, sid, asked, now)
            if before is not None:
                await _note_moved(tx, DeviceIdentity(sid, account_sid), asked.fingerprint, now)
            return Enrolled(sid, new=True)

        enrolled = await self._db.write(body)
        self._bus.ring((enrolled.device_sid,))
        return enrolled

    def _judge(self, token: str, public_key: str, proof: str) -> _Asked:
        """Read what a device sent, and prove that it holds its key."""
        point = jws.parse_public_key(public_key)
        digits, underscore, secret = token.removeprefix(TOKEN_PREFIX).partition("_")
        if not token.startswith(TOKEN_PREFIX) or not underscore or not is_sid("ET" + digits, "ET"):
            raise Unauthenticated(_UNKNOWN)
        token_sid = "ET" + digits.lower()
        parsed = jws.parse(proof)
        if parsed.claims.sub is None or parsed.claims.sub.lower() != token_sid.lower():
            raise Unauthenticated("The proof's sub must be the enrolment token's SID: ET and its first 32 digits.")
        jws.check_audience(parsed.claims, self._audiences)
        jws.check_issued(parsed.claims, self._clock.now())
        if not jws.is_signed_by(parsed, (point,)):
            raise Unauthenticated("The private key of this public key did not sign the proof.")
        return _Asked(token_sid, token_hash(secret), point, jws.fingerprint(point))

    async def _give_birth(
        self, tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, asked: _Asked, now: Millis
    ) -> None:
        grant = await store.find_grant(tx, account_sid, asked.token_sid)
        if grant is None or not await accounts_store.count_devices_up(
            tx, account_sid, self._limits.devices_per_account_max
        ):
            raise Conflict(f"The account has {self._limits.devices_per_account_max} Devices, which is the maximum.")
        if grant.waits and await store.count_waiting(tx, account_sid) >= self._limits.waiting_devices_max:
            most = self._limits.waiting_devices_max
            raise AccessDenied(f"{most} Devices already wait to be accepted. An operator must accept or remove some.")
        await devices_store.insert(tx, account_sid, device_sid, None, now, account_secrets=grant.account_secrets)
        if grant.waits:
            await devices_store.set_waiting(tx, account_sid, device_sid, by_gateway=False)
        await devices_store.set_class(tx, account_sid, device_sid, grant.hardware_class)
        await label_rules.store(tx, account_sid, device_sid, label_rules.decode(grant.labels))
        await rows.insert_key(tx, DeviceIdentity(device_sid, account_sid), asked.fingerprint, asked.point, now)
        await updates_store.insert_assignment(tx, account_sid, device_sid)
        await events.append_of_device(
            tx,
            account_sid,
            device_sid,
            "device.waiting" if grant.waits else "device.created",
            {"enrollment_token_sid": asked.token_sid, "fingerprint": asked.fingerprint},
            now,
        )

    def _check(self, grant: Grant) -> dict[str, str]:
        if len(grant.friendly_name) > _NAME_CHARS_MAX or not (grant.friendly_name or "x").isprintable():
            raise Invalid(f"FriendlyName must have at most {_NAME_CHARS_MAX} printable characters.")
        if not 1 <= grant.uses_max <= self._limits.devices_per_account_max:
            raise Invalid(f"MaxUses must be from 1 to {self._limits.devices_per_account_max}.")
        if not 0 <= grant.ttl_s <= self._limits.enrollment_ttl_s_max:
            raise Invalid(f"Ttl must be from 0 (no end) to {self._limits.enrollment_ttl_s_max} seconds.")
        if grant.hardware_class is not None:
            check_label("HardwareClass", grant.hardware_class, self._limits.label_chars_max)
        return label_rules.merged({}, label_rules.parse(grant.labels, self._limits), self._limits)

    @staticmethod
    async def _note(tx: Tx, account_sid: AccountSid, token_sid: str, what: str, now: Millis) -> None:
        await events.append(
            tx, account_sid=account_sid, type=f"enrollment_token.{what}", subject_sid=token_sid, now=now
        )


async def _known(
    source: Tx | Database, secret: store.Secret | None, asked: _Asked
) -> tuple[AccountSid, Enrolled | None]:
    """Return the token's account, and the device that the key is there already; ``None`` for a key that is nobody's.

    Raises ``Unauthenticated`` for a token that is not known, ``AccessDenied`` for a key that is refused.
    """
    known = secret.secret_hash if secret else _NO_HASH
    if not same(known, asked.secret_hash) or secret is None:
        raise Unauthenticated(_UNKNOWN)
    owner = await rows.find_key(source, secret.account_sid, asked.fingerprint)
    if owner is None:
        return secret.account_sid, None
    if owner.refused or owner.access not in {"active", "waiting"}:
        raise AccessDenied("This key belongs to a disabled or removed Device. An operator must free the key first.")
    return secret.account_sid, Enrolled(owner.device_sid, new=False)


def is_open(grant: EnrollmentToken, now: Millis) -> bool:
    """Return whether a device may enrol with a token: uses are left, and it is neither revoked nor over."""
    return grant.uses < grant.uses_max and not grant.revoked and not is_over(grant.date_expires, now)


async def _leave(tx: Tx, device: DeviceIdentity, fingerprint: str, now: Millis) -> None:
    """Remove a device from the account that it leaves, with all that it had there but its SID and the key it proved."""
    account_sid, device_sid = device.account_sid, device.device_sid
    await configs_store.delete_of_device(tx, account_sid, device_sid)
    await rows.forget_key(tx, account_sid, fingerprint)
    await rows.refuse_keys(tx, account_sid, device_sid)
    await rollout_devices.forget(tx, account_sid, device_sid)
    await numbers.retire(tx, [device_sid])
    await devices_store.delete(tx, account_sid, device_sid)
    await accounts_store.count_devices_down(tx, account_sid)
    await _note_moved(tx, device, fingerprint, now)


async def _note_moved(tx: Tx, device: DeviceIdentity, fingerprint: str, now: Millis) -> None:
    """Append the event of a move. It does not say which account the other one is."""
    await events.append_of_device(
        tx, device.account_sid, device.device_sid, "device.moved", {"fingerprint": fingerprint}, now
    )


def _missing() -> NotFound:
    return NotFound("No enrolment token of this account has this SID.")
