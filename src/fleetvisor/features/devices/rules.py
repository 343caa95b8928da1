"""What may be asked of a device in one change, decided without clock or storage."""

from typing import Final

from msgspec import UNSET

from fleetvisor.features.devices.model import DeviceChange
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.names import check_label
from fleetvisor.ground.sids import DeviceSid, is_sid, normalize

RESERVED_LABELS: Final = frozenset(
    ("app", "target", "status", "access", "hardware", "seen", "name", "sid", "in", "not")
)
LABEL_KEY_CHARS_MAX: Final = 63
LABEL_KEY: Final = rf"[A-Za-z0-9._/-]{{1,{LABEL_KEY_CHARS_MAX}}}"
"""The pattern of a label's key, for the readers of labels and selectors."""


def check_change(change: DeviceChange, limits: Limits) -> None:
    """Refuse a change that contradicts itself, or an interval out of bounds. Raises ``Invalid``."""
    if change.cancel_update and change.target_app is not UNSET:
        raise Invalid("CancelUpdate and TargetApp exclude each other. Send only one of them.")
    if change.offer_again and (change.cancel_update or change.target_app is None):
        raise Invalid("OfferAgain needs a target. Send it without CancelUpdate and without an empty TargetApp.")
    if (change.mode is not None or change.confirm is not None) and not isinstance(change.target_app, str):
        raise Invalid("UpdateMode and Confirm need TargetApp. Send TargetApp too.")
    interval = change.poll_interval_s
    if isinstance(interval, int) and not 1 <= interval <= limits.poll_interval_s_max:
        raise Invalid(f"PollInterval must be from 1 to {limits.poll_interval_s_max} seconds; empty takes the server's.")
    if isinstance(change.hardware_class, str):
        check_label("HardwareClass", change.hardware_class, limits.label_chars_max)


def is_empty(change: DeviceChange) -> bool:
    """Return whether a change asks for nothing."""
    return change == DeviceChange()


def check_own_sid(text: str) -> DeviceSid:
    """Return the SID of a board that already has one, in lower case after its two letters. Raises ``Invalid``."""
    if not is_sid(text, "UV"):
        raise Invalid("Sid must be UV and 32 hexadecimal digits.")
    return DeviceSid(normalize(text))
