"""Updates: read, moved by reports, closed by time.

Whole verbs, each one transaction; what targets make of updates is in ``targets``. Deliberately knows a device by its
SID only. Bells ring after the commit.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.updates import ignored, log, rollout_devices, rules, store, targets
from fleetvisor.features.updates.fetches import Fetches
from fleetvisor.features.updates.model import Assignment, Update
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.errors import NotFound
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import Page, PageRequest, page_of
from fleetvisor.ground.sids import AccountSid, AppSid, DeviceSid
from fleetvisor.obs.health import beat
from fleetvisor.protocol.lifecycle import ErrorCode, State
from fleetvisor.protocol.native import Report

_OVERDUE_BATCH: Final = 100


class Updates:
    """The verbs on updates."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits, bus: Bus, fetches: Fetches | None = None) -> None:
        """Keep what the verbs need; ``fetches``: the notes of this process, if it serves devices."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._bus = bus
        self._fetches = fetches or Fetches(limits)

    async def get(self, account_sid: AccountSid, device_sid: DeviceSid, number: int) -> Update:
        """Return one update of a device by its number, or by its place: 1 is the oldest. Raises ``NotFound``.

        Numbers began at 1 once; no number of today is as small as a place.
        """
        update = await store.find(self._db, account_sid, device_sid, number)
        if update is None and 0 < number <= rules.PLACE_MAX:
            update = await store.find_at(self._db, account_sid, device_sid, number)
        if update is None:
            raise NotFound("No Update of this Device has the given number.")
        return update

    async def log(self, account_sid: AccountSid, device_sid: DeviceSid, number: int) -> Sequence[log.LogLine]:
        """Return what a device said about one update, the oldest line first."""
        return await log.read(self._db, account_sid, device_sid, number)

    async def list(self, account_sid: AccountSid, device_sid: DeviceSid, page: PageRequest) -> Page[Update]:
        """Return a page of a device's updates, newest first."""
        forward = page.cursor is None or page.cursor.forward
        number = int(page.cursor.key[0]) if page.cursor else None
        rows = await store.page(self._db, account_sid, device_sid, number, page.size + 1, newer=not forward)
        return page_of(rows, page, lambda update: (update.number,))

    async def report(
        self, account_sid: AccountSid, device_sid: DeviceSid, report: Report, left_out: Sequence[str] = ()
    ) -> bool:
        """Take what a device says it runs and how far its update is; return whether it was news.

        ``left_out``: the names of values that could not be read. It is an event when they change, and Explain has them.
        Idempotent: a report that is not newer than the last one taken is acknowledged, counted and otherwise ignored.
        Raises ``NotFound`` when the device was removed meanwhile.
        """
        now = self._clock.now()

        async def body(tx: Tx) -> bool:
            assignment = await targets.the_assignment(tx, account_sid, device_sid)
            if not rules.is_newer(assignment, report):
                if not rules.is_repeat(assignment, report):
                    await ignored.count(tx, assignment, report, now)
                return False
            await ignored.forget(tx, assignment)
            await self._fetches.write(tx, self._fetches.of(device_sid))
            await self._take(tx, assignment, report, now, ", ".join(left_out))
            return True

        taken = await self._db.write(body)
        if taken:
            self._bus.ring((device_sid,))
        return taken

    async def _take(self, tx: Tx, assignment: Assignment, report: Report, now: Millis, left_out: str) -> None:
        account_sid, device_sid = assignment.account_sid, assignment.device_sid
        reported_sid, reported_hash = await _what_runs(tx, assignment, report)
        open_update = await store.find_open(tx, account_sid, device_sid)
        closed = None
        if open_update is not None and await self._advance(tx, open_update, report, reported_hash, now):
            closed, open_update = open_update, None
        reached = assignment.target_reached
        retries = assignment.retries
        again = None
        if open_update is None and rules.reverted(assignment, reported_hash):
            await rollout_devices.revert(tx, assignment, now)
        if open_update is None:
            if reported_hash == assignment.target_hash and assignment.target_hash is not None:
                reached = True
            elif rules.needs_another(assignment, reported_hash, self._limits.update_retries_max) and not (
                assignment.rollout_sid is not None
                and await rollout_devices.gave_up(tx, account_sid, assignment.rollout_sid)
            ):
                again = await apps_store.find_in(tx, account_sid, str(assignment.target_sid))
                retries += 1
        await store.set_report(
            tx,
            assignment,
            reported=(reported_sid, reported_hash),
            journal=(report.journal, report.sequence, rules.retire(assignment, report)),
            boot_count=report.boot_count,
            wake_reason=report.wake_reason,
            left_out=left_out,
            reached=reached,
            retries=retries,
            now=now,
        )
        if left_out and left_out != assignment.left_out:
            await ignored.tell_left_out(tx, assignment, left_out, now)
        if reported_hash != assignment.reported_hash:
            await targets.note_reported(tx, assignment, reported_sid, reported_hash, now)
        if again is not None:
            await targets.make(tx, assignment, again, now)
        elif closed is not None and closed.app_sid != assignment.target_sid:  # the next target had to wait
            await targets.make_due(tx, await targets.the_assignment(tx, account_sid, device_sid), now)

    async def _advance(self, tx: Tx, update: Update, report: Report, running_hash: str | None, now: Millis) -> bool:
        """Move the open update as the report says; return whether that closed it."""
        told = report.update if report.update is not None and report.update.number == update.number else None
        state = rules.next_state(update, report, running_hash)
        if state is None and told is None:
            return False
        done = told.bytes_done if told else update.bytes_done
        total = (told.bytes_total if told else 0) or update.bytes_total
        error_code = rules.error_code_of(report) if state == State.FAILED else 0
        still = await store.move(
            tx,
            update,
            state or update.state,
            now=now,
            deadline=targets.next_deadline(update, now, self._limits.report_timeout_s),
            bytes_done=total if state == State.SUCCEEDED else min(done, total),
            bytes_total=total,
            error_code=error_code,
        )
        if not still:
            return False
        if state is None:
            await rollout_devices.follow(tx, update, update.state, now, 0)
            return False
        await targets.moved(tx, update, state, now, error_code)
        return state in {State.SUCCEEDED, State.FAILED}

    async def expire(self) -> int:
        """Close updates whose devices fetched them and then did not report in time, as failed with code 9.

        Gives how many it closed. Safe to run on several nodes at once: each close is a compare-and-set.
        """
        now = self._clock.now()
        closed = 0
        while batch := await store.overdue(self._db, now, _OVERDUE_BATCH):
            beat()
            for update in batch:
                if await self._db.write(_expiry(update, now)):
                    self._bus.ring((update.device_sid,))
                    closed += 1
        return closed


