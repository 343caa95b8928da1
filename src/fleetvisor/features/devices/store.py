"""The rows of devices and their tokens, and the one query that gives everything the API shows of a device.

Deliberately decides nothing. Every statement on a tenant's rows takes ``account_sid``.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.devices.model import Device
from fleetvisor.features.logs import rules as logs_rules
from fleetvisor.features.updates.model import Update
from fleetvisor.features.updates.rules import LastUpdate, update_status
from fleetvisor.features.updates.store import IS_ASKED
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, AppSid, DeviceSid
from fleetvisor.protocol.lifecycle import State


class DeviceRow(msgspec.Struct, frozen=True, gc=False):
    """Everything the API shows of a device, as it lies in the rows: not yet judged by the clock."""

    device_sid: DeviceSid
    account_sid: AccountSid
    unique_name: str | None
    controller_id: str | None
    access: str
    poll_interval_s: int | None
    hardware_class: str | None
    labels: str
    date_created: Millis
    date_updated: Millis
    target_sid: AppSid | None
    target_hash: str | None
    date_targeted: Millis | None
    target_reached: bool
    reported_sid: AppSid | None
    reported_hash: str | None
    date_reported: Millis | None
    logging_expires: Millis | None
    date_seen: Millis | None
    number: int | None
    app_sid: AppSid | None
    app_hash: str | None
    state: State | None
    cancel_requested: bool | None
    bytes_done: int | None
    bytes_total: int | None
    error_code: int | None
    update_created: Millis | None
    update_updated: Millis | None
    mode: str | None
    confirmation: str | None
    update_rollout: str | None
    date_fetched: Millis | None
    unfetched: bool | None
    account_secrets: bool


COLUMNS: Final = """
SELECT d.device_sid, d.account_sid, d.unique_name, d.controller_id, d.access, d.poll_interval_s, d.hardware_class,
    d.labels, d.date_created, d.date_updated,
    a.target_sid, a.target_hash, a.date_targeted, a.target_reached, a.reported_sid, a.reported_hash, a.date_reported,
    l.date_expires AS logging_expires, p.date_seen,
    u.number, u.app_sid, u.app_hash, u.state, u.cancel_requested, u.bytes_done, u.bytes_total, u.error_code,
    u.date_created AS update_created, u.date_updated AS update_updated, u.mode, u.confirmation,
    u.rollout_sid AS update_rollout, u.date_fetched, u.unfetched, d.account_secrets"""
JOINS: Final = """
JOIN assignments a ON a.device_sid = d.device_sid
LEFT JOIN device_logging l ON l.device_sid = d.device_sid
LEFT JOIN presence p ON p.device_sid = d.device_sid
LEFT JOIN updates u ON u.device_sid = d.device_sid AND u.number = a.last_number"""
_SELECT: Final = f"{COLUMNS} FROM devices d {JOINS} "
_BY_SID: Final = _SELECT + "WHERE d.account_sid = :account_sid AND d.device_sid = :ref"
_BY_NAME: Final = _SELECT + "WHERE d.account_sid = :account_sid AND d.unique_name = :ref"
_FIRST_PAGE: Final = (
    _SELECT + "WHERE d.account_sid = :account_sid ORDER BY d.date_created DESC, d.device_sid DESC LIMIT :limit"
)
_OLDER: Final = (
    _SELECT
    + """WHERE d.account_sid = :account_sid AND (d.date_created, d.device_sid) < (:created, :sid)
ORDER BY d.date_created DESC, d.device_sid DESC LIMIT :limit"""
)
_NEWER: Final = (
    _SELECT
    + """WHERE d.account_sid = :account_sid AND (d.date_created, d.device_sid) > (:created, :sid)
ORDER BY d.date_created ASC, d.device_sid ASC LIMIT :limit"""
)
_INSERT: Final = """
INSERT INTO devices (device_sid, account_sid, unique_name, by_operator, account_secrets, date_created, date_updated)
VALUES (:device_sid, :account_sid, :unique_name, :by_operator, :account_secrets, :now, :now)
ON CONFLICT DO NOTHING RETURNING device_sid"""
_INSERT_MANY: Final = """
INSERT INTO devices
    (device_sid, account_sid, unique_name, controller_id, hardware_class, labels, by_operator, account_secrets,
    date_created, date_updated)
VALUES (:device_sid, :account_sid, :unique_name, CASE WHEN EXISTS (
        SELECT 1 FROM devices o WHERE o.account_sid = :account_sid AND o.controller_id = :unique_name)
    THEN NULL ELSE :unique_name END, :hardware_class, :labels, 1, :account_secrets, :now, :now)"""
_RESOLVE_SID: Final = "SELECT device_sid FROM devices WHERE account_sid = :account_sid AND device_sid = :ref"
_RESOLVE_NAME: Final = "SELECT device_sid FROM devices WHERE account_sid = :account_sid AND unique_name = :ref"
_COMPATIBILITY: Final = f"""
SELECT d.hardware_class AS device_class, r.hardware_class AS app_class, r.security_counter AS app_counter,
    CASE WHEN NOT {IS_ASKED} THEN s.security_counter END AS device_counter
