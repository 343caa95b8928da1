"""The rows of assignments and updates, and the SQL that reads and moves them.

Deliberately decides nothing: ``rules`` does. A move is a compare-and-set on the state that was read, so a lost
race changes nothing. NOTE: ``open_app_sid`` is set exactly while the state is open; every statement that
writes ``state`` writes both, because deletion of apps stands on it.
"""

from collections.abc import Sequence
from typing import Final

from fleetvisor.db.database import Database, Tx
from fleetvisor.db.portable import literals
from fleetvisor.features.updates import numbers
from fleetvisor.features.updates.model import Assignment, Instruction, Update
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, AppSid, DeviceSid, RolloutSid
from fleetvisor.protocol.lifecycle import ASKING, OPEN, DeviceProtocol, State, is_open

UPDATE_COLUMNS: Final = """device_sid, number, account_sid, app_sid, app_hash, state, cancel_requested, bytes_done,
    bytes_total, error_code, date_created, date_updated, date_deadline, mode, confirmation, rollout_sid,
    date_fetched, unfetched"""

_ASSIGNMENTS: Final = """
SELECT device_sid, account_sid, target_sid, target_hash, date_targeted, target_reached, retries, last_number,
    reported_sid, reported_hash, date_reported, journal, sequence, retired_journals, boot_count, wake_reason,
    protocol, target_mode, target_confirm, installed_number, rollout_sid, date_instructed, ignored_reports,
    date_ignored, left_out
FROM assignments WHERE account_sid = :account_sid AND device_sid """

OPEN_STATES: Final = literals(OPEN)
#: Whether the protocol of assignment ``a`` asks: then the device reports nothing by itself.
IS_ASKED: Final = f"a.protocol IN {literals(ASKING)}"

_OPEN: Final = f"""
SELECT {UPDATE_COLUMNS} FROM updates WHERE device_sid = :device_sid AND account_sid = :account_sid
    AND state IN {OPEN_STATES}"""

_GET: Final = f"""
SELECT {UPDATE_COLUMNS} FROM updates
WHERE device_sid = :device_sid AND account_sid = :account_sid AND number = :number"""

_INSERT: Final = """
INSERT INTO updates (device_sid, number, account_sid, app_sid, app_hash, open_app_sid, state, bytes_total,
    mode, confirmation, rollout_sid, date_created, date_updated)
VALUES (:device_sid, :number, :account_sid, :app_sid, :app_hash, :app_sid, 'pending', :bytes_total,
    :mode, :confirmation, :rollout_sid, :now, :now)"""

_MOVE: Final = """
UPDATE updates SET state = :state, open_app_sid = CASE WHEN :open = 1 THEN app_sid ELSE NULL END,
    bytes_done = :bytes_done, bytes_total = :bytes_total, error_code = :error_code, date_updated = :now,
    date_deadline = :deadline,
    unfetched = CASE WHEN :state = 'succeeded' AND date_fetched IS NULL THEN 1 ELSE 0 END
WHERE device_sid = :device_sid AND account_sid = :account_sid AND number = :number AND state = :expected"""

_START_CLOCK: Final = f"""
UPDATE updates SET date_deadline = :deadline
WHERE device_sid = :device_sid AND number = :number AND date_deadline IS NULL
    AND state IN {OPEN_STATES}"""

_OVERDUE: Final = f"""
SELECT {UPDATE_COLUMNS} FROM updates WHERE date_deadline IS NOT NULL AND date_deadline <= :now
ORDER BY date_deadline, device_sid LIMIT :limit"""

_SET_TARGET: Final = """
UPDATE assignments SET target_sid = :target_sid, target_hash = :target_hash, date_targeted = :date_targeted,
    target_reached = :reached, retries = 0, target_mode = :mode, target_confirm = :confirm
WHERE device_sid = :device_sid AND account_sid = :account_sid"""

_SET_NUMBER: Final = """
UPDATE assignments SET last_number = :number, target_reached = 0
WHERE device_sid = :device_sid AND account_sid = :account_sid"""

_SET_REPORT: Final = """
UPDATE assignments SET reported_sid = :reported_sid, reported_hash = :reported_hash, date_reported = :now,
    journal = :journal, sequence = :sequence, retired_journals = :retired, boot_count = :boot_count,
    wake_reason = :wake_reason, target_reached = :reached, retries = :retries, left_out = :left_out
WHERE device_sid = :device_sid AND account_sid = :account_sid"""

