"""``fleetvisor seal rotate``: seals everything anew under the newest sealing key, and forgets the older ones.

With SQLite no server may hold the data directory, and the key is made here. With PostgreSQL the nodes may go on, since
each value is replaced by compare-and-set; the keys are the operator's files, and every node must know the new one
before. Safe to break off at any moment: until the last step the database names every key that something needs.
Deliberately removes no key file: backups made before need it. Spec: ``docs/explanation/keys-and-certificates.md``.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, DatabaseFault, Tx
from fleetvisor.features.accounts.service import Accounts
from fleetvisor.features.configs.service import Configs
from fleetvisor.ground.clock import Clock, Entropy
from fleetvisor.ground.limits import Limits
from fleetvisor.pki.seal import Seal, SealFault
from fleetvisor.server import shared
from fleetvisor.server.files import DataDirectory, StartFault


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did: the key that seals now, those that nothing needs any more, and how many values moved."""

    key_file: Path
    retired_files: tuple[Path, ...]
    resealed: int


async def rotate_local(data: DataDirectory, *, clock: Clock, entropy: Entropy) -> Rotation:
    """Make a sealing key in a data directory, and seal everything in its SQLite database with it.

    Raises ``StartFault`` when a server holds the directory, or a key or the database cannot be read.
    """
    from fleetvisor.db.sqlite import open_sqlite

    data.hold()
    try:
        old = tuple(data.seal_keys())
        if not old:
            raise StartFault(f"There is no sealing key in {data.keys}: give the server's own with --seal-key-file.")
        db = await _opened(open_sqlite(data.database))
        try:
            # Proves that no key is missing before there is one more.
            await shared.check_seal_keys(db, _load(old, entropy), clock)
            made = data.make_seal_key(entropy)
            count = await reseal(db, _load((made, *old), entropy), clock=clock, entropy=entropy)
        finally:
            await db.close()
    finally:
        data.release()
    return Rotation(made, old, count)


async def rotate_shared(url: str, files: tuple[Path, ...], *, clock: Clock, entropy: Entropy) -> Rotation:
    """Seal everything in a PostgreSQL database with the first of ``files``. Raises ``StartFault``."""
    from fleetvisor.db.postgres import open_postgres

    seal = _load(files, entropy)
    db = await _opened(open_postgres(url))
    try:
        count = await reseal(db, seal, clock=clock, entropy=entropy)
    finally:
        await db.close()
    return Rotation(files[0], files[1:], count)


async def reseal(db: Database, seal: Seal, *, clock: Clock, entropy: Entropy) -> int:
    """Seal everything with the first key of ``seal``, and forget the others; return how many values moved.

    Raises ``StartFault`` when the database needs a key that ``seal`` does not have.
    """
    limits = Limits()
    accounts = Accounts(db=db, clock=clock, entropy=entropy, seal=seal, limits=limits, bus=Bus())
    configs = Configs(db=db, clock=clock, seal=seal, limits=limits)
    await shared.check_seal_keys(db, seal, clock)
    count = 0
    # A value written meanwhile by a node with the older key is found in the next round.
    while moved := await accounts.reseal() + await configs.reseal() + await shared.reseal_authority(db, seal):
        count += moved

    async def forget(tx: Tx) -> None:
        await tx.run("DELETE FROM seal_keys WHERE seal_key_id <> :id", {"id": seal.active_id})

    await db.write(forget)
    return count


def _load(files: tuple[Path, ...], entropy: Entropy) -> Seal:
    try:
        return Seal.load(files, entropy)
    except SealFault as error:
        raise StartFault(str(error)) from error


async def _opened(opening: Awaitable[Database]) -> Database:
    try:
        return await opening
    except DatabaseFault as error:
        raise StartFault(f"The database cannot be opened: {error}") from error
