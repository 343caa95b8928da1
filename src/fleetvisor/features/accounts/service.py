"""Accounts and API keys: made, proven, listed, removed.

Deliberately shows a token or secret once, when it is made (the Auth Token also to ``ensure_first``, which writes the
operator's credentials file). Spec: the API reference, section 1.1.
"""

from collections.abc import Sequence
from typing import Final

from fleetvisor.bus.bus import Bus
from fleetvisor.bus.kept import Bells, Kept
from fleetvisor.db.database import Body, Database, Tx
from fleetvisor.features.accounts import rules, store
from fleetvisor.features.accounts.model import Caller, Key, NewAccount, NewKey, Status, WantedKey
from fleetvisor.features.accounts.store import AccountRow
from fleetvisor.features.accounts.use import KeyUse
from fleetvisor.features.events import store as events
from fleetvisor.ground.clock import Clock, Entropy, is_over, later
from fleetvisor.ground.errors import Conflict, Invalid, NotFound, Unauthenticated, Unavailable
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import PROVEN_ACCOUNTS
from fleetvisor.ground.pages import Page, PageRequest, page_of
from fleetvisor.ground.sids import AccountSid, KeySid, is_sid, new_account_sid, new_key_sid, normalize
from fleetvisor.pki.identity import new_hex_token, token_hash
from fleetvisor.pki.seal import Seal, key_id_of

_TRIES: Final = 5


