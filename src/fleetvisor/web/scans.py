"""What looks at a whole fleet on behalf of a client: fair among accounts, and ended when it is of no use any more.

One scan of an account runs at a time, a few wait for it, further ones are refused. A scan ends when its client leaves
or its time is over. Deliberately knows no statement: ``db/lanes`` keeps scans off the connections of everybody else.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from fleetvisor.db import lanes
from fleetvisor.ground.clock import Clock
from fleetvisor.ground.errors import TooManyRequests, Unavailable
from fleetvisor.ground.limits import Limits
from fleetvisor.web.answers import Answer
from fleetvisor.web.requests import Disconnected, Request

_RETRY_S: Final = 5

Work = Callable[[], Awaitable[Answer]]


class _Line:
    """The scans of one account: who has the turn, and how many there are with those that wait."""

    __slots__ = ("count", "turn")

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.count = 0


class Scans:
    """The scans of all clients of this server."""

    def __init__(self, *, clock: Clock, limits: Limits) -> None:
        """Begin with none under way."""
        self._clock = clock
        self._limits = limits
        self._lines: dict[str, _Line] = {}

    async def run(self, account_sid: str, request: Request, work: Work) -> Answer:
        """Run a scan when it is the account's turn.

        Raises ``TooManyRequests`` when too many of the account wait, ``Unavailable`` when the time is over, and
        ``Disconnected`` when the client left.
        """
        line = self._lines.setdefault(account_sid, _Line())
        if line.count > self._limits.scans_waiting_max:
            most = self._limits.scans_waiting_max
            detail = f"A count or plan of the account is under way, and {most} wait, which is the maximum."
            raise TooManyRequests(detail, retry_after_s=_RETRY_S)
        line.count += 1
        try:
            return await self._watched(request, asyncio.ensure_future(self._in_turn(line, work)))
        finally:
            line.count -= 1
            if line.count == 0:
                del self._lines[account_sid]

    async def _in_turn(self, line: _Line, work: Work) -> Answer:
        time_s = self._limits.scan_time_s
        try:
            async with self._clock.timeout(time_s), line.turn:
                with lanes.use("scans"):
                    return await work()
        except TimeoutError as error:
            detail = f"The devices could not be examined within {time_s} seconds. Use a narrower selector."
            raise Unavailable(detail, retry_after_s=_RETRY_S) from error

    async def _watched(self, request: Request, scan: asyncio.Future[Answer]) -> Answer:
        """Wait for a scan, and end it when the client leaves or nobody waits any more."""
        gone = asyncio.ensure_future(_leaving(request))
        try:
            await asyncio.wait({scan, gone}, return_when=asyncio.FIRST_COMPLETED)
            if scan.done():
                return scan.result()
            raise Disconnected
        finally:
            for task in (scan, gone):
                task.cancel()
            await asyncio.wait({scan, gone})
            for task in (scan, gone):  # read, so that nobody is told of what nobody waits for
                if not task.cancelled():
                    task.exception()


async def _leaving(request: Request) -> None:
    """Return when the client is gone; what is left of a body is passed over."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
