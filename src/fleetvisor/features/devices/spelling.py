"""Whether a selector that is written for a change means what it spells: a slip in a label must not select a fleet.

``!canry`` would select the canaries with all others. So a bare label must be known: of a device, of an enrolment
token, or of a rollout that is stored. ``label.canry`` says that it is meant, although nothing has it yet. Stored
selectors are not judged again: their labels may have gone. Spec: ``docs/reference/selectors.md``.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from fleetvisor.db.database import Database
from fleetvisor.features.devices import labels
from fleetvisor.features.devices.selectors import FIELDS, MEANT, Term, parse
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.names import nearest
from fleetvisor.ground.sids import AccountSid

_COMPARED_MAX: Final = 200


class _Key(msgspec.Struct, frozen=True):
    key: str


class _Labels(msgspec.Struct, frozen=True):
    labels: str


class _Selector(msgspec.Struct, frozen=True):
    selector: str


async def check(db: Database, account_sid: AccountSid, terms: Iterable[Term], limits: Limits) -> None:
    """Raise ``Invalid`` for the first bare key that is no field and that nothing of the account has as a label."""
    bare = dict.fromkeys(term.key for term in terms if not term.is_field and not term.is_meant)
    unknown = [key for key in bare if not await _on_device(db, account_sid, key)]
    if not unknown:
        return
    given = await _of_tokens(db, account_sid)
    for key in unknown:
        if key not in given and not await _in_rollout(db, account_sid, key, limits):
            near = nearest(key, [*FIELDS, *given, *await _of_devices(db, account_sid)])
            raise Invalid(
                f"Selector: {key!a} is no field, and no label of this account; did you mean {near!a}?"
                f" Write {MEANT}{key} if you mean a label that no Device has yet."
            )


async def _on_device(db: Database, account_sid: AccountSid, key: str) -> bool:
    sql = "SELECT key FROM device_labels WHERE account_sid = :account_sid AND key = :key LIMIT 1"
    return await db.one(_Key, sql, {"account_sid": account_sid, "key": key}) is not None


async def _of_tokens(db: Database, account_sid: AccountSid) -> set[str]:
    sql = "SELECT labels FROM enrollment_tokens WHERE account_sid = :account_sid AND labels <> '{}'"
    rows = await db.scan(_Labels, sql, {"account_sid": account_sid})
    return {key for row in rows for key in labels.decode(row.labels)}


async def _in_rollout(db: Database, account_sid: AccountSid, key: str, limits: Limits) -> bool:
    """Return whether a stored rollout's selector names the label; of those whose text holds it, the first 100."""
    sql = """
    SELECT selector FROM rollouts WHERE account_sid = :account_sid AND selector LIKE :like ESCAPE '!' LIMIT 100"""
    like = f"%{key.replace('_', '!_')}%"
    rows = await db.scan(_Selector, sql, {"account_sid": account_sid, "like": like})
    return any(term.key == key for row in rows for term in parse(row.selector, limits))


async def _of_devices(db: Database, account_sid: AccountSid) -> list[str]:
    """Return the label keys of the account's devices, the first 200: one look-up along the index for each."""
    sql = """
    SELECT key FROM device_labels WHERE account_sid = :account_sid AND key > :after ORDER BY key LIMIT 1"""
    found: list[str] = []
    while len(found) < _COMPARED_MAX:
        row = await db.one(_Key, sql, {"account_sid": account_sid, "after": found[-1] if found else ""})
        if row is None:
            break
        found.append(row.key)
    return found
