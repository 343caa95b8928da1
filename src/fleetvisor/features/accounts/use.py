"""When each API key was last used: noted in memory, and written behind, to the minute."""

from typing import Final

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.accounts import store
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.memory import KEY_USES
from fleetvisor.ground.sids import KeySid

_GRAIN_MS: Final = 60_000


class KeyUse:
    """Notes of keys' uses since the last flush. Its last seconds may be lost with the process."""

    def __init__(self, db: Database) -> None:
        """Start with nothing noted."""
        self._db = db
        self._written: dict[KeySid, Millis] = {}
        self._noted: dict[KeySid, Millis] = {}

    def note(self, key_sid: KeySid, now: Millis) -> None:
        """Note a use, unless one was written within the last minute."""
        last = self._written.get(key_sid)
        if (last is None or now - last >= _GRAIN_MS) and len(self._noted) < KEY_USES.members_max:
            self._noted[key_sid] = now

    async def flush(self) -> int:
        """Write what was noted, in one transaction; return how many keys. What fails is kept for the next round."""
        noted, self._noted = self._noted, {}
        if not noted:
            return 0
        rows = sorted(noted.items())

        async def body(tx: Tx) -> None:
            await store.note_uses(tx, rows)

        try:
            await self._db.write(body)
        except BaseException:
            self._noted = {**noted, **self._noted}
            raise
        if len(self._written) + len(noted) > KEY_USES.members_max:
            self._written.clear()
        self._written.update(noted)
        return len(noted)
