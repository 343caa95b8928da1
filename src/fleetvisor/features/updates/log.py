"""What a device said about an update, in lines of text: the newest are kept.

Bounded three times, in updates, in lines of each and in their length: an SWUpdate device sends 48 lines with each of
its many feedbacks. The lines are a device's own text, so whoever shows them escapes them.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.updates.model import Update
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import AccountSid, DeviceSid

_APPEND: Final = """
INSERT INTO update_log (device_sid, number, position, line, date_created)
SELECT :device_sid, :number, COALESCE(MAX(position), 0) + 1, :line, :now FROM update_log
WHERE device_sid = :device_sid AND number = :number"""
_TRIM: Final = """
DELETE FROM update_log WHERE device_sid = :device_sid AND number = :number AND position <= (
    SELECT MAX(position) FROM update_log WHERE device_sid = :device_sid AND number = :number) - :kept"""
_FORGET: Final = """
DELETE FROM update_log WHERE device_sid = :device_sid AND number <= (
    SELECT number FROM updates WHERE device_sid = :device_sid AND account_sid = :account_sid
    ORDER BY number DESC LIMIT 1 OFFSET :kept)"""
_READ: Final = """
SELECT l.line, l.date_created FROM update_log l
JOIN updates u ON u.device_sid = l.device_sid AND u.number = l.number
WHERE l.device_sid = :device_sid AND l.number = :number AND u.account_sid = :account_sid ORDER BY l.position"""


class LogLine(msgspec.Struct, frozen=True):
    """One line, and when it came."""

    line: str
    date_created: Millis


async def append(tx: Tx, update: Update, lines: Sequence[str], now: Millis, limits: Limits) -> None:
    """Append lines to an update's log; of more lines, and of more updates, than are kept only the newest."""
    if not lines:
        return
    keys = {"device_sid": update.device_sid, "number": update.number}
    for line in lines[-limits.update_log_lines_max :]:
        text = clean(line)[: limits.update_log_line_chars_max]
        await tx.run(_APPEND, {**keys, "line": text, "now": now})
    await tx.run(_TRIM, {**keys, "kept": limits.update_log_lines_max})
    whose = {"device_sid": update.device_sid, "account_sid": update.account_sid}
    await tx.run(_FORGET, {**whose, "kept": limits.update_logs_max})


async def read(db: Database, account_sid: AccountSid, device_sid: DeviceSid, number: int) -> list[LogLine]:
    """Read an update's log, the oldest line first."""
    return await db.all(LogLine, _READ, {"account_sid": account_sid, "device_sid": device_sid, "number": number})


def clean(line: str) -> str:
    """Return a line as both database engines can store it: NUL and lone surrogates become question marks."""
    return "".join("?" if char == "\0" or "\ud800" <= char <= "\udfff" else char for char in line)
