"""Whether a selector means what it spells: a slip in a label must not select a fleet.

``!canry`` would select the canaries with all others. So a bare label must be known: of a device, of an enrolment
token, or of a rollout that is stored. ``label.canry`` says that it is meant, although nothing has it yet. A selector
for a change is refused; lists and counts answer with a warning. Stored selectors are not judged again: their labels
may have gone. Spec: ``docs/reference/selectors.md``.
"""

import re
import sys
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Database
from fleetvisor.features.devices import labels
from fleetvisor.features.devices.counting import GROUPED
from fleetvisor.features.devices.rules import LABEL_KEY
from fleetvisor.features.devices.selectors import FIELDS, MEANT, Term, parse
from fleetvisor.ground.clock import Clock, Millis, later
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import LABEL_KEYS, BoundedMap
from fleetvisor.ground.names import nearest
from fleetvisor.ground.sids import AccountSid

_COMPARED_MAX: Final = 200
_ROLLOUTS_MAX: Final = 1000
_WARNINGS_MAX: Final = 3
_REMEMBERED_S: Final = 5
# What stands between brackets or quotes is a value; a key stands at the beginning, or behind a comma.
_VALUES: Final = re.compile(r'\((?:"(?:[^"\\]++|\\.)*+"|[^()"]++)*+\)|"(?:[^"\\]++|\\.)*+"')
_KEYS: Final = re.compile(rf"(?:^|,)[ \t\r\n!]*({LABEL_KEY})")


class _Key(msgspec.Struct, frozen=True):
    key: str


class _Labels(msgspec.Struct, frozen=True):
    labels: str


class _Selector(msgspec.Struct, frozen=True):
    selector: str


class Known(msgspec.Struct, frozen=True):
    """The label keys of an account: what tokens and rollouts name, and the first of those that devices have."""

    named: frozenset[str]
    on_devices: tuple[str, ...]
    until: Millis


class Spelling:
    """Judges the bare keys of selectors. What an account's tokens and rollouts name is remembered for seconds."""

    def __init__(self, db: Database, clock: Clock, limits: Limits) -> None:
        """Begin with nothing remembered."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._known: BoundedMap[str, Known] = BoundedMap(LABEL_KEYS, weight)

    async def check(self, account_sid: AccountSid, terms: Sequence[Term]) -> None:
        """Raise ``Invalid`` for the first bare key that is no field and that nothing of the account has as a label."""
        unknown = await self._not_on_devices(account_sid, _bare(terms))
        if not unknown:
            return
        given = await self._of_tokens(account_sid)
        for key in unknown:
            if key not in given and not await self._in_rollout(account_sid, key):
                raise Invalid(_told(key, [*given, *await self._of_devices(account_sid)]))

    async def warnings(self, account_sid: AccountSid, terms: Sequence[Term]) -> tuple[str, ...]:
        """Return what to say of the first bare keys that nothing has. It costs one look-up, and little more in 5 s."""
        return await self._warnings(account_sid, _bare(terms), _told)

    async def warnings_by(self, account_sid: AccountSid, key: str) -> tuple[str, ...]:
        """Return what to say of a label to count by that nothing has."""
        return await self._warnings(account_sid, [key], _told_by)

    async def _warnings(
        self, account_sid: AccountSid, keys: list[str], told: Callable[[str, Sequence[str]], str]
    ) -> tuple[str, ...]:
        unknown = await self._not_on_devices(account_sid, keys)
        if not unknown:
            return ()
        known = self._known.get(account_sid)
        if known is None or known.until < self._clock.now():
            known = await self._read(account_sid)
            self._known.put(account_sid, known)
        slips = [key for key in unknown if key not in known.named][:_WARNINGS_MAX]
        return tuple(told(key, [*known.on_devices, *sorted(known.named)]) for key in slips)

    async def _not_on_devices(self, account_sid: AccountSid, bare: list[str]) -> list[str]:
        """Return the keys that no device has: one look-up along the index for each, in one statement."""
        if not bare:
            return []
        rows = ", ".join(f"(:key{place})" for place in range(len(bare)))
        sql = f"""SELECT v.column1 AS key FROM (VALUES {rows}) v WHERE EXISTS (SELECT 1 FROM device_labels s
            WHERE s.account_sid = :account_sid AND s.key = v.column1)"""
        named = {f"key{place}": key for place, key in enumerate(bare)}
        found = {row.key for row in await self._db.all(_Key, sql, {"account_sid": account_sid, **named})}
        return [key for key in bare if key not in found]

    async def _read(self, account_sid: AccountSid) -> Known:
        sql = """SELECT selector FROM rollouts WHERE account_sid = :account_sid
            ORDER BY date_created DESC, rollout_sid DESC LIMIT :most"""
        rows = await self._db.scan(_Selector, sql, {"account_sid": account_sid, "most": _ROLLOUTS_MAX})
        texts = ",".join(dict.fromkeys(row.selector for row in rows))
        named = {key.removeprefix(MEANT) for key in _KEYS.findall(_VALUES.sub("", texts))}
        named |= await self._of_tokens(account_sid)
        until = later(self._clock.now(), _REMEMBERED_S)
        return Known(frozenset(named), tuple(await self._of_devices(account_sid)), until)

    async def _of_tokens(self, account_sid: AccountSid) -> set[str]:
        sql = "SELECT labels FROM enrollment_tokens WHERE account_sid = :account_sid AND labels <> '{}'"
        rows = await self._db.scan(_Labels, sql, {"account_sid": account_sid})
        return {key for row in rows for key in labels.decode(row.labels)}

    async def _in_rollout(self, account_sid: AccountSid, key: str) -> bool:
        """Return whether a stored rollout's selector names the label; of those whose text holds it, the first 100."""
        sql = """
        SELECT selector FROM rollouts WHERE account_sid = :account_sid AND selector LIKE :like ESCAPE '!' LIMIT 100"""
        like = f"%{key.replace('_', '!_')}%"
        rows = await self._db.scan(_Selector, sql, {"account_sid": account_sid, "like": like})
        return any(term.key == key for row in rows for term in parse(row.selector, self._limits))

    async def _of_devices(self, account_sid: AccountSid) -> list[str]:
        """Return the label keys of the account's devices, the first 200: one look-up along the index for each."""
        sql = """
        SELECT key FROM device_labels WHERE account_sid = :account_sid AND key > :after ORDER BY key LIMIT 1"""
        found: list[str] = []
        while len(found) < _COMPARED_MAX:
            row = await self._db.one(_Key, sql, {"account_sid": account_sid, "after": found[-1] if found else ""})
            if row is None:
                break
            found.append(row.key)
        return found


def weight(known: Known) -> int:
    """Return about how many bytes are kept."""
    keys = (*known.named, *known.on_devices)
    return sys.getsizeof(known.named) + sum(map(sys.getsizeof, keys)) + 8 * len(known.on_devices)


def _bare(terms: Sequence[Term]) -> list[str]:
    return list(dict.fromkeys(term.key for term in terms if not term.is_field and not term.is_meant))


def _told(key: str, known: Sequence[str]) -> str:
    near = nearest(key, [*FIELDS, *known[:_COMPARED_MAX]])
    return (
        f"Selector: {key!a} is no field, and no label of this account; did you mean {near!a}?"
        f" Write {MEANT}{key} if you mean a label that no Device has yet."
    )


def _told_by(key: str, known: Sequence[str]) -> str:
    near = nearest(key, [*GROUPED, *known[:_COMPARED_MAX]])
    return f"By: {key!a} is nothing to count by, and no label of this account; did you mean {near!a}?"
