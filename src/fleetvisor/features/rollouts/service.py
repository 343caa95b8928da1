"""Rollouts: drafted, planned, started, paused, resumed, aborted, tried again, released by hand.

Deliberately moves none by itself: ``ticker`` does. Each verb is one transaction; bells ring after the commit.
"""

from typing import Final

import msgspec

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.devices.service import Devices
from fleetvisor.features.rollouts import decisions, members, rules, store
from fleetvisor.features.rollouts.guard import seen
from fleetvisor.features.rollouts.model import Action, Draft, Rollout, Ruling, View
from fleetvisor.features.rollouts.planning import Plan, Planner
from fleetvisor.features.rollouts.population import Population
from fleetvisor.features.updates.model import Member, MemberState
from fleetvisor.ground.clock import Clock, Entropy, Millis, iso
from fleetvisor.ground.errors import Conflict, Invalid, NotFound
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import Page, PageRequest, page_of
from fleetvisor.ground.sids import AccountSid, AppSid, RolloutSid, new_rollout_sid, normalize

_LATE_MAX_MS: Final = 60_000
BY_HAND: Final = "An operator released the wave."


def _missing() -> NotFound:
    return NotFound("No Rollout of this account has the given SID.")


class Pace(msgspec.Struct, frozen=True):
    """What may be changed of a rollout while it runs; ``None`` leaves as it is, 0 is no limit."""

    concurrent_max: int | None = None
    starts_per_minute: int | None = None


