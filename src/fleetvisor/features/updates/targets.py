"""What a target asks for: updates made, superseded, canceled and closed, inside a caller's transaction.

``features/devices`` composes ``assign`` and ``cancel`` with a device's other changes; reports and answers close updates
by the same functions. Deliberately rings no bell: the caller does, after the commit.
"""

from fleetvisor.db.database import Tx
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.apps.model import App
from fleetvisor.features.events import store as events
from fleetvisor.features.updates import rollout_devices, rules, store
from fleetvisor.features.updates.model import Assignment, Instruction, Update, Wanted
from fleetvisor.ground.clock import Millis, later
from fleetvisor.ground.errors import Conflict, NotFound
from fleetvisor.ground.sids import AccountSid, AppSid, DeviceSid
from fleetvisor.protocol.lifecycle import ASKING, DeviceProtocol, State


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
    """Append the event that an update moved to ``state``, and let the rollout that made it count that.

    A success of a device that had fetched nothing of the update is an event of its own: a board may only remember it.
    """
    await note(tx, update, state.value, now, error_code)
    if state == State.SUCCEEDED and update.date_fetched is None:
        await note(tx, update, "not_fetched", now)
    await rollout_devices.follow(tx, update, state, now, error_code)


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
        await rollout_devices.number(tx, assignment.account_sid, assignment.rollout_sid, assignment.device_sid, number)
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
    await events.append_of_device(
        tx,
        assignment.account_sid,
        assignment.device_sid,
        "device.reported",
        {"app_sid": app_sid, "manifest": manifest_hash},
        now,
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
    out of the rollout that has it, and lifts the device's penalty for the app. Where a report is only what a device
    said of an update (a protocol that asks), a direct target after a cleared one is offered whatever it reports.
    Raises ``NotFound`` for an unknown device.
    """
    assignment = await the_assignment(tx, account_sid, device_sid)
    open_update = await store.find_open(tx, account_sid, device_sid)
    app = wanted.app
    cleared = instruction is None and assignment.is_asked and assignment.target_sid is None
    if (wanted.again or cleared) and app is not None and assignment.reported_hash == app.manifest_hash:
        assignment = await _forget(tx, assignment, now)
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


async def offer_again(
    tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, now: Millis, *, cancel_timeout_s: int
) -> None:
    """Make a new update to the device's target, whatever it reports; one that is open stays.

    It is a direct instruction. Raises ``Conflict`` for a device without a target, and ``NotFound``.
    """
    assignment = await the_assignment(tx, account_sid, device_sid)
    app = await apps_store.find_in(tx, account_sid, assignment.target_sid) if assignment.target_sid else None
    if app is None:
        raise Conflict("The Device has no target to offer again. Send TargetApp too.")
    wanted = Wanted(app, assignment.target_mode, confirm=assignment.target_confirm, again=True)
    await assign(tx, account_sid, device_sid, wanted, now, cancel_timeout_s=cancel_timeout_s)


async def forget_report(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, now: Millis) -> None:
    """Forget what the device reports, and make the update that its target asks for then. Raises ``NotFound``."""
    assignment = await _forget(tx, await the_assignment(tx, account_sid, device_sid), now)
    if await store.find_open(tx, account_sid, device_sid) is None:
        await make_due(tx, assignment, now)


async def _forget(tx: Tx, assignment: Assignment, now: Millis) -> Assignment:
    if assignment.reported_hash is None:
        return assignment
    await store.forget_report(tx, assignment.account_sid, assignment.device_sid)
    await events.append_of_device(
        tx,
        assignment.account_sid,
        assignment.device_sid,
        "device.report_forgotten",
        {"app_sid": assignment.reported_sid, "manifest": assignment.reported_hash},
        now,
    )
    return await the_assignment(tx, assignment.account_sid, assignment.device_sid)


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
        await rollout_devices.leave(tx, account_sid, assignment.rollout_sid, device_sid, now, "left")
    if instruction.rollout_sid is None and app is not None:
        await rollout_devices.lift(tx, account_sid, device_sid, app.app_sid)
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
        await rollout_devices.leave(tx, account_sid, assignment.rollout_sid, device_sid, now, "canceled")
    await put_back(tx, assignment, now)
    await store.set_instruction(tx, assignment, instruction or Instruction(now))


async def set_protocol(
    tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, protocol: DeviceProtocol, now: Millis
) -> None:
    """Store by which protocol the device polls. If that asks no more, no answer is waited for. Raises ``NotFound``."""
    assignment = await the_assignment(tx, account_sid, device_sid)
    if assignment.protocol == protocol:
        return
    await store.set_protocol(tx, account_sid, device_sid, protocol)
    open_update = await store.find_open(tx, account_sid, device_sid)
    if open_update is not None and open_update.cancel_requested and protocol not in ASKING:
        await close_asked(tx, assignment, open_update, now)


async def _end(
    tx: Tx, assignment: Assignment, update: Update, state: State, now: Millis, cancel_timeout_s: int
) -> bool:
    """Close an open update at once, or ask the device to; return whether it was asked."""
    if not assignment.is_asked:
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
        await rollout_devices.arrive(tx, assignment.account_sid, assignment.rollout_sid, assignment.device_sid, now)


async def put_back(tx: Tx, assignment: Assignment, now: Millis) -> None:
    """Make what the device reports its target, or clear the target."""
    reported = None
    if assignment.reported_sid is not None:
        reported = await apps_store.find_in(tx, assignment.account_sid, assignment.reported_sid)
    target = (reported.app_sid, reported.manifest_hash) if reported else None
    await store.set_target(tx, assignment, target=target, reached=reported is not None, now=now)


def next_deadline(update: Update, now: Millis, report_timeout_s: int) -> Millis | None:
    """Return until when an update must be heard of again: what was asked of the device keeps its own time."""
    return update.date_deadline if update.cancel_requested else later(now, report_timeout_s)
