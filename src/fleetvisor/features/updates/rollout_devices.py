"""What became of each device of a rollout, and how many of each there are: changed together, so that counts are exact.

The rows stand here because updates move them: an update that a rollout made closes in one transaction with its row and
its count. Every move is a compare-and-set, and counts change by what it changed. A count is the sum of its shards, so
that devices that report at once do not wait for one another. Deliberately decides nothing of rollouts.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.updates import store
from fleetvisor.features.updates.model import EXCUSED, UNDECIDED, Assignment, Member, MemberState, Place, Update
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, DeviceSid, RolloutSid
from fleetvisor.protocol.lifecycle import ErrorCode, State, is_open

SHARDS: Final = 16
#: The shard of devices that were removed: what they came to stays counted, though they have no row any more.
REMOVED: Final = -1
_COUNTED_FOR_EVER: Final = frozenset({"succeeded", "failed", "silent"})
COLUMNS: Final = Member.__struct_fields__
_COLUMNS: Final = ", ".join(COLUMNS)
_FIND: Final = f"""SELECT {_COLUMNS} FROM rollout_devices
    WHERE rollout_sid = :rollout_sid AND device_sid = :device_sid AND account_sid = :account_sid"""
_INSERT: Final = f"""INSERT INTO rollout_devices ({_COLUMNS}) VALUES ({", ".join(f":{name}" for name in COLUMNS)})
    ON CONFLICT (rollout_sid, device_sid) DO UPDATE SET {", ".join(f"{name} = :{name}" for name in COLUMNS[3:])}"""
_OF_DEVICE: Final = f"""SELECT {_COLUMNS} FROM rollout_devices
    WHERE device_sid = :device_sid AND account_sid = :account_sid"""
_WAITING: Final = f"""SELECT {_COLUMNS} FROM rollout_devices
    WHERE device_sid = :device_sid AND account_sid = :account_sid AND state = 'updating' AND number IS NULL
        AND app_sid = :app_sid"""
_MOVE: Final = """UPDATE rollout_devices SET state = :state, reason = :reason, error_code = :error_code,
    date_changed = :now
    WHERE rollout_sid = :rollout_sid AND device_sid = :device_sid AND account_sid = :account_sid
        AND state = :expected"""
_COUNT: Final = """INSERT INTO rollout_counts (rollout_sid, wave, state, evidence, shard, count)
    VALUES (:rollout_sid, :wave, :state, :evidence, :shard, :count)
    ON CONFLICT (rollout_sid, wave, state, evidence, shard) DO UPDATE SET count = rollout_counts.count + :count"""
_RIPEN: Final = """UPDATE rollout_devices SET evidence_from = 0
    WHERE rollout_sid = :rollout_sid AND device_sid = :device_sid AND account_sid = :account_sid
        AND evidence_from > 0"""
#: As ``rollouts/rules.gave_up`` says it, of a rollout's state.
GIVEN_UP: Final = "state IN ('stopped', 'aborted')"
_FAIL: Final = """INSERT INTO app_failures (device_sid, app_sid, account_sid, failures, date_failed)
    VALUES (:device_sid, :app_sid, :account_sid, 1, :now)
    ON CONFLICT (device_sid, app_sid) DO UPDATE SET failures = app_failures.failures + 1, date_failed = :now"""


class _State(msgspec.Struct, frozen=True):
    state: str


class _Failures(msgspec.Struct, frozen=True):
    device_sid: DeviceSid
    app_sid: str
    failures: int


async def find(
    source: Tx | Database, account_sid: AccountSid, rollout_sid: str, device_sid: DeviceSid
) -> Member | None:
    """Read what became of one device in one rollout."""
    keys = {"rollout_sid": rollout_sid, "device_sid": device_sid, "account_sid": account_sid}
    return await source.one(Member, _FIND, keys)


async def failures_of(
    tx: Tx, account_sid: AccountSid, device_sids: Sequence[DeviceSid]
) -> dict[tuple[DeviceSid, str], int]:
    """Read how often devices failed apps, by device and app."""
    sql = """SELECT device_sid, app_sid, failures FROM app_failures
        WHERE account_sid = :account_sid AND device_sid IN (:keys)"""
    rows = await tx.read_many(_Failures, sql, device_sids, {"account_sid": account_sid})
    return {(row.device_sid, row.app_sid): row.failures for row in rows}


async def move(
    tx: Tx, member: Member, state: MemberState, now: Millis, *, reason: str = "", error_code: int = 0
) -> bool:
    """Move a device's row from the state it was read in, and the counts with it; return whether it still was in it."""
    changed = await tx.run(
        _MOVE,
        {
            "rollout_sid": member.rollout_sid,
            "device_sid": member.device_sid,
            "account_sid": member.account_sid,
            "expected": member.state,
            "state": state,
            "reason": reason,
            "error_code": error_code,
            "now": now,
        },
    )
    if changed == 1 and state != member.state:
        changes = {member.place(): -1, member.place(state): 1}
        await count(tx, member.rollout_sid, changes, shard_of(member.device_sid))
    return changed == 1


