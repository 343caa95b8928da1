"""What the database keeps for all nodes: which sealing keys its values need, and (with PostgreSQL) the CA.

Each is made once, by insert-if-absent, so two nodes that start at the same moment agree. Deliberately no files.
Spec: ``docs/explanation/keys-and-certificates.md``.
"""

from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.ground.clock import Clock
from fleetvisor.pki.ca import Authority, load_authority, make_authority, render_key
from fleetvisor.pki.seal import Seal, SealFault, key_id_of
from fleetvisor.server.files import StartFault

_CA: Final = "ca"
_CA_CONTEXT: Final = b"keepsake\0ca"
_NAMED: Final = "SELECT seal_key_id FROM seal_keys ORDER BY seal_key_id"
_NAME: Final = """
INSERT INTO seal_keys (seal_key_id, date_created) VALUES (:seal_key_id, :now) ON CONFLICT DO NOTHING"""
_KEPT: Final = "SELECT value FROM keepsakes WHERE name = :name"
_KEEP: Final = "INSERT INTO keepsakes (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING"
_RESEAL: Final = "UPDATE keepsakes SET value = :fresh WHERE name = :name AND value = :stale"


class _Named(msgspec.Struct, frozen=True):
    seal_key_id: str


class _Kept(msgspec.Struct, frozen=True):
    value: bytes


async def named_seal_keys(db: Database) -> list[str]:
    """Give the ids of the sealing keys that values in the database may need."""
    return [row.seal_key_id for row in await db.all(_Named, _NAMED, {})]


async def check_seal_keys(db: Database, seal: Seal, clock: Clock) -> None:
    """Refuse to start without a key that sealed values need; note the one that seals now. Raises ``StartFault``."""
    missing = [key for key in await named_seal_keys(db) if key not in seal.ids]
    if missing:
        raise missing_key(missing[0])
    params = {"seal_key_id": seal.active_id, "now": clock.now()}

    async def body(tx: Tx) -> None:
        await tx.run(_NAME, params)

    await db.write(body)


def missing_key(key: str) -> StartFault:
    """Give the refusal for a sealing key that the database names and no file holds."""
    return StartFault(
        f"The database holds secrets sealed with the key {key}, and none of the key files is that key. Put it back"
        " into DIR/keys as seal-<number>.key, or name it with --seal-key-file: without it they are lost."
    )


async def shared_authority(db: Database, seal: Seal, clock: Clock) -> Authority:
    """Give the CA of all nodes, made by the first of them. Raises ``StartFault`` when it does not open."""
    kept = await db.one(_Kept, _KEPT, {"name": _CA})
    if kept is None:
        made = make_authority(clock.now())
        sealed = seal.seal(made.pem + render_key(made.key), _CA_CONTEXT)

        async def body(tx: Tx) -> None:
            await tx.run(_KEEP, {"name": _CA, "value": sealed})

        await db.write(body)
        kept = await db.one(_Kept, _KEPT, {"name": _CA})
    if kept is None:
        raise AssertionError("the CA was kept a moment ago")
    try:
        return load_authority(seal.unseal(kept.value, _CA_CONTEXT))
    except (SealFault, ValueError) as error:
        raise StartFault(f"The CA in the database does not open: {error}") from error


async def reseal_authority(db: Database, seal: Seal) -> int:
    """Seal the shared CA anew if an older key sealed it; give how many there were (0 or 1)."""
    kept = await db.one(_Kept, _KEPT, {"name": _CA})
    if kept is None or key_id_of(kept.value) == seal.active_id:
        return 0
    params = {"name": _CA, "fresh": seal.seal(seal.unseal(kept.value, _CA_CONTEXT), _CA_CONTEXT), "stale": kept.value}

    async def body(tx: Tx) -> int:
        return await tx.run(_RESEAL, params)

    return await db.write(body)
