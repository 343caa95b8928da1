"""How much the server keeps in memory, in bytes: one row for each map and cache, and the map that keeps to its row.

``docs/reference/limits.md`` shows the rows. A row with ``member_bytes`` bounds members that have at most that size; of
the others each member is weighed (``BoundedMap``). ``tests/unit/test_memory.py`` fills each, and finds maps without a
row.
"""

from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_OVERHEAD: Final = 400  # the key, the places in the two tables, and the objects around a value


class Room(NamedTuple):
    """The bound of one map or cache; ``member_bytes`` is the most that one member takes, 0 where each is weighed."""

    bytes_max: int
    member_bytes: int
    about: str

    @property
    def members_max(self) -> int:
        """How many members there may be."""
        return self.bytes_max // (self.member_bytes or _OVERHEAD)


# A member without a size of its own is weighed, so that few large ones take no more than many small ones.
PROVEN_ACCOUNTS: Final = Room(10 << 20, 1024, "verified Auth Tokens and API keys, by hash")
FAILED_PROOFS: Final = Room(64 << 20, 512, "failed authentications of this minute, by a hash of address and name")
FAILED_ADDRESSES: Final = Room(64 << 20, 512, "failed authentications of this minute, by address")
REQUEST_RATES: Final = Room(
    64 << 20, 512, "request rates of API keys, of Auth Tokens and of devices' writes; each has this bound"
)
REFUSALS: Final = Room(1 << 20, 4096, "refused requests that are not events yet")
KEY_USES: Final = Room(64 << 20, 512, "when API keys were last used; two maps, each with this bound")
PROVEN_DEVICES: Final = Room(1 << 30, 1024, "verified device tokens and signed tokens, by hash")
GATEWAY_DEVICES: Final = Room(1 << 30, 1024, "devices that a gateway token authenticates, by hash")
DEVICES_SEEN: Final = Room(
    384 << 20, 384, "which devices were seen and what they downloaded; three maps, each with this bound"
)
DEVICE_FETCHES: Final = Room(768 << 20, 3072, "when bytes were sent to devices; two maps, each with this bound")
DEVICE_ANSWERS: Final = Room(1 << 30, 0, "answers to devices' polls; each protocol has this bound")
DEVICE_ROWS: Final = Room(64 << 20, 0, "devices that people look at repeatedly")
LAYER_LISTS: Final = Room(64 << 20, 0, "the layers of Apps")
LAYER_PLACES: Final = Room(10 << 20, 1024, "where the layers are stored that devices download")
ARTIFACT_DIGESTS: Final = Room(64 << 20, 640, "SHA-1 and MD5 of files that DDI devices download")
SELECTORS: Final = Room(32 << 20, 64 << 10, "parsed selectors")
LABEL_KEYS: Final = Room(16 << 20, 0, "label keys of accounts whose selectors contain unknown keys")
PREFERENCES: Final = Room(128 << 10, 512, "parsed Prefer headers")
TIMES: Final = Room(16 << 20, 256, "formatted times")


class BoundedMap(Generic[K, V]):
    """A map bounded in bytes: when there is no room, the oldest members go. A member too large for it is not kept.

    ``size_of`` weighs a value, in bytes; without it each member takes the ``member_bytes`` of the room. ``left`` is
    called with each member that leaves.
    """

    __slots__ = ("_bytes", "_left", "_members", "_room", "_size_of", "get")

    def __init__(
        self, room: Room, size_of: Callable[[V], int] | None = None, left: Callable[[K, V], None] | None = None
    ) -> None:
        """Begin empty."""
        self._members: dict[K, V] = {}
        self._bytes = 0
        self._room = room
        self._size_of = size_of
        self._left = left
        self.get: Callable[[K], V | None] = self._members.get  # bound once: an unchanged poll asks

    def __len__(self) -> int:
        """Return how many members there are."""
        return len(self._members)

    @property
    def size_bytes(self) -> int:
        """How many bytes the members take."""
        return self._bytes

    def put(self, key: K, value: V) -> bool:
        """Keep a value as the newest, in place of the one that there was; return false if it is too large."""
        self.drop(key)
        size = self._weigh(value)
        if size > self._room.bytes_max:
            return False
        while self._bytes + size > self._room.bytes_max:
            self.drop(next(iter(self._members)))
        self._members[key] = value
        self._bytes += size
        return True

    def drop(self, key: K) -> None:
        """Forget a member, if it is there."""
        value = self._members.pop(key, None)
        if value is not None:
            self._bytes -= self._weigh(value)
            if self._left is not None:
                self._left(key, value)

    def _weigh(self, value: V) -> int:
        return self._room.member_bytes if self._size_of is None else self._size_of(value) + _OVERHEAD