class Accounts:
    """The verbs on accounts and API keys."""

    def __init__(self, *, db: Database, clock: Clock, entropy: Entropy, seal: Seal, limits: Limits, bus: Bus) -> None:
        """Keep what the verbs need, and forget proven credentials whose bell rings."""
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._seal = seal
        self._limits = limits
        self._bus = bus
        self._first: AccountSid | None = None
        self._use = KeyUse(db)
        self._proven: Kept[tuple[str, bytes], Caller] = Kept(bus, PROVEN_ACCOUNTS, _bells_of, wide_of=_account_of)

    async def ensure_first(self) -> NewAccount:
        """Return the first account with its Auth Token, and make it if there is none; safe on two nodes at once."""
        present = await store.find_first(self._db)
        if present is None:
            made = await self._make("", first=True)
            if made is not None:
                return made
            present = await store.find_first(self._db)
        if present is None:
            raise AssertionError("the first account was there a moment ago")
        sealed = present.auth_token_sealed
        token = self._seal.unseal(sealed, rules.auth_token_context(present.account_sid)).decode()
        return NewAccount(present.account_sid, token, present.date_created)

    async def find_first(self) -> AccountSid | None:
        """Return the first account's SID, which never changes; ``None`` before it is made."""
        if self._first is None:
            row = await store.find_first(self._db)
            self._first = None if row is None else row.account_sid
        return self._first

    async def create(self, friendly_name: str = "", by: AccountSid | None = None) -> NewAccount:
        """Make another account, named for people; its Auth Token is shown this once. Raises ``Invalid``.

        It is an event of the new account, and of ``by``, the account that makes it.
        """
        name = rules.check_friendly_name(friendly_name)
        for _ in range(_TRIES):
            made = await self._make(name, first=False, by=by)
            if made is not None:
                return made
        raise Unavailable("Other accounts were created at the same time, repeatedly. Retry.", retry_after_s=1)

    async def _make(self, friendly_name: str, *, first: bool, by: AccountSid | None = None) -> NewAccount | None:
        account_sid = new_account_sid(self._entropy)
        token = new_hex_token(self._entropy)
        sealed = self._seal.seal(token.encode(), rules.auth_token_context(account_sid))
        now = self._clock.now()

        async def body(tx: Tx) -> bool:
            row = await store.insert(tx, account_sid, token_hash(token), sealed, friendly_name, now, first=first)
            if row is None:
                return False
            data: dict[str, str | int | None] = {"friendly_name": friendly_name}
            for whose in (account_sid, by):
                if whose is not None:
                    await events.append(
                        tx, account_sid=whose, type="account.created", subject_sid=account_sid, data=data, now=now
                    )
            return True

        return NewAccount(account_sid, token, now, friendly_name) if await self._db.write(body) else None

    async def authenticate(self, username: str, password: str) -> Caller:
        """Return whom a user name (``AC…`` or ``SK…``) and password prove. Raises ``Unauthenticated``.

        Answered from memory, by the password's SHA-256, while the bus is fresh. Otherwise one look-up and two
        comparisons, whether the name exists or not.
        """
        place = (username, token_hash(password))
        return self._used(await self._proven.get(place, lambda: self._prove(username, password)))

    def _used(self, caller: Caller) -> Caller:
        """Note a key's use. Raises ``Unauthenticated`` when it has ended."""
        if caller.key_sid is not None:
            now = self._clock.now()
            if is_over(caller.date_expires, now):
                raise Unauthenticated("The API key has expired. Create another one.", identity=caller.key_sid)
            self._use.note(caller.key_sid, now)
        return caller

    async def _prove(self, username: str, password: str) -> Caller:
        if is_sid(username, "SK"):
            key = await store.find_credential(self._db, KeySid(normalize(username)))
            rules.proves(password, None)  # as many comparisons as an account's two tokens cost
            if rules.proves(password, key.secret_hash if key else None) and key is not None:
                _check_status(key.status, username)
                return Caller(key.account_sid, key.ordinal == 1, key.key_sid, key.role, key.date_expires)
        else:
            account_sid = AccountSid(normalize(username) if is_sid(username, "AC") else "")
            account = await store.find(self._db, account_sid)
            first = rules.proves(password, account.auth_token_hash if account else None)
            second = rules.proves(password, account.secondary_hash if account else None)
            if (first or second) and account is not None:
                _check_status(account.status, username)
                return Caller(account.account_sid, account.ordinal == 1)
        raise Unauthenticated(identity=username)

    async def flush(self) -> int:
        """Write which keys were used; return how many."""
        return await self._use.flush()

    async def create_key(self, maker: Caller, wanted: WantedKey) -> NewKey:
        """Make an API key of ``maker``'s account; its secret is shown this once.

        A key that ``maker``, a key itself, makes has no higher role, ends no later, and is removed with it. Raises
        ``Invalid``, ``AccessDenied``, ``Conflict`` (too many), ``Unauthenticated`` (``maker`` was removed meanwhile).
        """
        account_sid = maker.account_sid
        name = rules.check_friendly_name(wanted.friendly_name)
        role = rules.check_role(wanted.role)
        if not 0 <= (wanted.ttl_s or 0) <= self._limits.key_ttl_s_max:
            raise Invalid(f"Ttl must be from 0 (no end) to {self._limits.key_ttl_s_max} seconds.")
        secret, now = new_hex_token(self._entropy), self._clock.now()
        expires = later(now, wanted.ttl_s) if wanted.ttl_s else None
        expires = rules.check_child(maker, role, expires, bounded=wanted.ttl_s is not None)
        key = Key(new_key_sid(self._entropy), account_sid, name, now, role, expires, None, maker.key_sid)
        most = self._limits.keys_per_account_max

        async def body(tx: Tx) -> None:
            if maker.key_sid is not None and await store.find_key(tx, account_sid, maker.key_sid) is None:
                raise Unauthenticated("The API key was removed.", identity=maker.key_sid)
            if await store.count_keys(tx, account_sid) >= most:
                raise Conflict(f"The account has {most} API keys, which is the maximum.")
            await store.insert_key(tx, key, token_hash(secret))
            await events.append(
                tx,
                account_sid=account_sid,
                type="key.created",
                subject_sid=key.key_sid,
                data={"friendly_name": name, "role": role, "maker_sid": maker.key_sid},
                now=key.date_created,
            )

        await self._db.write(body)
        return NewKey(key, secret)

    async def get_key(self, account_sid: AccountSid, key_sid: str) -> Key:
        """Return an API key. Raises ``NotFound``."""
        key = await store.find_key(self._db, account_sid, normalize(key_sid))
        if key is None:
            raise NotFound("No Key matches the given SID.")
        return key

    async def list_keys(self, account_sid: AccountSid, page: PageRequest) -> Page[Key]:
        """Return a page of the account's API keys, newest first."""
        cursor = page.cursor
        key = None if cursor is None else (int(cursor.key[0]), str(cursor.key[1]))
        newer = cursor is not None and not cursor.forward
        rows = await store.page_keys(self._db, account_sid, key=key, limit=page.size + 1, newer=newer)
        return page_of(rows, page, lambda row: (row.date_created, row.key_sid))

    async def delete_key(self, account_sid: AccountSid, key_sid: str, *, descendants: bool = False) -> None:
        """Remove an API key, and with ``descendants`` those that it made, and they: the next request with one fails.

        Raises ``NotFound``, and ``Conflict`` when there are descendants and they are not to be removed.
        """
        sid = normalize(key_sid)
        now = self._clock.now()

        async def body(tx: Tx) -> list[str]:
            if await store.find_key(tx, account_sid, sid) is None:
                raise NotFound("No Key matches the given SID.")
            children = await store.descendants(tx, account_sid, sid)
            if children and not descendants:
                keys = "1 API key was" if len(children) == 1 else f"{len(children)} API keys were"
                raise Conflict(f"{keys} made with this one: send Descendants=true to remove them with it.")
            for each in (sid, *children):
                await store.delete_key(tx, account_sid, each)
                data: dict[str, str | int | None] = {} if each == sid else {"with": sid}
                await events.append(
                    tx, account_sid=account_sid, type="key.deleted", subject_sid=each, data=data, now=now
                )
            return [sid, *children]

        self._bus.ring(await self._db.write(body))

    async def reseal(self, batch: int = 100) -> int:
        """Seal anew, in chunks, every Auth Token that an older key sealed; return how many."""
        done = 0
        after = ""
        while rows := await store.page_sealed(self._db, after, batch):
            stale = [(row, self._reseal(row)) for row in rows if self._is_stale(row)]
            if stale:
                done += await self._db.write(_resealing(stale))
            after = rows[-1].account_sid
        return done

    def _is_stale(self, row: AccountRow) -> bool:
        sealed = (row.auth_token_sealed, row.secondary_sealed)
        return any(one is not None and key_id_of(one) != self._seal.active_id for one in sealed)

    def _reseal(self, row: AccountRow) -> tuple[bytes, bytes | None]:
        context = rules.auth_token_context(row.account_sid)
        first = self._seal.seal(self._seal.unseal(row.auth_token_sealed, context), context)
        if row.secondary_sealed is None:
            return first, None
        return first, self._seal.seal(self._seal.unseal(row.secondary_sealed, context), context)


def _resealing(stale: Sequence[tuple[AccountRow, tuple[bytes, bytes | None]]]) -> Body[int]:
    async def body(tx: Tx) -> int:
        return sum([await store.reseal(tx, row, *fresh) for row, fresh in stale])

    return body


def _check_status(status: Status, username: str) -> None:
    """Raise ``Unauthenticated`` for an account that is not active. Ask only when the credential holds."""
    if status != "active":
        raise Unauthenticated("The account is suspended.", identity=username)


def _bells_of(caller: Caller) -> Bells:
    return Bells(caller.key_sid, caller.account_sid)


def _account_of(sid: str) -> str | None:
    return sid if sid.startswith("AC") else None
