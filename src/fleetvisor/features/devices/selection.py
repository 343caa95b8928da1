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
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import Page, PageRequest, page_of_search
from fleetvisor.ground.sids import AccountSid

_PIECES: Final = (256, 1024, 4096)
_ON_LOOP_ROWS: Final = 256

STATUS: Final = """CASE
    WHEN a.target_sid IS NULL OR a.target_hash = a.reported_hash THEN 'up-to-date'
    WHEN u.number IS NULL OR u.app_sid <> a.target_sid
        OR u.state IN ('pending', 'downloading', 'installing', 'testing') THEN 'pending'
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
_BY_AGE: Final = "devices s WHERE s.account_sid = :account_sid"
_BY_LABEL: Final = "device_labels s WHERE s.account_sid = :account_sid AND s.key = :driver_key AND s.value = :driver"
_DRIVERS: Final = {
    "sid": _BY_AGE + " AND s.device_sid = :driver",
    "name": _BY_AGE + " AND s.unique_name = :driver",
    "hardware": _BY_AGE + " AND s.hardware_class = :driver",
    "target": "assignments s WHERE s.account_sid = :account_sid AND s.target_sid = :driver",
    "app": "assignments s WHERE s.account_sid = :account_sid AND s.reported_sid = :driver",
}
_ACCESS_DRIVERS: Final = {
    "waiting": _BY_AGE + " AND s.access = 'waiting'",
    "disabled": _BY_AGE + " AND s.access = 'disabled'",
}


class Selection(msgspec.Struct, frozen=True):
    """A compiled selector: its condition, along which rows to look, and their parameters.

    ``whole``: it has no terms, so it selects every device of the account.
    """

    where: str
    driver: str
    params: dict[str, str | int]
    whole: bool

    @property
    def terms(self) -> dict[str, str | int]:
        """Give the parameters of the condition alone."""
        return {name: value for name, value in self.params.items() if name not in {"driver", "driver_key"}}


class _Place(msgspec.Struct, frozen=True):
    date_created: Millis
    device_sid: str


class Walked(msgspec.Struct, frozen=True, gc=False):
    """One device that a walk came by, and whether it is selected."""

    date_created: Millis
    device_sid: str
    selected: bool


def compile_terms(account_sid: AccountSid, terms: Sequence[Term], now: Millis) -> Selection:
    """Compile terms whose apps are SIDs already."""
    params: dict[str, str | int] = {"account_sid": account_sid}
    conditions = [_condition(term, place, now, params) for place, term in enumerate(terms)]
    driver = _BY_AGE
    for term in terms:
        found = _driver(term, params)
        if found is not None:
            driver = found
            break
    return Selection(" AND ".join(["d.account_sid = :account_sid", *conditions]), driver, params, not terms)


def _driver(term: Term, params: dict[str, str | int]) -> str | None:
    """Give the rows that have the one value that a term demands, if there is an index of them."""
    if term.only is None:
        return None
    if term.key == "access":
        return _ACCESS_DRIVERS.get(term.only)
    if term.is_field and term.key not in _DRIVERS:
        return None
    params["driver"] = _canonical(term.key, term.only)
    if term.is_field:
        return _DRIVERS[term.key]
    params["driver_key"] = term.key
    return _BY_LABEL


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
            return f"p.date_seen > :v{place}"
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
    return f"{inverse}EXISTS ({_LABEL}:k{place}{values})"


def _named(term: Term, place: int, params: dict[str, str | int]) -> str:
    names = [f"v{place}_{index}" for index in range(len(term.values))]
    params.update(zip(names, (_canonical(term.key, value) for value in term.values), strict=True))
    return ", ".join(f":{name}" for name in names)


def _canonical(key: str, value: str) -> str:
    return value[:2] + value[2:].lower() if key == "sid" else value


def joins(*texts: str) -> str:
    """Give the joins to a device ``d`` that pieces of SQL need: of assignments ``a``, presence ``p``, updates ``u``."""
    used = set(re.findall(r"\b([apu])\.", " ".join(texts)))
    if "u" in used:
        used.add("a")
    return " ".join(join for alias, join in _JOINS.items() if alias in used)


async def page(db: Database, selection: Selection, now: Millis, request: PageRequest, limits: Limits) -> Page[Device]:
    """Read a page of the devices selected, newest first; short where too many rows would have to be looked at."""
    cursor = request.cursor
    forward = cursor is None or cursor.forward
    place = None if cursor is None else _Place(Millis(int(cursor.key[0])), str(cursor.key[1]))
    found: list[Device] = []
    examined, exhausted, piece = 0, False, 0
    while len(found) <= request.size and examined < limits.selector_rows_max and not exhausted:
        # the first piece is as long as the page: where an index gives just what is wanted, it is the only one
        size = request.size + 1 if piece == 0 else max(_PIECES[min(piece, len(_PIECES)) - 1], request.size + 1)
        size = min(size, limits.selector_rows_max - examined)
        rows = await _piece(db, selection, place, size, request.size + 1 - len(found), forward=forward)
        found += [store.device_of(row, now) for row in rows]
        piece, examined = piece + 1, examined + size
        last = await _nth(db, selection, place, size, forward=forward) if len(found) <= request.size else place
        place, exhausted = last or place, last is None
    stopped = None if exhausted or place is None else (place.date_created, place.device_sid)
    return page_of_search(found, request, _key, stopped)


def _key(device: Device) -> tuple[str | int, ...]:
    return (device.date_created, device.device_sid)


def _beside(place: _Place | None, *, forward: bool) -> tuple[str, str, dict[str, str | int]]:
    """Give the condition of what lies beside a place, the order, and the parameters."""
    sign, order = ("<", "DESC") if forward else (">", "ASC")
    if place is None:
        return "", order, {}
    condition = f" AND (s.date_created, s.device_sid) {sign} (:created, :sid)"
    return condition, order, {"created": place.date_created, "sid": place.device_sid}


async def _piece(
    db: Database, selection: Selection, place: _Place | None, size: int, wanted: int, *, forward: bool
) -> list[store.DeviceRow]:
    beside, order, at = _beside(place, forward=forward)
    sql = f"""{store.COLUMNS} FROM (SELECT s.device_sid, s.date_created FROM {selection.driver}{beside}
        ORDER BY s.date_created {order}, s.device_sid {order} LIMIT :size) x
        CROSS JOIN devices d {store.JOINS}
        WHERE d.device_sid = x.device_sid AND {selection.where}
        ORDER BY x.date_created {order}, x.device_sid {order} LIMIT :wanted"""
    read = db.all if size <= _ON_LOOP_ROWS else db.scan
    return await read(store.DeviceRow, sql, {**selection.params, **at, "size": size, "wanted": wanted})


async def _nth(db: Database, selection: Selection, place: _Place | None, size: int, *, forward: bool) -> _Place | None:
    """Give the last row that a piece looked at; ``None`` when there were fewer."""
    beside, order, at = _beside(place, forward=forward)
    sql = f"""SELECT s.date_created, s.device_sid FROM {selection.driver}{beside}
        ORDER BY s.date_created {order}, s.device_sid {order} LIMIT 1 OFFSET :before"""
    keep = ("account_sid", "driver", "driver_key")
    params = {name: value for name, value in selection.params.items() if name in keep}
    return await db.one(_Place, sql, {**params, **at, "before": size - 1})


async def walk(db: Database, selection: Selection, after: tuple[int, str] | None, size: int) -> list[Walked]:
    """Come by the next ``size`` devices after a place (creation, SID), the oldest first: selected or not.

    Fewer than ``size`` mean that there are no more.
    """
    place = None if after is None else _Place(Millis(after[0]), after[1])
    beside, _, at = _beside(place, forward=False)
    sql = f"""SELECT x.date_created, x.device_sid, CASE WHEN {selection.where} THEN 1 ELSE 0 END AS selected
        FROM (SELECT s.device_sid, s.date_created FROM {selection.driver}{beside}
            ORDER BY s.date_created ASC, s.device_sid ASC LIMIT :size) x
        CROSS JOIN devices d {joins(selection.where)}
        WHERE d.device_sid = x.device_sid ORDER BY x.date_created ASC, x.device_sid ASC"""
    return await db.scan(Walked, sql, {**selection.params, **at, "size": size})


async def selects(db: Database, selection: Selection, device_sid: str) -> bool:
    """Tell whether one device is selected."""
    sql = f"""SELECT d.date_created, d.device_sid FROM devices d {joins(selection.where)}
        WHERE d.device_sid = :the_device AND {selection.where}"""
    return await db.one(_Place, sql, {**selection.terms, "the_device": device_sid}) is not None
