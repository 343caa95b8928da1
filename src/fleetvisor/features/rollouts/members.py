"""What a rollout reads of the devices that it came to, together with what else it decides by.

``updates/rollout_devices`` writes these rows and reads them where an update moves them; all other reads stand here.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.db.portable import literals
from fleetvisor.features.devices.credentials import PROVABLE
from fleetvisor.features.devices.selection import Selection, joins
from fleetvisor.features.rollouts import fate
from fleetvisor.features.rollouts.fate import TAKEN_BACK
from fleetvisor.features.rollouts.model import Rollout
from fleetvisor.features.updates.model import EXCUSED, RETRIED, UNDECIDED, Member, MemberState
from fleetvisor.features.updates.rollout_devices import COLUMNS
from fleetvisor.features.updates.store import IS_ASKED
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import Page, PageRequest, page_of_search
from fleetvisor.ground.sids import AccountSid, DeviceSid

_PIECE: Final = 1024
_ENDS: Final = (("",), ("~",))  # before and after every SID
#: As ``Member.is_evidence`` says it.
EVIDENCE: Final = "CASE WHEN evidence_from = 0 THEN 1 ELSE 0 END"
_OF: Final = "WHERE rollout_sid = :rollout_sid"
_COLUMNS: Final = ", ".join(COLUMNS)
_FACTS: Final = f"""SELECT d.device_sid, d.access, d.hardware_class, d.date_created, d.by_operator, a.reported_hash,
    a.rollout_sid, a.date_instructed, COALESCE(f.failures, 0) AS failures, m.previous_sid, m.state AS source_state,
    CASE WHEN NOT {IS_ASKED} THEN r.security_counter END AS counter