class Rollouts:
    """The verbs on rollouts."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        entropy: Entropy,
        limits: Limits,
        bus: Bus,
        devices: Devices,
        population: Population,
    ) -> None:
        """Keep what the verbs need."""
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._limits = limits
        self._bus = bus
        self._devices = devices
        self._planner = Planner(db=db, clock=clock, population=population, limits=limits)

    async def create(self, account_sid: AccountSid, draft: Draft) -> View:
        """Make a draft. Raises ``Invalid`` for an unknown app or a bad selector, ``Conflict`` beyond the most."""
        draft = msgspec.structs.replace(draft, selector=await self._devices.pin(account_sid, draft.selector))
        rollout_sid, now = new_rollout_sid(self._entropy), self._clock.now()
        if draft.known_since is not None and draft.known_since > now + _LATE_MAX_MS:
            raise Invalid(
                f"KnownSince is in the future: now it is {iso(now)}. Devices made until then would count as evidence;"
                " leave KnownSince to count the Devices that exist at the start."
            )

        async def body(tx: Tx) -> None:
            count, _ = await store.count_all(tx, account_sid)
            if count >= self._limits.rollouts_max:
                raise Conflict(f"The account has {count} Rollouts, which is the maximum. Remove some that have ended.")
            app_sid, of = await self._subject(tx, account_sid, draft)
            rollout = _drafted(rollout_sid, account_sid, draft, app_sid, of, now)
            await store.insert(tx, rollout, draft.waves)
            await decisions.append_event(tx, rollout, "created", now, kind=draft.kind, app_sid=app_sid, rollback_of=of)

        await self._db.write(body)
        return await self.get(account_sid, rollout_sid)

    async def _subject(self, tx: Tx, account_sid: AccountSid, draft: Draft) -> tuple[AppSid | None, RolloutSid | None]:
        """Return the app of a release, or the rollout that a rollback takes back."""
        if draft.kind == "release":
            app = await apps_store.find_in(tx, account_sid, draft.app or "")
            if app is None:
                raise Invalid("App: no App of this account has this SID or unique name.")
            return app.app_sid, None
        source = await store.find(tx, account_sid, draft.rollback_of or "")
        if source is None:
            raise Invalid("RollbackOf: no Rollout of this account has this SID.")
        if source.state == "draft":
            raise Conflict("The Rollout to roll back has not started, so there is nothing to roll back.")
        return None, source.rollout_sid

    async def get(self, account_sid: AccountSid, rollout_sid: str) -> View:
        """Return a rollout with its waves, counts and newest decision. Raises ``NotFound``."""
        return await store.view(self._db, await self.find(account_sid, rollout_sid))

    async def find(self, account_sid: AccountSid, rollout_sid: str) -> Rollout:
        """Return a rollout. Raises ``NotFound``."""
        rollout = await store.find(self._db, account_sid, normalize(rollout_sid))
        if rollout is None:
            raise _missing()
        return rollout

    async def list(self, account_sid: AccountSid, page: PageRequest) -> Page[View]:
        """Return a page of the account's rollouts, newest first."""
        cursor = page.cursor
        key = None if cursor is None else (int(cursor.key[0]), str(cursor.key[1]))
        newer = cursor is not None and not cursor.forward
        rows = await store.page(self._db, account_sid, key=key, limit=page.size + 1, newer=newer)
        cut = page_of(rows, page, lambda rollout: (rollout.date_created, rollout.rollout_sid))
        return Page(tuple(await store.views(self._db, cut.items)), cut.next, cut.previous)

    async def plan(self, account_sid: AccountSid, rollout_sid: str, sample: int) -> tuple[Rollout, Plan]:
        """Plan a rollout, naming up to ``sample`` devices of each wave and reason. Raises ``NotFound``, ``Invalid``."""
        rollout = await self.find(account_sid, rollout_sid)
        if sample > self._limits.rollout_sample_max:
            raise Invalid(f"Sample: at most {self._limits.rollout_sample_max}.")
        return rollout, await self._planner.plan(rollout, sample)

    async def rulings(self, account_sid: AccountSid, rollout_sid: str, page: PageRequest) -> Page[Ruling]:
        """Return a page of the decisions, newest first. Raises ``NotFound``."""
        rollout = await self.find(account_sid, rollout_sid)
        newer = page.cursor is not None and not page.cursor.forward
        number = int(page.cursor.key[0]) if page.cursor else None
        rows = await store.rulings(self._db, rollout, number, page.size + 1, newer=newer)
        return page_of(rows, page, lambda ruling: (ruling.number,))

    async def members(
        self, account_sid: AccountSid, rollout_sid: str, state: MemberState | None, selector: str, page: PageRequest
    ) -> Page[Member]:
        """Return a page of the devices that it came to, by SID: all, in one state, or (also) selected now.

        Raises ``NotFound``, ``Invalid``.
        """
        rollout = await self.find(account_sid, rollout_sid)
        selection = await self._devices.compile(account_sid, selector) if selector else None
        return await members.page(self._db, rollout, state, selection, page, self._limits)

    async def warnings(self, account_sid: AccountSid, selector: str) -> tuple[str, ...]:
        """Return what to say of the labels of a list's selector that nothing has. Raises ``Invalid``."""
        return await self._devices.warnings(account_sid, selector)

    async def change(
        self,
        account_sid: AccountSid,
        rollout_sid: str,
        action: Action | None,
        pace: Pace,
        *,
        start_at: Millis | None = None,
        wave: int | None = None,
    ) -> View:
        """Change the pace, and do one thing to a rollout. All or nothing.

        ``start_at`` goes with ``start``; ``wave`` with ``release``: the one that must be open. Raises ``NotFound``, and
        ``Conflict`` for what cannot be done in its state.
        """
        now = self._clock.now()
        sid = normalize(rollout_sid)

        async def body(tx: Tx) -> None:
            rollout = await self._read(tx, account_sid, sid)
            if pace != Pace():
                if rollout.date_ended is not None:
                    raise Conflict("The Rollout has ended. You can no longer change its pace.")
                kept = {name: value for name, value in msgspec.structs.asdict(pace).items() if value is not None}
                await store.step(tx, rollout, now, **kept)
                await decisions.append_event(tx, rollout, "updated", now, **kept)
                rollout = await self._read(tx, account_sid, sid)
            if action is not None:
                rules.check_action(action, rollout.state)
                await self._act(tx, rollout, action, start_at, wave, now)

        await self._db.write(body)
        self._bus.ring((sid,))
        return await self.get(account_sid, sid)

    @staticmethod
    async def _read(tx: Tx, account_sid: AccountSid, rollout_sid: str) -> Rollout:
        rollout = await store.find(tx, account_sid, rollout_sid)
        if rollout is None:
            raise _missing()
        return rollout

    async def _act(
        self, tx: Tx, rollout: Rollout, action: Action, start_at: Millis | None, wave: int | None, now: Millis
    ) -> None:
        match action:
            case "start":
                await self._start(tx, rollout, start_at, now)
            case "pause":
                await store.step(tx, rollout, now, state="paused")
                await decisions.append_event(tx, rollout, "paused", now)
            case "resume":
                await store.step(tx, rollout, now, state="running")
                await decisions.append_event(tx, rollout, "resumed", now)
            case "abort":
                await store.end(tx, rollout, "aborted", now, canceling=True)
                await decisions.append_event(tx, rollout, "aborted", now)
            case "retry":
                await self._retry(tx, rollout, now)
            case "release":
                await self._release(tx, rollout, wave, now)

    async def _start(self, tx: Tx, rollout: Rollout, start_at: Millis | None, now: Millis) -> None:
        if rollout.state == "draft":
            await self._check_room(tx, rollout)
        if rollout.rollback_of is not None:
            source = await store.find(tx, rollout.account_sid, rollout.rollback_of)
            if source is not None and source.date_ended is None:
                raise Conflict("The Rollout to roll back is still under way. Abort it first.")
        if start_at is not None and start_at < now - _LATE_MAX_MS:
            raise Invalid(f"StartAt is in the past: now it is {iso(now)}. To start at once, omit StartAt.")
        if start_at is not None and start_at > now:
            await store.step(tx, rollout, now, state="scheduled", date_start=start_at)
            await decisions.append_event(tx, rollout, "scheduled", now, date_start=start_at)
            return
        await begin(tx, rollout, now)

    async def _check_room(self, tx: Tx, rollout: Rollout) -> None:
        """Demand that one more rollout may be under way. Raises ``Conflict``."""
        _, under_way = await store.count_all(tx, rollout.account_sid)
        if under_way >= self._limits.rollouts_open_max:
            raise Conflict(f"{under_way} Rollouts are under way, which is the maximum. Wait until one ends.")

    @staticmethod
    async def _release(tx: Tx, rollout: Rollout, wave: int | None, now: Millis) -> None:
        if wave not in {None, rollout.wave}:
            raise Conflict(f"Wave {wave} is not the open one: wave {rollout.wave} of the Rollout is.")
        waves, counted = await store.waves(tx, rollout.rollout_sid), await store.counted(tx, rollout.rollout_sid)
        judged = decisions.judge_wave(rollout, waves, counted, now)
        if not judged.begun:  # a second click, or another operator's
            raise Conflict(f"Wave {rollout.wave} was just opened and has offered nothing yet.")
        evidence = judged.decision.evidence
        data = decisions.numbers_of(evidence, judged.decision.bounds, rollout.guard)
        await decisions.keep_decision(
            tx, rollout, "release", "by_hand", f"{seen(evidence, rollout.guard)} {BY_HAND}", data, now
        )
        await decisions.advance(tx, rollout, waves, now)

    async def _retry(self, tx: Tx, rollout: Rollout, now: Millis) -> None:
        if rollout.state == "completed":
            await self._check_room(tx, rollout)
            rules.check_kept(await store.rollbacks(tx, rollout))
            if (
                rollout.app_sid is not None
                and await apps_store.find_in(tx, rollout.account_sid, rollout.app_sid) is None
            ):
                raise Conflict("The App of this Rollout was removed, so there is nothing to retry.")
            await store.step(
                tx, rollout, now, state="running", date_ended=None, open_app_sid=rollout.app_sid, date_retry=now
            )
            await store.set_wave(tx, rollout.rollout_sid, rollout.wave, date_settled=None, date_released=None)
        else:
            await store.step(tx, rollout, now, date_retry=now)
        await decisions.append_event(tx, rollout, "retried", now)

    async def delete(self, account_sid: AccountSid, rollout_sid: str) -> None:
        """Remove a rollout that is not under way, with its history; devices stay as they are.

        It is out of sight at once; the ticker clears away what it kept of each device. Raises ``NotFound``, and
        ``Conflict`` for one that is under way, or that another one is to take back.
        """
        now = self._clock.now()
        sid = normalize(rollout_sid)

        async def body(tx: Tx) -> None:
            rollout = await self._read(tx, account_sid, sid)
            rules.check_removal(rollout, await store.rollbacks(tx, rollout))
            if rollout.date_started is None:
                await store.delete(tx, rollout)
            else:
                await store.step(tx, rollout, now, removing=1)
            await decisions.append_event(tx, rollout, "deleted", now)

        await self._db.write(body)
        self._bus.ring((sid,))


