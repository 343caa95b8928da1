"""How many devices there are, of those that a selector selects, and of each value of a field or a label.

Without a selector the answer is read from indexes that hold just what is asked for, and what they do not hold is the
rest of the account's count. With one, every device selected is looked at: in the order in which the tables keep them,
because a million look-ups in another order cost several times as much.
"""

from typing import Final

import msgspec

from fleetvisor.db.database import Database
from fleetvisor.features.devices.selection import COLUMNS, STATUS, Selection, joins, narrowed

GROUPS_MAX: Final = 1000
GROUPED: Final = ("status", "app", "target", "hardware", "access")
_ALL: Final = 9_223_372_036_854_775_807  # a limit that is none: with it, SQLite keeps the order of a subquery
_ASSIGNED: Final = "FROM assignments s WHERE s.account_sid = :account_sid"
_OF_DEVICES: Final = "FROM devices s WHERE s.account_sid = :account_sid"


class Group(msgspec.Struct, frozen=True):
    """How many devices have one value; ``None``: none."""

    value: str | None
    count: int


class Counts(msgspec.Struct, frozen=True):
    """How many devices are selected, and how many of each value; ``others`` are in groups beyond the largest."""

    total: int
    groups: tuple[Group, ...]
    others: int


class _Group(msgspec.Struct, frozen=True):
    value: str | None
    count: int
    total: int


class _Count(msgspec.Struct, frozen=True):
    count: int


class _Kept(msgspec.Struct, frozen=True):
    """What an index holds of the values of one field: their groups; ``rest`` is the value of all other devices."""

    sql: str
    rest: str | None = None


_KEPT: Final = {
    "app": _Kept(f"SELECT s.reported_sid AS value, count(*) AS count {_ASSIGNED} AND s.reported_sid IS NOT NULL"
        " GROUP BY s.reported_sid"),
    "target": _Kept(f"SELECT s.target_sid AS value, count(*) AS count {_ASSIGNED} AND s.target_sid IS NOT NULL"
        " GROUP BY s.target_sid"),
    "hardware": _Kept(f"SELECT s.hardware_class AS value, count(*) AS count {_OF_DEVICES}"
        " AND s.hardware_class IS NOT NULL GROUP BY s.hardware_class"),
    "access": _Kept(f"SELECT 'waiting' AS value, count(*) AS count {_OF_DEVICES} AND s.access = 'waiting'"
        f" UNION ALL SELECT 'disabled' AS value, count(*) AS count {_OF_DEVICES} AND s.access = 'disabled'", "active"),
    "status": _Kept(f"""SELECT {STATUS} AS value, count(*) AS count
        FROM (SELECT s.device_sid {_ASSIGNED} AND s.target_sid IS NOT NULL ORDER BY s.device_sid LIMIT {_ALL}) x
        CROSS JOIN assignments a LEFT JOIN updates u ON u.device_sid = a.device_sid AND u.number = a.last_number
        WHERE a.device_sid = x.device_sid GROUP BY 1""", "up-to-date"),
}  # fmt: skip
_KEPT_LABEL: Final = _Kept("""SELECT s.value AS value, count(*) AS count FROM device_labels s
    WHERE s.account_sid = :account_sid AND s.key = :by_label GROUP BY s.value""")
_DEVICES: Final = "SELECT device_count AS count FROM accounts WHERE account_sid = :account_sid"


async def counts(db: Database, selection: Selection, by: str | None) -> Counts:
    """Count the devices selected; by a field or a label, or (``None``) all together."""
    selection = await narrowed(db, selection)
    if by is None:
        return Counts(await _total(db, selection), (), 0)
    params: dict[str, str | int] = {**selection.params, "most": GROUPS_MAX}
    if by not in GROUPED:
        params["by_label"] = by
    grouped = grouped_all(by) if selection.whole else _grouped(selection, by)
    # One statement: what is beyond the largest groups is of the same moment as they are.
    sql = f"""SELECT value, CAST(SUM(count) AS INTEGER) AS count, CAST(SUM(SUM(count)) OVER () AS INTEGER) AS total
        FROM {grouped} GROUP BY value HAVING SUM(count) > 0 ORDER BY 2 DESC, COALESCE(value, '') LIMIT :most"""
    found = await db.scan(_Group, sql, params)
    shown = sorted((Group(row.value, row.count) for row in found), key=lambda group: (-group.count, group.value or ""))
    total = found[0].total if found else 0
    return Counts(total, tuple(shown), total - sum(group.count for group in shown))


def grouped_all(by: str) -> str:
    """Return the groups of all devices: those that an index holds, and the rest."""
    kept = _KEPT.get(by, _KEPT_LABEL)
    rest = "CAST(NULL AS TEXT)" if kept.rest is None else f"'{kept.rest}'"
    return f"""(WITH kept AS MATERIALIZED ({kept.sql})
        SELECT value, count FROM kept
        UNION ALL SELECT {rest} AS value,
            ({_DEVICES}) - COALESCE((SELECT CAST(SUM(count) AS INTEGER) FROM kept), 0) AS count) g"""


def _grouped(selection: Selection, by: str) -> str:
    value = COLUMNS[by] if by in GROUPED else "g.value"
    label = "" if by in GROUPED else "LEFT JOIN device_labels g ON g.device_sid = d.device_sid AND g.key = :by_label"
    return f"(SELECT {value} AS value, count(*) AS count {_selected(selection, value, label)} GROUP BY 1) g"


def _selected(selection: Selection, value: str = "", label: str = "") -> str:
    return f"""FROM (SELECT s.device_sid FROM {selection.driver} ORDER BY s.device_sid LIMIT {_ALL}) x
        CROSS JOIN devices d {joins(value, selection.where)} {label}
        WHERE d.device_sid = x.device_sid AND {selection.where}"""


async def _total(db: Database, selection: Selection) -> int:
    sql = _DEVICES if selection.whole else f"SELECT count(*) AS count {_selected(selection)}"
    rows = await db.scan(_Count, sql, selection.params)
    return rows[0].count if rows else 0
