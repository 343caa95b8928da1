"""What nodes share through the database: which sealing keys are in use, and the CA when there are several nodes."""

import base64
import json
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.ground.clock import Clock
from fleetvisor.pki.ca import Authority, load_authority, make_authority, render_key
from fleetvisor.pki.seal import Seal, key_id_of
from fleetvisor.server.files import StartFault

_CA: Final = "ca"
_CA_CONTEXT: Final = b"keepsake\0ca"


class _Id(msgspec.Struct, frozen=True):
    seal_key_id: str


class _Value(msgspec.Struct, frozen=True):
    value: bytes


async def check_seal_keys(db: Database, seal: Seal, clock: Clock) -> None:
    """Refuse to start without a key that sealed values name; note the one in use. Raises ``StartFault``."""
    known = await db.all(_Id, "SELECT seal_key_id FROM seal_keys ORDER BY seal_key_id", {})
    missing = sorted(row.seal_key_id for row in known if row.seal_key_id not in seal.ids)
    if missing:
        raise StartFault(
            f"The database names sealing keys that are missing: {', '.join(missing)}. Restore their files to the "
            "keys directory, or name them with --seal-key-file."
        )
    now = clock.now()

    async def body(tx: Tx) -> None:
        sql = "INSERT INTO seal_keys (seal_key_id, date_created) VALUES (:id, :now) ON CONFLICT DO NOTHING"
        await tx.run(sql, {"id": seal.active_id, "now": now})

    await db.write(body)


async def shared_authority(db: Database, seal: Seal, clock: Clock) -> Authority:
    """Give the CA that all nodes share, made once by insert-if-absent, its key sealed."""
    found = await _find(db)
    if found is None:
        made = make_authority(clock.now())
        sealed = seal.seal(render_key(made.key), _CA_CONTEXT)
        value = json.dumps({"pem": made.pem.decode(), "key": base64.b64encode(sealed).decode()}).encode()

        async def body(tx: Tx) -> None:
            sql = "INSERT INTO keepsakes (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING"
            await tx.run(sql, {"name": _CA, "value": value})

        await db.write(body)
        found = await _find(db)
    if found is None:
        raise AssertionError("the CA was stored a moment ago")
    stored: dict[str, str] = json.loads(found)
    return load_authority(stored["pem"].encode(), seal.unseal(base64.b64decode(stored["key"]), _CA_CONTEXT))


async def reseal_authority(db: Database, seal: Seal) -> int:
    """Seal the shared CA's key anew if an older key sealed it; give how many there were (0 or 1)."""
    found = await _find(db)
    if found is None:
        return 0
    stored: dict[str, str] = json.loads(found)
    sealed = base64.b64decode(stored["key"])
    if key_id_of(sealed) == seal.active_id:
        return 0
    stored["key"] = base64.b64encode(seal.seal(seal.unseal(sealed, _CA_CONTEXT), _CA_CONTEXT)).decode()
    value = json.dumps(stored).encode()

    async def body(tx: Tx) -> int:
        sql = "UPDATE keepsakes SET value = :value WHERE name = :name AND value = :seen"
        return await tx.run(sql, {"value": value, "name": _CA, "seen": found})

    return await db.write(body)


async def _find(db: Database) -> bytes | None:
    row = await db.one(_Value, "SELECT value FROM keepsakes WHERE name = :name", {"name": _CA})
    return row.value if row else None
