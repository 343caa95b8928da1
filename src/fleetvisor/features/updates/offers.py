"""Targets for many devices at once: what ``targets.assign`` does one by one, in few statements.

A rollout releases a wave by this. Deliberately decides neither who is offered what nor what becomes of it: the caller
does the one, ``members`` keeps the other. Bells ring after the commit.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Tx
from fleetvisor.features.apps.model import App
from fleetvisor.features.events import store as events
from fleetvisor.features.updates import numbers as numbering
from fleetvisor.features.updates import store, targets
from fleetvisor.features.updates.model import Assignment, Instruction, Update, Wanted
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, DeviceSid

_INSERT: Final = """
INSERT INTO updates (device_sid, number, account_sid, app_sid, app_hash, open_app_sid, state, bytes_total,
    rollout_sid, date_created, date_updated)
VALUES (:device_sid, :number, :account_sid, :app_sid, :app_hash, :app_sid, 'pending', :bytes_total, :rollout_sid,
    :now, :now)"""
_TARGET: Final = """
UPDATE assignments SET target_sid = :target_sid, target_hash = :target_hash, date_targeted = :now,
    target_reached = :reached, retries = 0, target_mode = 'forced', target_confirm = 0, rollout_sid = :rollout_sid,
    date_instructed = :instructed, last_number = COALESCE(:number, last_number)
WHERE device_sid = :device_sid AND account_sid = :account_sid"""
_TOUCH: Final = "UPDATE devices SET date_updated = :now WHERE device_sid = :device_sid AND account_sid = :account_sid"


class Offer(msgspec.Struct, frozen=True):
    """One device, what it should run and runs now, and its open update, as they were read in this transaction."""

    assignment: Assignment
    app: App
    open_update: Update | None

    @property
    def reached(self) -> bool:
        """Whether the device reports the app already."""
        return self.assignment.reported_hash == self.app.manifest_hash

    @property
    def opens(self) -> bool:
        """Whether an update to the app is open once it is made: also one that was, of a device that reports the app."""
        return not self.reached or (self.open_update is not None and self.open_update.app_sid == self.app.app_sid)


async def make(
    tx: Tx,
    account_sid: AccountSid,
    offers: Sequence[Offer],
    instruction: Instruction,
    now: Millis,
    *,
    cancel_timeout_s: int,
) -> dict[DeviceSid, int | None]:
    """Set the targets and make the updates that they ask for; return the updates' numbers.

    ``None``: none was made, because the device runs the app already or must first answer about another update.
    """
    numbers: dict[DeviceSid, int | None] = {}
    for offer in offers:
        if offer.open_update is not None:
            device_sid = offer.assignment.device_sid
            await targets.assign(
                tx,
                account_sid,
                device_sid,
                Wanted(offer.app),
                now,
                cancel_timeout_s=cancel_timeout_s,
                instruction=instruction,
            )
            made = await store.find_open(tx, account_sid, device_sid)
            ours = made is not None and made.rollout_sid == instruction.rollout_sid
            numbers[device_sid] = made.number if made is not None and ours else None
    free = [offer for offer in offers if offer.open_update is None]
    given = await numbering.draw(tx, [offer.assignment.device_sid for offer in free if not offer.reached], now)
    await _write(tx, account_sid, free, given, instruction, now)
    await _tell(tx, account_sid, free, given, instruction, now)
    touched = [{"device_sid": offer.assignment.device_sid, "account_sid": account_sid, "now": now} for offer in offers]
    await tx.write_many(_TOUCH, touched)
    return numbers | {offer.assignment.device_sid: given.get(offer.assignment.device_sid) for offer in free}


async def _write(
    tx: Tx,
    account_sid: AccountSid,
    offers: Sequence[Offer],
    numbers: Mapping[DeviceSid, int],
    instruction: Instruction,
    now: Millis,
) -> None:
    inserts: list[dict[str, str | int | None]] = []
    targets: list[dict[str, str | int | None]] = []
    for offer in offers:
        device_sid, app = offer.assignment.device_sid, offer.app
        number = numbers.get(device_sid)
        keys = {
            "device_sid": device_sid,
            "account_sid": account_sid,
            "rollout_sid": instruction.rollout_sid,
            "now": now,
        }
        targets.append(
            {
                **keys,
                "target_sid": app.app_sid,
                "target_hash": app.manifest_hash,
                "reached": int(number is None),
                "instructed": instruction.date,
                "number": number,
            }
        )
        if number is not None:
            what = {"app_sid": app.app_sid, "app_hash": app.manifest_hash, "bytes_total": app.size_bytes}
            inserts.append({**keys, **what, "number": number})
    await tx.write_many(_INSERT, inserts)
    await tx.write_many(_TARGET, targets)


async def _tell(
    tx: Tx,
    account_sid: AccountSid,
    offers: Sequence[Offer],
    numbers: Mapping[DeviceSid, int],
    instruction: Instruction,
    now: Millis,
) -> None:
    made: dict[str, list[tuple[DeviceSid, dict[str, str | int | None]]]] = {}
    for offer in offers:
        number = numbers.get(offer.assignment.device_sid)
        if number is not None:
            data: dict[str, str | int | None] = {"number": number, "rollout_sid": instruction.rollout_sid}
            made.setdefault(offer.app.app_sid, []).append((offer.assignment.device_sid, data))
    for app_sid, devices in made.items():
        await events.append_devices(
            tx, account_sid=account_sid, type="update.pending", devices=devices, now=now, subject_sid=app_sid
        )
    reached: list[tuple[DeviceSid, dict[str, str | int | None]]] = [
        (offer.assignment.device_sid, {"target_sid": offer.app.app_sid, "rollout_sid": instruction.rollout_sid})
        for offer in offers
        if offer.assignment.device_sid not in numbers and offer.assignment.target_sid != offer.app.app_sid
    ]
    await events.append_devices(tx, account_sid=account_sid, type="device.targeted", devices=reached, now=now)
