"""What is kept of statements by their texts, bounded in bytes: selectors make texts of their own, up to 60 KB each.

A store that is full forgets everything: what is used often is there again at once. A text that would take a good part
of it is not kept at all.
"""

import sys
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

V = TypeVar("V")

BYTES_MAX: Final = 2 << 20
_SHARE: Final = 8
_ROW_BYTES: Final = 1024  # about what a key, a plan and their places take beside the texts


class StatementCache(Generic[V]):
    """Values by statement, at most ``bytes_max`` bytes of texts and of what belongs to them."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        """Begin with nothing."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._values: dict[Hashable, V] = {}

    def __len__(self) -> int:
        """Return how many values are kept."""
        return len(self._values)

    def get(self, key: Hashable) -> V | None:
        """Return what is kept."""
        return self._values.get(key)

    def put(self, key: Hashable, value: V, *texts: str) -> V:
        """Keep a value, whose ``texts`` count; return it."""
        size = _ROW_BYTES + sum(map(sys.getsizeof, texts))
        if size * _SHARE > self._bytes_max:
            return value
        if key not in self._values:
            if self._bytes + size > self._bytes_max:
                self._values.clear()
                self._bytes = 0
            self._bytes += size
        self._values[key] = value
        return value
