"""Whether what the server stores can be written: the database, the blobs, and the folder of uploads on their way.

``degraded`` is what ``/healthz`` and the metrics tell. Faults are noted where they are met; ``look`` finds them without
a request, and finds out when they are over.
"""

from pathlib import Path
from typing import Final

import structlog

from fleetvisor.blobs.store import Blobs
from fleetvisor.db.database import Database, DatabaseUnfit, Tx
from fleetvisor.ground.disk import Condition, Fault, fault_of, probe
from fleetvisor.ground.offload import Offload

LOOK_S: Final = 5.0
STORES: Final = ("database", "blobs", "uploads")
_MARK: Final = {"version": 0}
_log = structlog.get_logger()


async def _write(tx: Tx) -> None:
    """Change a page of the database, and change it back."""
    await tx.run("INSERT INTO schema_version (version) VALUES (:version)", _MARK)
    await tx.run("DELETE FROM schema_version WHERE version = :version", _MARK)


class Disks:
    """The stores of one server."""

    def __init__(self, *, db: Database, blobs: Blobs, spool: Path, offload: Offload) -> None:
        """Begin with what the stores say of themselves."""
        self._db = db
        self._blobs = blobs
        self._spool = spool
        self._offload = offload
        self._uploads = Condition()
        self._told: dict[str, Fault] = {}

    def degraded(self) -> dict[str, Fault]:
        """Return what is wrong now, by store: ``database``, ``blobs``, ``uploads``. Empty when all is well."""
        faults = (self._db.degraded, self._blobs.degraded, self._uploads.fault)
        return {store: fault for store, fault in zip(STORES, faults, strict=True) if fault is not None}

    async def look(self) -> None:
        """Write a little to each store; log what became degraded, and what is well again.

        The database is written to only while it is degraded: everything else writes to it often enough.
        """
        fault = await self._offload(self._probe_spool)
        if fault is None:
            self._uploads.wrote()
        self._uploads.note(fault)
        await self._blobs.probe()
        if self._db.degraded not in {None, "damaged"}:
            try:
                await self._db.write(_write)
            except DatabaseUnfit:
                _log.debug("disk.still", store="database")
        found = self.degraded()
        for store, fault in found.items():
            if self._told.get(store) != fault:
                _log.error("disk.degraded", store=store, fault=fault)
        for store in self._told.keys() - found.keys():
            _log.info("disk.well", store=store)
        self._told = found

    def _probe_spool(self) -> Fault | None:
        try:
            self._spool.mkdir(mode=0o700, exist_ok=True)  # somebody may have removed it
        except OSError as error:
            if (fault := fault_of(error)) is None:
                raise
            return fault
        return probe(self._spool)
