"""What the database keeps for all nodes: which sealing keys its values need, and (with PostgreSQL) the CA.

Each is made once, by insert-if-absent, so two nodes that start at the same moment agree. Deliberately no files.
Spec: ``docs/explanation/keys-and-certificates.md``.
"""

from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.ground.clock import Clock
from fleetvisor.pki.ca import Authority, load_authority, make_authority, render_key, why_not_valid
from fleetvisor.pki.seal import Seal, SealFault, key_id_of
from fleetvisor.server.files import StartFault, demand_valid

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
    """Return the ids of the sealing keys that values in the database may need."""
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
    """Return the refusal for a sealing key that the database names and no file holds."""
    return StartFault(
        f"The database holds secrets sealed with the key {key}, and none of the key files is that key. Put it back"
        " into DIR/keys as seal-<number>.key, or name it with --seal-key-file: without it they are lost."
    )


async def shared_authority(db: Database, seal: Seal, clock: Clock, *, anew: bool = False) -> Authority:
    """Return the CA of all nodes, made by the first of them, and with ``anew`` in place of one that is not valid now.

    Raises ``StartFault`` when it does not open, or is not valid now.
    """
    kept = await db.one(_Kept, _KEPT, {"name": _CA})
    if kept is None:
        kept = await _keep_ca(db, _KEEP, {"name": _CA, "value": _sealed_ca(seal, clock)})
    found = _opened(kept, seal)
    if anew and why_not_valid(found.certificate, clock.now()):
        params = {"name": _CA, "fresh": _sealed_ca(seal, clock), "stale": kept.value}
        found = _opened(await _keep_ca(db, _RESEAL, params), seal)
    demand_valid(found, clock)
    return found


async def _keep_ca(db: Database, statement: str, params: dict[str, str | bytes]) -> _Kept:
    """Keep a CA unless another node was faster; return the one that is kept."""

    async def body(tx: Tx) -> None:
        await tx.run(statement, params)

    await db.write(body)
    kept = await db.one(_Kept, _KEPT, {"name": _CA})
    if kept is None:
        raise AssertionError("the CA was kept a moment ago")
    return kept


def _sealed_ca(seal: Seal, clock: Clock) -> bytes:
    made = make_authority(clock.now())
    return seal.seal(made.pem + render_key(made.key), _CA_CONTEXT)


def _opened(kept: _Kept, seal: Seal) -> Authority:
    try:
        return load_authority(seal.unseal(kept.value, _CA_CONTEXT))
    except (SealFault, ValueError) as error:
        raise StartFault(f"The CA in the database does not open: {error}") from error


async def reseal_authority(db: Database, seal: Seal) -> int:
    """Seal the shared CA anew if an older key sealed it; return how many there were (0 or 1)."""
    kept = await db.one(_Kept, _KEPT, {"name": _CA})
    if kept is None or key_id_of(kept.value) == seal.active_id:
        return 0
    params = {"name": _CA, "fresh": seal.seal(seal.unseal(kept.value, _CA_CONTEXT), _CA_CONTEXT), "stale": kept.value}

    async def body(tx: Tx) -> int:
        return await tx.run(_RESEAL, params)

    return await db.write(body)
