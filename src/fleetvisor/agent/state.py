"""What a device remembers across power cuts, and how each record of its journal changes it: a pure fold.

The bootloader's decision is part of the fold: ``Booted`` is the record of one boot, and applying it says which slot
runs. So nothing but the journal decides what boots, and the same journal always decides the same.

NOTE: these structs are the format of journals in the field; a number or a field is never used again for
something else, new fields come last, with a default. Deliberately no flash and no clock.
"""

from typing import Final, assert_never

import msgspec

from fleetvisor.protocol.lifecycle import ErrorCode

RESERVE: Final = 64


class Image(msgspec.Struct, frozen=True, array_like=True):
    """An app as a slot holds it: its manifest's hash, its SID, and its security counter if it has one."""

    manifest: str
    app_sid: str
    security_counter: int | None = None


class Download(msgspec.Struct, frozen=True, array_like=True):
    """The inactive slot is being filled for update ``number``; ``done`` sectors of its plan are written."""

    number: int
    image: Image
    done: int = 0


class Trial(msgspec.Struct, frozen=True, array_like=True):
    """A verified image waits for its one trial boot, or (``booted``) is in it."""

    number: int
    slot: int
    booted: bool = False


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """How an update ended; ``code`` 0 is success. ``told`` when the server has taken it."""

    number: int
    manifest: str
    code: int
    told: bool = False


class State(msgspec.Struct, frozen=True, array_like=True):
    """All of it. ``sequence_reserved``: no report so far had a higher sequence number.

    ``security_counter``: the highest of the apps that were confirmed.
    """

    journal: str
    sequence_reserved: int = 0
    boot_count: int = 0
    wake_next: int = 0
    wake_reason: int = 0
    restart_obeyed: int = 0
    slots: tuple[Image | None, Image | None] = (None, None)
    confirmed: int | None = None
    trial: Trial | None = None
    download: Download | None = None
    outcome: Outcome | None = None
    security_counter: int = 0

    @property
    def active(self) -> int | None:
        """Return the slot that runs since the last boot; ``None``: no app does."""
        if self.trial is not None and self.trial.booted:
            return self.trial.slot
        return self.confirmed

    @property
    def running(self) -> Image | None:
        """Return what runs since the last boot."""
        return None if self.active is None else self.slots[self.active]

    @property
    def inactive(self) -> int:
        """Return the slot that a download may fill."""
        return 0 if self.confirmed is None else 1 - self.confirmed


class Snapshot(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Everything before this record."""

    state: State


class Booted(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The device starts: a waiting trial gets its boot, a trial that had it and was not confirmed is reverted."""


class Reserved(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The next report sequence numbers may be used."""


class Started(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A download into the inactive slot begins, whose old content no longer counts."""

    number: int
    image: Image


class Marked(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The first ``done`` sectors of the download are written."""

    done: int


class Armed(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The download was verified as read back: the next boot tries it."""


class Confirmed(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The app on trial stays."""


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The update failed before its trial; what runs goes on."""

    number: int
    manifest: str
    code: int


class Abandoned(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """The download is no longer wanted."""


class Told(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The server has taken the outcome."""


class Restarting(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """The device restarts because the server's counter stands at ``count``."""

    count: int


class Reborn(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Reports are counted anew under another journal id."""

    journal: str


Record = (
    Snapshot
    | Booted
    | Reserved
    | Started
    | Marked
    | Armed
    | Confirmed
    | Failed
    | Abandoned
    | Told
    | Restarting
    | Reborn
)

WAKE_RESTART: Final = 2
WAKE_UPDATE: Final = 9

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Record)


class Forbidden(Exception):
    """A record that the state does not allow: the program is wrong."""


def encode(record: Record) -> bytes:
    """Render one record."""
    return _encoder.encode(record)


def decode(data: bytes) -> Record:
    """Parse what ``encode`` gave. Raises ``msgspec.DecodeError`` for anything else."""
    return _decoder.decode(data)


def apply(state: State, record: Record) -> State:
    """Return the state after ``record``. Raises ``Forbidden`` when the state does not allow it."""
    change = msgspec.structs.replace
    match record:
        case Snapshot():
            return record.state
        case Booted():
            return _boot(state)
        case Reserved():
            return change(state, sequence_reserved=state.sequence_reserved + RESERVE)
        case Started():
            return _start(state, record)
        case Marked():
            download = _download(state)
            if record.done < download.done:
                raise Forbidden("a download does not go back")
            return change(state, download=change(download, done=record.done))
        case Armed():
            return _arm(state)
        case Confirmed():
            return _confirm(state)
        case Failed():
            outcome = Outcome(record.number, record.manifest, record.code)
            return change(state, download=None, outcome=outcome)
        case Abandoned():
            return change(state, download=None)
        case Told():
            outcome = state.outcome
            return state if outcome is None else change(state, outcome=change(outcome, told=True))
        case Restarting():
            return change(state, restart_obeyed=record.count, wake_next=WAKE_RESTART)
        case Reborn():
            return change(state, journal=record.journal, sequence_reserved=RESERVE)
        case _:
            assert_never(record)


def _boot(state: State) -> State:
    """Decide what boots. Pure: the same journal always boots the same slot."""
    change = msgspec.structs.replace
    trial, outcome, wake = state.trial, state.outcome, state.wake_next
    if trial is not None and trial.booted:
        image = state.slots[trial.slot]
        outcome = Outcome(trial.number, "" if image is None else image.manifest, ErrorCode.REVERTED)
        trial = None
    elif trial is not None:
        trial = change(trial, booted=True)
        wake = WAKE_UPDATE
    return change(
        state,
        boot_count=state.boot_count + 1,
        wake_reason=wake,
        wake_next=0,
        sequence_reserved=state.sequence_reserved + RESERVE,
        trial=trial,
        outcome=outcome,
    )


def _download(state: State) -> Download:
    if state.download is None:
        raise Forbidden("there is no download")
    return state.download


def _with_slot(state: State, slot: int, image: Image | None) -> tuple[Image | None, Image | None]:
    return (image, state.slots[1]) if slot == 0 else (state.slots[0], image)


def _start(state: State, record: Started) -> State:
    if state.trial is not None:
        raise Forbidden("both slots are in use during a trial")
    slots = _with_slot(state, state.inactive, None)
    return msgspec.structs.replace(state, slots=slots, download=Download(record.number, record.image))


def _arm(state: State) -> State:
    download = _download(state)
    slot = state.inactive
    return msgspec.structs.replace(
        state,
        slots=_with_slot(state, slot, download.image),
        trial=Trial(download.number, slot),
        download=None,
    )


def _confirm(state: State) -> State:
    trial = state.trial
    image = None if trial is None else state.slots[trial.slot]
    if trial is None or image is None or not trial.booted:
        raise Forbidden("there is no app on trial")
    outcome = Outcome(trial.number, image.manifest, ErrorCode.NONE)
    counter = max(state.security_counter, image.security_counter or 0)
    return msgspec.structs.replace(state, confirmed=trial.slot, trial=None, outcome=outcome, security_counter=counter)
