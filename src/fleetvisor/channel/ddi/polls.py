"""What each DDI device is offered, kept in memory as the bytes of its poll's answer.

An offer is read once, rendered, and then served from memory until the device's bell rings. An answer names the URL by
which the device was polled, so it is found by its SID and kept with that path.
"""

from hashlib import sha256

import msgspec

from fleetvisor.bus.bus import Bus
from fleetvisor.bus.kept import Kept
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.devices.offers import Offer, Offers
from fleetvisor.ground.memory import DEVICE_ANSWERS
from fleetvisor.protocol.ddi import Poll, render_poll
from fleetvisor.protocol.lifecycle import DeviceProtocol


class PollAnswer(msgspec.Struct, frozen=True):
    """The answer for one device under one path: its entity tag (with quotes) and its body."""

    path: bytes
    etag: bytes
    body: bytes


class Polls:
    """Answers by device, bounded, dropped when the device's bell rings."""

    def __init__(self, *, offers: Offers, bus: Bus) -> None:
        """Keep what the answers are made of, and listen to the bells."""
        self._offers = offers
        self._answers: Kept[str, PollAnswer] = Kept(
            bus, DEVICE_ANSWERS, size_of=lambda answer: len(answer.body) + len(answer.path)
        )

    def find(self, device_sid: str, path: bytes) -> PollAnswer | None:
        """Return the answer from memory; ``None`` when it is not there, of another path, or not to be trusted now."""
        answer = self._answers.find(device_sid)
        return answer if answer is not None and answer.path == path else None

    async def get(self, identity: DeviceIdentity, path: bytes, base: str) -> PollAnswer:
        """Read the answer, with links under ``base``. Raises ``Unauthenticated`` for a device that is gone."""

        async def fetch() -> PollAnswer:
            offer = await self._offers.get(identity, DeviceProtocol.DDI)
            body = render_poll(base, poll_of(offer), _tag(offer))
            return PollAnswer(path, b'"' + sha256(body).hexdigest()[:32].encode() + b'"', body)

        return await self._answers.read(identity.device_sid, fetch)


def poll_of(offer: Offer) -> Poll:
    """Return which links a poll has: of an open update one, of the last installed one only where none is open."""
    update = offer.update
    if update is None:
        return Poll(offer.poll_interval_s, installed=offer.installed, wants_data=offer.wants_attributes)
    waiting = update.waits_for_consent and not update.cancel_requested
    return Poll(
        offer.poll_interval_s,
        deploy=None if update.cancel_requested or waiting else update.number,
        cancel=update.number if update.cancel_requested else None,
        confirm=update.number if waiting else None,
        wants_data=offer.wants_attributes,
    )


def _tag(offer: Offer) -> str:
    """Return a short text that changes with what is offered: some clients compare the link, not what it leads to."""
    app_sid, mode = (None, None) if offer.update is None else (offer.update.app_sid, offer.update.mode)
    return sha256(f"{app_sid} {mode}".encode()).hexdigest()[:8]
