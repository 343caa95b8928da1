"""The devices that a rollout came to, in pages by SID: all, those in one state, or those that a selector selects now.

A page with a selector looks at a bounded number of rows: it may be short, and then says where to go on.
"""

from typing import Final

from fleetvisor.db.database import Database
from fleetvisor.features.devices.selection import Selection, joins
from fleetvisor.features.rollouts.model import Rollout
from fleetvisor.features.updates.members import COLUMNS
from fleetvisor.features.updates.model import Member, MemberState
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import Page, PageRequest, page_of_search

_PIECE: Final = 1024
_ENDS: Final = (("",), ("~",))  # before and after every SID


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
