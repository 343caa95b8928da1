"""What an update, an assignment (target and report) and a device of a rollout are. Pure."""

from typing import Final, Literal

import msgspec

from fleetvisor.features.apps.model import App
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, AppSid, DeviceSid, RolloutSid
from fleetvisor.protocol.lifecycle import ASKING, DeviceProtocol, State

MemberState = Literal[
    "updating", "offline", "silent", "succeeded", "failed", "unchanged", "left", "canceled", "skipped"
]
STATES: Final[tuple[MemberState, ...]] = (
    "updating", "offline", "silent", "succeeded", "failed", "unchanged", "left", "canceled", "skipped",
)  # fmt: skip
UNDECIDED: Final = frozenset({"updating", "offline"})
#: The states of the devices to which a retry offers the app again.
RETRIED: Final[tuple[MemberState, ...]] = ("failed", "silent")
EXCUSED: Final = ("disabled", "no_credential")


class Update(msgspec.Struct, frozen=True):
    """One attempt to bring one device to one app.

    ``mode`` (``forced``, ``attempt``, ``skip``) and ``confirmation`` (``none``, ``waiting``, ``confirmed``) are for
    devices whose protocol knows them. ``rollout_sid``: the rollout that made it, or adopted it. ``date_fetched``: when
    the device last fetched bytes of it; ``unfetched``: it succeeded and the device had fetched none.
    """

    device_sid: DeviceSid
    number: int
    account_sid: AccountSid
    app_sid: AppSid
    app_hash: str
    state: State
    cancel_requested: bool
    bytes_done: int
    bytes_total: int
    error_code: int
    date_created: Millis
    date_updated: Millis
    date_deadline: Millis | None
    mode: str = "forced"
    confirmation: str = "none"
    rollout_sid: str | None = None
    date_fetched: Millis | None = None
    unfetched: bool = False


class Instruction(msgspec.Struct, frozen=True):
    """Who says what a device should run, since when: a rollout, or (``None``) somebody directly. The newest wins."""

    date: Millis
    rollout_sid: RolloutSid | None = None


class Wanted(msgspec.Struct, frozen=True):
    """An app as a target, and how a device that is asked is told: its mode, and whether somebody must consent.

    ``again``: an update is made also when the device reports the app; that report is not believed any more.
    """

    app: App | None
    mode: str = "forced"
    confirm: bool = False
    again: bool = False


class Assignment(msgspec.Struct, frozen=True):
    """What one device should run (target) and says it runs (report).

    ``target_reached``: the device has reported the target since it was set. ``retries``: how many new updates it
    got because it left a target it had reached. ``last_number``: its newest update since registration. ``protocol``: by
    which it polled last. ``installed_number``: the last update that it closed with success in answer to a question.
    ``ignored_reports``: how many reports were ignored since one was taken, because their sequence had not risen.
    ``left_out``: the names of values of the last report that could not be read.
    """

    device_sid: DeviceSid
    account_sid: AccountSid
    target_sid: AppSid | None
    target_hash: str | None
    date_targeted: Millis | None
    target_reached: bool
    retries: int
    last_number: int | None
    reported_sid: AppSid | None
    reported_hash: str | None
    date_reported: Millis | None
    journal: str | None
    sequence: int
    retired_journals: str
    boot_count: int | None
    wake_reason: int | None
    protocol: DeviceProtocol = DeviceProtocol.NATIVE
    target_mode: str = "forced"
    target_confirm: bool = False
    installed_number: int | None = None
    rollout_sid: str | None = None
    date_instructed: Millis | None = None
    ignored_reports: int = 0
    date_ignored: Millis | None = None
    left_out: str = ""

    @property
    def is_asked(self) -> bool:
        """Whether the device's protocol asks it, so that a cancel waits for its answer."""
        return self.protocol in ASKING


class Place(msgspec.Struct, frozen=True, order=True):
    """Which count a device is in."""

    wave: int
    state: str
    evidence: bool


class Member(msgspec.Struct, frozen=True):
    """One device of a rollout: ``app_sid`` is what it was offered, ``previous_sid`` what it ran before.

    ``updating``: its update is open. ``offline``: it did not fetch it for long. ``silent``: it began to install and was
    not heard of since. ``left``: a newer instruction took it. ``skipped``: it was not offered the app, ``reason`` says
    why. ``evidence_from``: from when its result counts for the guard; 0 is always, ``None`` is never.
    """

    rollout_sid: RolloutSid
    device_sid: DeviceSid
    account_sid: AccountSid
    wave: int
    state: MemberState
    reason: str
    error_code: int
    number: int | None
    attempts: int
    app_sid: str | None
    previous_sid: str | None
    date_offered: Millis
    date_changed: Millis
    evidence_from: Millis | None

    @property
    def is_evidence(self) -> bool:
        """Whether its result counts for the guard now."""
        return self.evidence_from == 0

    def place(self, state: MemberState | None = None) -> Place:
        """Return where it is counted, or would be in another state."""
        return Place(self.wave, state or self.state, self.is_evidence)
