"""A cache whose members end when a bell rings: what was read is kept until then, and answered from memory.

A member has its *own* bell (a device, an API key), and may have a *wide* one that many share (an account, all apps). A
value that was read while one of its bells rang is returned but not kept: the change may be newer than the value. So
what a revocation took away ends with the next request, however the two interleave.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Generic, NamedTuple, TypeVar, cast

from fleetvisor.bus.bus import Bus
from fleetvisor.ground.memory import BoundedMap, Room

K = TypeVar("K")
V = TypeVar("V")
_BELL_KEYS_MAX: Final = 8  # for example of a device that signs a token for each request


class Bells(NamedTuple):
    """The SIDs whose ring ends a member. ``None``: it has no such bell."""

    own: str | None = None
    wide: str | None = None


_BY_KEY: Final = Bells()


class _Member(Generic[V]):
    __slots__ = ("bells", "epoch", "value")

    def __init__(self, value: V, bells: Bells, epoch: int) -> None:
        self.value = value
        self.bells = bells
        self.epoch = epoch


def _not_wide(_: str) -> None:
    return None


class Kept(Generic[K, V]):
    """Values by key, bounded in bytes, each until one of its bells rings.

    ``bells_of`` returns the bells of a value; without it each key is the bell of its member. ``wide_of`` returns the
    wide bell that a ringing SID stands for, or ``None`` for a SID of one member only; a wide bell ends all its members
    in constant time. ``size_of`` weighs a value in bytes where the room has no size for each. With ``alone`` the
    members are used only where one process makes every change, and else while the bus is fresh. One own bell has at
    most eight members; the oldest go first.
    """

    __slots__ = ("_alone", "_bells_of", "_bus", "_by_bell", "_epochs", "_find", "_members", "_wide_of")

    def __init__(
        self,
        bus: Bus,
        room: Room,
        bells_of: Callable[[V], Bells] | None = None,
        *,
        size_of: Callable[[V], int] | None = None,
        wide_of: Callable[[str], str | None] = _not_wide,
        alone: bool = False,
    ) -> None:
        """Begin empty, and listen to the bells."""
        self._bus = bus
        self._alone = alone
        self._bells_of = bells_of
        self._wide_of = wide_of
        self._members: BoundedMap[K, _Member[V]] = BoundedMap(
            room, None if size_of is None else lambda member: size_of(member.value), self._left
        )
        self._find = self._members.get
        self._by_bell: dict[str, list[K]] = {}
        self._epochs: dict[str | None, int] = {}  # how often each wide bell rang
        bus.listen(self.drop)

    def __len__(self) -> int:
        """Return how many members there are, with those that a wide bell ended and that were not replaced yet."""
        return len(self._members)

    def find(self, key: K) -> V | None:
        """Return a value from memory; ``None`` when it is not there, or memory cannot be trusted now."""
        if not (self._bus.alone if self._alone else self._bus.fresh):
            return None
        member = self._find(key)
        if member is None or (self._epochs and member.epoch != self._epochs.get(member.bells.wide, 0)):
            return None  # mostly no wide bell ever rang
        return member.value

    async def get(self, key: K, fetch: Callable[[], Awaitable[V]]) -> V:
        """Return a value from memory, else what ``fetch`` returns, as ``read`` does."""
        known = self.find(key)
        return await self.read(key, fetch) if known is None else known

    async def read(self, key: K, fetch: Callable[[], Awaitable[V]]) -> V:
        """Return what ``fetch`` returns, and keep it unless one of its bells rang meanwhile. Raises what it raises."""
        with self._bus.watch() as rung:
            value = await fetch()
        if self._alone and not self._bus.alone:
            return value
        bells = _BY_KEY if self._bells_of is None else self._bells_of(value)
        if key in rung or bells.own in rung or (bells.wide is not None and bells.wide in map(self._wide_of, rung)):
            return value
        kept = self._members.put(key, _Member(value, bells, self._epochs.get(bells.wide, 0)))
        if kept and bells.own is not None:
            keys = self._by_bell.setdefault(bells.own, [])
            keys.append(key)
            if len(keys) > _BELL_KEYS_MAX:
                self._members.drop(keys[0])
        return value

    def drop(self, sids: frozenset[str]) -> None:
        """Forget the members whose bells these are."""
        for sid in sids:
            self._members.drop(cast("K", sid))
            for key in tuple(self._by_bell.get(sid, ())):
                self._members.drop(key)
            wide = self._wide_of(sid)
            if wide is not None:
                self._epochs[wide] = self._epochs.get(wide, 0) + 1

    def _left(self, key: K, member: _Member[V]) -> None:
        own = member.bells.own
        if own is None:
            return
        keys = self._by_bell[own]
        keys.remove(key)
        if not keys:
            del self._by_bell[own]