async def count(tx: Tx, rollout_sid: RolloutSid, changes: Mapping[Place, int], shard: int) -> None:
    """Add to the counts of places."""
    rows = [
        {
            "rollout_sid": rollout_sid,
            "wave": place.wave,
            "state": place.state,
            "evidence": int(place.evidence),
            "shard": shard,
            "count": number,
        }
        for place, number in sorted(changes.items())
        if number
    ]
    await tx.write_many(_COUNT, rows)


def shard_of(device_sid: str) -> int:
    """Return the shard in which a device is counted."""
    return int(device_sid[-2:], 16) % SHARDS


async def follow(tx: Tx, update: Update, state: State, now: Millis, error_code: int) -> None:
    """Move the row of the device whose update moved to ``state``, or was heard of in it, if a rollout made it."""
    excused = error_code == ErrorCode.NO_REPORT and await _is_excused(tx, update)
    blameless = state == State.FAILED and bool(await apps_store.damaged(tx, (update.app_sid,)))
    if state == State.FAILED and not excused and not blameless:
        keys = {"device_sid": update.device_sid, "app_sid": update.app_sid, "account_sid": update.account_sid}
        await tx.run(_FAIL, {**keys, "now": now})
    if update.cancel_requested and state in {State.SUCCEEDED, State.FAILED}:
        update = await hand_over(tx, update)
    member = await _member_of(tx, update)
    if member is None:
        return
    became = "left" if excused else _state_of(member.state, state, error_code)
    reason = member.reason if excused else ""
    if blameless and became in {"failed", "silent"}:  # nobody could download it: it is offered again once it is mended
        became, reason = "skipped", "damaged"
    if became != member.state:
        await move(tx, member, became, now, reason=reason, error_code=error_code)


async def _member_of(tx: Tx, update: Update) -> Member | None:
    """Read the row of the device in the rollout that made an update; ``None`` when no rollout did."""
    if update.rollout_sid is None:
        return None
    member = await find(tx, update.account_sid, update.rollout_sid, update.device_sid)
    return None if member is None or member.number != update.number else member


async def _is_excused(tx: Tx, update: Update) -> bool:
    """Return whether the device cannot report because it was shut out: its silence says nothing of the app."""
    member = await _member_of(tx, update)
    return member is not None and member.state == "offline" and member.reason in EXCUSED


async def count_as_evidence(tx: Tx, member: Member) -> bool:
    """Let a device's result count for the guard from now on; return whether it did not before."""
    keys = {"rollout_sid": member.rollout_sid, "device_sid": member.device_sid, "account_sid": member.account_sid}
    if await tx.run(_RIPEN, keys) != 1:
        return False
    counting = msgspec.structs.replace(member, evidence_from=Millis(0))
    await count(tx, member.rollout_sid, {member.place(): -1, counting.place(): 1}, shard_of(member.device_sid))
    return True


async def hand_over(tx: Tx, update: Update) -> Update:
    """Hand an update that was not canceled, though that was asked for, to the rollout that waits to offer its app."""
    keys = {"device_sid": update.device_sid, "account_sid": update.account_sid, "app_sid": update.app_sid}
    waiting = await tx.one(Member, _WAITING, keys)
    if waiting is None:
        return update
    await store.adopt(tx, update, waiting.rollout_sid)
    await number(tx, update.account_sid, waiting.rollout_sid, update.device_sid, update.number)
    return msgspec.structs.replace(update, rollout_sid=waiting.rollout_sid)


def _state_of(was: MemberState, state: State, error_code: int) -> MemberState:
    """Return what a device becomes by its update's move; one that was silent stays so, unless it speaks."""
    if was not in UNDECIDED and was != "silent":
        return was
    if was == "silent" and state in {State.CANCELED, State.SUPERSEDED}:
        return was
    if is_open(state):
        return "updating"
    match state:
        case State.SUCCEEDED:
            return "succeeded"
        case State.FAILED:
            return "silent" if error_code == ErrorCode.NO_REPORT else "failed"
        case State.CANCELED:
            return "canceled"
        case _:
            return "left"


async def leave(
    tx: Tx, account_sid: AccountSid, rollout_sid: str, device_sid: DeviceSid, now: Millis, state: MemberState
) -> None:
    """Take an undecided device out of a rollout, because something else is instructed."""
    member = await find(tx, account_sid, rollout_sid, device_sid)
    if member is not None and member.state in UNDECIDED:
        await move(tx, member, state, now)


