"""Explains a device: gathers the facts, and lets ``reasons`` say what they mean.

Deliberately changes nothing, and reads a bounded number of rows: the account's rollouts under way, and one of the past.
"""

from typing import Final

import msgspec

from fleetvisor.db.database import Database
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.devices import selection
from fleetvisor.features.devices.model import Device
from fleetvisor.features.devices.service import Devices
from fleetvisor.features.rollouts import reasons, rules, store, views
from fleetvisor.features.rollouts.model import Rollout
from fleetvisor.features.rollouts.penalties import Penalties
from fleetvisor.features.rollouts.reasons import Facts, Part, Reason
from fleetvisor.features.rollouts.waiting import waits_for
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import AccountSid

_REFUSED_MS: Final = 3600 * 1000
_DENIALS_MAX: Final = 500


class Explanation(msgspec.Struct, frozen=True):
    """Everything that explains a device; ``date`` is when it was true."""

    facts: Facts
    reasons: tuple[Reason, ...]
    date: Millis


class _Instruction(msgspec.Struct, frozen=True):
    rollout_sid: str | None
    date_instructed: Millis | None
    reported_hash: str | None
    politeness_s: int | None


class _Denial(msgspec.Struct, frozen=True):
    data: str
    date_created: Millis


class _Identity(msgspec.Struct, frozen=True):
    identity: str = ""


class Explainer:
    """Explains devices."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits, devices: Devices, penalties: Penalties) -> None:
        """Keep what facts are gathered from."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._devices = devices
        self._penalties = penalties

    async def explain(self, account_sid: AccountSid, ref: str) -> Explanation:
        """Explain the device that ``ref`` names. Raises ``NotFound``."""
        device = await self._devices.get(account_sid, ref)
        now = self._clock.now()
        facts = await self._gather(device, now)
        return Explanation(facts, reasons.explain(facts, now), now)

    async def _gather(self, device: Device, now: Millis) -> Facts:
        account_sid = device.account_sid
        sql = """SELECT a.rollout_sid, a.date_instructed, a.reported_hash, r.politeness_s FROM assignments a
            LEFT JOIN apps r ON r.app_sid = a.reported_sid AND r.account_sid = a.account_sid
            WHERE a.device_sid = :device_sid AND a.account_sid = :account_sid"""
        keys = {"device_sid": device.device_sid, "account_sid": account_sid}
        row = await self._db.one(_Instruction, sql, keys) or _Instruction(None, None, None, None)
        parts = await self._parts(device, row.rollout_sid, now)
        penalties = await self._penalties.list(account_sid, device.device_sid)
        known = {device.target_sid, device.reported_sid, device.update.app_sid if device.update else None}
        known |= {part.rollout.app_sid for part in parts} | {penalty.app_sid for penalty in penalties}
        names: dict[str, str] = {}
        for sid in sorted(filter(None, known)):
            app = await apps_store.find_in(self._db, account_sid, sid)
            names[sid] = app.unique_name if app is not None and app.unique_name else sid
        return Facts(
            device=device,
            names=names,
            instructed_by=row.rollout_sid,
            date_instructed=row.date_instructed,
            politeness_s=row.politeness_s or 0,
            poll_interval_s=device.poll_interval_s or self._limits.poll_interval_s,
            reported_unknown=device.reported_sid is None and row.reported_hash is not None,
            refused=await self._refused(device, now),
            penalties=tuple(penalties),
            parts=parts,
        )

    async def _parts(self, device: Device, instructed_by: str | None, now: Millis) -> tuple[Part, ...]:
        """Give the rollouts under way that select the device or came to it, and the one whose word its target is."""
        rollouts = await store.unfinished_of(self._db, device.account_sid)
        if instructed_by is not None and all(each.rollout_sid != instructed_by for each in rollouts):
            last = await store.find(self._db, device.account_sid, instructed_by)
            rollouts += [last] if last is not None else []
        parts: list[Part] = []
        for view in await views.views(self._db, rollouts):
            rollout = view.rollout
            member = await store.member(self._db, device.account_sid, rollout.rollout_sid, device.device_sid)
            if member is None and (rollout.date_ended is not None or not await self._selects(rollout, device)):
                continue
            fixed = [wave.threshold for wave in view.waves if wave.threshold is not None]
            wave = rules.wave_of(rules.place(rollout.rollout_sid, device.device_sid), fixed) if fixed else 0
            parts.append(Part(rollout, member, wave, waits_for(view, now)))
        return tuple(parts)

    async def _selects(self, rollout: Rollout, device: Device) -> bool:
        if rollout.rollback_of is not None:
            source = await store.member(self._db, device.account_sid, rollout.rollback_of, device.device_sid)
            return source is not None
        chosen = await self._devices.compile(rollout.account_sid, rollout.selector, apps_removed=True)
        return await selection.selects(self._db, chosen, device.device_sid)

    async def _refused(self, device: Device, now: Millis) -> Millis | None:
        """Give when the device's credentials were last refused, if that was since it was last let in."""
        sql = """SELECT data, date_created FROM events
            WHERE account_sid = :account_sid AND type = 'request.denied' AND date_created >= :since
            ORDER BY date_created DESC, event_id DESC LIMIT :limit"""
        since = max(now - _REFUSED_MS, device.date_last_seen or 0)
        keys = {"account_sid": device.account_sid, "since": since, "limit": _DENIALS_MAX}
        for row in await self._db.scan(_Denial, sql, keys):
            if msgspec.json.decode(row.data, type=_Identity).identity.lower() == device.device_sid.lower():
                return row.date_created
        return None
