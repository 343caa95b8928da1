"""Which device a credential proves: its token, or a JWT that its own key signed. Answered from memory when it can be.

A JWT is verified once and kept by its SHA-256; a device's bell forgets all that proved it, so what was revoked ends
with the next request. Deliberately tells nothing by its time: what names no device is looked up and
verified all the same.
"""

from hashlib import sha256
from typing import Final, NamedTuple

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database
from fleetvisor.features.accounts.model import trust_bell
from fleetvisor.features.devices import credentials as rows
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.errors import AccessDenied, ClockSkew, Unauthenticated
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import PROVEN_DEVICES
from fleetvisor.ground.sids import DeviceSid, is_sid
from fleetvisor.pki.identity import token_hash
from fleetvisor.protocol import jws

_TOKEN_CHARS_MAX: Final = 128  # of those that we make; a longer one is known by its hash, as a signed one
_PER_DEVICE_MAX: Final = 8
_TRUST: Final = trust_bell("")

_Place = str | bytes


class _Proven(NamedTuple):
    identity: DeviceIdentity
    expires: Millis | None
    epoch: int = 0


class Proofs:
    """Proves devices."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits, bus: Bus, audiences: tuple[str, ...]) -> None:
        """Keep what proofs need, and listen to the bells; a JWT must be for one of ``audiences``."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._bus = bus
        self._audiences = audiences
        self._proven: dict[_Place, _Proven] = {}
        self._places: dict[str, list[_Place]] = {}
        self._epochs: dict[str, int] = {}  # how often each account's trust was withdrawn
        bus.listen(self._hear)

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
        known = self._proven.get(place) if self._bus.fresh else None
        if known is not None and known.epoch == self._epochs.get(known.identity.account_sid, 0):
            if known.expires is None or known.expires > self._clock.now():
                return _admitted(known.identity, waiting=waiting)
            error = _over(signed=signed)
            error.identity = known.identity.device_sid
            raise error
        with self._bus.watch() as rung:
            proven = await (self._prove_signed(token) if signed else self._prove_token(token))
        identity = proven.identity
        if rung.isdisjoint((identity.device_sid, trust_bell(identity.account_sid))):
            self._remember(place, proven._replace(epoch=self._epochs.get(identity.account_sid, 0)))
        return _admitted(proven.identity, waiting=waiting)

    async def _prove_token(self, token: str) -> _Proven:
        found = await rows.find_by_token(self._db, token_hash(token))
        if found is None:
            raise Unauthenticated("The device token is not known, or its Device is disabled.")
        if found.date_expires is not None and found.date_expires <= self._clock.now():
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
            return await self._prove_claims(parsed, DeviceSid(issuer[:2] + issuer[2:].lower()))
        except Unauthenticated as error:
            error.identity = issuer
            raise

    async def _prove_claims(self, parsed: jws.Jws, device_sid: DeviceSid) -> _Proven:
        jws.check_audience(parsed.claims, self._audiences)
        expires = jws.check_times(parsed.claims, self._clock.now())
        keys = await rows.keys_of_enabled(self._db, device_sid)
        if not jws.is_signed_by(parsed, tuple(key.point for key in keys)):
            raise Unauthenticated("The token is signed by no key of this Device, or the Device is disabled.")
        return _Proven(DeviceIdentity(device_sid, keys[0].account_sid, keys[0].access == "waiting"), expires)

    def _remember(self, place: _Place, proven: _Proven) -> None:
        if len(self._proven) >= PROVEN_DEVICES.members_max:
            self._proven.clear()
            self._places.clear()
        known = self._proven.get(place)
        self._proven[place] = proven
        places = self._places.setdefault(proven.identity.device_sid, [])
        if known is None or known.identity.device_sid != proven.identity.device_sid:
            places.append(place)
        if len(places) > _PER_DEVICE_MAX:  # a device that signs a token for each request
            self._proven.pop(places.pop(0), None)

    def _hear(self, sids: frozenset[str]) -> None:
        for sid in sids:
            if sid.startswith(_TRUST):
                account_sid = sid.removeprefix(_TRUST)
                self._epochs[account_sid] = self._epochs.get(account_sid, 0) + 1
            for place in self._places.pop(sid, ()):
                self._proven.pop(place, None)


def _admitted(identity: DeviceIdentity, *, waiting: bool) -> DeviceIdentity:
    if identity.waiting and not waiting:
        raise AccessDenied("The Device waits to be accepted: it may only poll.")
    return identity


def _over(*, signed: bool) -> Unauthenticated:
    if signed:
        return ClockSkew("The token has ended: sign a new one, by the time of this answer's Date header.")
    return Unauthenticated("The device token was replaced, and its overlap is over.")
