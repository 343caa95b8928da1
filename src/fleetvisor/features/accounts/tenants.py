"""Accounts as the first account's operator sees them: listed, suspended, resumed, and told to end.

What an account that ends has is removed by ``features/closing``. An account that is not active proves nobody: its
credentials and devices are refused from the moment of the commit, and caches of proofs hear ``trust_bell``.
Deliberately no look at who calls: ``api/tenants`` lets the first account's Auth Token only.
"""

from typing import Final

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.accounts import store
from fleetvisor.features.accounts.model import Status, Tenant, trust_bell
from fleetvisor.features.events import store as events
from fleetvisor.ground.clock import Clock
from fleetvisor.ground.errors import Conflict, NotFound
from fleetvisor.ground.pages import Page, PageRequest, page_of
from fleetvisor.ground.sids import AccountSid, normalize

_EVENTS: Final[dict[Status, str]] = {
    "active": "account.resumed",
    "suspended": "account.suspended",
    "ending": "account.ending",
}
#: Events after which nothing that proved anybody of their subject may be trusted from memory.
UNTRUSTING: Final = frozenset(_EVENTS.values())


class Tenants:
    """The verbs on other accounts."""

    def __init__(self, *, db: Database, clock: Clock, bus: Bus) -> None:
        """Keep what the verbs need."""
        self._db = db
        self._clock = clock
        self._bus = bus

    async def list(self, page: PageRequest) -> Page[Tenant]:
        """Return a page of the server's accounts, newest first."""
        cursor = page.cursor
        key = None if cursor is None else (int(cursor.key[0]), str(cursor.key[1]))
        newer = cursor is not None and not cursor.forward
        rows = await store.page_tenants(self._db, key=key, limit=page.size + 1, newer=newer)
        return page_of(rows, page, lambda row: (row.date_created, row.account_sid))

    async def get(self, sid: str) -> Tenant:
        """Return an account. Raises ``NotFound``."""
        found = await store.find_tenant(self._db, AccountSid(normalize(sid)))
        if found is None:
            raise _missing()
        return found

    async def suspend(self, by: AccountSid, sid: str) -> Tenant:
        """Refuse an account's credentials and devices from now on. Raises ``NotFound``, ``Conflict``."""
        return await self._change(by, sid, "suspended")

    async def resume(self, by: AccountSid, sid: str) -> Tenant:
        """Let a suspended account in again. Raises ``NotFound``, ``Conflict``."""
        return await self._change(by, sid, "active")

    async def end(self, by: AccountSid, sid: str) -> Tenant:
        """Refuse an account for good; everything it has is removed in the background. Raises as ``suspend`` does."""
        return await self._change(by, sid, "ending")

    async def _change(self, by: AccountSid, sid: str, status: Status) -> Tenant:
        now = self._clock.now()

        async def body(tx: Tx) -> Tenant:
            tenant = await store.find_tenant(tx, AccountSid(normalize(sid)))
            if tenant is None:
                raise _missing()
            if tenant.is_first:
                raise Conflict(
                    "The first account cannot be suspended or ended, because it administers the other accounts."
                )
            if tenant.status == status:
                return tenant
            if tenant.status == "ending":
                raise Conflict("The account is ending. Its data is being removed.")
            await store.set_status(tx, tenant.account_sid, status)
            for account_sid in (by, tenant.account_sid):
                await events.append(
                    tx, account_sid=account_sid, type=_EVENTS[status], subject_sid=tenant.account_sid, now=now
                )
            return await store.find_tenant(tx, tenant.account_sid) or tenant

        tenant = await self._db.write(body)
        self._bus.ring((tenant.account_sid, trust_bell(tenant.account_sid)))
        return tenant


def bells_of(event: events.Event) -> set[str]:
    """Return the bells that an event rings on a node that reads it in the change log."""
    rung = {sid for sid in (event.subject_sid, event.device_sid) if sid}
    if event.type in UNTRUSTING:
        rung.add(trust_bell(event.subject_sid))
    return rung


def _missing() -> NotFound:
    return NotFound("No Account matches the given SID.")
