"""What an update and an assignment (target and report) are."""

import msgspec

from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, AppSid, DeviceSid
from fleetvisor.protocol.lifecycle import State


class Update(msgspec.Struct, frozen=True):
    """One attempt to bring one device to one app."""

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


class Assignment(msgspec.Struct, frozen=True):
    """What one device should run (target) and says it runs (report).

    ``target_reached``: the device has reported the target since it was set. ``retries``: how many new updates it
    got because it left a target it had reached. ``last_number``: its newest update since registration.
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