FROM devices d JOIN assignments a ON a.device_sid = d.device_sid LEFT JOIN apps r ON r.app_sid = a.target_sid
LEFT JOIN apps s ON s.app_sid = a.reported_sid
WHERE d.account_sid = :account_sid AND d.device_sid = :device_sid"""


class Compatibility(msgspec.Struct, frozen=True):
    """Hardware classes and security counters of a device and of its target app; ``None`` where there is none.

    ``device_counter`` is that of the app which a native device reports.
    """

    device_class: str | None
    app_class: str | None
    app_counter: int | None
    device_counter: int | None


class SidRow(msgspec.Struct, frozen=True):
    """A device's SID, of a look-up by SID or name."""

    device_sid: DeviceSid


def device_of(row: DeviceRow, now: Millis) -> Device:
    """Judge a row at ``now``: its update status, and whether logging is still on."""
    update = None
    last = None
    if row.number is not None and row.app_sid is not None and row.state is not None:
        last = LastUpdate(row.app_sid, row.state, row.error_code or 0)
        update = Update(
            device_sid=row.device_sid,
            number=row.number,
            account_sid=row.account_sid,
            app_sid=row.app_sid,
            app_hash=row.app_hash or "",
            state=row.state,
            cancel_requested=bool(row.cancel_requested),
            bytes_done=row.bytes_done or 0,
            bytes_total=row.bytes_total or 0,
            error_code=row.error_code or 0,
            date_created=row.update_created or Millis(0),
            date_updated=row.update_updated or Millis(0),
            date_deadline=None,
            mode=row.mode or "forced",
            confirmation=row.confirmation or "none",
            rollout_sid=row.update_rollout,
            date_fetched=row.date_fetched,
            unfetched=bool(row.unfetched),
        )
    status = update_status(
        target_sid=row.target_sid,
        target_hash=row.target_hash,
        reported_hash=row.reported_hash,
        target_reached=row.target_reached,
        last=last,
    )
    return Device(
        device_sid=row.device_sid,
        account_sid=row.account_sid,
        unique_name=row.unique_name,
        controller_id=row.controller_id,
        access=row.access,
        target_sid=row.target_sid,
        target_hash=row.target_hash,
        date_targeted=row.date_targeted,
        update_status=status.status,
        update_error_code=status.error_code,
        reported_sid=row.reported_sid,
        date_reported=row.date_reported,
        logging_expires=logs_rules.judge(row.logging_expires, now),
        date_created=row.date_created,
        date_updated=row.date_updated,
        date_last_seen=None if row.date_seen is None else min(row.date_seen, now),
        update=update,
        poll_interval_s=row.poll_interval_s,
        hardware_class=row.hardware_class,
        labels=row.labels,
        account_secrets=row.account_secrets,
    )


async def find(source: Tx | Database, account_sid: AccountSid, ref: str, *, by_sid: bool) -> DeviceRow | None:
    """Read one device by its SID (``by_sid``) or unique name."""
    sql = _BY_SID if by_sid else _BY_NAME
    return await source.one(DeviceRow, sql, {"account_sid": account_sid, "ref": ref})


async def page(
    db: Database, account_sid: AccountSid, now: Millis, *, key: tuple[int, str] | None, limit: int, newer: bool
) -> list[Device]:
    """Read devices beside ``key`` (date_created, SID): older ones, newest first, or (``newer``) the reverse."""
    if key is None:
        rows = await db.all(DeviceRow, _FIRST_PAGE, {"account_sid": account_sid, "limit": limit})
    else:
        params = {"account_sid": account_sid, "created": key[0], "sid": key[1], "limit": limit}
        rows = await db.all(DeviceRow, _NEWER if newer else _OLDER, params)
    return [device_of(row, now) for row in rows]


async def resolve(source: Tx | Database, account_sid: AccountSid, ref: str, *, by_sid: bool) -> DeviceSid | None:
    """Read the SID of the device that ``ref`` names."""
    sql = _RESOLVE_SID if by_sid else _RESOLVE_NAME
    row = await source.one(SidRow, sql, {"account_sid": account_sid, "ref": ref})
    return None if row is None else row.device_sid


async def insert_many(
    tx: Tx,
    account_sid: AccountSid,
    devices: Iterable[tuple[DeviceSid, str | None, str | None, str]],
    now: Millis,
    *,
    account_secrets: bool,
) -> None:
    """Make devices of (SID, unique name, hardware class, labels as JSON); a name is the controller id, where free."""
    names = ("device_sid", "unique_name", "hardware_class", "labels")
    common = {"account_sid": account_sid, "account_secrets": int(account_secrets), "now": now}
    await tx.write_many(_INSERT_MANY, [{**dict(zip(names, device, strict=True)), **common} for device in devices])


