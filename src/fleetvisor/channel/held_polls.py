"""The polls that are held: who waits for which device's bell, and what ends a wait.

A held poll costs one ``Held``, one future, one timer and one wait for the client's next message, because the server
does not cancel a request whose client left. Deliberately compares nothing and answers nothing:
an edge does. This is the one home of tasks in the channel.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum
from typing import Any, Final

from fleetvisor.bus.bus import Bus
from fleetvisor.features.accounts.model import trust_bell

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


_TRUST: Final = trust_bell("")


class Wake(Enum):
    """Why a wait ended."""

    BELL = "the device's bell rang"
    TIME = "the time is over"
    GONE = "the client went away"
    RELEASE = "the server stops"


class Held:
    """One held poll. A bell that rings between two waits ends the next one at once: no ring is lost."""

    __slots__ = ("_future", "_loop", "_message", "_noticed", "_receive", "account_sid", "device_sid")

    def __init__(self, device_sid: str, account_sid: str, receive: Receive) -> None:
        """Begin to watch for the client going away."""
        self.device_sid = device_sid
        self.account_sid = account_sid
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] | None = None
        self._noticed: Wake | None = None
        self._receive: Receive | None = receive
        self._listen()

    def wake(self, why: Wake) -> None:
        """End the wait under way, or the next one. A bell never hides that the client left or the server stops."""
        if self._noticed in {None, Wake.BELL, Wake.TIME}:
            self._noticed = why
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, time_s: float) -> Wake:
        """Wait for whatever comes first, at most ``time_s`` seconds."""
        if self._noticed is None:
            self._future = self._loop.create_future()
            timer = self._loop.call_later(time_s, self._time_over)
            try:
                await self._future
            finally:
                timer.cancel()
                self._future = None
        why, self._noticed = self._noticed or Wake.TIME, None
        return why

    def close(self) -> None:
        """Stop watching the client."""
        self._receive = None
        self._message.cancel()

    def _time_over(self) -> None:
        if self._noticed is None:
            self.wake(Wake.TIME)

    def _listen(self) -> None:
        """Wait for the client's next message; a server that gives a future for it saves us a task each."""
        if self._receive is not None:
            self._message = asyncio.ensure_future(self._receive())
            self._message.add_done_callback(self._heard)

    def _heard(self, message: asyncio.Future[Message]) -> None:
        """Take what the client sent: anything but a body that nobody asked for means that it left."""
        if message.cancelled() or message.exception() is not None or message.result()["type"] == "http.disconnect":
            self.wake(Wake.GONE)
        else:
            self._listen()


class HeldPolls:
    """All held polls of this process, by device; bounded in all and for each device."""

    def __init__(self, *, bus: Bus, held_max: int, per_device_max: int) -> None:
        """Listen to the bells."""
        self._held_max = held_max
        self._per_device_max = per_device_max
        self._by_device: dict[str, dict[Held, None]] = {}
        self._count = 0
        self._closing = False
        bus.listen(self._hear)

    @property
    def held(self) -> int:
        """How many polls are held."""
        return self._count

    @property
    def closing(self) -> bool:
        """Whether ``release_all`` was called: nothing is held any more."""
        return self._closing

    def hold(self, device_sid: str, receive: Receive, account_sid: str = "") -> Held | None:
        """Register one more poll of the device; ``None`` when there is no place. ``leave`` must follow."""
        if self._closing or self._count >= self._held_max:
            return None
        if len(self._by_device.get(device_sid, ())) >= self._per_device_max:
            return None
        held = Held(device_sid, account_sid, receive)
        self._by_device.setdefault(device_sid, {})[held] = None
        self._count += 1
        return held

    def leave(self, held: Held) -> None:
        """Take a poll out again, and stop watching its client."""
        held.close()
        polls = self._by_device[held.device_sid]
        del polls[held]
        if not polls:
            del self._by_device[held.device_sid]
        self._count -= 1

    def release_all(self) -> None:
        """End every wait now, and hold nothing from here on. May be called again."""
        self._closing = True
        for polls in self._by_device.values():
            for held in polls:
                held.wake(Wake.RELEASE)

    def _hear(self, sids: frozenset[str]) -> None:
        untrusted = {sid.removeprefix(_TRUST) for sid in sids if sid.startswith(_TRUST)}
        if untrusted:
            for polls in self._by_device.values():
                for held in polls:
                    if held.account_sid in untrusted:
                        held.wake(Wake.BELL)
        if len(sids) > len(self._by_device):
            sids = sids.intersection(self._by_device)
        for sid in sorted(sids):  # sorted: the simulator must wake them in the same order in every run
            for held in self._by_device.get(sid, ()):
                held.wake(Wake.BELL)
