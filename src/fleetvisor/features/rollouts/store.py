"""The rows of rollouts, their waves, counts and decisions. Deliberately decides nothing.

A step of a rollout is a compare-and-set on its ``version``: of two nodes that take the same step one changes nothing.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.devices.credentials import PROVABLE
from fleetvisor.features.rollouts.model import Counted, CountRow, Rollout, Ruling, Wave, WaveSize
from fleetvisor.features.updates.members import COLUMNS
from fleetvisor.features.updates.model import EXCUSED, Member
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, DeviceSid, RolloutSid
from fleetvisor.protocol.guard_settings import GuardSettings

_COLUMNS: Final = """rollout_sid, account_sid, friendly_name, kind, app_sid, rollback_of, selector, state, guard,
    known_by, known_since, concurrent_max, starts_per_minute, wave, version, scan_created, scan_sid, date_scanned,
    date_paid, date_retry, canceling, removing, date_start, date_started, date_ended, date_created, date_updated"""
_WAVE_COLUMNS: Final = (
    "position, percent_ppm, devices, threshold, date_opened, date_offered, date_settled, date_released"
)
_RULING_COLUMNS: Final = "number, wave, verdict, code, sentence, data, date_created"
_MEMBER_COLUMNS: Final = ", ".join(COLUMNS)
_OF: Final = "WHERE rollout_sid = :rollout_sid"
# NOTE: as the index rollouts_under_way says it. However many drafts there are, they cost nothing.
UNDER_WAY: Final = "((date_ended IS NULL AND state <> 'draft') OR canceling = 1 OR removing = 1)"


class _Number(msgspec.Struct, frozen=True):
    number: int


class DeviceRef(msgspec.Struct, frozen=True):
    """The SID of a device."""

    device_sid: DeviceSid


class ShutOut(msgspec.Struct, frozen=True):
    """A device that cannot report, and why: one of ``EXCUSED``."""

    device_sid: DeviceSid
    reason: str


async def insert(tx: Tx, rollout: Rollout, waves: Sequence[WaveSize]) -> None:
    """Write a new rollout and its waves."""
    columns = [column.strip() for column in _COLUMNS.split(",")]
    sql = f"""INSERT INTO rollouts ({_COLUMNS}, open_app_sid)
        VALUES ({", ".join(":" + column for column in columns)}, :app_sid)"""
    await tx.run(sql, {name: _value(value) for name, value in msgspec.structs.asdict(rollout).items()})
    await insert_waves(tx, rollout.rollout_sid, waves)


async def insert_waves(tx: Tx, rollout_sid: RolloutSid, waves: Sequence[WaveSize]) -> None:
    """Write the waves of a rollout, in place of those it had."""
    await tx.run(f"DELETE FROM rollout_waves {_OF}", {"rollout_sid": rollout_sid})
    sql = """INSERT INTO rollout_waves (rollout_sid, position, percent_ppm, devices)
        VALUES (:rollout_sid, :position, :percent_ppm, :devices)"""
    rows = [
        {"rollout_sid": rollout_sid, "position": position, "percent_ppm": wave.percent_ppm, "devices": wave.devices}
        for position, wave in enumerate(waves, start=1)
    ]
    await tx.write_many(sql, rows)


def _value(value: object) -> str | int | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, GuardSettings):
        return msgspec.json.encode(value).decode()
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"no column holds {value!r}")


async def find(source: Tx | Database, account_sid: AccountSid, rollout_sid: str) -> Rollout | None:
    """Read a rollout; one that is being removed is none."""
    sql = f"""SELECT {_COLUMNS} FROM rollouts
        WHERE account_sid = :account_sid AND rollout_sid = :rollout_sid AND removing = 0"""
    return await source.one(Rollout, sql, {"account_sid": account_sid, "rollout_sid": rollout_sid})


async def page(
    db: Database, account_sid: AccountSid, *, key: tuple[int, str] | None, limit: int, newer: bool
) -> list[Rollout]:
    """Read rollouts beside ``key`` (date_created, SID): older ones, newest first, or (``newer``) the reverse."""
    sign, order = (">", "ASC") if newer else ("<", "DESC")
    beside = f"AND (date_created, rollout_sid) {sign} (:created, :sid)" if key else ""
    params: dict[str, str | int] = {"account_sid": account_sid, "limit": limit}
    if key:
        params |= {"created": key[0], "sid": key[1]}
    sql = f"""SELECT {_COLUMNS} FROM rollouts WHERE account_sid = :account_sid AND removing = 0 {beside}
        ORDER BY date_created {order}, rollout_sid {order} LIMIT :limit"""
    return await db.all(Rollout, sql, params)


async def count_all(tx: Tx, account_sid: AccountSid) -> tuple[int, int]:
    """Return how many rollouts the account has, and how many of them are under way."""
    all_sql = "SELECT count(*) AS number FROM rollouts WHERE account_sid = :account_sid AND removing = 0"
    open_sql = f"{all_sql} AND {UNDER_WAY} AND date_ended IS NULL"
    every = await tx.one(_Number, all_sql, {"account_sid": account_sid})
    open_ = await tx.one(_Number, open_sql, {"account_sid": account_sid})
    return (every.number if every else 0, open_.number if open_ else 0)


async def unfinished(db: Database) -> list[Rollout]:
    """Read the rollouts of all active accounts that may have something to do, the oldest first."""
    sql = f"""SELECT {_COLUMNS} FROM rollouts WHERE {UNDER_WAY}
            AND account_sid NOT IN (SELECT account_sid FROM accounts WHERE status <> 'active')
        ORDER BY date_created, rollout_sid"""
    return await db.all(Rollout, sql, {})


async def unfinished_of(db: Database, account_sid: AccountSid) -> list[Rollout]:
    """Read the rollouts of one account that are under way, the newest first."""
    sql = f"""SELECT {_COLUMNS} FROM rollouts WHERE {UNDER_WAY} AND date_ended IS NULL AND account_sid = :account_sid
        ORDER BY date_created DESC, rollout_sid DESC"""
    return await db.all(Rollout, sql, {"account_sid": account_sid})


async def step(tx: Tx, rollout: Rollout, now: Millis, **changes: str | int | None) -> bool:
    """Change fields of a rollout, if nobody took a step since it was read; return whether so."""
    fields = ", ".join(f"{name} = :{name}" for name in changes)
    sql = f"""UPDATE rollouts SET {fields}{", " if fields else ""}version = version + 1, date_updated = :now
        WHERE rollout_sid = :rollout_sid AND account_sid = :account_sid AND version = :version"""
    keys = {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid, "version": rollout.version}
    return await tx.run(sql, {**keys, **changes, "now": now}) == 1


async def end(tx: Tx, rollout: Rollout, state: str, now: Millis, *, canceling: bool) -> bool:
    """End a rollout, if nobody took a step since it was read: its app may be removed. Tell whether so."""
    return await step(
        tx, rollout, now, state=state, date_ended=now, open_app_sid=None, canceling=int(canceling), date_retry=None
    )


async def rollbacks(tx: Tx, rollout: Rollout) -> int:
    """Return how many rollouts there are, drafts too, that take this one back and have not ended."""
    sql = """SELECT count(*) AS number FROM rollouts
        WHERE account_sid = :account_sid AND rollback_of = :rollout_sid AND date_ended IS NULL"""
    found = await tx.one(_Number, sql, {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid})
    return found.number if found else 0


async def delete(tx: Tx, rollout: Rollout) -> None:
    """Remove a rollout that has no devices, or no more."""
    sql = f"DELETE FROM rollouts {_OF} AND account_sid = :account_sid"
    await tx.run(sql, {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid})


async def waves(source: Tx | Database, rollout_sid: RolloutSid) -> tuple[Wave, ...]:
    """Read the waves of a rollout, in order."""
    sql = f"SELECT {_WAVE_COLUMNS} FROM rollout_waves {_OF} ORDER BY position"
    return tuple(await source.all(Wave, sql, {"rollout_sid": rollout_sid}))


async def count_waves(tx: Tx, rollout_sid: RolloutSid) -> int:
    """Return how many waves a rollout has."""
    found = await tx.one(_Number, f"SELECT count(*) AS number FROM rollout_waves {_OF}", {"rollout_sid": rollout_sid})
    return found.number if found else 0


async def set_wave(tx: Tx, rollout_sid: RolloutSid, position: int, **changes: int | None) -> None:
    """Change fields of one wave."""
    fields = ", ".join(f"{name} = :{name}" for name in changes)
    sql = f"UPDATE rollout_waves SET {fields} {_OF} AND position = :position"
    await tx.run(sql, {"rollout_sid": rollout_sid, "position": position, **changes})


#: What a count row holds; shards under 0 are those of devices that were removed.
COUNTS: Final = """wave, state, evidence, CAST(SUM(count) AS INTEGER) AS count,
    CAST(SUM(CASE WHEN shard < 0 THEN count ELSE 0 END) AS INTEGER) AS removed"""


async def counted(source: Tx | Database, rollout_sid: RolloutSid) -> Counted:
    """Read how many devices of each wave are in each state, and what of them is evidence."""
    sql = f"SELECT {COUNTS} FROM rollout_counts {_OF} GROUP BY wave, state, evidence"
    return Counted.of(await source.all(CountRow, sql, {"rollout_sid": rollout_sid}))


async def add_ruling(tx: Tx, account_sid: AccountSid, rollout_sid: RolloutSid, ruling: Ruling) -> None:
    """Append a decision; its number is the next one."""
    sql = f"""INSERT INTO rollout_decisions
        (rollout_sid, number, account_sid, wave, verdict, code, sentence, data, date_created)
        SELECT :rollout_sid, COALESCE(MAX(number), 0) + 1, :account_sid, :wave, :verdict, :code, :sentence, :data, :now
        FROM rollout_decisions {_OF}"""
    await tx.run(
        sql,
        {
            "rollout_sid": rollout_sid,
            "account_sid": account_sid,
            "wave": ruling.wave,
            "verdict": ruling.verdict,
            "code": ruling.code,
            "sentence": ruling.sentence,
            "data": ruling.data,
            "now": ruling.date_created,
        },
    )


async def last_ruling(source: Tx | Database, rollout: Rollout) -> Ruling | None:
    """Read the newest decision."""
    sql = f"""SELECT {_RULING_COLUMNS} FROM rollout_decisions {_OF} AND account_sid = :account_sid
        ORDER BY number DESC LIMIT 1"""
    keys = {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid}
    return await source.one(Ruling, sql, keys)


async def rulings(db: Database, rollout: Rollout, number: int | None, limit: int, *, newer: bool) -> list[Ruling]:
    """Read decisions beside ``number``: older ones, newest first, or (``newer``) the reverse."""
    sign, order = (">", "ASC") if newer else ("<", "DESC")
    sql = f"""SELECT {_RULING_COLUMNS} FROM rollout_decisions {_OF} AND account_sid = :account_sid
        AND number {sign} :number ORDER BY number {order} LIMIT :limit"""
    keys = {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid, "limit": limit}
    return await db.all(Ruling, sql, {**keys, "number": 1 << 40 if number is None else number})


async def find_members(
    tx: Tx, account_sid: AccountSid, rollout_sid: str, device_sids: Sequence[DeviceSid]
) -> dict[DeviceSid, Member]:
    """Read the rows of those of many devices that a rollout came to."""
    sql = f"""SELECT {_MEMBER_COLUMNS} FROM rollout_devices {_OF} AND account_sid = :account_sid
        AND device_sid IN (:keys)"""
    found = await tx.read_many(Member, sql, device_sids, {"rollout_sid": rollout_sid, "account_sid": account_sid})
    return {member.device_sid: member for member in found}


async def member(db: Database, account_sid: AccountSid, rollout_sid: str, device_sid: DeviceSid) -> Member | None:
    """Read what became of one device in one rollout."""
    sql = f"SELECT {_MEMBER_COLUMNS} FROM rollout_devices {_OF} AND account_sid = :account_sid AND device_sid = :sid"
    return await db.one(Member, sql, {"rollout_sid": rollout_sid, "account_sid": account_sid, "sid": device_sid})


async def failed_before(db: Database, rollout: Rollout, before: Millis, limit: int) -> list[DeviceRef]:
    """Read devices that failed or fell silent, and changed before a time; the oldest change first."""
    found: list[DeviceRef] = []
    for state in ("failed", "silent"):
        sql = f"""SELECT device_sid FROM rollout_devices {_OF} AND account_sid = :account_sid AND state = :state
            AND date_changed < :before ORDER BY date_changed, device_sid LIMIT :limit"""
        keys = {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid, "state": state}
        found += await db.all(DeviceRef, sql, {**keys, "before": before, "limit": limit - len(found)})
    return found


async def to_cancel(db: Database, rollout: Rollout, limit: int) -> list[DeviceRef]:
    """Read devices that the rollout still counts as open; once there are none, those whose open update nobody canceled.

    In this order, because the second walks by all devices that were asked and have yet to answer.
    """
    keys = {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid, "limit": limit}
    undecided = f"""SELECT device_sid FROM rollout_devices {_OF} AND account_sid = :account_sid
        AND state IN ('updating', 'offline') LIMIT :limit"""
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
        WHERE m.rollout_sid = :rollout_sid AND m.account_sid = :account_sid AND m.state = 'updating' AND {OVERDUE}
        LIMIT :limit"""
    keys = {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid, "limit": limit}
    return await db.scan(DeviceRef, sql, {**keys, **overdue_params(rollout, now)})


