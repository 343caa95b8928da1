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
from fleetvisor.features.rollouts import members, rules
from fleetvisor.features.rollouts.model import Rollout, Wave
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.offload import Offload
from fleetvisor.ground.sids import DeviceSid

PIECE: Final = 512
PIECES_MAX: Final = 8
PAUSE_S: Final = 0.001


class Spot(msgspec.Struct, frozen=True):
    """Where a walk is: at this device, of this age. A rollback's walk goes by SID alone."""

    date_created: int
    device_sid: str


class Piece(msgspec.Struct, frozen=True):
    """What one step of a walk met: devices that belong, where it goes on, and whether it came to the end."""

    devices: tuple[Spot, ...]
    spot: Spot | None
    ended: bool


class Census:
    """What fixes the thresholds of a rollout's waves: how many devices are selected, and the lowest of their places.

    ``spot`` is where the walk goes on.
    """

    def __init__(self, rollout: Rollout, waves: tuple[Wave, ...]) -> None:
        """Begin before the first device."""
        self.rollout = rollout
        self.devices = 0
        self.spot: Spot | None = None
        self.ended = False
        self._waves = waves
        self._wanted = max((wave.devices or 0 for wave in waves), default=0)
        self._places: array[int] = array("Q")

    def add(self, piece: Piece) -> None:
        """Count what a piece of the walk met."""
        self.devices += len(piece.devices)
        self.spot, self.ended = piece.spot, piece.ended
        self._places.extend(rules.place(self.rollout.rollout_sid, spot.device_sid) for spot in piece.devices)
        if not self._wanted and len(self._places) > 1:  # the first wave has at least one device: the lowest
            self._places = array("Q", [min(self._places)])

    def thresholds(self) -> tuple[int, ...]:
        """Fix the thresholds. Takes a second for each million devices, where a wave is a number of devices."""
        return rules.thresholds(self._waves, nsmallest(max(1, self._wanted), self._places), self.devices)


class Population:
    """Walks the devices of rollouts."""

    def __init__(self, *, db: Database, devices: Devices, clock: Clock, offload: Offload) -> None:
        """Keep what a walk needs."""
        self._db = db
        self._devices = devices
        self._clock = clock
        self._offload = offload

    async def piece(self, rollout: Rollout, spot: Spot | None) -> Piece:
        """Go on from ``spot`` (``None``: from the beginning), past a bounded number of devices."""
        if rollout.kind == "rollback":
            met = await members.taken_back(self._db, rollout, "" if spot is None else spot.device_sid, PIECE)
            rows = [selection.Walked(Millis(0), row.device_sid, selected=True) for row in met]
        else:
            chosen = await self._devices.compile(rollout.account_sid, rollout.selector)
            at = None if spot is None else (spot.date_created, spot.device_sid)
            rows = await selection.walk(self._db, chosen, at, PIECE)
        spots = [Spot(row.date_created, row.device_sid) for row in rows if row.selected]
        last = Spot(rows[-1].date_created, rows[-1].device_sid) if rows else spot
        return Piece(tuple(spots), last, len(rows) < PIECE)

    async def walk(self, rollout: Rollout) -> AsyncIterator[tuple[Spot, ...]]:
        """Walk from the beginning to the end, in pieces, and let others work in between."""
        spot, ended = None, False
        while not ended:
            piece = await self.piece(rollout, spot)
            spot, ended = piece.spot, piece.ended
            yield piece.devices
            await self._clock.sleep(PAUSE_S)

    async def count(self, census: Census, pieces: int) -> bool:
        """Go on with a census by at most so many pieces; return whether it came to its end."""
        for _ in range(pieces):
            census.add(await self.piece(census.rollout, census.spot))
            if census.ended:
                break
            await self._clock.sleep(PAUSE_S)
        return census.ended

    async def thresholds(self, census: Census) -> tuple[int, ...]:
        """Fix the waves' thresholds by what a census that ended has counted."""
        return await self._offload(census.thresholds)


def device_sids(spots: tuple[Spot, ...]) -> list[DeviceSid]:
    """Return the SIDs of devices that a walk met."""
    return [DeviceSid(spot.device_sid) for spot in spots]
