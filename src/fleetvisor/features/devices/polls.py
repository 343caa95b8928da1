"""What each DDI device is offered, kept in memory as the bytes of its poll's answer.

The twin of ``desired``: an answer is read once, and then served from memory until the device's bell rings. Deliberately
no HTTP: ``channel/ddi`` speaks it. An answer names the URL by which the device was polled, so it is found by its SID
and kept with that path.
"""

from hashlib import sha256
from typing import Final

import msgspec

from fleetvisor.bus.bus import Bus
from fleetvisor.bus.kept import Kept
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.updates import targets
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.errors import Unauthenticated
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import DDI_ANSWERS
from fleetvisor.protocol.ddi import Poll, render_poll

_SELECT: Final = """
SELECT d.poll_interval_s, a.asks, a.date_attributes, a.wants_attributes,
    u.number, u.app_sid, u.cancel_requested, u.mode, u.confirmation,
    n.app_sid AS installed_sid, i.number AS installed
FROM devices d
JOIN assignments a ON a.device_sid = d.device_sid
LEFT JOIN updates u ON u.device_sid = d.device_sid AND u.number = a.last_number AND u.open_app_sid IS NOT NULL
LEFT JOIN updates i ON i.device_sid = d.device_sid AND i.number = a.installed_number
LEFT JOIN apps n ON n.app_sid = i.app_sid AND n.account_sid = d.account_sid
WHERE d.device_sid = :device_sid AND d.account_sid = :account_sid AND d.access = 'active'"""


class _Row(msgspec.Struct, frozen=True):
    poll_interval_s: int | None
    asks: bool
    date_attributes: Millis | None
    wants_attributes: bool
    number: int | None
    app_sid: str | None
    cancel_requested: bool | None
    mode: str | None
    confirmation: str | None
    installed_sid: str | None
    installed: int | None


class PollAnswer(msgspec.Struct, frozen=True):
    """The answer for one device under one path: its entity tag (with quotes) and its body."""

    path: bytes
    etag: bytes
    body: bytes


class Polls:
    """Answers by device, bounded, dropped when the device's bell rings."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits, bus: Bus) -> None:
        """Keep what the answers are made of, and listen to the bells."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._answers: Kept[str, PollAnswer] = Kept(
            bus, DDI_ANSWERS, size_of=lambda answer: len(answer.body) + len(answer.path)
        )

    def find(self, device_sid: str, path: bytes) -> PollAnswer | None:
        """Return the answer from memory; ``None`` when it is not there, of another path, or not to be trusted now."""
        answer = self._answers.find(device_sid)
        return answer if answer is not None and answer.path == path else None

    async def get(self, identity: DeviceIdentity, path: bytes, base: str) -> PollAnswer:
        """Read the answer, with links under ``base``. Raises ``Unauthenticated`` for a device that is gone."""

        async def fetch() -> PollAnswer:
            row = await self._read(identity)
            body = render_poll(base, self._poll(row), _tag(row))
            return PollAnswer(path, b'"' + sha256(body).hexdigest()[:32].encode() + b'"', body)

        return await self._answers.read(identity.device_sid, fetch)

    async def _read(self, identity: DeviceIdentity) -> _Row:
        keys = {"device_sid": identity.device_sid, "account_sid": identity.account_sid}
        row = await self._db.one(_Row, _SELECT, keys)
        if row is None:
            raise Unauthenticated("The Device was removed or disabled.")
        if not row.asks:
            now = self._clock.now()

            async def body(tx: Tx) -> None:
                await targets.speak(tx, identity.account_sid, identity.device_sid, now, asks=True)

            await self._db.write(body)
        return row

    def _poll(self, row: _Row) -> Poll:
        canceling = row.number is not None and bool(row.cancel_requested)
        waiting = row.number is not None and not canceling and row.confirmation == "waiting"
        return Poll(
            interval_s=row.poll_interval_s or self._limits.poll_interval_s,
            deploy=None if canceling or waiting else row.number,
            cancel=row.number if canceling else None,
            confirm=row.number if waiting else None,
            installed=row.installed if row.number is None and row.installed_sid is not None else None,
            wants_data=row.date_attributes is None or row.wants_attributes,
        )


def _tag(row: _Row) -> str:
    """Return a short text that changes with what is offered: some clients compare the link, not what it leads to."""
    return sha256(f"{row.app_sid} {row.mode}".encode()).hexdigest()[:8]
