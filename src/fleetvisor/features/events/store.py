"""The change log: every change appends its event in its own transaction. How other nodes read it says ``tail``.

Deliberately no secrets in ``data``, and no delivery. NOTE: event types and the keys of their data are read by other
programs later; a type renamed here is a break for them. ``writer`` is the transaction that wrote a row: in PostgreSQL
an id is given before its row is committed, so the order of ids is not that of commits. On SQLite it is; writer is 0.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.events import actor, budget
from fleetvisor.features.events.budget import APPEND
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, DeviceSid

_NEVER: Final = (1 << 63) - 1


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


async def append(
    tx: Tx,
    *,
    account_sid: AccountSid,
    type: str,  # noqa: A002  the column's and the API's word
    subject_sid: str,
    device_sid: DeviceSid | None = None,
    data: Mapping[str, str | int | None] | None = None,
    now: Millis,
    address: str | None = None,
) -> None:
    """Append one event to the transaction that makes it true, with whoever acts; ``address`` is another's, if given."""
    who = actor.current()
    row: dict[str, str | int | None] = {
        "account_sid": account_sid,
        "type": type,
        "subject_sid": subject_sid,
        "device_sid": device_sid,
        "actor_sid": who.sid,
        "address": address or who.address,
        "request_sid": who.request_sid,
        "data": msgspec.json.encode(data or {}).decode(),
        "now": now,
    }
    if device_sid is not None and who.sid == device_sid:
        await budget.append(tx, device_sid, row, data or {}, now, who.budget)
    else:
        await tx.run(APPEND, row)


async def append_of_device(
    tx: Tx,
    account_sid: AccountSid,
    device_sid: DeviceSid,
    type: str,  # noqa: A002  the column's and the API's word
    data: Mapping[str, str | int | None],
    now: Millis,
) -> None:
    """Append one event whose subject is a device."""
    await append(
        tx, account_sid=account_sid, type=type, subject_sid=device_sid, device_sid=device_sid, data=data, now=now
    )


async def append_refusal(
    tx: Tx,
    account_sid: AccountSid,
    refused_sid: DeviceSid | None,
    data: Mapping[str, str | int | None],
    *,
    address: str | None,
    now: Millis,
) -> None:
    """Append that requests were refused; ``refused_sid``: the device whose credentials were, if that is known."""
    sql = """INSERT INTO events (writer, account_sid, type, subject_sid, address, data, refused_sid, date_created)
        VALUES (current_writer(), :account_sid, 'request.denied', '', :address, :data, :refused_sid, :now)"""
    row: dict[str, str | int | None] = {
        "account_sid": account_sid,
        "address": address,
        "data": msgspec.json.encode(data).decode(),
        "refused_sid": refused_sid,
        "now": now,
    }
    await tx.run(sql, row)


async def find_last_refusal(
    db: Database, account_sid: AccountSid, device_sid: DeviceSid, since: Millis
) -> Millis | None:
    """Return when credentials of a device were last refused, from ``since`` on; ``None``: they were not."""
    sql = """SELECT date_created FROM events
        WHERE refused_sid = :device_sid AND account_sid = :account_sid AND date_created >= :since
        ORDER BY date_created DESC LIMIT 1"""
    row = await db.one(_Date, sql, {"account_sid": account_sid, "device_sid": device_sid, "since": since})
    return None if row is None else row.date_created


async def append_devices(
    tx: Tx,
    *,
    account_sid: AccountSid,
    type: str,  # noqa: A002  the column's and the API's word
    devices: Iterable[tuple[DeviceSid, Mapping[str, str | int | None]]],
    now: Millis,
    subject_sid: str | None = None,
) -> None:
    """Append an event of one type about each of many devices, each with its data; its subject is the device, or one."""
    who = actor.current()
    rows = [
        {
            "account_sid": account_sid,
            "type": type,
            "subject_sid": subject_sid or device_sid,
            "device_sid": device_sid,
            "actor_sid": who.sid,
            "address": who.address,
            "request_sid": who.request_sid,
            "data": msgspec.json.encode(data).decode(),
            "now": now,
        }
        for device_sid, data in devices
    ]
    await tx.write_many(APPEND, rows)


class _Date(msgspec.Struct, frozen=True):
    date_created: Millis


class Listed(msgspec.Struct, frozen=True):
    """One event as people read it: with who acted, from where, and by which request."""

    event_id: int
    account_sid: AccountSid
    type: str
    subject_sid: str
    device_sid: DeviceSid | None
    actor_sid: str | None
    address: str | None
    request_sid: str | None
    data: str
    date_created: Millis


class Filter(msgspec.Struct, frozen=True):
    """Which events are asked for; ``None`` is any. ``since`` is included, ``until`` is not."""

    type: str | None = None
    device_sid: str | None = None
    since: Millis | None = None
    until: Millis | None = None


async def page(
    db: Database, account_sid: AccountSid, wanted: Filter, *, key: tuple[int, int] | None, limit: int, newer: bool
) -> list[Listed]:
    """Read events beside ``key`` (date_created, event_id): older ones, newest first, or (``newer``) the reverse.

    The statement names only the bound at which the page begins; what lies beyond the other one is cut off afterwards.
    With two bounds of the date SQLite would walk along the dates of all events, of whatever type.
    """
    lowest = (-1, -1) if wanted.since is None else (wanted.since, -1)
    highest = (_NEVER, 0) if wanted.until is None else (wanted.until, 0)
    if key is not None:
        lowest, highest = (max(lowest, key), highest) if newer else (lowest, min(highest, key))
    sign, order = (">", "ASC") if newer else ("<", "DESC")
    created, number = lowest if newer else highest
    params: dict[str, str | int] = {"account_sid": account_sid, "limit": limit, "created": created, "number": number}
    also = ""
    for column, value in (("type", wanted.type), ("device_sid", wanted.device_sid)):
        if value is not None:
            also += f" AND {column} = :{column}"
            params[column] = value
    sql = f"""SELECT event_id, account_sid, type, subject_sid, device_sid, actor_sid, address, request_sid, data,
        date_created FROM events
        WHERE account_sid = :account_sid AND (date_created, event_id) {sign} (:created, :number){also}
        ORDER BY date_created {order}, event_id {order} LIMIT :limit"""
    found = await db.all(Listed, sql, params)
    return [event for event in found if lowest < (event.date_created, event.event_id) < highest]


async def forget(db: Database, before: Millis, limit: int) -> int:
    """Remove events from before a time, the oldest first, among the ``limit`` oldest; return how many."""

    async def body(tx: Tx) -> int:
        sql = """DELETE FROM events
            WHERE event_id < (SELECT min(event_id) FROM events) + :limit AND date_created < :before"""
        return await tx.run(sql, {"limit": limit, "before": before})

    return await db.write(body)


async def forget_refusals(db: Database, before: Millis, limit: int) -> int:
    """Remove at most ``limit`` events of refused requests from before a time; return how many."""

    async def body(tx: Tx) -> int:
        sql = """DELETE FROM events WHERE event_id IN (
            SELECT event_id FROM events WHERE type = 'request.denied' AND date_created < :before
            ORDER BY date_created LIMIT :limit)"""
        return await tx.run(sql, {"limit": limit, "before": before})

    return await db.write(body)
