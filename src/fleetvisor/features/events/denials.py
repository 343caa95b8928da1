"""Refused requests as events: gathered in memory, and written every few seconds, equal ones as one event with a count.

So a flood costs one event, and its number is told all the same. Bounded: in one round at most ``ROWS_MAX`` different
refusals are told apart, the rest are summed as one. What was gathered since the last round is lost with the process.
Deliberately no look at what was refused: ``web/guard`` tells it.
"""

from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.events import store
from fleetvisor.ground.clock import Clock
from fleetvisor.ground.sids import AccountSid, is_sid

ROWS_MAX: Final = 100
TYPE: Final = "request.denied"
_BY_KEY: Final = "SELECT account_sid FROM keys WHERE key_sid = :sid"
_BY_DEVICE: Final = "SELECT account_sid FROM devices WHERE device_sid = :sid"
_BY_ACCOUNT: Final = "SELECT account_sid FROM accounts WHERE account_sid = :sid"
_BY_GRANT: Final = "SELECT account_sid FROM enrollment_tokens WHERE token_sid = :sid"
_WHOSE: Final = {"AC": _BY_ACCOUNT, "SK": _BY_KEY, "UV": _BY_DEVICE, "ET": _BY_GRANT}
_FIRST: Final = "SELECT account_sid FROM accounts WHERE ordinal = 1"


class Refusal(msgspec.Struct, frozen=True):
    """What was refused to whom: ``identity`` as it was claimed, ``path`` as it was asked for."""

    address: str
    identity: str
    method: str
    path: str
    status: int


class _Owner(msgspec.Struct, frozen=True):
    account_sid: AccountSid


_OTHERS: Final = Refusal("", "", "", "", 0)


class Denials:
    """Gathers refusals, and writes them as events of the account whose name was claimed, else of the first."""

    def __init__(self, *, db: Database, clock: Clock) -> None:
        """Start with nothing gathered."""
        self._db = db
        self._clock = clock
        self._counts: dict[Refusal, int] = {}

    def note(self, refusal: Refusal) -> None:
        """Gather one refusal."""
        if refusal not in self._counts and len(self._counts) >= ROWS_MAX:
            refusal = _OTHERS
        self._counts[refusal] = self._counts.get(refusal, 0) + 1

    async def flush(self) -> int:
        """Write what was gathered, in one transaction; give how many events. What fails is kept for the next round."""
        counts, self._counts = self._counts, {}
        if not counts:
            return 0
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            for refusal, count in counts.items():
                account_sid = await _owner(tx, refusal.identity)
                if account_sid is not None:
                    data: dict[str, str | int | None] = {"count": count}
                    if refusal is not _OTHERS:
                        data |= {"status": refusal.status, "method": refusal.method, "path": refusal.path}
                        data["identity"] = refusal.identity
                    await store.append(
                        tx, account_sid=account_sid, type=TYPE, subject_sid="", data=data, now=now,
                        address=refusal.address or None,
                    )  # fmt: skip

        try:
            await self._db.write(body)
        except BaseException:
            for refusal, count in counts.items():
                self._counts[refusal] = self._counts.get(refusal, 0) + count
            raise
        return len(counts)


async def _owner(tx: Tx, identity: str) -> AccountSid | None:
    sql = _WHOSE.get(identity[:2])
    owner = None
    if sql is not None and is_sid(identity, identity[:2]):
        owner = await tx.one(_Owner, sql, {"sid": identity[:2] + identity[2:].lower()})
    owner = owner or await tx.one(_Owner, _FIRST, {})
    return owner.account_sid if owner else None
