"""A device's budget of events: so many an hour each have their own; what comes beyond is merged into one, with a count.

The merged event is always the last one that happened, and has a new id each time: who reads the change log on
(``tail``) hears of every change, and the log does not grow. What a device runs, and its updates, are rows of
their own, which no budget touches. The count lies in the database, beside what it counts: it is true on every node.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from fleetvisor.db.database import Tx
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import DeviceSid

APPEND: Final = """
INSERT INTO events
    (writer, account_sid, type, subject_sid, device_sid, actor_sid, address, request_sid, data, date_created)
VALUES (current_writer(), :account_sid, :type, :subject_sid, :device_sid, :actor_sid, :address, :request_sid, :data,
    :now)"""

_COUNT: Final = """
INSERT INTO device_events (device_sid, hour, count, merged_id)
SELECT device_sid, :hour, 1, NULL FROM devices WHERE device_sid = :device_sid
ON CONFLICT (device_sid) DO UPDATE SET hour = excluded.hour,
    count = CASE WHEN device_events.hour = excluded.hour THEN device_events.count + 1 ELSE 1 END,
    merged_id = CASE WHEN device_events.hour = excluded.hour THEN device_events.merged_id ELSE NULL END
RETURNING count, merged_id"""
_MERGED: Final = "UPDATE device_events SET merged_id = :event_id WHERE device_sid = :device_sid"
_DROP: Final = "DELETE FROM events WHERE event_id = :event_id"
_HOUR_MS: Final = 3_600_000
_KEY: Final = "merged"


class _Count(msgspec.Struct, frozen=True):
    count: int
    merged_id: int | None


class _Id(msgspec.Struct, frozen=True):
    event_id: int


async def append(
    tx: Tx,
    device_sid: DeviceSid,
    row: dict[str, str | int | None],
    data: Mapping[str, str | int | None],
    now: Millis,
    most: int,
) -> None:
    """Append an event that a device caused, or put it in the place of the ones beyond the device's budget.

    ``row`` is what ``APPEND`` takes; the merged event's data has their number as ``merged``. ``most`` 0 is no budget.
    """
    if most <= 0:
        await tx.run(APPEND, row)
        return
    counted = await tx.one(_Count, _COUNT, {"device_sid": device_sid, "hour": now // _HOUR_MS})
    if counted is None or counted.count <= most:
        await tx.run(APPEND, row)
        return
    merged = msgspec.json.encode({**data, _KEY: counted.count - most}).decode()
    made = await tx.one(_Id, f"{APPEND} RETURNING event_id", {**row, "data": merged})
    if made is not None:
        await tx.run(_MERGED, {"event_id": made.event_id, "device_sid": device_sid})
    if counted.merged_id is not None:  # only now: SQLite gives the id of a last row that is gone again
        await tx.run(_DROP, {"event_id": counted.merged_id})