async def insert(
    tx: Tx,
    account_sid: AccountSid,
    device_sid: DeviceSid,
    unique_name: str | None,
    now: Millis,
    *,
    by_operator: bool = False,
    account_secrets: bool = False,
) -> bool:
    """Make a device; false when its SID (in any account) or its name (in this one) is taken.

    ``by_operator``: an operator registers it, not the device itself. ``account_secrets``: it may fetch the account's.
    """
    params: dict[str, str | int | None] = {
        "device_sid": device_sid,
        "account_sid": account_sid,
        "unique_name": unique_name,
        "by_operator": int(by_operator),
        "account_secrets": int(account_secrets),
        "now": now,
    }
    return await tx.one(SidRow, _INSERT, params) is not None


async def delete(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid) -> bool:
    """Remove a device with its tokens, logging, assignment, updates and presence; its update numbers stay."""
    await tx.run("DELETE FROM presence WHERE device_sid = :device_sid", {"device_sid": device_sid})
    sql = "DELETE FROM devices WHERE account_sid = :account_sid AND device_sid = :device_sid"
    return await tx.run(sql, {"account_sid": account_sid, "device_sid": device_sid}) == 1


async def rename(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, unique_name: str | None) -> None:
    """Set or clear the unique name. The caller has seen that no other device has it; the constraint stands behind."""
    sql = """UPDATE devices SET unique_name = :unique_name
        WHERE account_sid = :account_sid AND device_sid = :device_sid"""
    await tx.run(sql, {"account_sid": account_sid, "device_sid": device_sid, "unique_name": unique_name})


async def touch(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, now: Millis, *, restarts: int) -> None:
    """Move ``date_updated``, and ask for ``restarts`` (0 or 1) more restarts."""
    sql = """UPDATE devices SET date_updated = :now, restart_count = restart_count + :restarts
        WHERE account_sid = :account_sid AND device_sid = :device_sid"""
    await tx.run(sql, {"account_sid": account_sid, "device_sid": device_sid, "now": now, "restarts": restarts})


async def set_interval(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, seconds: int | None) -> None:
    """Set the time between a device's polls; ``None``: the server's setting."""
    sql = """UPDATE devices SET poll_interval_s = :seconds
        WHERE account_sid = :account_sid AND device_sid = :device_sid"""
    await tx.run(sql, {"account_sid": account_sid, "device_sid": device_sid, "seconds": seconds})


async def set_class(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, hardware_class: str | None) -> None:
    """Set or clear a device's hardware class."""
    sql = """UPDATE devices SET hardware_class = :hardware_class
        WHERE account_sid = :account_sid AND device_sid = :device_sid"""
    await tx.run(sql, {"account_sid": account_sid, "device_sid": device_sid, "hardware_class": hardware_class})


async def find_compatibility(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid) -> Compatibility | None:
    """Read what decides whether a device may have the app that it should run."""
    return await tx.one(Compatibility, _COMPATIBILITY, {"account_sid": account_sid, "device_sid": device_sid})


async def set_access(
    tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, access: str, *, by_admin: bool = False
) -> None:
    """Let a device in (``active``), which an operator vouches for by it, or keep it out (``disabled``).

    A device that waited and that an admin lets in may fetch the account's Secrets from then on.
    """
    sql = """UPDATE devices SET access = :access,
            by_operator = CASE WHEN :access = 'active' THEN 1 ELSE by_operator END,
            account_secrets = CASE WHEN :access = 'active' AND access = 'waiting' AND :by_admin = 1 THEN 1
                ELSE account_secrets END
        WHERE account_sid = :account_sid AND device_sid = :device_sid"""
    params = {"account_sid": account_sid, "device_sid": device_sid, "access": access, "by_admin": int(by_admin)}
    await tx.run(sql, params)


async def set_waiting(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, *, by_gateway: bool) -> None:
    """Let a new device wait to be accepted; ``by_gateway``: its account's gateway token proves it."""
    sql = """UPDATE devices SET access = 'waiting', by_gateway = :by_gateway
        WHERE account_sid = :account_sid AND device_sid = :device_sid"""
    await tx.run(sql, {"account_sid": account_sid, "device_sid": device_sid, "by_gateway": int(by_gateway)})


async def set_account_secrets(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, allowed: bool) -> None:
    """Let a device fetch its account's Secrets, or not any more."""
    sql = """UPDATE devices SET account_secrets = :allowed
        WHERE account_sid = :account_sid AND device_sid = :device_sid"""
    await tx.run(sql, {"account_sid": account_sid, "device_sid": device_sid, "allowed": int(allowed)})