def _expiry(update: Update, now: Millis) -> Callable[[Tx], Awaitable[bool]]:
    async def body(tx: Tx) -> bool:
        current = await store.find_open(tx, update.account_sid, update.device_sid)
        if current is None or current.number != update.number or current.date_deadline != update.date_deadline:
            return False
        assignment = await targets.the_assignment(tx, update.account_sid, update.device_sid)
        if current.cancel_requested:
            await targets.close_asked(tx, assignment, current, now)
            return True
        await store.move(tx, current, State.FAILED, now=now, error_code=int(ErrorCode.NO_REPORT))
        await targets.moved(tx, current, State.FAILED, now, int(ErrorCode.NO_REPORT))
        if current.app_sid != assignment.target_sid:  # its cancel was refused: the next target had to wait
            await targets.make_due(tx, assignment, now)
        return True

    return body


async def _what_runs(tx: Tx, assignment: Assignment, report: Report) -> tuple[AppSid | None, str | None]:
    """Return the SID (``None``: an image we do not know) and manifest hash of what a report says runs."""
    running = report.running
    if running.manifest is None:
        named = await apps_store.find_in(tx, assignment.account_sid, running.app) if running.app else None
        return (named.app_sid, named.manifest_hash) if named else (None, None)
    candidates = await apps_store.by_hash(tx, assignment.account_sid, running.manifest)
    app = rules.reported_app(candidates, running.app, assignment.target_sid)
    return (app.app_sid if app else None), running.manifest
