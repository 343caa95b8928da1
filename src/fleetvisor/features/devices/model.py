"""What a device is, as the API shows it, and the one all-or-nothing change that can be made to it."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from fleetvisor.features.updates.model import Update
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, AppSid, DeviceSid
from fleetvisor.protocol.lifecycle import Mode


class Device(msgspec.Struct, frozen=True, gc=False):
    """One board with everything the API shows of it. Hashes are lower-case hex, without ``sha256:``.

    ``logging_expires`` is already judged: ``None`` when logging is off or over. ``update`` is the newest update,
    open or closed. ``update_status`` is ``up-to-date``, ``pending`` or ``error``. ``labels`` is a JSON object.
    """

    device_sid: DeviceSid
    account_sid: AccountSid
    unique_name: str | None
    access: str
    target_sid: AppSid | None
    target_hash: str | None
    date_targeted: Millis | None
    update_status: str
    update_error_code: int
    reported_sid: AppSid | None
    date_reported: Millis | None
    logging_expires: Millis | None
    date_created: Millis
    date_updated: Millis
    date_last_seen: Millis | None
    update: Update | None
    poll_interval_s: int | None = None
    hardware_class: str | None = None
    labels: str = "{}"
    account_secrets: bool = False
    controller_id: str | None = None


class DeviceChange(msgspec.Struct, frozen=True):
    """What one POST asks for. ``None`` as name, id, target, interval or class clears it; ``UNSET`` leaves it alone.

    ``labels`` are changes: ``key=value``, ``key-``. ``mode`` and ``confirm`` go with a target: how a device is told
    whose protocol knows them.
    """

    unique_name: str | UnsetType | None = UNSET
    target_app: str | UnsetType | None = UNSET
    logging_enabled: bool | None = None
    restart: bool = False
    cancel_update: bool = False
    mode: Mode | None = None
    confirm: bool | None = None
    poll_interval_s: int | UnsetType | None = UNSET
    access: Literal["active", "disabled"] | None = None
    hardware_class: str | UnsetType | None = UNSET
    labels: tuple[str, ...] = ()
    account_secrets: bool | None = None
    controller_id: str | UnsetType | None = UNSET
    offer_again: bool = False
    forget_report: bool = False
    request_attributes: bool = False
    begin_anew: bool = False


class Registration(msgspec.Struct, frozen=True):
    """What a new device is registered with; ``sid`` is the one that the board has already, if it has one.

    ``account_secrets``: whether it may fetch its account's Secrets. Only an admin may say so.
    ``controller_id``: what its board calls itself; ``UNSET``: by its name, ``None``: by its SID only.
    """

    unique_name: str | None = None
    sid: str | None = None
    hardware_class: str | None = None
    labels: tuple[str, ...] = ()
    account_secrets: bool = False
    controller_id: str | UnsetType | None = UNSET


class NewDevice(msgspec.Struct, frozen=True):
    """A device just registered, with its token: shown this once."""

    device: Device
    device_token: str


class DeviceIdentity(msgspec.Struct, frozen=True):
    """Which device a proven credential belongs to; ``waiting``: nobody accepted it yet."""

    device_sid: DeviceSid
    account_sid: AccountSid
    waiting: bool = False
