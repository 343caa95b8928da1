"""The life of an update: its states, which may follow which, and the published error codes.

One table for server and agent alike. Deliberately no storage and no time. States move forward; steps may be
skipped, because reports get lost; a closed state never changes.
"""

from enum import IntEnum, StrEnum
from typing import Final


class State(StrEnum):
    """Where an update stands."""

    PENDING = "pending"
    DOWNLOADING = "downloading"
    INSTALLING = "installing"
    TESTING = "testing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    SUPERSEDED = "superseded"


OPEN: Final = (State.PENDING, State.DOWNLOADING, State.INSTALLING, State.TESTING)
CLOSED: Final = (State.SUCCEEDED, State.FAILED, State.CANCELED, State.SUPERSEDED)
_ORDER: Final = {state: place for place, state in enumerate((*OPEN, State.SUCCEEDED))}


class ErrorCode(IntEnum):
    """Why an update failed; 0 means that it did not. Published in ``docs/reference/update-errors.md``."""

    NONE = 0
    DOWNLOAD_FAILED = 1
    HASH_MISMATCH = 2
    DOES_NOT_FIT = 3
    REFUSED_BY_POLICY = 4
    INCOMPATIBLE_HARDWARE = 5
    INSTALL_FAILED = 6
    REVERTED = 7
    REFUSED_BY_APPLICATION = 8
    NO_REPORT = 9
    OTHER = 99


def is_open(state: State) -> bool:
    """Return whether an update in ``state`` can still change."""
    return state in OPEN


def may_follow(old: State, new: State) -> bool:
    """Return whether a report may move an update from ``old`` to ``new``.

    Forward along pending, downloading, installing, testing, succeeded, skipping steps or not; from any open
    state to failed, canceled or superseded. Staying is not moving.
    """
    if old in CLOSED:
        return False
    if new in _ORDER:
        return _ORDER[new] > _ORDER[old]
    return True
