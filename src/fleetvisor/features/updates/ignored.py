"""Reports that are acknowledged and ignored because their sequence did not rise: counted, told once, and set right.

So is what is left out of a report that counts, because it could not be read: told when it changes.

A board that counts in memory, or whose flash was written back from a copy, would be ignored for ever with 200. The
first such report after one that was taken is an event; the rest are counted. A new journal begins anew by itself, and
an operator can let the old one begin anew. Spec: ``docs/reference/device-api.md``.
"""

from typing import Final

from fleetvisor.db.database import Tx
from fleetvisor.features.events import store as events
from fleetvisor.features.updates.model import Assignment
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, DeviceSid
from fleetvisor.protocol.native import Report

_COUNT: Final = """UPDATE assignments SET ignored_reports = ignored_reports + 1, date_ignored = :now
    WHERE device_sid = :device_sid AND account_sid = :account_sid"""
_FORGET: Final = """UPDATE assignments SET ignored_reports = 0, date_ignored = NULL
    WHERE device_sid = :device_sid AND account_sid = :account_sid"""
_BEGIN_ANEW: Final = """UPDATE assignments SET journal = NULL, sequence = 0, retired_journals = '',
    ignored_reports = 0, date_ignored = NULL
    WHERE device_sid = :device_sid AND account_sid = :account_sid"""


async def count(tx: Tx, assignment: Assignment, report: Report, now: Millis) -> None:
    """Count a report that is ignored; the first one since a report was taken is an event."""
    keys = {"device_sid": assignment.device_sid, "account_sid": assignment.account_sid}
    await tx.run(_COUNT, {**keys, "now": now})
    if assignment.ignored_reports == 0:
        await events.append_of_device(
            tx,
            assignment.account_sid,
            assignment.device_sid,
            "device.report_ignored",
            {"journal": report.journal, "sequence": report.sequence, "last_sequence": assignment.sequence},
            now,
        )


async def forget(tx: Tx, assignment: Assignment) -> None:
    """Note that a report was taken: none has been ignored since."""
    if assignment.ignored_reports:
        await tx.run(_FORGET, {"device_sid": assignment.device_sid, "account_sid": assignment.account_sid})


async def begin_anew(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid) -> None:
    """Forget the journals of a device: its next report is taken, whatever its sequence."""
    await tx.run(_BEGIN_ANEW, {"device_sid": device_sid, "account_sid": account_sid})


async def tell_left_out(tx: Tx, assignment: Assignment, names: str, now: Millis) -> None:
    """Append the event that a report counts, but without values that could not be read."""
    await events.append_of_device(
        tx, assignment.account_sid, assignment.device_sid, "device.report_mended", {"left_out": names}, now
    )
