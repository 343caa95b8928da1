"""The change log: every change appends its event in its own transaction, and a tail reads them in a safe order.

Deliberately no secrets in ``data``, and no delivery: who wants to hear of changes reads ``tail``. NOTE: event
types and the keys of their data are read by other programs later; a type renamed here is a break for them.

In PostgreSQL an id is given before its row is committed, so ids alone would let a reader pass a row that is not
there yet. Rows are ordered by the transaction that wrote them instead, and read only below the horizon under
which every transaction has ended. On SQLite, where commits are in order, writer is 0 and the horizon 1.
"""

from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, DeviceSid

_APPEND: Final = """
INSERT INTO events (writer, account_sid, type, subject_sid, device_sid, data, date_created)
VALUES (current_writer(), :account_sid, :type, :subject_sid, :device_sid, :data, :now)"""

_TAIL: Final = """
SELECT event_id, writer, account_sid, type, subject_sid, device_sid, data, date_created FROM events
WHERE (writer, event_id) > (:writer, :event_id) AND writer < writer_horizon()
ORDER BY writer, event_id LIMIT :limit"""

_LAST: Final = """
SELECT event_id, writer FROM events WHERE writer < writer_horizon() ORDER BY writer DESC, event_id DESC LIMIT 1"""


class Event(msgspec.Struct, frozen=True):
    """One thing that happened; ``data`` is a JSON object."""

    event_id: int
    writer: int
    account_sid: AccountSid
    type: str
    subject_sid: str
    device_sid: DeviceSid | None
    data: str
    date_created: Millis

    @property
    def place(self) -> tuple[int, int]:
        """Give the place to read on after."""
        return (self.writer, self.event_id)


class _Last(msgspec.Struct, frozen=True):
    event_id: int
    writer: int


async def append(
    tx: Tx,
    *,
    account_sid: AccountSid,
    type: str,  # noqa: A002  the column's and the API's word
    subject_sid: str,
    device_sid: DeviceSid | None = None,
    data: dict[str, str | int | None] | None = None,
    now: Millis,
) -> None:
    """Append one event to the transaction that makes it true."""
    await tx.run(
        _APPEND,
        {
            "account_sid": account_sid,
            "type": type,
            "subject_sid": subject_sid,
            "device_sid": device_sid,
            "data": msgspec.json.encode(data or {}).decode(),
            "now": now,
        },
    )


async def tail(db: Database, after: tuple[int, int], limit: int = 1000) -> list[Event]:
    """Read the events after a place, oldest first; one whose transaction is unfinished is never passed."""
    return await db.all(Event, _TAIL, {"writer": after[0], "event_id": after[1], "limit": limit})


async def tail_start(db: Database) -> tuple[int, int]:
    """Give the place after every event that is finished now."""
    last = await db.one(_Last, _LAST, {})
    return (last.writer, last.event_id) if last else (-1, 0)
