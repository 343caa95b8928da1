"""Which device a credential proves: its token, or a JWT that its own key signed. Answered from memory when it can be.

A JWT is verified once and kept by its SHA-256; a device's bell forgets all that proved it, so what was revoked ends
with the next request. Deliberately tells nothing by its time: what names no device is looked up and
verified all the same.
"""

from hashlib import sha256
from typing import Final, NamedTuple

from fleetvisor.bus.bus import Bus
from fleetvisor.bus.kept import Bells, Kept
from fleetvisor.db.database import Database
from fleetvisor.features.accounts.model import trust_bell
from fleetvisor.features.devices import credentials as rows
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.ground.clock import Clock, Millis, is_over
from fleetvisor.ground.errors import AccessDenied, ClockSkew, Unauthenticated
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import PROVEN_DEVICES
from fleetvisor.ground.sids import DeviceSid, is_sid, normalize
from fleetvisor.pki.identity import token_hash
from fleetvisor.protocol import jws

_TOKEN_CHARS_MAX: Final = 128  # of those that we make; a longer one is known by its hash, as a signed one
_TRUST: Final = trust_bell("")

_Place = str | bytes


class _Proven(NamedTuple):
    identity: DeviceIdentity
    expires: Millis | None


class Proofs:
    """Proves devices."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits, bus: Bus, audiences: tuple[str, ...]) -> None:
        """Keep what proofs need, and listen to the bells; a JWT must be for one of ``audiences``."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._audiences = audiences
        self._proven: Kept[_Place, _Proven] = Kept(bus, PROVEN_DEVICES, _bells_of, wide_of=_trust_of)

    async def authenticate(self, token: str, *, waiting: bool = False) -> DeviceIdentity:
        """Return the device that a device token or a JWT proves.

        ``waiting``: one that waits to be accepted is returned, too. Raises ``Unauthenticated``, ``ClockSkew``, and
        ``AccessDenied`` for a device that waits.

        Answered from memory while the bus is fresh. The database is asked by the token's SHA-256, so the time tells
        nothing about tokens that exist.
        """
        signed = "." in token
        hashed = signed or len(token) > _TOKEN_CHARS_MAX
        place = sha256(token.encode("utf-8", "surrogatepass")).digest() if hashed else token
        known = self._proven.find(place)
        if known is not None:
            if not is_over(known.expires, self._clock.now()):
                return known.identity if waiting else _admitted(known.identity)
            error = _over(signed=signed)
            error.identity = known.identity.device_sid
            raise error
        prove = self._prove_signed if signed else self._prove_token
        proven = await self._proven.read(place, lambda: prove(token))
        return proven.identity if waiting else _admitted(proven.identity)

    async def demand_admitted(self, identity: DeviceIdentity) -> None:
        """Raise ``Unauthenticated`` when a device was put out, or its account, since it was proven.

        Answered from memory as ``authenticate`` is. For answers that take long: what proved the device may have ended
        by its time meanwhile.
        """
        place = identity.device_sid.encode()  # of another length than a hash, and no text as tokens are
        if self._proven.find(place) is None:
            await self._proven.read(place, lambda: self._prove_admitted(identity))

    async def _prove_admitted(self, identity: DeviceIdentity) -> _Proven:
        if not await rows.is_admitted(self._db, identity.account_sid, identity.device_sid):
            raise Unauthenticated("The Device was disabled or removed, or its account is suspended.")
        return _Proven(identity, None)

    async def _prove_token(self, token: str) -> _Proven:
        found = await rows.find_by_token(self._db, token_hash(token))
        if found is None:
            raise Unauthenticated("The device token is unknown, or its Device is disabled.")
        if is_over(found.date_expires, self._clock.now()):
            error = _over(signed=False)
            error.identity = found.device_sid
            raise error
        return _Proven(found.identity, found.date_expires)

    async def _prove_signed(self, token: str) -> _Proven:
        parsed = jws.parse(token)
        issuer = parsed.claims.iss
        if issuer is None or not is_sid(issuer, "UV"):
            raise Unauthenticated("The token's iss must be the Device's SID.")
        try:
            return await self._prove_claims(parsed, DeviceSid(normalize(issuer)))
        except Unauthenticated as error:
            error.identity = issuer
            raise

    async def _prove_claims(self, parsed: jws.Jws, device_sid: DeviceSid) -> _Proven:
        jws.check_audience(parsed.claims, self._audiences)
        expires = jws.check_times(parsed.claims, self._clock.now())
        keys = await rows.keys_of_enabled(self._db, device_sid)
        if not jws.is_signed_by(parsed, tuple(key.point for key in keys)):
            raise Unauthenticated("No key of this Device signed the token, or the Device is disabled.")
        return _Proven(DeviceIdentity(device_sid, keys[0].account_sid, keys[0].access == "waiting"), expires)


def _bells_of(proven: _Proven) -> Bells:
    return Bells(proven.identity.device_sid, trust_bell(proven.identity.account_sid))


def _trust_of(sid: str) -> str | None:
    return sid if sid.startswith(_TRUST) else None


def _admitted(identity: DeviceIdentity) -> DeviceIdentity:
    if identity.waiting:
        raise AccessDenied("The Device waits to be accepted and can only poll.")
    return identity


def _over(*, signed: bool) -> Unauthenticated:
    if signed:
        return ClockSkew("The token has expired. Sign a new one, with the time of this answer's Date header.")
    return Unauthenticated("The device token was replaced, and its overlap has ended.")
