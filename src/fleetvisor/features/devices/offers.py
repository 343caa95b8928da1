"""What each device is offered: its target, its open update and what else it should do, in the words of no protocol.

The edge of the device's protocol renders an offer and keeps the bytes until the device's bell rings. Deliberately no
memory: an offer is read in one statement.
"""

from typing import Final

import msgspec

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.logs import rules as logs_rules
from fleetvisor.features.updates import targets
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.errors import Unauthenticated
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import AppSid
from fleetvisor.protocol.lifecycle import ASKING, DeviceProtocol, Mode

_SELECT: Final = """
SELECT d.access, d.restart_count, d.poll_interval_s, l.date_expires,
    a.protocol, a.target_sid, a.target_hash, a.date_attributes, a.wants_attributes,
    u.number, u.app_sid, u.cancel_requested, u.mode, u.confirmation,
    CASE WHEN n.app_sid IS NOT NULL THEN i.number END AS installed,
    r.politeness_s, r.connection_grace_s, r.check_in_s, t.security_counter
FROM devices d
JOIN assignments a ON a.device_sid = d.device_sid
LEFT JOIN device_logging l ON l.device_sid = d.device_sid
LEFT JOIN updates u ON u.device_sid = d.device_sid AND u.number = a.last_number AND u.open_app_sid IS NOT NULL
LEFT JOIN updates i ON i.device_sid = d.device_sid AND i.number = a.installed_number
LEFT JOIN apps n ON n.app_sid = i.app_sid AND n.account_sid = d.account_sid
LEFT JOIN apps r ON r.app_sid = a.reported_sid AND r.account_sid = d.account_sid
LEFT JOIN apps t ON t.app_sid = a.target_sid
WHERE d.device_sid = :device_sid AND d.account_sid = :account_sid AND d.access <> 'disabled'"""


class _Row(msgspec.Struct, frozen=True):
    access: str
    restart_count: int
    poll_interval_s: int | None
    date_expires: Millis | None
    protocol: DeviceProtocol
    target_sid: AppSid | None
    target_hash: str | None
    date_attributes: Millis | None
    wants_attributes: bool
    number: int | None
    app_sid: AppSid | None
    cancel_requested: bool | None
    mode: Mode | None
    confirmation: str | None
    installed: int | None
    politeness_s: int | None
    connection_grace_s: int | None
    check_in_s: int | None
    security_counter: int | None


class Target(msgspec.Struct, frozen=True):
    """The app that the device should run; ``manifest_hash`` in lower-case hex."""

    app_sid: AppSid
    manifest_hash: str
    security_counter: int | None


class OpenUpdate(msgspec.Struct, frozen=True):
    """The open update; ``app_sid`` is not the target's while a device is asked to cancel it.

    ``waits_for_consent``: somebody at the device must consent first.
    """

    number: int
    app_sid: AppSid
    mode: Mode
    cancel_requested: bool
    waits_for_consent: bool


class Offer(msgspec.Struct, frozen=True):
    """Everything that a device should do now. One that nobody accepted yet only gets its interval.

    ``logging_until``: ``None`` when logging is off or over. ``installed``: the number of the update that it closed with
    success last, if its app is still there. The last three times are what the app that it reports asks for; 0 when
    that is unknown.
    """

    poll_interval_s: int
    restart_count: int = 0
    logging_until: Millis | None = None
    target: Target | None = None
    update: OpenUpdate | None = None
    installed: int | None = None
    wants_attributes: bool = False
    politeness_s: int = 0
    connection_grace_s: int = 0
    check_in_s: int = 0


class Offers:
    """Reads offers, and notes by which protocol each device asks for its own."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits, bus: Bus) -> None:
        """Keep what offers are made of."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._bus = bus

    async def get(self, identity: DeviceIdentity, protocol: DeviceProtocol) -> Offer:
        """Read what a device is offered that polls by ``protocol``.

        Raises ``Unauthenticated`` for a device that was removed or disabled.
        """
        row = await self._read(identity)
        if row.access == "waiting":
            return Offer(row.poll_interval_s or self._limits.poll_interval_s)
        if row.protocol != protocol:
            await self._set_protocol(identity, protocol)
            if row.protocol in ASKING and protocol not in ASKING:  # what it was asked to cancel is closed
                self._bus.ring((identity.device_sid,))
                row = await self._read(identity)
        return self._offer(row)

    async def _read(self, identity: DeviceIdentity) -> _Row:
        keys = {"device_sid": identity.device_sid, "account_sid": identity.account_sid}
        row = await self._db.one(_Row, _SELECT, keys)
        if row is None:
            raise Unauthenticated("The Device was removed or disabled.")
        return row

    async def _set_protocol(self, identity: DeviceIdentity, protocol: DeviceProtocol) -> None:
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            await targets.set_protocol(tx, identity.account_sid, identity.device_sid, protocol, now)

        await self._db.write(body)

    def _offer(self, row: _Row) -> Offer:
        target = None
        if row.target_sid is not None and row.target_hash is not None:
            target = Target(row.target_sid, row.target_hash, row.security_counter)
        update = None
        if row.number is not None and row.app_sid is not None:
            waits = row.confirmation == "waiting"
            update = OpenUpdate(row.number, row.app_sid, row.mode or "forced", bool(row.cancel_requested), waits)
        return Offer(
            poll_interval_s=row.poll_interval_s or self._limits.poll_interval_s,
            restart_count=row.restart_count,
            logging_until=logs_rules.judge(row.date_expires, self._clock.now()),
            target=target,
            update=update,
            installed=row.installed,
            wants_attributes=row.date_attributes is None or row.wants_attributes,
            politeness_s=row.politeness_s or 0,
            connection_grace_s=row.connection_grace_s or 0,
            check_in_s=row.check_in_s or 0,
        )
