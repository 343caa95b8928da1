"""The life of an update: its states, which may follow which, how a device is told, what it answers, and error codes.

One vocabulary for server and agent, and for every device protocol: a protocol's own module maps its words to these.
Deliberately no storage and no time. States move forward; steps may be skipped, because reports get lost; a closed state
never changes.
"""

from enum import IntEnum, StrEnum, auto
from typing import Final, Literal

#: How a device is told of an update: install it, install it when you like, download it only.
Mode = Literal["forced", "attempt", "skip"]


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


class DeviceProtocol(StrEnum):
    """The protocols that devices speak, by the names under which the database knows them."""

    NATIVE = "native"
    DDI = "ddi"


ASKING: Final = (DeviceProtocol.DDI,)
"""Protocols that ask a device before its update is canceled, and in which it answers how each update went.

What such a device runs is known from its answers only; in the others it reports that by itself.
"""


class DeviceAnswer(StrEnum):
    """What a device says about an update, or about the question whether it can cancel one."""

    SCHEDULED = auto()
    """It knows the update and has not begun."""
    PROCEEDING = auto()
    """It is at work. As the answer to a cancel: it has not decided."""
    DOWNLOADED = auto()
    """It has all bytes."""
    FINISHED = auto()
    """It did what it was told to do."""
    FAILED = auto()
    """It could not do what it was told to do. As the answer to a cancel: it could not cancel."""
    REFUSED = auto()
    """It will not do what it was told to do. As the answer to a cancel: the update goes on."""
    CANCELED = auto()
    """It gave the update up."""


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