FROM devices d JOIN assignments a ON a.device_sid = d.device_sid
LEFT JOIN apps r ON r.app_sid = a.reported_sid
LEFT JOIN rollout_devices m ON m.device_sid = d.device_sid AND m.rollout_sid = :source
LEFT JOIN app_failures f ON f.device_sid = d.device_sid AND f.app_sid = COALESCE(m.previous_sid, :app_sid)
WHERE a.account_sid = :account_sid AND a.device_sid IN """
_TAKEN_BACK: Final = f"""SELECT device_sid FROM rollout_devices
    WHERE rollout_sid = :source AND account_sid = :account_sid AND device_sid > :sid
        AND state IN {literals(TAKEN_BACK)}
    ORDER BY device_sid LIMIT :limit"""
_OVERDUE: Final = """((u.state = 'pending' AND u.date_deadline IS NULL AND m.date_offered <= :offline_before)
    OR (u.state IN ('installing', 'testing') AND u.date_updated <= :silent_before))"""


class DeviceRef(msgspec.Struct, frozen=True):
    """The SID of a device."""

    device_sid: DeviceSid


class ShutOut(msgspec.Struct, frozen=True):
    """A device that cannot report, and why: one of ``EXCUSED``."""

    device_sid: DeviceSid
    reason: str


class Row(msgspec.Struct, frozen=True):
    """A device of a rollout, and where it is counted."""

    device_sid: DeviceSid
    wave: int
    state: str
    evidence: bool


class Overdue(msgspec.Struct, frozen=True):
    """A device that is overdue, and the state of its update."""

    device_sid: DeviceSid
    state: str


class _Damaged(msgspec.Struct, frozen=True):
    rollout_sid: str
    previous_sid: str | None


class Facts(msgspec.Struct, frozen=True):
    """What a plan decides about a device by; ``source_state`` is its state in the rollout that is rolled back."""

    device_sid: DeviceSid
    access: str
    hardware_class: str | None
    date_created: Millis
    by_operator: bool
    reported_hash: str | None
    rollout_sid: str | None
    date_instructed: Millis | None
    failures: int
    previous_sid: str | None
    source_state: str | None
    counter: int | None

    @property
    def source(self) -> fate.Source | None:
        """Return what became of the device in the rollout that is rolled back."""
        return None if self.source_state is None else fate.Source(self.source_state, self.previous_sid)


class _Met(Member, frozen=True):
    selected: bool


async def page(
    db: Database,
    rollout: Rollout,
    state: MemberState | None,
    selection: Selection | None,
    request: PageRequest,
    limits: Limits,
) -> Page[Member]:
    """Read a page of the devices that a rollout came to."""
    cursor = request.cursor
    newer = cursor is not None and not cursor.forward
    sid = str(cursor.key[0]) if cursor else None
    found: list[Member] = []
    examined, ended = 0, False
    while len(found) <= request.size and examined < limits.selector_rows_max and not ended:
        size = request.size + 1
        if selection is not None:
            size = min(max(_PIECE, size), limits.selector_rows_max - examined)
        rows = await _piece(db, rollout, state, selection, sid, size, newer=newer)
        found += [row for row in rows if row.selected]
        examined, ended = examined + size, len(rows) < size
        sid = rows[-1].device_sid if rows else sid
    looked = (sid,) if sid else None
    return page_of_search(found, request, lambda member: (member.device_sid,), looked, ended=ended, ends=_ENDS)


async def _piece(
    db: Database,
    rollout: Rollout,
    state: MemberState | None,
    selection: Selection | None,
    sid: str | None,
    size: int,
    *,
    newer: bool,
) -> list[_Met]:
    sign, order = ("<", "DESC") if newer else (">", "ASC")
    wanted = "AND s.state = :state" if state else ""
    beside = f"AND s.device_sid {sign} :sid" if sid else ""
    columns = ", ".join(f"m.{column}" for column in COLUMNS)
    join, where = ("", "1 = 1") if selection is None else (joins(selection.where), selection.where)
    sql = f"""SELECT {columns}, CASE WHEN {where} THEN 1 ELSE 0 END AS selected
        FROM (SELECT {", ".join(f"s.{column}" for column in COLUMNS)} FROM rollout_devices s
            WHERE s.rollout_sid = :rollout_sid AND s.account_sid = :account_sid {wanted} {beside}
            ORDER BY s.device_sid {order} LIMIT :size) m
        CROSS JOIN devices d {join}
        WHERE d.device_sid = m.device_sid ORDER BY m.device_sid {order}"""
    keys: dict[str, str | int] = {
        "rollout_sid": rollout.rollout_sid,
        "account_sid": rollout.account_sid,
        "size": size,
        **({} if selection is None else selection.terms),
    }
    if state:
        keys["state"] = state
    if sid:
        keys["sid"] = sid
    return await db.scan(_Met, sql, keys)


async def find_many(
    tx: Tx, account_sid: AccountSid, rollout_sid: str, device_sids: Sequence[DeviceSid]
) -> dict[DeviceSid, Member]:
    """Read the rows of those of many devices that a rollout came to."""
    sql = f"""SELECT {_COLUMNS} FROM rollout_devices {_OF} AND account_sid = :account_sid
        AND device_sid IN (:keys)"""
    found = await tx.read_many(Member, sql, device_sids, {"rollout_sid": rollout_sid, "account_sid": account_sid})
    return {member.device_sid: member for member in found}


async def facts(db: Database, rollout: Rollout, device_sids: Sequence[DeviceSid]) -> list[Facts]:
    """Read what decides about devices that a walk met."""
    if not device_sids:
        return []
    names = {f"d{place}": device_sid for place, device_sid in enumerate(device_sids)}
    sql = f"{_FACTS} ({', '.join(f':{name}' for name in names)})"
    keys = {
        "account_sid": rollout.account_sid,
        "app_sid": rollout.app_sid or "",
        "source": rollout.rollback_of or "",
    }
    return await db.scan(Facts, sql, {**keys, **names})


async def taken_back(db: Database, rollout: Rollout, after: str, limit: int) -> list[DeviceRef]:
    """Read the next devices, by SID, that a rollback takes back from the other rollout."""
    keys = {"source": str(rollout.rollback_of), "account_sid": rollout.account_sid, "sid": after, "limit": limit}
    return await db.scan(DeviceRef, _TAKEN_BACK, keys)


async def still_overdue(tx: Tx, rollout: Rollout, device_sids: Sequence[DeviceSid], now: Millis) -> list[Overdue]:
    """Read which of some devices are overdue, in the transaction that says so of them."""
    sql = f"""SELECT m.device_sid, u.state FROM rollout_devices m
        JOIN updates u ON u.device_sid = m.device_sid AND u.number = m.number
        WHERE m.rollout_sid = :rollout_sid AND m.account_sid = :account_sid AND m.state = 'updating'
            AND {_OVERDUE} AND m.device_sid IN (:keys)"""
    return await tx.read_many(Overdue, sql, device_sids, {**_keys(rollout), **_overdue_params(rollout, now)})


async def first(tx: Tx, rollout: Rollout, limit: int) -> list[Row]:
    """Read the first devices of a rollout, by SID."""
    sql = f"""SELECT device_sid, wave, state, {EVIDENCE} AS evidence
        FROM rollout_devices {_OF} AND account_sid = :account_sid ORDER BY device_sid LIMIT :limit"""
    return await tx.all(Row, sql, {**_keys(rollout), "limit": limit})


async def has_damaged(source: Tx | Database, rollout: Rollout) -> bool:
    """Return whether devices were skipped because their app was damaged, and wait to be offered it again."""
    sql = f"""SELECT rollout_sid, previous_sid FROM rollout_devices {_OF} AND account_sid = :account_sid
        AND state = 'skipped' AND reason = 'damaged' LIMIT 1"""
    return await source.one(_Damaged, sql, _keys(rollout)) is not None


async def has_damaged_still(tx: Tx, rollout: Rollout) -> bool:
    """Return whether a device of a rollback waits for an app that is damaged now."""
    sql = """SELECT m.rollout_sid, m.previous_sid FROM rollout_devices m
        JOIN rollout_devices s ON s.device_sid = m.device_sid AND s.rollout_sid = :source
        JOIN app_layers l ON l.app_sid = s.previous_sid JOIN layers b ON b.digest = l.digest
        WHERE m.rollout_sid = :rollout_sid AND m.account_sid = :account_sid
            AND m.state = 'skipped' AND m.reason = 'damaged' AND b.date_damaged IS NOT NULL LIMIT 1"""
    return await tx.one(_Damaged, sql, {**_keys(rollout), "source": rollout.rollback_of}) is not None


def _keys(rollout: Rollout) -> dict[str, str]:
    return {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid}


async def failed_before(db: Database, rollout: Rollout, before: Millis, limit: int) -> list[DeviceRef]:
    """Read devices that failed or fell silent, and changed before a time; the oldest change first."""
    found: list[DeviceRef] = []
    for state in RETRIED:
        sql = f"""SELECT device_sid FROM rollout_devices {_OF} AND account_sid = :account_sid AND state = :state
            AND date_changed < :before ORDER BY date_changed, device_sid LIMIT :limit"""
        keys = {**_keys(rollout), "state": state}
        found += await db.all(DeviceRef, sql, {**keys, "before": before, "limit": limit - len(found)})
    return found


async def to_cancel(db: Database, rollout: Rollout, limit: int) -> list[DeviceRef]:
    """Read devices that the rollout still counts as open; once there are none, those whose open update nobody canceled.

    In this order, because the second walks by all devices that were asked and have yet to answer.
    """
    keys = {**_keys(rollout), "limit": limit}
    undecided = f"""SELECT device_sid FROM rollout_devices {_OF} AND account_sid = :account_sid
        AND state IN {literals(sorted(UNDECIDED))} LIMIT :limit"""
    found = await db.scan(DeviceRef, undecided, keys)
    if found:
        return found
    sql = """SELECT u.device_sid FROM updates u
        JOIN assignments a ON a.device_sid = u.device_sid AND a.rollout_sid = u.rollout_sid
        WHERE u.rollout_sid = :rollout_sid AND u.open_app_sid IS NOT NULL AND u.account_sid = :account_sid
            AND u.cancel_requested = 0 LIMIT :limit"""
    return await db.scan(DeviceRef, sql, keys)


async def overdue(db: Database, rollout: Rollout, now: Millis, limit: int) -> list[DeviceRef]:
    """Read devices of open updates that are to be called silent or offline."""
    sql = f"""SELECT m.device_sid FROM rollout_devices m
        JOIN updates u ON u.device_sid = m.device_sid AND u.number = m.number
        WHERE m.rollout_sid = :rollout_sid AND m.account_sid = :account_sid AND m.state = 'updating' AND {_OVERDUE}
        LIMIT :limit"""
    keys = {**_keys(rollout), "limit": limit}
    return await db.scan(DeviceRef, sql, {**keys, **_overdue_params(rollout, now)})


async def shut_out(db: Database, rollout: Rollout, now: Millis, limit: int) -> list[ShutOut]:
    """Read devices that are waited for though they cannot report: disabled, or without any credential that is valid."""
    sql = f"""SELECT m.device_sid, CASE WHEN d.access = 'active' THEN '{EXCUSED[1]}' ELSE '{EXCUSED[0]}' END AS reason
        FROM rollout_devices m JOIN devices d ON d.device_sid = m.device_sid
        WHERE m.rollout_sid = :rollout_sid AND m.account_sid = :account_sid AND m.state = 'updating'
            AND (d.access <> 'active' OR NOT {PROVABLE}) LIMIT :limit"""
    keys = {**_keys(rollout), "limit": limit}
    return await db.scan(ShutOut, sql, {**keys, "now": now})


async def ripe(db: Database, rollout: Rollout, now: Millis, limit: int) -> list[DeviceRef]:
    """Read devices whose results count as evidence by now, and did not before."""
    sql = f"""SELECT device_sid FROM rollout_devices {_OF} AND account_sid = :account_sid
        AND evidence_from > 0 AND evidence_from <= :now ORDER BY evidence_from LIMIT :limit"""
    keys = {**_keys(rollout), "limit": limit}
    return await db.all(DeviceRef, sql, {**keys, "now": now})


def _overdue_params(rollout: Rollout, now: Millis) -> dict[str, int]:
    """Return the times before which a device is offline, and silent."""
    return {
        "offline_before": now - rollout.guard.offline_after * 1000,
        "silent_before": now - rollout.guard.silent_after * 1000,
    }
