"""What a rollout does with devices that it offered its app already: call silent, retry, cancel, and at last forget.

Each function returns the body of a transaction, which checks again what it was called for. Bells ring after the commit.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from fleetvisor.db.database import Tx
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.rollouts import members, rules, store
from fleetvisor.features.rollouts.model import Rollout
from fleetvisor.features.updates import offers, rollout_devices, targets
from fleetvisor.features.updates import store as updates_store
from fleetvisor.features.updates.model import RETRIED, Instruction, Place
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import DeviceSid


def call_overdue(rollout: Rollout, device_sids: Sequence[DeviceSid], now: Millis) -> Callable[[Tx], Awaitable[bool]]:
    """Call devices silent, or offline, that still are."""

    async def body(tx: Tx) -> bool:
        found = await members.still_overdue(tx, rollout, device_sids, now)
        changed = False
        for row in found:
            member = await rollout_devices.find(tx, rollout.account_sid, rollout.rollout_sid, row.device_sid)
            if member is not None and member.state == "updating":
                became = "offline" if row.state == "pending" else "silent"
                changed |= await rollout_devices.move(tx, member, became, now)
        return changed

    return body


def settle(
    rollout: Rollout, shut_out: Sequence[members.ShutOut], ripe: Sequence[DeviceSid], now: Millis
) -> Callable[[Tx], Awaitable[bool]]:
    """Stop waiting for devices that cannot report, and let those count as evidence that are no longer too new."""

    async def body(tx: Tx) -> bool:
        changed = False
        for row in shut_out:
            member = await rollout_devices.find(tx, rollout.account_sid, rollout.rollout_sid, row.device_sid)
            if member is not None and member.state == "updating":
                changed |= await rollout_devices.move(tx, member, "offline", now, reason=row.reason)
        for sid in ripe:
            member = await rollout_devices.find(tx, rollout.account_sid, rollout.rollout_sid, sid)
            if member is not None:
                changed |= await rollout_devices.count_as_evidence(tx, member)
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
        known = await members.find_many(tx, rollout.account_sid, rollout.rollout_sid, device_sids)
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
        await rollout_devices.insert(tx, rows, known)
        await store.step(tx, rollout, now, date_paid=rules.pay(rollout, len(rows), now))
        return [*done, *again]

    return body


async def _sort(
    tx: Tx, rollout: Rollout, device_sids: Sequence[DeviceSid], room: int | None, limits: Limits, now: Millis
) -> tuple[list[DeviceSid], dict[DeviceSid, offers.Offer]]:
    """Return the devices that nothing more is done to, and what the others are offered."""
    account_sid = rollout.account_sid
    known = await members.find_many(tx, account_sid, rollout.rollout_sid, device_sids)
    assignments = await updates_store.find_assignments(tx, account_sid, device_sids)
    open_updates = await updates_store.find_all_open(tx, account_sid, device_sids)
    failures = await rollout_devices.failures_of(tx, account_sid, device_sids)
    done: list[DeviceSid] = []
    again: dict[DeviceSid, offers.Offer] = {}
    for sid in device_sids:
        member, assignment = known.get(sid), assignments.get(sid)
        if member is None or assignment is None or member.state not in RETRIED:
            continue
        app = await apps_store.find_in(tx, account_sid, str(member.app_sid))
        if app is None or assignment.rollout_sid != rollout.rollout_sid:
            await rollout_devices.move(tx, member, "left", now)
            done.append(sid)
        elif sid in open_updates:
            await rollout_devices.move(
                tx, member, member.state, now, reason=member.reason, error_code=member.error_code
            )
            done.append(sid)
        elif failures.get((sid, str(member.app_sid)), 0) >= limits.penalty_failures:
            await rollout_devices.move(tx, member, member.state, now, reason="penalty", error_code=member.error_code)
            done.append(sid)
        elif room is None or len(again) < room:
            again[sid] = offers.Offer(assignment, app, None)
    return done, again


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

    If the rollout was given up, nothing is retried on a device that reverts later (``rollout_devices.gave_up``). The
    rollout's row says so no more, so the devices' retries are used up. The body returns whether there was anything to
    forget.
    """

    async def body(tx: Tx) -> bool:
        rows = await members.first(tx, rollout, limits.rollout_chunk)
        if rules.gave_up(rollout.state):
            sids = [row.device_sid for row in rows]
            await updates_store.use_up_retries(
                tx, rollout.account_sid, rollout.rollout_sid, sids, limits.update_retries_max
            )
        await rollout_devices.delete(tx, rollout.account_sid, rollout.rollout_sid, [row.device_sid for row in rows])
        gone = {
            key: -number for key, number in Counter(Place(row.wave, row.state, row.evidence) for row in rows).items()
        }
        await rollout_devices.count(tx, rollout.rollout_sid, gone, 0)
        if len(rows) < limits.rollout_chunk:
            await store.delete(tx, rollout)
        return bool(rows)

    return body
