"""Updates: made from targets, moved by reports, closed by time.

``assign`` and ``cancel`` run inside the transaction of ``features/devices``, which composes them with a device's
other changes; the rest are whole verbs. Deliberately knows a device by its SID only. Bells ring after the commit.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.apps.model import App
from fleetvisor.features.events import store as events
from fleetvisor.features.updates import log, members, rules, store
from fleetvisor.features.updates.model import Assignment, Instruction, Update, Wanted
from fleetvisor.ground.clock import Clock, Millis, later
from fleetvisor.ground.errors import NotFound
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import Page, PageRequest, page_of
from fleetvisor.ground.sids import AccountSid, AppSid, DeviceSid
from fleetvisor.protocol.lifecycle import ErrorCode, State
from fleetvisor.protocol.native import Report

_OVERDUE_BATCH: Final = 100


async def note(tx: Tx, update: Update, what: str, now: Millis, error_code: int = 0) -> None:
    """Append the event ``update.<what>``."""
    await events.append(
        tx,
        account_sid=update.account_sid,
        type=f"update.{what}",
        subject_sid=update.app_sid,
        device_sid=update.device_sid,
        data={"number": update.number, "error_code": error_code},
        now=now,
    )


async def moved(tx: Tx, update: Update, state: State, now: Millis, error_code: int = 0) -> None:
    """Append the event that an update moved to ``state``, and let the rollout that made it count that."""
    await note(tx, update, state.value, now, error_code)
    await members.follow(tx, update, state, now, error_code)


async def make(tx: Tx, assignment: Assignment, app: App, now: Millis) -> None:
    """Make the next update of a device, pending, in the mode of its target and for whoever instructed that."""
    number = await store.insert(
        tx,
        assignment,
        app_sid=app.app_sid,
        app_hash=app.manifest_hash,
        bytes_total=app.size_bytes,
        now=now,
    )
    if assignment.rollout_sid is not None:
        await members.number(tx, assignment.account_sid, assignment.rollout_sid, assignment.device_sid, number)
    await events.append(
        tx,
        account_sid=assignment.account_sid,
        type="update.pending",
        subject_sid=app.app_sid,
        device_sid=assignment.device_sid,
        data={"number": number},
        now=now,
    )


async def _close(tx: Tx, update: Update, state: State, now: Millis) -> None:
    if await store.move(tx, update, state, now=now, error_code=update.error_code):
        await moved(tx, update, state, now)


async def note_reported(
    tx: Tx, assignment: Assignment, app_sid: AppSid | None, manifest_hash: str | None, now: Millis
) -> None:
    """Append the event that a device reports another app than before."""
    await events.append(
        tx,
        account_sid=assignment.account_sid,
        type="device.reported",
        subject_sid=assignment.device_sid,
        device_sid=assignment.device_sid,
        data={"app_sid": app_sid, "manifest": manifest_hash},
        now=now,
    )


async def the_assignment(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid) -> Assignment:
    """Read what a device should run and says it runs. Raises ``NotFound``."""
    assignment = await store.find_assignment(tx, account_sid, device_sid)
    if assignment is None:
        raise NotFound("No Device matches the given identifier.")
    return assignment


async def assign(
    tx: Tx,
    account_sid: AccountSid,
    device_sid: DeviceSid,
    wanted: Wanted,
    now: Millis,
    *,
    cancel_timeout_s: int,
    instruction: Instruction | None = None,
) -> None:
    """Set the app that the device should run (none: clear it), and make the update that this asks for.

    The same target while its update is open makes nothing new; what the device already runs is reached at
    once; after an error the same target gets a new update. A device whose protocol asks keeps its open update until
    it has answered, at most ``cancel_timeout_s``. Without an ``instruction`` it is a direct one: it takes the device
    out of the rollout that has it, and lifts the device's penalty for the app. Raises ``NotFound`` for an unknown
    device.
    """
    assignment = await the_assignment(tx, account_sid, device_sid)
    open_update = await store.find_open(tx, account_sid, device_sid)
    app = wanted.app
    instruction = instruction or Instruction(now)
    await _take_over(tx, assignment, open_update, app, instruction, now)
    step = rules.retarget(assignment, open_update, app)
    asked = False
    if open_update is not None and step.close_as is not None:
        asked = await _end(tx, assignment, open_update, step.close_as, now, cancel_timeout_s)
    target = (app.app_sid, app.manifest_hash) if app else None
    await store.set_target(
        tx, assignment, target=target, reached=step.reached, now=now, mode=wanted.mode, confirm=wanted.confirm
    )
    await store.set_instruction(tx, assignment, instruction)
    if app is not None and step.make and not asked:
        await make(tx, await the_assignment(tx, account_sid, device_sid), app, now)


async def _take_over(
    tx: Tx,
    assignment: Assignment,
    open_update: Update | None,
    app: App | None,
    instruction: Instruction,
    now: Millis,
) -> None:
    """Take a device from the rollout that has it, and its open update too, if that goes where it should.

    One that the device was asked to cancel is not taken before it has answered: see ``members.hand_over``.
    """
    account_sid, device_sid = assignment.account_sid, assignment.device_sid
    if assignment.rollout_sid is not None and assignment.rollout_sid != instruction.rollout_sid:
        await members.leave(tx, account_sid, assignment.rollout_sid, device_sid, now, "left")
    if instruction.rollout_sid is None and app is not None:
        await members.lift(tx, account_sid, device_sid, app.app_sid)
    same = open_update is not None and app is not None and open_update.app_sid == app.app_sid
    if open_update is not None and same and not open_update.cancel_requested:
        await store.adopt(tx, open_update, instruction.rollout_sid)


async def cancel(
    tx: Tx,
    account_sid: AccountSid,
    device_sid: DeviceSid,
    now: Millis,
    *,
    cancel_timeout_s: int,
    instruction: Instruction | None = None,
) -> None:
    """Close the open update as canceled (or ask for it), and put the target back to what the device reports.

    With no open update and nothing failed there is nothing to cancel: nothing changes. Without an ``instruction`` it is
    a direct one.
    """
    assignment = await the_assignment(tx, account_sid, device_sid)
    open_update = await store.find_open(tx, account_sid, device_sid)
    if open_update is not None:
        await _end(tx, assignment, open_update, State.CANCELED, now, cancel_timeout_s)
    elif assignment.target_hash == assignment.reported_hash:
        return
    if assignment.rollout_sid is not None:
        await members.leave(tx, account_sid, assignment.rollout_sid, device_sid, now, "canceled")
    await put_back(tx, assignment, now)
    await store.set_instruction(tx, assignment, instruction or Instruction(now))


async def speak(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, now: Millis, *, asks: bool) -> None:
    """Note which protocol the device speaks. One that no longer asks is not waited for. Raises ``NotFound``."""
    assignment = await the_assignment(tx, account_sid, device_sid)
    if assignment.asks == asks:
        return
    await store.set_asks(tx, account_sid, device_sid, asks=asks)
    open_update = await store.find_open(tx, account_sid, device_sid)
    if open_update is not None and open_update.cancel_requested and not asks:
        await close_asked(tx, assignment, open_update, now)


async def _end(
    tx: Tx, assignment: Assignment, update: Update, state: State, now: Millis, cancel_timeout_s: int
) -> bool:
    """Close an open update at once, or ask the device to; tell whether it was asked."""
    if not assignment.asks:
        await _close(tx, update, state, now)
        return False
    if await store.ask_to_cancel(tx, update, deadline=later(now, cancel_timeout_s), now=now):
        await note(tx, update, "cancel_requested", now)
    return True


async def close_asked(tx: Tx, assignment: Assignment, update: Update, now: Millis) -> None:
    """Close an update whose cancel was asked for, and make the next one, from the target as it is now."""
    due = rules.is_due(assignment)
    await _close(tx, update, State.SUPERSEDED if due else State.CANCELED, now)
    if due:
        await make_due(tx, assignment, now)


async def make_due(tx: Tx, assignment: Assignment, now: Millis) -> None:
    """Make the update that the target asks for, if it asks for one; called with none open.

    It asks for none where another upload of the same bundle was installed: the rollout that waited has succeeded.
    """
    if rules.is_due(assignment):
        app = await apps_store.find_in(tx, assignment.account_sid, str(assignment.target_sid))
        if app is not None:
            await make(tx, assignment, app, now)
    elif assignment.rollout_sid is not None:
        await members.arrive(tx, assignment.account_sid, assignment.rollout_sid, assignment.device_sid, now)


async def put_back(tx: Tx, assignment: Assignment, now: Millis) -> None:
    """Make what the device reports its target, or clear the target."""
    reported = None
    if assignment.reported_sid is not None:
        reported = await apps_store.find_in(tx, assignment.account_sid, assignment.reported_sid)
    target = (reported.app_sid, reported.manifest_hash) if reported else None
    await store.set_target(tx, assignment, target=target, reached=reported is not None, now=now)


class Updates:
    """The verbs on updates."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits, bus: Bus) -> None:
        """Keep what the verbs need."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._bus = bus

    async def get(self, account_sid: AccountSid, device_sid: DeviceSid, number: int) -> Update:
        """Give one update of a device. Raises ``NotFound``."""
        update = await store.find(self._db, account_sid, device_sid, number)
        if update is None:
            raise NotFound("No Update of this Device has the given number.")
        return update

    async def log(self, account_sid: AccountSid, device_sid: DeviceSid, number: int) -> Sequence[log.LogLine]:
        """Give what a device said about one update, the oldest line first."""
        return await log.read(self._db, account_sid, device_sid, number)

    async def list(self, account_sid: AccountSid, device_sid: DeviceSid, page: PageRequest) -> Page[Update]:
        """Give a page of a device's updates, newest first."""
        forward = page.cursor is None or page.cursor.forward
        number = int(page.cursor.key[0]) if page.cursor else None
        rows = await store.page(self._db, account_sid, device_sid, number, page.size + 1, newer=not forward)
        return page_of(rows, page, lambda update: (update.number,))

    async def report(self, account_sid: AccountSid, device_sid: DeviceSid, report: Report) -> bool:
        """Take what a device says it runs and how far its update is; tell whether it was news.

        Idempotent: a report that is not newer than the last one taken is acknowledged and changes nothing.
        Raises ``NotFound`` when the device was removed meanwhile.
        """
        now = self._clock.now()

        async def body(tx: Tx) -> bool:
            assignment = await the_assignment(tx, account_sid, device_sid)
            if not rules.is_newer(assignment, report):
                return False
            await self._take(tx, assignment, report, now)
            return True

        taken = await self._db.write(body)
        if taken:
            self._bus.ring((device_sid,))
        return taken

    async def _take(self, tx: Tx, assignment: Assignment, report: Report, now: Millis) -> None:
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
            await members.revert(tx, assignment, now)
        if open_update is None:
            if reported_hash == assignment.target_hash and assignment.target_hash is not None:
                reached = True
            elif rules.needs_another(assignment, reported_hash, self._limits.update_retries_max) and not (
                assignment.rollout_sid is not None and await members.gave_up(tx, account_sid, assignment.rollout_sid)
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
            reached=reached,
            retries=retries,
            now=now,
        )
        if reported_hash != assignment.reported_hash:
            await note_reported(tx, assignment, reported_sid, reported_hash, now)
        if again is not None:
            await make(tx, assignment, again, now)
        elif closed is not None and closed.app_sid != assignment.target_sid:  # the next target had to wait
            await make_due(tx, await the_assignment(tx, account_sid, device_sid), now)

    async def _advance(self, tx: Tx, update: Update, report: Report, running_hash: str | None, now: Millis) -> bool:
        """Move the open update as the report says; tell whether that closed it."""
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
            deadline=next_deadline(update, now, self._limits.report_timeout_s),
            bytes_done=total if state == State.SUCCEEDED else min(done, total),
            bytes_total=total,
            error_code=error_code,
        )
        if not still:
            return False
        if state is None:
            await members.follow(tx, update, update.state, now, 0)
            return False
        await moved(tx, update, state, now, error_code)
        return state in {State.SUCCEEDED, State.FAILED}

    async def expire(self) -> int:
        """Close updates whose devices fetched them and then did not report in time, as failed with code 9.

        Gives how many it closed. Safe to run on several nodes at once: each close is a compare-and-set.
        """
        now = self._clock.now()
        closed = 0
        while batch := await store.overdue(self._db, now, _OVERDUE_BATCH):
            for update in batch:
                if await self._db.write(_expiry(update, now)):
                    self._bus.ring((update.device_sid,))
                    closed += 1
        return closed