async def arrive(tx: Tx, account_sid: AccountSid, rollout_sid: str, device_sid: DeviceSid, now: Millis) -> None:
    """Note that a device for which a rollout waited to make an update needs none any more."""
    member = await find(tx, account_sid, rollout_sid, device_sid)
    if member is not None and member.state == "updating" and member.number is None:
        await move(tx, member, "succeeded", now)


async def revert(tx: Tx, assignment: Assignment, now: Millis) -> None:
    """Note that a device left the app that it had succeeded with.

    Each time it has failed the app once more; in the rollout that offered it, it counts as failed, once.
    """
    account_sid, device_sid = assignment.account_sid, assignment.device_sid
    if assignment.reported_hash == assignment.target_hash:  # else it left it before, and says so again
        keys = {"device_sid": device_sid, "app_sid": assignment.target_sid, "account_sid": account_sid}
        await tx.run(_FAIL, {**keys, "now": now})
    if assignment.rollout_sid is None:
        return
    member = await find(tx, account_sid, assignment.rollout_sid, device_sid)
    if member is not None and member.state == "succeeded":
        await move(tx, member, "failed", now, reason="reverted", error_code=int(ErrorCode.REVERTED))


async def gave_up(tx: Tx, account_sid: AccountSid, rollout_sid: str) -> bool:
    """Return whether a rollout was stopped or aborted: nothing is tried for it any more."""
    sql = f"""SELECT state FROM rollouts
        WHERE rollout_sid = :rollout_sid AND account_sid = :account_sid AND {GIVEN_UP}"""
    return await tx.one(_State, sql, {"rollout_sid": rollout_sid, "account_sid": account_sid}) is not None


async def number(tx: Tx, account_sid: AccountSid, rollout_sid: str, device_sid: DeviceSid, made: int) -> None:
    """Note which update a rollout made for a device, where it had to wait for another's end."""
    sql = """UPDATE rollout_devices SET number = :number
        WHERE rollout_sid = :rollout_sid AND device_sid = :device_sid AND account_sid = :account_sid
            AND state = 'updating' AND number IS NULL"""
    keys = {"rollout_sid": rollout_sid, "device_sid": device_sid, "account_sid": account_sid}
    await tx.run(sql, {**keys, "number": made})


async def forget(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid) -> None:
    """Take a device that is removed out of the counts; its rows go with it.

    What speaks for or against an app stays counted: a release must not look better because failed devices were removed.
    """
    for member in await tx.all(Member, _OF_DEVICE, {"device_sid": device_sid, "account_sid": account_sid}):
        await count(tx, member.rollout_sid, {member.place(): -1}, shard_of(device_sid))
        if member.state in _COUNTED_FOR_EVER:
            await count(tx, member.rollout_sid, {member.place(): 1}, REMOVED)


async def delete(tx: Tx, account_sid: AccountSid, rollout_sid: RolloutSid, device_sids: Sequence[DeviceSid]) -> None:
    """Delete the rows of devices of one rollout; the caller takes them out of the counts."""
    sql = """DELETE FROM rollout_devices
        WHERE rollout_sid = :rollout_sid AND device_sid = :device_sid AND account_sid = :account_sid"""
    keys = {"rollout_sid": rollout_sid, "account_sid": account_sid}
    await tx.write_many(sql, [{**keys, "device_sid": sid} for sid in device_sids])


async def end_damage(tx: Tx, account_sid: AccountSid, rollout_sid: RolloutSid) -> None:
    """Let devices be offered again that were skipped because their app was damaged."""
    sql = """UPDATE rollout_devices SET reason = 'mended'
        WHERE rollout_sid = :rollout_sid AND account_sid = :account_sid AND state = 'skipped' AND reason = 'damaged'"""
    await tx.run(sql, {"rollout_sid": rollout_sid, "account_sid": account_sid})


async def lift(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, app_sid: str) -> bool:
    """Forget that a device failed an app; return whether it had."""
    sql = """DELETE FROM app_failures
        WHERE device_sid = :device_sid AND app_sid = :app_sid AND account_sid = :account_sid"""
    return await tx.run(sql, {"device_sid": device_sid, "app_sid": app_sid, "account_sid": account_sid}) == 1


async def insert(tx: Tx, rows: Sequence[Member], before: Mapping[DeviceSid, Member]) -> None:
    """Write the rows of devices that one rollout came to, in place of those ``before``, and count them."""
    if not rows:
        return
    await tx.write_many(_INSERT, [msgspec.structs.asdict(row) for row in rows])
    changes: Counter[Place] = Counter()
    for row in rows:
        changes[row.place()] += 1
        old = before.get(row.device_sid)
        if old is not None:
            changes[old.place()] -= 1
    await count(tx, rows[0].rollout_sid, changes, shard_of(rows[0].device_sid))
