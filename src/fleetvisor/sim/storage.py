"""A node's way to the database of a simulated world: every call takes its time, and the node may die at any write.

What is committed stays, as on a disk that was told to keep it; what is not is gone. Deliberately no torn commits:
the databases promise that there are none, and the contract tests cut the power of real files.
"""

import asyncio
from typing import Literal, TypeVar

import msgspec

from fleetvisor.db.database import Body, Database, DatabaseFault, Params, Tally
from fleetvisor.ground.clock import Clock
from fleetvisor.ground.disk import Fault
from fleetvisor.sim.loop import SeededEntropy

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)
Moment = Literal["before", "after"]


class NodeDied(DatabaseFault):
    """The node that asked is dead: nothing that it does counts any more."""


class Storage:
    """The port to the database as one node has it. ``delay_s`` bounds what each call takes, each way."""

    def __init__(self, db: Database, clock: Clock, entropy: SeededEntropy, delay_s: float = 0.4) -> None:
        """Reach ``db``, whose other users go on when this one dies."""
        self._db = db
        self._clock = clock
        self._chance = entropy.random
        self._delay_s = delay_s
        self._writes_left: int | None = None
        self._moment: Moment = "before"
        self.dead = asyncio.Event()

    def die_at(self, writes: int, moment: Moment) -> None:
        """Let the node die at the ``writes``-th write from now, just before or just after it is committed."""
        self._writes_left, self._moment = writes, moment

    @property
    def tally(self) -> Tally:
        """What the database did for all its users."""
        return self._db.tally

    @property
    def degraded(self) -> Fault | None:
        """What is wrong with the database's disk."""
        return self._db.degraded

    async def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Read by key."""
        await self._pass()
        return await self._db.one(row, sql, params)

    async def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read a small result."""
        await self._pass()
        return await self._db.all(row, sql, params)

    async def scan(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read something larger."""
        await self._pass()
        return await self._db.scan(row, sql, params)

    async def write(self, body: Body[T]) -> T:
        """Run a body in a transaction; the caller learns of it a little after it is committed."""
        await self._pass()
        last = self._writes_left is not None and self._writes_left <= 1
        if self._writes_left is not None:
            self._writes_left -= 1
        if last and self._moment == "before":
            self.die()
        result = await self._db.write(body)
        if last:
            self.die()
        await self._pass()
        return result

    async def check(self) -> None:
        """Prove that the database answers."""
        await self._pass()
        await self._db.check()

    async def close(self) -> None:
        """Let go; the database stays for the other nodes."""
        self.dead.set()

    def die(self) -> None:
        """End the node here. Raises ``NodeDied``."""
        self.dead.set()
        raise NodeDied("the node died")

    async def _pass(self) -> None:
        await self._clock.sleep(self._chance.random() * self._delay_s)
        if self.dead.is_set():
            raise NodeDied("the node is dead")
