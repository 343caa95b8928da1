"""What a rollout does with devices that it offered its app already: call silent, retry, cancel, and at last forget.

Each function returns the body of a transaction, which checks again what it was called for. Bells ring after the commit.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Tx
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.rollouts import rules, store
from fleetvisor.features.rollouts.model import Rollout
from fleetvisor.features.updates import members, offers, targets
from fleetvisor.features.updates import store as updates_store
from fleetvisor.features.updates.model import Instruction, Member, Place
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import DeviceSid

_ROWS: Final = """SELECT device_sid, wave, state, CASE WHEN evidence_from = 0 THEN 1 ELSE 0 END AS evidence
    FROM rollout_devices
    WHERE rollout_sid = :rollout_sid AND account_sid = :account_sid ORDER BY device_sid LIMIT :limit"""


class _Row(msgspec.Struct, frozen=True):
    device_sid: DeviceSid
    wave: int
    state: str
    evidence: bool


class _Overdue(msgspec.Struct, frozen=True):
    device_sid: DeviceSid
    state: str


class _Failed(msgspec.Struct, frozen=True):
    device_sid: DeviceSid
    failures: int


def call_overdue(rollout: Rollout, device_sids: Sequence[DeviceSid], now: Millis) -> Callable[[Tx], Awaitable[bool]]:
    """Call devices silent, or offline, that still are."""

    async def body(tx: Tx) -> bool:
        sql = f"""SELECT m.device_sid, u.state FROM rollout_devices m
            JOIN updates u ON u.device_sid = m.device_sid AND u.number = m.number
            WHERE m.rollout_sid = :rollout_sid AND m.account_sid = :account_sid AND m.state = 'updating'
                AND {store.OVERDUE} AND m.device_sid IN (:keys)"""
        keys = {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid}
        found = await tx.read_many(_Overdue, sql, device_sids, {**keys, **store.overdue_params(rollout, now)})
        changed = False
        for row in found:
            member = await members.find(tx, rollout.account_sid, rollout.rollout_sid, row.device_sid)
            if member is not None and member.state == "updating":
                became = "offline" if row.state == "pending" else "silent"
                changed |= await members.move(tx, member, became, now)
        return changed

    return body


def settle(
    rollout: Rollout, shut_out: Sequence[store.ShutOut], ripe: Sequence[DeviceSid], now: Millis
) -> Callable[[Tx], Awaitable[bool]]:
    """Stop waiting for devices that cannot report, and let those count as evidence that are no longer too new."""

    async def body(tx: Tx) -> bool:
        changed = False
        for row in shut_out:
            member = await members.find(tx, rollout.account_sid, rollout.rollout_sid, row.device_sid)
            if member is not None and member.state == "updating":
                changed |= await members.move(tx, member, "offline", now, reason=row.reason)
        for sid in ripe:
            member = await members.find(tx, rollout.account_sid, rollout.rollout_sid, sid)
            if member is not None:
                changed |= await members.count_as_evidence(tx, member)
        return changed

    return body


def retry(
    rollout: Rollout, device_sids: Sequence[DeviceSid], limits: Limits, now: Millis
) -> Callable[[Tx], Awaitable[list[DeviceSid] | None]]:
    """Offer the app again to devices that failed. An empty list ends the retry. The body returns whom it changed.

    It returns ``None`` if the limits of pace allow none. A device with a newer instruction leaves the rollout. A device
    with a penalty, or with an open update, stays as it is.
    """

    async def body(tx: Tx) -> list[DeviceSid] | None:
        current = await store.find(tx, rollout.account_sid, rollout.rollout_sid)
        if current is None or current.version != rollout.version:
            return []
        if not device_sids:
            await store.step(tx, rollout, now, date_retry=None)
            return []
        updating = rules.total((await store.counted(tx, rollout.rollout_sid)).counts)["updating"]
        room = rules.allowance(rollout, updating, now)
        done, again = await _sort(tx, rollout, device_sids, room, limits, now)
        if room == 0 and not done:
            return None
        instruction = Instruction(rollout.date_started or now, rollout.rollout_sid)
        numbers = await offers.make(
            tx, rollout.account_sid, list(again.values()), instruction, now, cancel_timeout_s=limits.cancel_timeout_s
        )
        known = await store.find_members(tx, rollout.account_sid, rollout.rollout_sid, device_sids)
        rows = [
            msgspec.structs.replace(
                known[sid],
                state="succeeded" if offer.reached else "updating",
                reason="",
                error_code=0,
                number=numbers[sid],
                attempts=known[sid].attempts + 1,
                date_offered=now,
                date_changed=now,
            )
            for sid, offer in again.items()
        ]
        await members.insert(tx, rows, known)
        await store.step(tx, rollout, now, date_paid=rules.pay(rollout, len(rows), now))
        return [*done, *again]

    return body


async def _sort(
    tx: Tx, rollout: Rollout, device_sids: Sequence[DeviceSid], room: int | None, limits: Limits, now: Millis
) -> tuple[list[DeviceSid], dict[DeviceSid, offers.Offer]]:
    """Return the devices that nothing more is done to, and what the others are offered."""
    account_sid = rollout.account_sid
    known = await store.find_members(tx, account_sid, rollout.rollout_sid, device_sids)
    assignments = await updates_store.find_assignments(tx, account_sid, device_sids)
    open_updates = await updates_store.find_all_open(tx, account_sid, device_sids)
    done: list[DeviceSid] = []
    again: dict[DeviceSid, offers.Offer] = {}
    for sid in device_sids:
        member, assignment = known.get(sid), assignments.get(sid)
        if member is None or assignment is None or member.state not in {"failed", "silent"}:
            continue
        app = await apps_store.find_in(tx, account_sid, str(member.app_sid))
        if app is None or assignment.rollout_sid != rollout.rollout_sid:
            await members.move(tx, member, "left", now)
            done.append(sid)
        elif sid in open_updates:
            await members.move(tx, member, member.state, now, reason=member.reason, error_code=member.error_code)
            done.append(sid)
        elif await _failures(tx, member) >= limits.penalty_failures:
            await members.move(tx, member, member.state, now, reason="penalty", error_code=member.error_code)
            done.append(sid)
        elif room is None or len(again) < room:
            again[sid] = offers.Offer(assignment, app, None)
    return done, again


async def _failures(tx: Tx, member: Member) -> int:
    sql = """SELECT device_sid, failures FROM app_failures
        WHERE device_sid = :device_sid AND app_sid = :app_sid AND account_sid = :account_sid"""
    keys = {"device_sid": member.device_sid, "app_sid": member.app_sid, "account_sid": member.account_sid}
    row = await tx.one(_Failed, sql, keys)
    return 0 if row is None else row.failures


def cancel(
    rollout: Rollout, device_sids: Sequence[DeviceSid], limits: Limits, now: Millis
) -> Callable[[Tx], Awaitable[bool]]:
    """Cancel the open updates of devices that the rollout still has. An empty list ends the canceling."""

    async def body(tx: Tx) -> bool:
        if not device_sids:
            await store.step(tx, rollout, now, canceling=0)
            return False
        changed = False
        for sid in device_sids:
            assignment = await updates_store.find_assignment(tx, rollout.account_sid, sid)
            if assignment is None or assignment.rollout_sid != rollout.rollout_sid:
                continue
            kept = Instruction(assignment.date_instructed or now, rollout.rollout_sid)
            await targets.cancel(
                tx, rollout.account_sid, sid, now, cancel_timeout_s=limits.cancel_timeout_s, instruction=kept
            )
            changed = True
        return changed

    return body


def remove(rollout: Rollout, limits: Limits) -> Callable[[Tx], Awaitable[bool]]:
    """Forget a chunk of the devices of a rollout that is being removed, and with the last chunk the rollout.

    If the rollout was given up, nothing is retried on a device that reverts later (``members.gave_up``). The rollout's
    row says so no more, so the devices' retries are used up. The body returns whether there was anything to forget.
    """

    async def body(tx: Tx) -> bool:
        keys = {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid}
        rows = await tx.all(_Row, _ROWS, {**keys, "limit": limits.rollout_chunk})
        if rollout.state != "completed":
            sids = [row.device_sid for row in rows]
            await updates_store.use_up_retries(
                tx, rollout.account_sid, rollout.rollout_sid, sids, limits.update_retries_max
            )
        await members.delete(tx, rollout.account_sid, rollout.rollout_sid, [row.device_sid for row in rows])
        gone = {
            key: -number for key, number in Counter(Place(row.wave, row.state, row.evidence) for row in rows).items()
        }
        await members.count(tx, rollout.rollout_sid, gone, 0)
        if len(rows) < limits.rollout_chunk:
            await store.delete(tx, rollout)
        return bool(rows)

    return body
