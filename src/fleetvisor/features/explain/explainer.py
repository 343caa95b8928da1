"""Explains a device: gathers the facts, and lets ``reasons`` say what they mean.

Deliberately changes nothing, and reads a bounded number of rows: the account's rollouts under way, and one of the past.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Database
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.configs import store as configs_store
from fleetvisor.features.devices import controllers, credentials, selection
from fleetvisor.features.devices.model import Device
from fleetvisor.features.devices.service import Devices
from fleetvisor.features.events import store as events
from fleetvisor.features.explain import reasons
from fleetvisor.features.explain.reasons import Facts, Part, Reason
from fleetvisor.features.rollouts import fate, rules, store
from fleetvisor.features.rollouts.model import Penalty, Rollout, View
from fleetvisor.features.rollouts.penalties import Penalties
from fleetvisor.features.rollouts.waiting import waits_for
from fleetvisor.features.updates import rollout_devices
from fleetvisor.features.updates import store as updates_store
from fleetvisor.features.updates.model import Assignment, Member
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.errors import NotFound
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import AccountSid

_POLLS: Final = 3
_REFUSED_MS: Final = 3600 * 1000


class Explanation(msgspec.Struct, frozen=True):
    """Everything that explains a device; ``date`` is when it was true."""

    facts: Facts
    reasons: tuple[Reason, ...]
    date: Millis


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
        assignment = await updates_store.find_assignment(self._db, account_sid, device.device_sid)
        if assignment is None:
            raise NotFound("No Device matches the given identifier.")  # it was removed meanwhile
        if device.update is not None:  # a device is shown without its update's deadline
            whole = await updates_store.find(self._db, account_sid, device.device_sid, device.update.number)
            device = msgspec.structs.replace(device, update=whole or device.update)
        running = await apps_store.find_in(self._db, account_sid, device.reported_sid or "")
        penalties = await self._penalties.list(account_sid, device.device_sid)
        parts = await self._parts(device, assignment, penalties, now)
        known = {device.target_sid, device.reported_sid, device.update.app_sid if device.update else None}
        known |= {part.app_sid for part in parts} | {penalty.app_sid for penalty in penalties}
        names: dict[str, str] = {}
        for sid in sorted(filter(None, known)):
            app = await apps_store.find_in(self._db, account_sid, sid)
            names[sid] = app.unique_name if app is not None and app.unique_name else sid
        check_in_s = 0 if running is None else running.check_in_s
        poll_s = device.poll_interval_s or self._limits.poll_interval_s
        return Facts(
            device=device,
            names=names,
            instructed_by=assignment.rollout_sid,
            date_instructed=assignment.date_instructed,
            is_asked=assignment.is_asked,
            retries=assignment.retries,
            retries_max=self._limits.update_retries_max,
            politeness_s=0 if running is None else running.politeness_s,
            patience_s=max(_POLLS * poll_s, self._limits.wait_s_max + poll_s, check_in_s + poll_s),
            reported_unknown=device.reported_sid is None and assignment.reported_hash is not None,
            provable=await credentials.is_provable(self._db, account_sid, device.device_sid, now),
            secrets_withheld=not device.account_secrets and await configs_store.has_secrets(self._db, account_sid),
            refused=await self._refused(device, now),
            penalties=tuple(penalties),
            parts=parts,
            namesake=await self._namesake(device),
            ignored_reports=assignment.ignored_reports,
            date_ignored=assignment.date_ignored,
            sequence=assignment.sequence,
            left_out=assignment.left_out,
        )

    async def _namesake(self, device: Device) -> str | None:
        if device.unique_name is None:
            return None
        other = await controllers.find(self._db, device.account_sid, device.unique_name)
        return other if other != device.device_sid else None

    async def _parts(
        self, device: Device, assignment: Assignment, penalties: Sequence[Penalty], now: Millis
    ) -> tuple[Part, ...]:
        """Return the rollouts under way that select the device or came to it, and the one whose word its target is."""
        instructed_by = assignment.rollout_sid
        rollouts = await store.unfinished_of(self._db, device.account_sid)
        if instructed_by is not None and all(each.rollout_sid != instructed_by for each in rollouts):
            last = await store.find(self._db, device.account_sid, instructed_by)
            rollouts += [last] if last is not None else []
        parts: list[Part] = []
        for view in await store.views(self._db, rollouts):
            rollout = view.rollout
            member = await rollout_devices.find(self._db, device.account_sid, rollout.rollout_sid, device.device_sid)
            if member is None and (rollout.date_ended is not None or not await self._selects(rollout, device)):
                continue
            part = await self._part(view, member, device, assignment, penalties, now)
            parts += [part] if part is not None else []
        return tuple(parts)

    async def _part(
        self,
        view: View,
        member: Member | None,
        device: Device,
        assignment: Assignment,
        penalties: Sequence[Penalty],
        now: Millis,
    ) -> Part | None:
        """Return what a rollout did with the device, or would do when it comes to it; ``None``: nothing.

        A device that was left out is judged anew when a rollout under way looks for devices, so it is here, too.
        """
        rollout = view.rollout
        fixed = [wave.threshold for wave in view.waves if wave.threshold is not None]
        source = None
        if rollout.rollback_of is not None:
            origin = await rollout_devices.find(self._db, device.account_sid, rollout.rollback_of, device.device_sid)
            source = None if origin is None else fate.Source(origin.state, origin.previous_sid)
        app_sid = fate.app_sid_for(rollout, source)
        decided = None
        if rollout.date_ended is None and (member is None or member.state == "skipped"):
            member = None
            decided = await self._decide(rollout, source, device, assignment, penalties)
            if decided.outcome == "other":
                return None
        skip = member.reason if member is not None and member.state == "skipped" else None
        return Part(
            rollout=rollout,
            member=member,
            wave=rules.wave_of(rules.place(rollout.rollout_sid, device.device_sid), fixed) if fixed else 0,
            waves=len(view.waves),
            wait=waits_for(view, now),
            app_sid=app_sid if member is None or member.app_sid is None else member.app_sid,
            taken=decided is not None and decided.outcome == "left",
            skip=skip if decided is None else decided.reason,
        )

    async def _decide(
        self,
        rollout: Rollout,
        source: fate.Source | None,
        device: Device,
        assignment: Assignment,
        penalties: Sequence[Penalty],
    ) -> fate.Fate:
        app_sid = fate.app_sid_for(rollout, source)
        app = await apps_store.find_in(self._db, rollout.account_sid, app_sid) if app_sid else None
        running = None
        if device.reported_sid is not None and not assignment.is_asked:
            running = await apps_store.find_in(self._db, rollout.account_sid, device.reported_sid)
        subject = fate.Subject(
            access=device.access,
            hardware_class=device.hardware_class,
            counter=None if running is None else running.security_counter,
            instructed_by=assignment.rollout_sid,
            date_instructed=assignment.date_instructed,
            failures=next((penalty.failures for penalty in penalties if penalty.app_sid == app_sid), 0),
            source=source,
        )
        return fate.decide(rollout, subject, app, self._limits.penalty_failures)

    async def _selects(self, rollout: Rollout, device: Device) -> bool:
        if rollout.rollback_of is not None:
            return True  # which devices a rollback is about, their fate says
        chosen = await self._devices.compile(rollout.account_sid, rollout.selector)
        return await selection.selects(self._db, chosen, device.device_sid)

    async def _refused(self, device: Device, now: Millis) -> Millis | None:
        """Return when the device's credentials were last refused, if that was since it was last let in."""
        since = Millis(max(now - _REFUSED_MS, device.date_last_seen or 0))
        return await events.find_last_refusal(self._db, device.account_sid, device.device_sid, since)
