"""An account's Auth Token is replaced without a pause: a second one is made, programs move to it, it is promoted.

Both prove the account until then; promotion ends the first at once. Deliberately no key of an account may do this: who
proves by Auth Token may. Spec: ``docs/how-to/rotate-credentials.md``.
"""

from typing import Final

import msgspec

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.accounts import rules, store
from fleetvisor.features.events import store as events
from fleetvisor.ground.clock import Clock, Entropy, Millis
from fleetvisor.ground.errors import Conflict, NotFound
from fleetvisor.ground.sids import AccountSid
from fleetvisor.pki.identity import new_hex_token, token_hash
from fleetvisor.pki.seal import Seal

_NONE: Final = "The account has no secondary Auth Token."


class NewAuthToken(msgspec.Struct, frozen=True):
    """An Auth Token just made or promoted, shown this once."""

    account_sid: AccountSid
    auth_token: str
    date_created: Millis
    date_updated: Millis


class AuthTokens:
    """The verbs on Auth Tokens."""

    def __init__(self, *, db: Database, clock: Clock, entropy: Entropy, seal: Seal, bus: Bus) -> None:
        """Keep what the verbs need."""
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._seal = seal
        self._bus = bus

    async def create_secondary(self, account_sid: AccountSid) -> NewAuthToken:
        """Make the second Auth Token. Raises ``Conflict`` when there is one already."""
        token, now = new_hex_token(self._entropy), self._clock.now()
        sealed = self._seal.seal(token.encode(), rules.auth_token_context(account_sid))

        async def body(tx: Tx) -> None:
            if not await store.set_secondary(tx, account_sid, token_hash(token), sealed, now):
                raise Conflict("The account already has a secondary Auth Token. First promote or delete it.")
            await self._note(tx, account_sid, "secondary_created", now)

        await self._db.write(body)
        self._bus.ring((account_sid,))
        return NewAuthToken(account_sid, token, now, now)

    async def delete_secondary(self, account_sid: AccountSid) -> None:
        """Remove the second Auth Token: it proves nothing any more. Raises ``NotFound``."""
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            if not await store.clear_secondary(tx, account_sid):
                raise NotFound(_NONE)
            await self._note(tx, account_sid, "secondary_deleted", now)

        await self._db.write(body)
        self._bus.ring((account_sid,))

    async def promote(self, account_sid: AccountSid) -> NewAuthToken:
        """Make the second Auth Token the first, which proves nothing any more. Raises ``NotFound``."""
        now = self._clock.now()

        async def body(tx: Tx) -> store.AccountRow:
            row = await store.find(tx, account_sid)
            if row is None or not await store.promote(tx, account_sid):
                raise NotFound(_NONE)
            await self._note(tx, account_sid, "promoted", now)
            return row

        row = await self._db.write(body)
        self._bus.ring((account_sid,))
        if row.secondary_sealed is None or row.date_secondary is None:
            raise AssertionError("what was promoted was there")
        token = self._seal.unseal(row.secondary_sealed, rules.auth_token_context(account_sid)).decode()
        return NewAuthToken(account_sid, token, row.date_secondary, now)

    @staticmethod
    async def _note(tx: Tx, account_sid: AccountSid, what: str, now: Millis) -> None:
        await events.append(tx, account_sid=account_sid, type=f"auth_token.{what}", subject_sid=account_sid, now=now)
