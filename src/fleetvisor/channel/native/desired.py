"""What each native device should do, kept in memory as the bytes of its answer.

An offer is read once, rendered, and then served from memory until the device's bell rings, so that a poll with nothing
new costs no read. An answer read while the device's bell rang is used but not kept, because it may be older than the
change that rang.
"""

from hashlib import sha256

import msgspec

from fleetvisor.bus.bus import Bus
from fleetvisor.bus.kept import Kept
from fleetvisor.features.apps.service import Apps
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.devices.offers import Offer, Offers
from fleetvisor.ground.clock import Clock, Millis, iso_or_none
from fleetvisor.ground.memory import DEVICE_ANSWERS
from fleetvisor.ground.sids import AccountSid
from fleetvisor.protocol.lifecycle import DeviceProtocol
from fleetvisor.protocol.native import Desired, DesiredApp, DesiredLayer, DesiredLogging, Policy


class DesiredAnswer(msgspec.Struct, frozen=True):
    """The answer for one device: its entity tag (with quotes), its body, and when it stops being true.

    ``update`` is the number of the open update that the body offers, for the clock that its first fetch starts.
    """

    etag: bytes
    body: bytes
    deadline: Millis | None
    update: int | None


class DesiredAnswers:
    """Answers by device, bounded, dropped when the device's bell rings."""

    def __init__(self, *, offers: Offers, apps: Apps, clock: Clock, bus: Bus) -> None:
        """Keep what the answers are made of, and listen to the bells."""
        self._offers = offers
        self._apps = apps
        self._clock = clock
        self._answers: Kept[str, DesiredAnswer] = Kept(bus, DEVICE_ANSWERS, size_of=lambda answer: len(answer.body))

    def find(self, device_sid: str) -> DesiredAnswer | None:
        """Return the answer from memory; ``None`` when it is not there, over, or not to be trusted now."""
        answer = self._answers.find(device_sid)
        if answer is None or (answer.deadline is not None and answer.deadline <= self._clock.now()):
            return None
        return answer

    async def get(self, identity: DeviceIdentity) -> DesiredAnswer:
        """Return the answer, from memory or the database: to a device that waits, that there is nothing to do.

        Raises ``Unauthenticated`` for a device that is gone.
        """
        answer = self.find(identity.device_sid)
        if answer is not None:
            return answer
        return await self._answers.read(identity.device_sid, lambda: self._read(identity))

    async def _read(self, identity: DeviceIdentity) -> DesiredAnswer:
        offer = await self._offers.get(identity, DeviceProtocol.NATIVE)
        layers = await self._layers(identity.account_sid, offer)
        number = _number(offer)
        body = msgspec.json.encode(desired_of(offer, layers))
        etag = b'"' + sha256(body).hexdigest()[:32].encode() + b'"'
        return DesiredAnswer(etag, body, offer.logging_until, number)

    async def _layers(self, account_sid: AccountSid, offer: Offer) -> tuple[DesiredLayer, ...]:
        if offer.target is None:
            return ()
        return tuple(
            DesiredLayer(
                sha256=layer.digest,
                size_bytes=layer.size_bytes,
                measurement=layer.measurement,
                region=layer.region,
                region_start=layer.region_start,
                region_size=layer.region_size,
            )
            for layer in await self._apps.layers(account_sid, offer.target.app_sid)
        )


def desired_of(offer: Offer, layers: tuple[DesiredLayer, ...]) -> Desired:
    """Return what a device should do. ``layers`` are its target's; none: the target went while this was read."""
    app = None
    if offer.target is not None and layers:
        manifest = None if layers[0].region is None else offer.target.manifest_hash
        app = DesiredApp(offer.target.app_sid, manifest, _number(offer), layers, offer.target.security_counter)
    return Desired(
        app=app,
        logging=DesiredLogging(enabled=offer.logging_until is not None, until=iso_or_none(offer.logging_until)),
        restart=offer.restart_count,
        poll_interval_s=offer.poll_interval_s,
        policy=Policy(offer.politeness_s, offer.connection_grace_s, offer.check_in_s),
    )


def _number(offer: Offer) -> int | None:
    """Return the number of the open update, if it is one to the target."""
    update, target = offer.update, offer.target
    return update.number if update is not None and target is not None and update.app_sid == target.app_sid else None