def next_deadline(update: Update, now: Millis, report_timeout_s: int) -> Millis | None:
    """Give until when an update must be heard of again: what was asked of the device keeps its own time."""
    return update.date_deadline if update.cancel_requested else later(now, report_timeout_s)


def _expiry(update: Update, now: Millis) -> Callable[[Tx], Awaitable[bool]]:
    async def body(tx: Tx) -> bool:
        current = await store.find_open(tx, update.account_sid, update.device_sid)
        if current is None or current.number != update.number or current.date_deadline != update.date_deadline:
            return False
        assignment = await the_assignment(tx, update.account_sid, update.device_sid)
        if current.cancel_requested:
            await close_asked(tx, assignment, current, now)
            return True
        await store.move(tx, current, State.FAILED, now=now, error_code=int(ErrorCode.NO_REPORT))
        await moved(tx, current, State.FAILED, now, int(ErrorCode.NO_REPORT))
        if current.app_sid != assignment.target_sid:  # its cancel was refused: the next target had to wait
            await make_due(tx, assignment, now)
        return True

    return body


async def _what_runs(tx: Tx, assignment: Assignment, report: Report) -> tuple[AppSid | None, str | None]:
    """Give the SID (``None``: an image we do not know) and manifest hash of what a report says runs."""
    running = report.running
    if running.manifest is None:
        named = await apps_store.find_in(tx, assignment.account_sid, running.app) if running.app else None
        return (named.app_sid, named.manifest_hash) if named else (None, None)
    candidates = await apps_store.by_hash(tx, assignment.account_sid, running.manifest)
    app = rules.reported_app(candidates, running.app, assignment.target_sid)
    return (app.app_sid if app else None), running.manifest