_INSERT_ASSIGNMENT: Final = """
INSERT INTO assignments (device_sid, account_sid, date_created)
VALUES (:device_sid, :account_sid, (SELECT d.date_created FROM devices d WHERE d.device_sid = :device_sid))"""


def _keys(update: Update) -> dict[str, str | int]:
    return {"device_sid": update.device_sid, "account_sid": update.account_sid, "number": update.number}


async def insert_assignment(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid) -> None:
    """Make the empty assignment of a new device."""
    await tx.run(_INSERT_ASSIGNMENT, {"device_sid": device_sid, "account_sid": account_sid})


async def insert_assignments(tx: Tx, account_sid: AccountSid, device_sids: Sequence[DeviceSid]) -> None:
    """Make the empty assignments of new devices."""
    await tx.write_many(_INSERT_ASSIGNMENT, [{"device_sid": sid, "account_sid": account_sid} for sid in device_sids])


async def find_assignment(source: Tx | Database, account_sid: AccountSid, device_sid: DeviceSid) -> Assignment | None:
    """Read what a device should run and says it runs."""
    return await source.one(
        Assignment, _ASSIGNMENTS + "= :device_sid", {"device_sid": device_sid, "account_sid": account_sid}
    )


async def find_assignments(
    tx: Tx, account_sid: AccountSid, device_sids: Sequence[DeviceSid]
) -> dict[DeviceSid, Assignment]:
    """Read the assignments of many devices."""
    sql = _ASSIGNMENTS + "IN (:keys)"
    found = await tx.read_many(Assignment, sql, device_sids, {"account_sid": account_sid})
    return {assignment.device_sid: assignment for assignment in found}


async def find_all_open(tx: Tx, account_sid: AccountSid, device_sids: Sequence[DeviceSid]) -> dict[DeviceSid, Update]:
    """Read the open updates of many devices."""
    sql = f"""SELECT {UPDATE_COLUMNS} FROM updates WHERE account_sid = :account_sid
        AND state IN {OPEN_STATES} AND device_sid IN (:keys)"""
    found = await tx.read_many(Update, sql, device_sids, {"account_sid": account_sid})
    return {update.device_sid: update for update in found}


async def find_open(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid) -> Update | None:
    """Read the open update of a device; there is at most one."""
    return await tx.one(Update, _OPEN, {"device_sid": device_sid, "account_sid": account_sid})


async def find(source: Tx | Database, account_sid: AccountSid, device_sid: DeviceSid, number: int) -> Update | None:
    """Read one update by its number."""
    params = {"device_sid": device_sid, "account_sid": account_sid, "number": number}
    return await source.one(Update, _GET, params)


async def find_at(db: Database, account_sid: AccountSid, device_sid: DeviceSid, place: int) -> Update | None:
    """Read a device's update by its place, 1 for the oldest."""
    sql = f"""SELECT {UPDATE_COLUMNS} FROM updates
        WHERE device_sid = :device_sid AND account_sid = :account_sid ORDER BY number LIMIT 1 OFFSET :before"""
    params = {"device_sid": device_sid, "account_sid": account_sid, "before": place - 1}
    return await db.one(Update, sql, params)


async def page(
    db: Database, account_sid: AccountSid, device_sid: DeviceSid, number: int | None, limit: int, *, newer: bool
) -> list[Update]:
    """Read updates of a device beside ``number``: older ones, newest first, or (``newer``) the reverse."""
    beside, order = ("number > :number", "ASC") if newer else ("number < :number", "DESC")
    sql = f"""SELECT {UPDATE_COLUMNS} FROM updates WHERE device_sid = :device_sid AND account_sid = :account_sid
        AND {beside} ORDER BY number {order} LIMIT :limit"""
    params = {
        "device_sid": device_sid,
        "account_sid": account_sid,
        "number": 1 << 40 if number is None else number,
        "limit": limit,
    }
    return await db.all(Update, sql, params)


async def set_target(
    tx: Tx,
    assignment: Assignment,
    *,
    target: tuple[AppSid, str] | None,
    reached: bool,
    now: Millis,
    mode: str = "forced",
    confirm: bool = False,
) -> None:
    """Set the target (SID and manifest hash; ``None`` clears it), and start its retries at 0."""
    await tx.run(
        _SET_TARGET,
        {
            "device_sid": assignment.device_sid,
            "account_sid": assignment.account_sid,
            "target_sid": target[0] if target else None,
            "target_hash": target[1] if target else None,
            "date_targeted": now if target else None,
            "reached": int(reached),
            "mode": mode,
            "confirm": int(confirm),
        },
    )


