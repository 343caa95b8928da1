"""Moments of the future, noted by a clock that was wrong: they are set to now, once that is noticed.

Left alone, such a device would be "seen just now" until its date comes, an update would never be overdue, a wave would
never have soaked, and an instruction of that time would be newer than all that follow. Contacts are looked through
after the start, after the clock went back, and once an hour; other moments after the start and after the clock went
back. Until it is mended, a contact of the future proves nothing (``devices/selection``), and it is shown as now.
Deliberately no timer: ``server/background`` calls ``mend``. What a person chose (``StartAt``, ``KnownSince``, the
end of a key) is never touched.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from fleetvisor.db.database import Database, Tx, Value
from fleetvisor.ground.clock import AHEAD_MS, Clock, Millis
from fleetvisor.ground.limits import Limits

PERIOD_S: Final = 30.0
_RUNS: Final = 120  # of which one looks at all contacts: one an hour
PIECE: Final = 1000


class Moment(NamedTuple):
    """A column that says when something happened, or (``slack_ms``) by when it must: at most so long from now."""

    table: str
    key: tuple[str, ...]
    column: str
    slack_ms: int = 0


CONTACT: Final = Moment("presence", ("device_sid",), "date_seen")


def moments(limits: Limits) -> tuple[Moment, ...]:
    """Return the moments, beside contacts, by which something is decided."""
    rollout, device = ("rollout_sid",), ("device_sid",)
    deadline_ms = max(limits.report_timeout_s, limits.cancel_timeout_s) * 1000
    return (
        Moment("devices", device, "date_created"),
        Moment("assignments", device, "date_instructed"),
        Moment("updates", ("device_sid", "number"), "date_updated"),
        Moment("updates", ("device_sid", "number"), "date_deadline", deadline_ms),
        *(Moment("rollouts", rollout, name) for name in ("date_started", "date_scanned", "date_retry", "date_paid")),
        *(
            Moment("rollout_waves", ("rollout_sid", "position"), name)
            for name in ("date_opened", "date_offered", "date_settled")
        ),
        Moment("rollout_devices", ("rollout_sid", "device_sid"), "date_offered"),
        Moment("layers", ("digest",), "date_renewed"),
        Moment("removed_blobs", ("blob",), "date_removed"),
    )


class _Found(msgspec.Struct, frozen=True):
    first: str
    second: str | int | None


class Ahead:
    """Mends moments of the future."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        limits: Limits,
        written: Callable[[Iterable[str]], None] = lambda _: None,
        piece: int = PIECE,
    ) -> None:
        """Begin with all to look through, ``piece`` rows at a time; ``written`` gets devices whose contacts changed."""
        self._db = db
        self._clock = clock
        self._moments = moments(limits)
        self._written = written
        self._piece = piece
        self._left = 0
        self._last: Millis | None = None

    async def mend(self) -> int:
        """Set moments of the future to now, when it is time to look; return how many contacts they were."""
        now, last = self._clock.now(), self._last
        back = last is None or now < last
        if not back and self._left > 0:
            self._last, self._left = now, self._left - 1
            return 0
        if back:
            for moment in self._moments:
                await self._mend(moment, now)
        count = await self._mend(CONTACT, now)
        self._last, self._left = now, _RUNS
        return count

    async def _mend(self, moment: Moment, now: Millis) -> int:
        count, after = 0, _Found("", None)
        find, params = _find(moment), {"latest": now + moment.slack_ms + AHEAD_MS, "most": self._piece}
        while found := await self._db.scan(_Found, find, {**params, **_place(moment, after)}):
            await self._set(moment, found, now)
            count, after = count + len(found), found[-1]
        return count

    async def _set(self, moment: Moment, found: list[_Found], now: Millis) -> None:
        where = " AND ".join(f"{name} = :{place}" for name, place in zip(moment.key, ("first", "second"), strict=False))
        column = moment.column
        sql = f"UPDATE {moment.table} SET {column} = :moment WHERE {where} AND {column} > :latest"
        times = {"moment": now + moment.slack_ms, "latest": now + moment.slack_ms + AHEAD_MS}
        rows = [{**_place(moment, each), **times} for each in found]

        async def body(tx: Tx) -> None:
            await tx.write_many(sql, rows)

        await self._db.write(body)
        if moment is CONTACT:
            self._written([each.first for each in found])


def _find(moment: Moment) -> str:
    """Return the statement that finds a piece of the rows, in the order of their key."""
    if len(moment.key) == 1:
        columns, beside = f"{moment.key[0]} AS first, NULL AS second", f"{moment.key[0]} > :first"
    else:
        columns = f"{moment.key[0]} AS first, {moment.key[1]} AS second"
        beside = f"({', '.join(moment.key)}) > (:first, :second)"
    return f"""SELECT {columns} FROM {moment.table} WHERE {beside} AND {moment.column} > :latest
        ORDER BY {", ".join(moment.key)} LIMIT :most"""


def _place(moment: Moment, found: _Found) -> dict[str, Value]:
    if len(moment.key) == 1:
        return {"first": found.first}
    second = found.second
    if second is None:
        second = -1 if moment.key[1] in {"number", "position"} else ""
    return {"first": found.first, "second": second}
