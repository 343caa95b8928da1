"""A device's budget of events, an hour and a day: what comes beyond either is merged into one, with a count.

The merged event is always the last one that happened, and has a new id each time: who reads the change log on
(``tail``) hears of every change, and the log does not grow. What a device runs, and its updates, are rows of
their own, which no budget touches. The count lies in the database, beside what it counts: it is true on every node and
after a restart, and is read and written only where an event is. A day is one of UTC.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from fleetvisor.db.database import Tx
from fleetvisor.features.events.actor import Budget
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import DeviceSid

APPEND: Final = """
INSERT INTO events
    (writer, account_sid, type, subject_sid, device_sid, actor_sid, address, request_sid, data, date_created)
VALUES (current_writer(), :account_sid, :type, :subject_sid, :device_sid, :actor_sid, :address, :request_sid, :data,
    :now)"""

_SAME_HOUR: Final = "device_events.hour = excluded.hour"
_SAME_DAY: Final = "device_events.hour / 24 = excluded.hour / 24"
_OWN: Final = f"""(NOT ({_SAME_DAY}) OR (device_events.own < :per_day
    AND (NOT ({_SAME_HOUR}) OR device_events.count < :per_hour)))"""
_COUNT: Final = f"""
INSERT INTO device_events (device_sid, hour, count, merged_id, own, merged)
SELECT device_sid, :hour, 1, NULL, 1, 0 FROM devices WHERE device_sid = :device_sid
ON CONFLICT (device_sid) DO UPDATE SET hour = excluded.hour,
    count = CASE WHEN {_SAME_HOUR} THEN device_events.count + 1 ELSE 1 END,
    own = CASE WHEN NOT ({_SAME_DAY}) THEN 1 WHEN {_OWN} THEN device_events.own + 1 ELSE device_events.own END,
    merged = CASE WHEN {_OWN} THEN 0 ELSE device_events.merged + 1 END,
    merged_id = CASE WHEN {_OWN} THEN NULL ELSE device_events.merged_id END
RETURNING merged, merged_id"""
_MERGED: Final = "UPDATE device_events SET merged_id = :event_id WHERE device_sid = :device_sid"
_DROP: Final = "DELETE FROM events WHERE event_id = :event_id AND account_sid = :account_sid"
_HOUR_MS: Final = 3_600_000
_KEY: Final = "merged"
_NO_BUDGET: Final = 1 << 62


class _Count(msgspec.Struct, frozen=True):
    merged: int
    merged_id: int | None


class _Id(msgspec.Struct, frozen=True):
    event_id: int


async def append(
    tx: Tx,
    device_sid: DeviceSid,
    row: dict[str, str | int | None],
    data: Mapping[str, str | int | None],
    now: Millis,
    most: Budget,
) -> None:
    """Append an event that a device caused, or put it in the place of the ones beyond the device's budget.

    ``row`` is what ``APPEND`` takes; the merged event's data has their number as ``merged``.
    """
    if most.per_hour <= 0 and most.per_day <= 0:
        await tx.run(APPEND, row)
        return
    keys = {"device_sid": device_sid, "hour": now // _HOUR_MS}
    bounds = {"per_hour": most.per_hour or _NO_BUDGET, "per_day": most.per_day or _NO_BUDGET}
    counted = await tx.one(_Count, _COUNT, {**keys, **bounds})
    if counted is None or not counted.merged:
        await tx.run(APPEND, row)
        return
    merged = msgspec.json.encode({**data, _KEY: counted.merged}).decode()
    made = await tx.one(_Id, f"{APPEND} RETURNING event_id", {**row, "data": merged})
    if made is not None:
        await tx.run(_MERGED, {"event_id": made.event_id, "device_sid": device_sid})
    if counted.merged_id is not None:  # only now: SQLite gives the id of a last row that is gone again
        await tx.run(_DROP, {"event_id": counted.merged_id, "account_sid": row["account_sid"]})