async def begin(tx: Tx, rollout: Rollout, now: Millis) -> bool:
    """Begin a rollout whose time has come; return false if somebody took a step since it was read."""
    begun = await store.step(tx, rollout, now, state="starting", date_started=now)
    if begun:
        await decisions.append_event(tx, rollout, "started", now)
    return begun


def _drafted(
    rollout_sid: RolloutSid,
    account_sid: AccountSid,
    draft: Draft,
    app_sid: AppSid | None,
    rollback_of: RolloutSid | None,
    now: Millis,
) -> Rollout:
    return Rollout(
        rollout_sid=rollout_sid,
        account_sid=account_sid,
        friendly_name=draft.friendly_name,
        kind=draft.kind,
        app_sid=app_sid,
        rollback_of=rollback_of,
        selector=draft.selector,
        state="draft",
        guard=draft.guard,
        known_by="start" if draft.known_since is None else "date",
        known_since=draft.known_since,
        concurrent_max=draft.concurrent_max,
        starts_per_minute=draft.starts_per_minute,
        wave=0,
        version=0,
        scan_created=None,
        scan_sid=None,
        date_scanned=None,
        date_paid=Millis(0),
        date_retry=None,
        canceling=False,
        removing=False,
        date_start=None,
        date_started=None,
        date_ended=None,
        date_created=now,
        date_updated=now,
    )
