"""Enrolments that were refused, remembered for as long as their proof could hold.

A board, or a flooder, that sends the same proof again is refused from memory: no signature is verified, and the
database is not asked. An enrolment is kept as one SHA-256 of all that was sent, so that what a stranger sends costs a
fixed size; the oldest go when the bound in bytes is reached. Only what does not become good by what an operator does to
a device is kept: an unknown token, a proof that does not hold, a token that is used up, over or revoked.
"""

from collections import OrderedDict
from hashlib import sha256
from typing import Final

import msgspec

from fleetvisor.ground.clock import Clock, Millis, later
from fleetvisor.ground.errors import AccessDenied, ClockSkew, Unauthenticated
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol import jws

#: What one refusal costs, at the most: its hash, its row, its place in the table. A test fills the memory and measures.
ENTRY_BYTES: Final = 512
_LIFE_S: Final = jws.SKEW_S


class _Refused(msgspec.Struct, frozen=True, gc=False):
    denied: bool
    detail: str
    expires: Millis


class Refusals:
    """A memory of refused enrolments, bounded in bytes."""

    def __init__(self, *, clock: Clock, limits: Limits) -> None:
        """Begin with nothing."""
        self._clock = clock
        self._most = max(1, limits.enrollment_refusals_bytes // ENTRY_BYTES)
        self._refused: OrderedDict[bytes, _Refused] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._refused)

    def check(self, place: bytes) -> None:
        """Raise what an enrolment was refused with, while that is remembered."""
        found = self._refused.get(place)
        if found is None:
            return
        if found.expires <= self._clock.now():
            del self._refused[place]
            return
        raise AccessDenied(found.detail) if found.denied else Unauthenticated(found.detail)

    def note(self, place: bytes, error: Unauthenticated | AccessDenied) -> None:
        """Remember a refusal. One for the time of a clock is not remembered: it ends when the clock is right."""
        if isinstance(error, ClockSkew) or place in self._refused:
            return
        # the first one counts: who sends it again and again does not keep it for longer
        expires = later(self._clock.now(), _LIFE_S)
        self._refused[place] = _Refused(isinstance(error, AccessDenied), _cut(error.detail), expires)
        if len(self._refused) > self._most:
            self._refused.popitem(last=False)


def place_of(*texts: str) -> bytes:
    """Return what an enrolment is kept under: a hash of all that was sent."""
    digest = sha256()
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8))
        digest.update(raw)
    return digest.digest()


def _cut(detail: str) -> str:
    """Return a refusal's sentence, cut: some repeat a part of what was sent."""
    return detail[:_DETAIL_CHARS_MAX]


_DETAIL_CHARS_MAX: Final = 160
