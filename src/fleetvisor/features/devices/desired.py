"""What each device should do, kept in memory as the bytes of its answer.

An answer is read from the database once and then served from memory until the device's bell rings, so that a
poll with nothing new costs no read. Deliberately no HTTP: ``channel/native`` speaks it. An answer read while
the device's bell rang is used but not kept, because it may be older than the change that rang.
"""

from hashlib import sha256
from typing import Final

import msgspec

from fleetvisor.bus.bus import Bus
from fleetvisor.bus.kept import Kept
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.apps.service import Apps
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.logs import rules as logs_rules
from fleetvisor.features.updates import targets
from fleetvisor.ground.clock import Clock, Millis, iso_or_none
from fleetvisor.ground.errors import Unauthenticated
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import DESIRED_ANSWERS
from fleetvisor.ground.sids import AccountSid, AppSid
from fleetvisor.protocol.native import Desired, DesiredApp, DesiredLayer, DesiredLogging, Policy

_SELECT: Final = """
SELECT d.access, d.restart_count, d.poll_interval_s, a.asks, l.date_expires, a.target_sid, a.target_hash, u.number,
    r.politeness_s, r.connection_grace_s, r.check_in_s, t.security_counter
FROM devices d
JOIN assignments a ON a.device_sid = d.device_sid
LEFT JOIN device_logging l ON l.device_sid = d.device_sid
LEFT JOIN updates u ON u.device_sid = d.device_sid AND u.number = a.last_number AND u.open_app_sid = a.target_sid
LEFT JOIN apps r ON r.app_sid = a.reported_sid AND r.account_sid = d.account_sid
LEFT JOIN apps t ON t.app_sid = a.target_sid
WHERE d.device_sid = :device_sid AND d.account_sid = :account_sid AND d.access <> 'disabled'"""


class _Row(msgspec.Struct, frozen=True):
    access: str
    restart_count: int
    poll_interval_s: int | None
    asks: bool
    date_expires: Millis | None
    target_sid: AppSid | None
    target_hash: str | None
    number: int | None
    politeness_s: int | None
    connection_grace_s: int | None
    check_in_s: int | None
    security_counter: int | None


class DesiredAnswer(msgspec.Struct, frozen=True):
    """The answer for one device: its entity tag (with quotes), its body, and when it stops being true.

    ``update`` is the number of the open update that the body offers, for the clock that its first fetch starts.
    """

    etag: bytes
    body: bytes
    deadline: Millis | None
    update: int | None


class DesiredCache:
    """Answers by device, bounded, dropped when the device's bell rings."""

    def __init__(self, *, db: Database, apps: Apps, clock: Clock, limits: Limits, bus: Bus) -> None:
        """Keep what the answers are made of, and listen to the bells."""
        self._db = db
        self._apps = apps
        self._clock = clock
        self._limits = limits
        self._bus = bus
        self._answers: Kept[str, DesiredAnswer] = Kept(bus, DESIRED_ANSWERS, size_of=lambda answer: len(answer.body))

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
        keys = {"device_sid": identity.device_sid, "account_sid": identity.account_sid}
        row = await self._db.one(_Row, _SELECT, keys)
        now = self._clock.now()
        if row is not None and row.asks:
            await self._speaks_here(identity, now)
            row = await self._db.one(_Row, _SELECT, keys)
        if row is None:
            raise Unauthenticated("The Device was removed or disabled.")
        if row.access == "waiting":
            row = _Row("waiting", 0, row.poll_interval_s, False, *[None] * 8)
        expires = logs_rules.judge(row.date_expires, now)
        desired = Desired(
            app=await self._app(identity.account_sid, row),
            logging=DesiredLogging(enabled=expires is not None, until=iso_or_none(expires)),
            restart=row.restart_count,
            poll_interval_s=row.poll_interval_s or self._limits.poll_interval_s,
            policy=Policy(row.politeness_s or 0, row.connection_grace_s or 0, row.check_in_s or 0),
        )
        body = msgspec.json.encode(desired)
        etag = b'"' + sha256(body).hexdigest()[:32].encode() + b'"'
        return DesiredAnswer(etag, body, expires, row.number)

    async def _speaks_here(self, identity: DeviceIdentity, now: Millis) -> None:
        """Note that a device of another protocol speaks this one now, in which nobody is asked."""

        async def body(tx: Tx) -> None:
            await targets.speak(tx, identity.account_sid, identity.device_sid, now, asks=False)

        await self._db.write(body)
        self._bus.ring((identity.device_sid,))

    async def _app(self, account_sid: AccountSid, row: _Row) -> DesiredApp | None:
        if row.target_sid is None or row.target_hash is None:
            return None
        layers = tuple(
            DesiredLayer(
                sha256=layer.digest,
                size_bytes=layer.size_bytes,
                measurement=layer.measurement,
                region=layer.region,
                region_start=layer.region_start,
                region_size=layer.region_size,
            )
            for layer in await self._apps.layers(account_sid, row.target_sid)
        )
        if not layers:  # the app went between the two reads: its target was cleared, so there is none
            return None
        manifest = None if layers[0].region is None else row.target_hash
        return DesiredApp(row.target_sid, manifest, row.number, layers, row.security_counter)