async def shut_out(db: Database, rollout: Rollout, now: Millis, limit: int) -> list[ShutOut]:
    """Read devices that are waited for though they cannot report: disabled, or without any credential that is valid."""
    sql = f"""SELECT m.device_sid, CASE WHEN d.access = 'active' THEN '{EXCUSED[1]}' ELSE '{EXCUSED[0]}' END AS reason
        FROM rollout_devices m JOIN devices d ON d.device_sid = m.device_sid
        WHERE m.rollout_sid = :rollout_sid AND m.account_sid = :account_sid AND m.state = 'updating'
            AND (d.access <> 'active' OR NOT {PROVABLE}) LIMIT :limit"""
    keys = {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid, "limit": limit}
    return await db.scan(ShutOut, sql, {**keys, "now": now})


async def ripe(db: Database, rollout: Rollout, now: Millis, limit: int) -> list[DeviceRef]:
    """Read devices whose results count as evidence by now, and did not before."""
    sql = f"""SELECT device_sid FROM rollout_devices {_OF} AND account_sid = :account_sid
        AND evidence_from > 0 AND evidence_from <= :now ORDER BY evidence_from LIMIT :limit"""
    keys = {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid, "limit": limit}
    return await db.all(DeviceRef, sql, {**keys, "now": now})


OVERDUE: Final = """((u.state = 'pending' AND u.date_deadline IS NULL AND m.date_offered <= :offline_before)
    OR (u.state IN ('installing', 'testing') AND u.date_updated <= :silent_before))"""


def overdue_params(rollout: Rollout, now: Millis) -> dict[str, int]:
    """Return the times before which a device is offline, and silent."""
    return {
        "offline_before": now - rollout.guard.offline_after * 1000,
        "silent_before": now - rollout.guard.silent_after * 1000,
    }
