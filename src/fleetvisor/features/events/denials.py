"""Refused requests as events: gathered in memory, and written every few seconds, equal ones as one event with a count.

So a flood costs one event, and its number is told all the same. Bounded in sum: an address has a budget of events an
hour, and so have all addresses together. What is beyond it, or beyond the ``ROWS_MAX`` different refusals of one round,
is summed for its address, and the sums are written every ten minutes. What was gathered since the last round is lost
with the process. Deliberately no look at what was refused: ``web/guard`` tells it.
"""

from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.events import store
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import AccountSid, DeviceSid, is_sid, normalize

ROWS_MAX: Final = 100
_SUMS_S: Final = 600.0
_HOUR_S: Final = 3600.0
_UNAUTHENTICATED: Final = 401
_BY_KEY: Final = "SELECT account_sid FROM keys WHERE key_sid = :sid"
_BY_DEVICE: Final = "SELECT account_sid FROM devices WHERE device_sid = :sid"
_BY_ACCOUNT: Final = "SELECT account_sid FROM accounts WHERE account_sid = :sid"
_BY_GRANT: Final = "SELECT account_sid FROM enrollment_tokens WHERE token_sid = :sid"
_WHOSE: Final = {"AC": _BY_ACCOUNT, "SK": _BY_KEY, "UV": _BY_DEVICE, "ET": _BY_GRANT}
_BY_CONTROLLER: Final = "SELECT device_sid FROM devices WHERE account_sid = :account_sid AND controller_id = :name"
_BY_NAME: Final = "SELECT device_sid FROM devices WHERE account_sid = :account_sid AND unique_name = :name"
_FIRST: Final = "SELECT account_sid FROM accounts WHERE ordinal = 1"


class Refusal(msgspec.Struct, frozen=True):
    """What was refused to whom: ``identity`` as it was claimed, ``path`` as it was asked for.

    ``network`` is what counts as one address. ``account`` and ``device``: which device the request named beside its
    credentials, if its protocol does that; an empty ``account`` is the first one.
    """

    address: str
    identity: str
    method: str
    path: str
    status: int
    network: str = ""
    account: str = ""
    device: str = ""


class _Owner(msgspec.Struct, frozen=True):
    account_sid: AccountSid


class _Device(msgspec.Struct, frozen=True):
    device_sid: DeviceSid


class Denials:
    """Gathers refusals, and writes them as events of the account whose name was claimed, else of the first."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits) -> None:
        """Start with nothing gathered."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._counts: dict[Refusal, int] = {}
        self._sums: dict[str, int] = {}
        self._summed_at = -_SUMS_S
        self._hour_began = clock.monotonic()
        self._spent: dict[str, int] = {}
        self._spent_in_all = 0

    def note(self, refusal: Refusal) -> None:
        """Gather one refusal."""
        count = self._counts.get(refusal)
        if count is not None:
            self._counts[refusal] = count + 1
        elif len(self._counts) < ROWS_MAX and self._spend(refusal.network or refusal.address):
            self._counts[refusal] = 1
        else:
            self._sum(refusal.network or refusal.address, 1)

    def _spend(self, address: str) -> bool:
        """Take an event from the budgets of this hour, if they have one."""
        now = self._clock.monotonic()
        if now - self._hour_began >= _HOUR_S:
            self._hour_began, self._spent_in_all = now, 0
            self._spent.clear()
        spent = self._spent.get(address, 0)
        limits = self._limits
        if spent >= limits.refusals_per_address_max or self._spent_in_all >= limits.refusals_per_hour_max:
            return False
        self._spent[address] = spent + 1
        self._spent_in_all += 1
        return True

    def _sum(self, address: str, count: int) -> None:
        """Add to an address's sum; to that of all others when there are many addresses."""
        place = address if address in self._sums or len(self._sums) < ROWS_MAX else ""
        self._sums[place] = self._sums.get(place, 0) + count

    def _due(self, *, last: bool) -> dict[str, int]:
        """Return the sums that are to be written now, and forget them."""
        now = self._clock.monotonic()
        if not self._sums or (not last and now - self._summed_at < _SUMS_S):
            return {}
        sums, self._sums, self._summed_at = self._sums, {}, now
        return sums

    async def flush(self, *, last: bool = False) -> int:
        """Write what was gathered, in one transaction; return how many events. What fails is kept for the next round.

        ``last`` writes the sums too, also when their ten minutes are not over.
        """
        counts, self._counts = self._counts, {}
        sums = self._due(last=last)
        if not counts and not sums:
            return 0
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            for refusal, count in counts.items():
                data: dict[str, str | int | None] = {
                    "count": count,
                    "status": refusal.status,
                    "method": refusal.method,
                    "path": refusal.path,
                    "identity": refusal.identity,
                }
                await _append(tx, refusal.identity, data, refusal.address, now, await _refused(tx, refusal))
            for address, count in sums.items():
                await _append(tx, "", {"count": count}, address, now)

        try:
            await self._db.write(body)
        except BaseException:
            for refusal, count in counts.items():
                self._counts[refusal] = self._counts.get(refusal, 0) + count
            for address, count in sums.items():
                self._sum(address, count)
            self._summed_at = -_SUMS_S if sums else self._summed_at
            raise
        return len(counts) + len(sums)


async def _append(
    tx: Tx,
    identity: str,
    data: dict[str, str | int | None],
    address: str,
    now: Millis,
    refused_sid: DeviceSid | None = None,
) -> None:
    account_sid = await _owner(tx, identity)
    if account_sid is not None:
        await store.append_refusal(tx, account_sid, refused_sid, data, address=address or None, now=now)


async def _refused(tx: Tx, refusal: Refusal) -> DeviceSid | None:
    """Return whose credentials were refused: the device that they claimed, else the one that the request named."""
    if refusal.status != _UNAUTHENTICATED:  # proven, but too fast, or it may not
        return None
    for claimed in (refusal.identity, refusal.device):
        if is_sid(claimed, "UV"):
            return DeviceSid(normalize(claimed))
    if not refusal.device:
        return None
    account_sid = refusal.account or await _owner(tx, "")
    keys = {"account_sid": account_sid, "name": refusal.device}
    found = await tx.one(_Device, _BY_CONTROLLER, keys) or await tx.one(_Device, _BY_NAME, keys)
    return found.device_sid if found else None


async def _owner(tx: Tx, identity: str) -> AccountSid | None:
    sql = _WHOSE.get(identity[:2])
    owner = None
    if sql is not None and is_sid(identity, identity[:2]):
        owner = await tx.one(_Owner, sql, {"sid": normalize(identity)})
    owner = owner or await tx.one(_Owner, _FIRST, {})
    return owner.account_sid if owner else None
