"""A scheduler that a test decides: many coroutines on one thread, one step of one of them at a time.

A step ends at each call of the database and each piece of work for the disk: before it, and after it. So two steps of
different coroutines fall in every order that two nodes could bring about.
"""

from collections.abc import Coroutine
from typing import Any

from fleetvisor.db.database import Database


class Pause:
    """What a coroutine awaits to let others go on."""

    def __await__(self):
        yield self


class PausingDatabase:
    """The database port on another database, with a pause before and after every call."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner

    async def _paused(self, call):
        await Pause()
        result = await call
        await Pause()
        return result

    async def one(self, row, sql, params):
        return await self._paused(self._inner.one(row, sql, params))

    async def all(self, row, sql, params):
        return await self._paused(self._inner.all(row, sql, params))

    async def scan(self, row, sql, params):
        return await self._paused(self._inner.scan(row, sql, params))

    async def write(self, body):
        return await self._paused(self._inner.write(body))

    async def check(self):
        await self._inner.check()

    async def close(self):
        await self._inner.close()


async def pausing_offload(work):
    """Do the work at once, with a pause before and after it."""
    await Pause()
    result = work()
    await Pause()
    return result


class Run:
    """One coroutine, driven by hand."""

    def __init__(self, name: str, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.name = name
        self.result: Any = None
        self.problem: Exception | None = None
        self.over = False
        self._coroutine = coroutine

    def step(self) -> None:
        """Let it go on to its next pause, or to its end."""
        try:
            self._coroutine.send(None)
        except StopIteration as end:
            self.over, self.result = True, end.value
        except Exception as problem:
            self.over, self.problem = True, problem

    def finish(self) -> None:
        """Let it go on alone to its end."""
        while not self.over:
            self.step()
