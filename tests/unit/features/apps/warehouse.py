"""Where apps are made in tests: real blobs and a real spool in a temporary directory, on the features' stage."""

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.bundles import bundle_of
from tests.unit.features.stage import Stage, stage

from fleetvisor.blobs.store import Blobs
from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database
from fleetvisor.features.apps.model import App, Upload
from fleetvisor.features.apps.reading import Reader
from fleetvisor.features.apps.service import Apps
from fleetvisor.features.apps.sweep import sweep
from fleetvisor.ground.offload import Offload
from fleetvisor.ground.sids import AccountSid
from fleetvisor.reality import inline

REGION = 0x400


def firmware(*parts: bytes) -> bytes:
    """Make a bundle of one layer for each of ``parts``, one after the other in internal flash."""
    return bundle_of([(part, "internal", place * REGION, REGION) for place, part in enumerate(parts)])


def digest_of(part: bytes) -> str:
    return sha256(part).hexdigest()


@dataclass
class Warehouse:
    """The stage, and what apps stand on besides."""

    at: Stage
    apps: Apps
    blobs: Blobs
    bus: Bus
    directory: Path

    async def upload(
        self, bundle: bytes, name: str | None = None, *, account: AccountSid | None = None, apps: Apps | None = None
    ) -> App:
        """Upload a bundle as the API's edge does: spool it to a file, make the app, remove the file."""
        path = self.directory / "spool" / f"upload-{self.at.entropy.token(8).hex()}"
        path.write_bytes(bundle)
        try:
            return await (apps or self.apps).create(account or self.at.account, path, Upload(name))
        finally:
            path.unlink()

    async def sweep(self) -> int:
        return await sweep(self.at.db, self.blobs, self.at.clock, self.at.limits)

    def spooled(self) -> list[str]:
        return sorted(os.listdir(self.directory / "spool"))

    def stored(self) -> list[Path]:
        return [path for path in (self.directory / "blobs").rglob("*") if path.is_file()]

    async def check(self) -> None:
        """Check what holds at every moment: counts are right, and no app refers to bytes that are missing."""
        assert not await self.at.number(
            """SELECT count(*) AS number FROM layers
            WHERE uses <> (SELECT count(*) FROM app_layers a WHERE a.digest = layers.digest)"""
        )
        assert not await self.at.number(
            "SELECT count(*) AS number FROM layers b JOIN removed_blobs r ON r.blob = b.blob"
        ), "bytes that a row names are about to be deleted"
        rows = self.at.db._connection.execute(
            "SELECT DISTINCT l.digest, b.blob, b.stored FROM app_layers l LEFT JOIN layers b ON b.digest = l.digest"
        ).fetchall()
        for digest, blob, stored in rows:
            assert stored == 1
            path = self.directory / "blobs" / blob
            assert path.is_file(), f"an app refers to {blob}, which is gone"
            assert sha256(path.read_bytes()).hexdigest() == digest


def apps_of(
    at: Stage,
    directory: Path,
    blobs: Blobs,
    *,
    bus: Bus | None = None,
    db: Database | None = None,
    offload: Offload = inline,
    reader: Reader | None = None,
) -> Apps:
    """Give a node's service on this stage."""
    return Apps(
        db=db or at.db,
        blobs=blobs,
        clock=at.clock,
        entropy=at.entropy,
        limits=at.limits,
        bus=bus or Bus(),
        offload=offload,
        spool=directory / "spool",
        reader=reader,
    )


async def warehouse(directory: Path, **bounds: int) -> Warehouse:
    """Build it in ``directory``; ``bounds`` are limits other than the usual."""
    at = await stage(**bounds)
    (directory / "spool").mkdir()
    blobs = Blobs(directory / "blobs", offload=inline, fsync=lambda _descriptor: None)
    bus = Bus()
    return Warehouse(at, apps_of(at, directory, blobs, bus=bus), blobs, bus, directory)