async def set_instruction(tx: Tx, assignment: Assignment, instruction: Instruction) -> None:
    """Note whose instruction the target is."""
    sql = """UPDATE assignments SET rollout_sid = :rollout_sid, date_instructed = :date
        WHERE device_sid = :device_sid AND account_sid = :account_sid"""
    keys = {"device_sid": assignment.device_sid, "account_sid": assignment.account_sid}
    await tx.run(sql, {**keys, "rollout_sid": instruction.rollout_sid, "date": instruction.date})


async def adopt(tx: Tx, update: Update, rollout_sid: str | None) -> None:
    """Let an update be one that a rollout (or, ``None``, somebody directly) asked for."""
    sql = """UPDATE updates SET rollout_sid = :rollout_sid
        WHERE device_sid = :device_sid AND account_sid = :account_sid AND number = :number"""
    await tx.run(sql, {**_keys(update), "rollout_sid": rollout_sid})


async def insert(
    tx: Tx, assignment: Assignment, *, app_sid: AppSid, app_hash: str, bytes_total: int, now: Millis
) -> int:
    """Make the next update of a device, pending; return its number, which neither its SID nor its board had before."""
    keys = {"device_sid": assignment.device_sid, "account_sid": assignment.account_sid}
    number = (await numbers.draw(tx, [assignment.device_sid], now))[assignment.device_sid]
    await tx.run(
        _INSERT,
        {
            **keys,
            "number": number,
            "app_sid": app_sid,
            "app_hash": app_hash,
            "bytes_total": bytes_total,
            "mode": assignment.target_mode,
            "confirmation": "waiting" if assignment.target_confirm else "none",
            "rollout_sid": assignment.rollout_sid,
            "now": now,
        },
    )
    await tx.run(_SET_NUMBER, {**keys, "number": number})
    return number


async def move(
    tx: Tx,
    update: Update,
    state: State,
    *,
    now: Millis,
    deadline: Millis | None = None,
    bytes_done: int | None = None,
    bytes_total: int | None = None,
    error_code: int = 0,
) -> bool:
    """Move ``update`` from the state it was read in to ``state``; return whether it still was in it."""
    changed = await tx.run(
        _MOVE,
        {
            **_keys(update),
            "expected": update.state.value,
            "state": state.value,
            "open": int(is_open(state)),
            "bytes_done": update.bytes_done if bytes_done is None else bytes_done,
            "bytes_total": update.bytes_total if bytes_total is None else bytes_total,
            "error_code": error_code,
            "deadline": deadline if is_open(state) else None,
            "now": now,
        },
    )
    return changed == 1


async def start_clock(tx: Tx, rows: list[dict[str, str | int]]) -> int:
    """Set the deadline of updates that their devices fetched for the first time.

    Each row gives ``device_sid``, ``number`` and ``deadline``; one whose clock runs, or that closed, is left alone.
    """
    return await tx.write_many(_START_CLOCK, rows)


async def overdue(db: Database, now: Millis, limit: int) -> list[Update]:
    """Read open updates whose deadline is over, the oldest first."""
    return await db.all(Update, _OVERDUE, {"now": now, "limit": limit})


async def set_report(
    tx: Tx,
    assignment: Assignment,
    *,
    reported: tuple[AppSid | None, str | None],
    journal: tuple[str, int, str],
    boot_count: int,
    wake_reason: int,
    left_out: str,
    reached: bool,
    retries: int,
    now: Millis,
) -> None:
    """Set what the device runs (SID, manifest hash) and the journal (id, sequence, retired ones) that said so."""
    await tx.run(
        _SET_REPORT,
        {
            "device_sid": assignment.device_sid,
            "account_sid": assignment.account_sid,
            "reported_sid": reported[0],
            "reported_hash": reported[1],
            "journal": journal[0],
            "sequence": journal[1],
            "retired": journal[2],
            "boot_count": boot_count,
            "wake_reason": wake_reason,
            "left_out": left_out,
            "reached": int(reached),
            "retries": retries,
            "now": now,
        },
    )


async def forget_report(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid) -> None:
    """Forget what the device reports; its target is not reached then."""
    sql = """UPDATE assignments SET reported_sid = NULL, reported_hash = NULL, date_reported = NULL,
        target_reached = 0, retries = 0, installed_number = NULL
        WHERE device_sid = :device_sid AND account_sid = :account_sid"""
    await tx.run(sql, {"device_sid": device_sid, "account_sid": account_sid})


