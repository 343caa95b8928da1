"""The rows of rollouts, their waves, counts and decisions. Deliberately decides nothing.

A step of a rollout is a compare-and-set on its ``version``: of two nodes that take the same step one changes nothing.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.rollouts import members
from fleetvisor.features.rollouts.model import Counted, CountRow, Rollout, Ruling, View, Wave, WaveSize
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, RolloutSid
from fleetvisor.protocol.guard_settings import GuardSettings

_COLUMNS: Final = """rollout_sid, account_sid, friendly_name, kind, app_sid, rollback_of, selector, state, guard,
    known_by, known_since, concurrent_max, starts_per_minute, wave, version, scan_created, scan_sid, date_scanned,
    date_paid, date_retry, canceling, removing, date_start, date_started, date_ended, date_created, date_updated"""
_WAVE_COLUMNS: Final = (
    "position, percent_ppm, devices, threshold, date_opened, date_offered, date_settled, date_released"
)
_RULING_COLUMNS: Final = "number, wave, verdict, code, sentence, data, date_created"
_OF: Final = "WHERE rollout_sid = :rollout_sid"
# NOTE: as the index rollouts_under_way says it. However many drafts there are, they cost nothing.
UNDER_WAY: Final = "((date_ended IS NULL AND state <> 'draft') OR canceling = 1 OR removing = 1)"


#: What a count row holds; shards under 0 are those of devices that were removed.
_COUNTS: Final = """wave, state, evidence, CAST(SUM(count) AS INTEGER) AS count,
    CAST(SUM(CASE WHEN shard < 0 THEN count ELSE 0 END) AS INTEGER) AS removed"""
_WAVES_OF_MANY: Final = """SELECT position, percent_ppm, devices, threshold, date_opened, date_offered, date_settled,
    date_released, rollout_sid
FROM rollout_waves WHERE rollout_sid IN ({sids}) ORDER BY rollout_sid, position"""
_COUNTS_OF_MANY: Final = f"""SELECT {_COUNTS}, rollout_sid
FROM rollout_counts WHERE rollout_sid IN ({{sids}}) GROUP BY rollout_sid, wave, state, evidence"""
_LAST_RULINGS: Final = """SELECT d.number, d.wave, d.verdict, d.code, d.sentence, d.data, d.date_created, d.rollout_sid
FROM rollout_decisions d WHERE d.rollout_sid IN ({sids})
    AND d.number = (SELECT MAX(m.number) FROM rollout_decisions m WHERE m.rollout_sid = d.rollout_sid)"""


class _Number(msgspec.Struct, frozen=True):
    number: int


class _Wave(Wave, frozen=True):
    rollout_sid: RolloutSid


class _Ruling(Ruling, frozen=True):
    rollout_sid: RolloutSid


class _Count(CountRow, frozen=True):
    rollout_sid: RolloutSid


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


async def counted(source: Tx | Database, rollout_sid: RolloutSid) -> Counted:
    """Read how many devices of each wave are in each state, and what of them is evidence."""
    sql = f"SELECT {_COUNTS} FROM rollout_counts {_OF} GROUP BY wave, state, evidence"
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


async def view(db: Database, rollout: Rollout) -> View:
    """Read what is shown of one rollout: its waves, counts and newest decision."""
    (found,) = await views(db, (rollout,))
    return found


async def views(db: Database, rollouts: Sequence[Rollout]) -> list[View]:
    """Read what is shown of several rollouts, in their order, in four reads for all of them."""
    if not rollouts:
        return []
    params = {f"r{place}": rollout.rollout_sid for place, rollout in enumerate(rollouts)}
    sids = ", ".join(f":{name}" for name in params)
    read = db.all if len(rollouts) == 1 else db.scan  # off the event loop, where that pays
    waves: dict[str, list[Wave]] = {}
    for wave in await read(_Wave, _WAVES_OF_MANY.format(sids=sids), params):
        waves.setdefault(wave.rollout_sid, []).append(wave)
    counts: dict[str, list[CountRow]] = {}
    for row in await read(_Count, _COUNTS_OF_MANY.format(sids=sids), params):
        counts.setdefault(row.rollout_sid, []).append(row)
    rulings = {ruling.rollout_sid: ruling for ruling in await read(_Ruling, _LAST_RULINGS.format(sids=sids), params)}
    held = await _held(db, rollouts)
    return [
        View(each, tuple(waves.get(sid, ())), Counted.of(counts.get(sid, ())), rulings.get(sid), sid in held)
        for each in rollouts
        for sid in (each.rollout_sid,)
    ]


async def _held(db: Database, rollouts: Sequence[Rollout]) -> set[str]:
    """Return the SIDs of those rollouts under way that damaged bytes hold, or will hold at their end."""
    running = [each for each in rollouts if each.state == "running"]
    damaged = await apps_store.damaged(db, [each.app_sid for each in running if each.app_sid is not None])
    found = {str(each.rollout_sid) for each in running if each.app_sid in damaged}
    for each in running:
        if each.kind == "rollback" and await members.has_damaged(db, each):
            found.add(each.rollout_sid)
    return found
