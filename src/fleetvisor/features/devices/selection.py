"""Which devices a selector selects: compiled to SQL that both engines run, by pages and in walks.

A page is read along the index that fits the selector best, in the order of all lists (newest first), in growing pieces.
It looks at a bounded number of rows: a page may be short, and then says where to go on.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Database
from fleetvisor.features.devices import store
from fleetvisor.features.devices.model import Device
from fleetvisor.features.devices.selectors import Term, duration_ms
from fleetvisor.features.updates.store import OPEN_STATES
from fleetvisor.ground.clock import AHEAD_MS, Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import Page, PageRequest, page_of_search
from fleetvisor.ground.sids import AccountSid, normalize

_DRIVERS_MAX: Final = 4
_PROBE: Final = 1024
_PIECES: Final = (256, 1024, 4096)
_ON_LOOP_ROWS: Final = 256

STATUS: Final = f"""CASE
    WHEN a.target_sid IS NULL OR a.target_hash = a.reported_hash THEN 'up-to-date'
    WHEN u.number IS NULL OR u.app_sid <> a.target_sid
        OR u.state IN {OPEN_STATES} THEN 'pending'
    WHEN u.state = 'failed' OR a.target_reached = 1 THEN 'error'
    ELSE 'pending' END"""
COLUMNS: Final = {
    "app": "a.reported_sid",
    "target": "a.target_sid",
    "status": STATUS,
    "access": "d.access",
    "hardware": "d.hardware_class",
    "name": "d.unique_name",
    "sid": "d.device_sid",
    "seen": "p.date_seen",
}
_JOINS: Final = {
    "a": "JOIN assignments a ON a.device_sid = d.device_sid",
    "p": "LEFT JOIN presence p ON p.device_sid = d.device_sid",
    "u": "LEFT JOIN updates u ON u.device_sid = d.device_sid AND u.number = a.last_number",
}
_LABEL: Final = "SELECT 1 FROM device_labels s WHERE s.device_sid = d.device_sid AND s.key = "
# PostgreSQL makes a join of each label's condition, and planning a hundred joins takes half a minute. An offset keeps a
# condition from becoming one.
_JOINED_MAX: Final = 4
_ALONE: Final = " LIMIT 1 OFFSET 0"
_BY_AGE: Final = "devices s WHERE s.account_sid = :account_sid"
_BY_LABEL: Final = "device_labels s WHERE s.account_sid = :account_sid AND s.key = {key} AND s.value = {value}"
_NAMED: Final = {"sid": "device_sid", "name": "unique_name"}
_DRIVERS: Final = {
    "hardware": _BY_AGE + " AND s.hardware_class = {value}",
    "target": "assignments s WHERE s.account_sid = :account_sid AND s.target_sid = {value}",
    "app": "assignments s WHERE s.account_sid = :account_sid AND s.reported_sid = {value}",
}
_ACCESS_DRIVERS: Final = {
    "waiting": _BY_AGE + " AND s.access = 'waiting'",
    "disabled": _BY_AGE + " AND s.access = 'disabled'",
}


class Selection(msgspec.Struct, frozen=True):
    """A compiled selector: its condition, along which rows one may look, and the parameters of all of it.

    Each driver gives rows of the account only. So ``where`` does not name the account again: it would lead PostgreSQL,
    before it has counted what an import just brought, to look through all devices for each row.
    ``whole``: it has no terms, so it selects every device of the account.
    """

    where: str
    drivers: tuple[str, ...]
    params: dict[str, str | int]
    whole: bool

    @property
    def driver(self) -> str:
        """Return the rows along which to look."""
        return self.drivers[0]

    @property
    def terms(self) -> dict[str, str | int]:
        """Return the parameters of the condition alone."""
        return {name: value for name, value in self.params.items() if not name.startswith("driver")}


class _Place(msgspec.Struct, frozen=True):
    date_created: Millis
    device_sid: str


class _Met(store.DeviceRow, frozen=True, gc=False):
    """A device that a piece came by: one that is selected, or (``edge``) the last that it looked at."""

    edge: bool


class Walked(msgspec.Struct, frozen=True, gc=False):
    """One device that a walk came by, and whether it is selected."""

    date_created: Millis
    device_sid: str
    selected: bool


def compile_terms(account_sid: AccountSid, terms: Sequence[Term], now: Millis) -> Selection:
    """Compile terms whose apps are SIDs already."""
    params: dict[str, str | int] = {"account_sid": account_sid}
    conditions = [_condition(term, place, now, params) for place, term in enumerate(terms)]
    named = [term for term in terms if term.key in _NAMED and term.operator == "in"]
    if named:  # nothing is narrower than devices that are named
        fewest = min(named, key=lambda term: len(term.values))
        drivers: tuple[str, ...] = (_named_driver(fewest, params),)
    else:
        only = [term for term in terms if term.only is not None]
        found = [_driver(term, place, params) for place, term in enumerate(only)]
        drivers = tuple(driver for driver in found if driver is not None)[:_DRIVERS_MAX]
    return Selection(" AND ".join(conditions) or "1 = 1", drivers or (_BY_AGE,), params, not terms)


def _named_driver(term: Term, params: dict[str, str | int]) -> str:
    """Return the devices of the SIDs or names that a term lists.

    Without statistics SQLite would rather walk the index by age than look up a list: a join in this order leaves no
    choice.
    """
    values = {_canonical(term.key, value): None for value in term.values}
    params.update({f"driver_{place}": value for place, value in enumerate(values)})
    rows = ", ".join(f"(:driver_{place})" for place in range(len(values)))
    return f"""(VALUES {rows}) v CROSS JOIN devices s
        WHERE s.{_NAMED[term.key]} = v.column1 AND s.account_sid = :account_sid"""


def _driver(term: Term, place: int, params: dict[str, str | int]) -> str | None:
    """Return the rows that have the one value that a term demands, if there is an index of them."""
    value = term.values[0]
    if term.key == "access":
        return _ACCESS_DRIVERS.get(value)
    if term.is_field and term.key not in _DRIVERS:
        return None
    params[f"driver{place}"] = value
    if term.is_field:
        return _DRIVERS[term.key].format(value=f":driver{place}")
    params[f"driver{place}_key"] = term.key
    return _BY_LABEL.format(key=f":driver{place}_key", value=f":driver{place}")


def _condition(term: Term, place: int, now: Millis, params: dict[str, str | int]) -> str:
    if not term.is_field:
        return _label_condition(term, place, params)
    column = COLUMNS[term.key]
    match term.operator:
        case "has":
            return f"{column} IS NOT NULL"
        case "lacks":
            return f"{column} IS NULL"
        case "in":
            return f"({column}) IN ({_named(term, place, params)})"
        case "not in":
            return f"({column} IS NULL OR ({column}) NOT IN ({_named(term, place, params)}))"
        case "<":
            params[f"v{place}"] = now - duration_ms(term.values[0])
            params[f"w{place}"] = now + AHEAD_MS
            return f"(p.date_seen > :v{place} AND p.date_seen <= :w{place})"
        case ">":
            params[f"v{place}"] = now - duration_ms(term.values[0])
            return f"(p.date_seen IS NULL OR p.date_seen < :v{place})"
        case "~":
            params[f"v{place}"] = term.values[0].replace("[", "[[]")  # only * and ? are special here
            return f"glob(:v{place}, d.unique_name) = 1"


def _label_condition(term: Term, place: int, params: dict[str, str | int]) -> str:
    params[f"k{place}"] = term.key
    values = f" AND s.value IN ({_named(term, place, params)})" if term.values else ""
    inverse = "NOT " if term.operator in {"lacks", "not in"} else ""
    alone = _ALONE if place >= _JOINED_MAX else ""
    return f"{inverse}EXISTS ({_LABEL}:k{place}{values}{alone})"


def _named(term: Term, place: int, params: dict[str, str | int]) -> str:
    names = [f"v{place}_{index}" for index in range(len(term.values))]
    params.update(zip(names, (_canonical(term.key, value) for value in term.values), strict=True))
    return ", ".join(f":{name}" for name in names)


def _canonical(key: str, value: str) -> str:
    return normalize(value) if key == "sid" else value


def joins(*texts: str) -> str:
    """Return the joins to a device ``d`` that SQL needs: of assignments ``a``, presence ``p``, updates ``u``."""
    used = set(re.findall(r"\b([apu])\.", " ".join(texts)))
    if "u" in used:
        used.add("a")
    return " ".join(join for alias, join in _JOINS.items() if alias in used)


class _Probe(msgspec.Struct, frozen=True):
    place: int
    count: int


async def narrowed(
    db: Database, selection: Selection, place: _Place | None = None, *, forward: bool = True
) -> Selection:
    """Choose the driver that has the fewest rows beside a place; the first of those that all have many.

    All are in the same order, so every page may choose anew.
    """
    if len(selection.drivers) == 1:
        return selection
    beside, order, at = _beside(place, forward=forward)
    ordered = f"{beside} ORDER BY s.date_created {order}, s.device_sid {order} LIMIT {_PROBE}"
    probes = (
        f"SELECT {number} AS place, count(*) AS count FROM (SELECT s.device_sid FROM {driver}{ordered}) x{number}"
        for number, driver in enumerate(selection.drivers)
    )
    found = await db.all(_Probe, " UNION ALL ".join(probes), {**selection.params, **at})
    fewest = min(found, key=lambda probe: (probe.count, probe.place))
    return msgspec.structs.replace(selection, drivers=(selection.drivers[fewest.place],))


# The list begins with the newest device: no moment is later than the first of these, and none before the second.
_ENDS: Final = ((2**62, ""), (0, ""))


async def page(db: Database, selection: Selection, now: Millis, request: PageRequest, limits: Limits) -> Page[Device]:
    """Read a page of the devices selected, newest first; short where too many rows would have to be looked at."""
    cursor = request.cursor
    forward = cursor is None or cursor.forward
    place = None if cursor is None else _Place(Millis(int(cursor.key[0])), str(cursor.key[1]))
    selection = await narrowed(db, selection, place, forward=forward)
    found: list[Device] = []
    examined, exhausted, piece = 0, False, 0
    while len(found) <= request.size and examined < limits.selector_rows_max and not exhausted:
        # the first piece is as long as the page: where an index gives just what is wanted, it is the only one
        size = request.size + 1 if piece == 0 else max(_PIECES[min(piece, len(_PIECES)) - 1], request.size + 1)
        size = min(size, limits.selector_rows_max - examined)
        rows, edge = await _piece(db, selection, place, size, request.size + 1 - len(found), forward=forward)
        found += [store.device_of(row, now) for row in rows]
        piece, examined = piece + 1, examined + size
        place, exhausted = edge or place, edge is None
    looked = None if place is None else (place.date_created, place.device_sid)
    return page_of_search(found, request, _key, looked, ended=exhausted, ends=_ENDS)


def _key(device: Device) -> tuple[str | int, ...]:
    return (device.date_created, device.device_sid)


def _beside(place: _Place | None, *, forward: bool) -> tuple[str, str, dict[str, str | int]]:
    """Return the condition of what lies beside a place, the order, and the parameters."""
    sign, order = ("<", "DESC") if forward else (">", "ASC")
    if place is None:
        return "", order, {}
    condition = f" AND (s.date_created, s.device_sid) {sign} (:created, :sid)"
    return condition, order, {"created": place.date_created, "sid": place.device_sid}


async def _piece(
    db: Database, selection: Selection, place: _Place | None, size: int, wanted: int, *, forward: bool
) -> tuple[list[_Met], _Place | None]:
    """Return up to ``wanted`` devices selected among the next ``size``, and the last of these, if there are so many.

    Read in one statement: a device that comes to the driver's rows or leaves them meanwhile moves no other one.
    """
    beside, order, at = _beside(place, forward=forward)
    rows = f"FROM {selection.driver}{beside} ORDER BY s.date_created {order}, s.device_sid {order} LIMIT"
    sql = f"""SELECT * FROM ({store.COLUMNS}, 0 AS edge FROM (SELECT s.device_sid, s.date_created {rows} :size) x
            CROSS JOIN devices d {store.JOINS}
            WHERE d.device_sid = x.device_sid AND {selection.where}
            ORDER BY x.date_created {order}, x.device_sid {order} LIMIT :wanted) m
        UNION ALL SELECT * FROM ({store.COLUMNS}, 1 AS edge FROM (SELECT s.device_sid {rows} 1 OFFSET :before) x
            CROSS JOIN devices d {store.JOINS}
            WHERE d.device_sid = x.device_sid) e"""
    read = db.all if size <= _ON_LOOP_ROWS else db.scan
    met = await read(_Met, sql, {**selection.params, **at, "size": size, "before": size - 1, "wanted": wanted})
    edge = next((_Place(row.date_created, row.device_sid) for row in met if row.edge), None)
    # one after the other is the order of neither engine's promise
    selected = sorted((row for row in met if not row.edge), key=_age, reverse=forward)
    return selected, edge


def _age(row: _Met) -> tuple[int, str]:
    return row.date_created, row.device_sid


async def walk(db: Database, selection: Selection, after: tuple[int, str] | None, size: int) -> list[Walked]:
    """Come by the next ``size`` devices after a place (creation, SID), the oldest first: selected or not.

    Fewer than ``size`` mean that there are no more.
    """
    place = None if after is None else _Place(Millis(after[0]), after[1])
    selection = await narrowed(db, selection, place, forward=False)
    beside, _, at = _beside(place, forward=False)
    sql = f"""SELECT x.date_created, x.device_sid, CASE WHEN {selection.where} THEN 1 ELSE 0 END AS selected
        FROM (SELECT s.device_sid, s.date_created FROM {selection.driver}{beside}
            ORDER BY s.date_created ASC, s.device_sid ASC LIMIT :size) x
        CROSS JOIN devices d {joins(selection.where)}
        WHERE d.device_sid = x.device_sid ORDER BY x.date_created ASC, x.device_sid ASC"""
    return await db.scan(Walked, sql, {**selection.params, **at, "size": size})


async def selects(db: Database, selection: Selection, device_sid: str) -> bool:
    """Return whether one device is selected."""
    sql = f"""SELECT d.date_created, d.device_sid FROM devices d {joins(selection.where)}
        WHERE d.device_sid = :the_device AND d.account_sid = :account_sid AND {selection.where}"""
    return await db.one(_Place, sql, {**selection.terms, "the_device": device_sid}) is not None
