"""The devices that a rollout is about, walked in bounded pieces: those its selector selects, or those it takes back.

Deliberately keeps no list: whether a device belongs is judged when the walk comes by. A release walks from the oldest
device to the newest, so that one registered meanwhile is still met; a rollback walks the devices of the other rollout.
"""

from array import array
from collections.abc import AsyncIterator
from heapq import nsmallest
from typing import Final

import msgspec

from fleetvisor.db.database import Database
from fleetvisor.features.devices import selection
from fleetvisor.features.devices.service import Devices
from fleetvisor.features.rollouts import rules
from fleetvisor.features.rollouts.model import Rollout, Wave
from fleetvisor.ground.clock import Clock
from fleetvisor.ground.offload import Offload
from fleetvisor.ground.sids import DeviceSid

PIECE: Final = 512
PAUSE_S: Final = 0.001
_SOURCE: Final = """SELECT 0 AS date_created, device_sid, 1 AS selected FROM rollout_devices
    WHERE rollout_sid = :source AND account_sid = :account_sid AND device_sid > :sid
        AND state IN ('updating', 'offline', 'silent', 'succeeded', 'failed', 'canceled')
    ORDER BY device_sid LIMIT :size"""


class Spot(msgspec.Struct, frozen=True):
    """Where a walk is: at this device, of this age. A rollback's walk goes by SID alone."""

    date_created: int
    device_sid: str


class Piece(msgspec.Struct, frozen=True):
    """What one step of a walk met: devices that belong, where it goes on, and whether it came to the end."""

    devices: tuple[Spot, ...]
    spot: Spot | None
    ended: bool


class Population:
    """Walks the devices of rollouts."""

    def __init__(self, *, db: Database, devices: Devices, clock: Clock, offload: Offload) -> None:
        """Keep what a walk needs."""
        self._db = db
        self._devices = devices
        self._clock = clock
        self._offload = offload

    async def piece(self, rollout: Rollout, spot: Spot | None, size: int = PIECE) -> Piece:
        """Go on from ``spot`` (``None``: from the beginning), past at most ``size`` devices."""
        if rollout.kind == "rollback":
            params = {"source": str(rollout.rollback_of), "account_sid": rollout.account_sid, "size": size}
            sid = "" if spot is None else spot.device_sid
            rows = await self._db.scan(selection.Walked, _SOURCE, {**params, "sid": sid})
        else:
            chosen = await self._devices.compile(rollout.account_sid, rollout.selector)
            at = None if spot is None else (spot.date_created, spot.device_sid)
            rows = await selection.walk(self._db, chosen, at, size)
        spots = [Spot(row.date_created, row.device_sid) for row in rows if row.selected]
        last = Spot(rows[-1].date_created, rows[-1].device_sid) if rows else spot
        return Piece(tuple(spots), last, len(rows) < size)

    async def walk(self, rollout: Rollout) -> AsyncIterator[tuple[Spot, ...]]:
        """Walk from the beginning to the end, in pieces, and let others work in between."""
        spot, ended = None, False
        while not ended:
            piece = await self.piece(rollout, spot)
            spot, ended = piece.spot, piece.ended
            yield piece.devices
            await self._clock.sleep(PAUSE_S)

    async def thresholds(self, rollout: Rollout, waves: tuple[Wave, ...]) -> tuple[tuple[int, ...], int]:
        """Fix the waves' thresholds by the devices that are selected now; and give how many these are."""
        places: array[int] = array("Q")
        count, least = 0, None
        wanted = max((wave.devices or 0 for wave in waves), default=0)
        async for spots in self.walk(rollout):
            count += len(spots)
            here = [rules.place(rollout.rollout_sid, spot.device_sid) for spot in spots]
            if wanted:
                places.extend(here)
            elif here:
                least = min(here) if least is None else min(least, *here)
        if wanted:
            lowest = await self._offload(lambda: nsmallest(wanted, places))
        else:
            lowest = [] if least is None else [least]
        return rules.thresholds(waves, lowest, count), count


def device_sids(spots: tuple[Spot, ...]) -> list[DeviceSid]:
    """Give the SIDs of devices that a walk met."""
    return [DeviceSid(spot.device_sid) for spot in spots]
