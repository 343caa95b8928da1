"""What must hold in every simulated world, whatever the seed: the promises of the server and of the device.

Deliberately looks at the flash and at the rows, not at what either side says of itself.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from fleetvisor.agent.flash import MemoryFlash
from fleetvisor.agent.journal import Journal
from fleetvisor.agent.plan import Geometry
from fleetvisor.agent.slots import Slots
from fleetvisor.agent.state import State
from fleetvisor.db.database import Database
from fleetvisor.protocol.lifecycle import State as UpdateState
from fleetvisor.protocol.lifecycle import is_open, may_follow
from fleetvisor.sim.loop import SeededEntropy
from fleetvisor.sim.operator import Firmware, Operator


class Violated(AssertionError):
    """A promise was broken."""


class _UpdateRow(msgspec.Struct, frozen=True):
    number: int
    state: str
    app_hash: str


class _ReportRow(msgspec.Struct, frozen=True):
    journal: str | None
    sequence: int


class _Wrong(msgspec.Struct, frozen=True):
    what: str
    stored: int
    counted: int


_UPDATES = """
SELECT number, state, app_hash FROM updates
WHERE device_sid = :device_sid AND account_sid = :account_sid ORDER BY number"""

_REPORT = """
SELECT journal, sequence FROM assignments WHERE device_sid = :device_sid AND account_sid = :account_sid"""

_COUNTS = """
SELECT 'devices of ' || a.account_sid AS what, a.device_count AS stored, COUNT(d.device_sid) AS counted
FROM accounts a LEFT JOIN devices d ON d.account_sid = a.account_sid GROUP BY a.account_sid, a.device_count
UNION ALL
SELECT 'uses of ' || l.digest, l.uses, COUNT(al.digest)
FROM layers l LEFT JOIN app_layers al ON al.digest = l.digest GROUP BY l.digest, l.uses
UNION ALL
SELECT 'assignment of ' || d.device_sid, 1, COUNT(s.device_sid)
FROM devices d LEFT JOIN assignments s ON s.device_sid = d.device_sid GROUP BY d.device_sid
UNION ALL
SELECT 'open app of update ' || u.number || ' of ' || u.device_sid, COUNT(u.open_app_sid),
    SUM(CASE WHEN u.state IN ('pending', 'downloading', 'installing', 'testing') THEN 1 ELSE 0 END)
FROM updates u GROUP BY u.device_sid, u.number"""


@dataclass(slots=True)
class History:
    """A device's updates as they were seen so far, and whether it ever had an app that stays."""

    device_sid: str
    account_sid: str
    seen: dict[int, tuple[UpdateState, str]] = field(default_factory=dict[int, tuple[UpdateState, str]])
    had_app: bool = False
    report: tuple[str | None, int] = (None, 0)

    async def look(self, db: Database) -> None:
        """Look at the rows: states only move forward, at most one is open, an update never changes its app.

        And the last report taken is never an older one.
        """
        keys = {"device_sid": self.device_sid, "account_sid": self.account_sid}
        rows = await db.all(_UpdateRow, _UPDATES, keys)
        if sum(is_open(UpdateState(row.state)) for row in rows) > 1:
            raise Violated(f"{self.device_sid} has two open updates: {rows}")
        if not self.seen.keys() <= {row.number for row in rows}:
            raise Violated(f"{self.device_sid} lost an update: had {sorted(self.seen)}, has {rows}")
        for row in rows:
            new = UpdateState(row.state)
            old, app_hash = self.seen.get(row.number, (new, row.app_hash))
            if app_hash != row.app_hash or (new != old and not may_follow(old, new)):
                raise Violated(f"update {row.number} of {self.device_sid} went from {old} to {new}")
            self.seen[row.number] = (new, row.app_hash)
        row = await db.one(_ReportRow, _REPORT, keys)
        if row is not None and row.journal == self.report[0] and row.sequence < self.report[1]:
            raise Violated(f"report {row.sequence} of {self.device_sid} overtook report {self.report[1]}")
        self.report = self.report if row is None else (row.journal, row.sequence)


def read_state(flash: MemoryFlash, geometry: Geometry) -> State | None:
    """Return the durable state of a device that is off; ``None`` when it has never completed a boot."""
    if Journal(flash, start=0, half_bytes=geometry.journal_bytes).empty:
        return None
    return Slots(flash, geometry, SeededEntropy("checks")).state


def check_flash(flash: MemoryFlash, geometry: Geometry, history: History, operator: Operator) -> None:
    """Hold the flash of a device against what was uploaded and assigned.

    Whatever slot may boot holds one uploaded app, whole, that an update named for this very device; and a device
    that once confirmed an app never again has none.
    """
    state = read_state(flash, geometry)
    if state is None:
        if history.had_app:
            raise Violated(f"{history.device_sid} lost its journal")
        return
    if history.had_app and state.confirmed is None:
        raise Violated(f"{history.device_sid} is bricked: no confirmed app")
    history.had_app = state.confirmed is not None
    bootable = (state.confirmed, None if state.trial is None else state.trial.slot)
    for slot in (slot for slot in bootable if slot is not None):
        image = state.slots[slot]
        if image is None or image.manifest not in operator.assigned[history.device_sid]:
            raise Violated(f"{history.device_sid} may boot {image}, which it was never assigned")
        _check_slot(flash, geometry, slot, operator.uploaded[image.manifest], history.device_sid)
    if state.trial is not None:
        image = state.slots[state.trial.slot]
        named = history.seen.get(state.trial.number)
        if named is None or image is None or named[1] != image.manifest:
            raise Violated(f"{history.device_sid} tries {image}, but its update {state.trial.number} is {named}")


def _check_slot(flash: MemoryFlash, geometry: Geometry, slot: int, firmware: Firmware, device_sid: str) -> None:
    for part in firmware.parts:
        start = geometry.slot_start(slot) + part.start + (geometry.internal_bytes if part.region == "external" else 0)
        if flash.read(start, len(part.content)) != part.content:
            raise Violated(f"{device_sid}: slot {slot} holds a mixture where {firmware.name} should be")


async def check_counts(db: Database) -> None:
    """Hold every stored count against the rows that it counts."""
    wrong = [row for row in await db.scan(_Wrong, _COUNTS, {}) if row.stored != row.counted]
    if wrong:
        raise Violated(f"counts that differ from their rows: {wrong}")


def check_arrived(device: dict[str, Any], state: State | None, firmware: Firmware) -> None:
    """Hold a device that should have arrived: it runs its target, for good, and the server knows."""
    if device["app"]["update_status"] != "up-to-date" or device["app"]["reported_sid"] != firmware.sid:
        raise Violated(f"{device['sid']} did not arrive at {firmware.name}: {device}")
    if state is None or state.running is None or state.running.manifest != firmware.manifest:
        raise Violated(f"{device['sid']} is said to run {firmware.name}, but its journal says {state}")
    if state.trial is not None or state.download is not None or (state.outcome and not state.outcome.told):
        raise Violated(f"{device['sid']} has not settled: {state}")