async def want_attributes(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid) -> None:
    """Let the device be asked for its attributes anew."""
    sql = "UPDATE assignments SET wants_attributes = 1 WHERE device_sid = :device_sid AND account_sid = :account_sid"
    await tx.run(sql, {"device_sid": device_sid, "account_sid": account_sid})


async def note_attributes(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, now: Millis) -> None:
    """Note when the device sent its attributes: it need not be asked for them any more."""
    sql = """UPDATE assignments SET date_attributes = :now, wants_attributes = 0
        WHERE device_sid = :device_sid AND account_sid = :account_sid"""
    await tx.run(sql, {"device_sid": device_sid, "account_sid": account_sid, "now": now})


async def use_up_retries(
    tx: Tx, account_sid: AccountSid, rollout_sid: RolloutSid, device_sids: Sequence[DeviceSid], retries: int
) -> None:
    """Set how often devices were told their target again, where a rollout set it: to the most, nothing is retried."""
    sql = """UPDATE assignments SET retries = :retries
        WHERE device_sid = :device_sid AND account_sid = :account_sid AND rollout_sid = :rollout_sid"""
    common = {"account_sid": account_sid, "rollout_sid": rollout_sid, "retries": retries}
    await tx.write_many(sql, [{**common, "device_sid": sid} for sid in device_sids])


async def has_newer_success(tx: Tx, update: Update) -> bool:
    """Return whether the device closed a later update with success."""
    sql = f"""SELECT {UPDATE_COLUMNS} FROM updates WHERE device_sid = :device_sid AND account_sid = :account_sid
        AND number > :number AND state = 'succeeded' ORDER BY number DESC LIMIT 1"""
    return await tx.one(Update, sql, _keys(update)) is not None


async def set_protocol(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, protocol: DeviceProtocol) -> None:
    """Store by which protocol the device polls."""
    sql = "UPDATE assignments SET protocol = :protocol WHERE device_sid = :device_sid AND account_sid = :account_sid"
    await tx.run(sql, {"device_sid": device_sid, "account_sid": account_sid, "protocol": protocol.value})


async def ask_to_cancel(tx: Tx, update: Update, *, deadline: Millis, now: Millis) -> bool:
    """Mark an open update as to be canceled, until ``deadline``; false when it was marked already or is closed."""
    sql = """UPDATE updates SET cancel_requested = 1, date_deadline = :deadline, date_updated = :now
        WHERE device_sid = :device_sid AND account_sid = :account_sid AND number = :number
            AND open_app_sid IS NOT NULL AND cancel_requested = 0"""
    return await tx.run(sql, {**_keys(update), "deadline": deadline, "now": now}) == 1


async def go_on(tx: Tx, update: Update, *, deadline: Millis, now: Millis) -> bool:
    """Take back that an open update is to be canceled: the device refused. Tell whether it was marked."""
    sql = """UPDATE updates SET cancel_requested = 0, date_deadline = :deadline, date_updated = :now
        WHERE device_sid = :device_sid AND account_sid = :account_sid AND number = :number
            AND open_app_sid IS NOT NULL AND cancel_requested = 1"""
    return await tx.run(sql, {**_keys(update), "deadline": deadline, "now": now}) == 1


async def consent(tx: Tx, update: Update, now: Millis) -> bool:
    """Note that somebody consented to an open update; return whether it was waited for."""
    sql = """UPDATE updates SET confirmation = 'confirmed', date_updated = :now
        WHERE device_sid = :device_sid AND account_sid = :account_sid AND number = :number
            AND open_app_sid IS NOT NULL AND confirmation = 'waiting'"""
    return await tx.run(sql, {**_keys(update), "now": now}) == 1


async def set_installed(tx: Tx, update: Update, *, reached: bool, now: Millis) -> None:
    """Make an update's app what its device reports."""
    sql = """UPDATE assignments SET reported_sid = :app_sid, reported_hash = :app_hash, date_reported = :now,
        target_reached = :reached, installed_number = :number
        WHERE device_sid = :device_sid AND account_sid = :account_sid"""
    await tx.run(
        sql,
        {
            "device_sid": update.device_sid,
            "account_sid": update.account_sid,
            "app_sid": update.app_sid,
            "app_hash": update.app_hash,
            "number": update.number,
            "reached": int(reached),
            "now": now,
        },
    )
