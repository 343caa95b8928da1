"""What a config and a secret are: a key and a value of one owner, in one of two stores."""

from enum import StrEnum

import msgspec

from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, DeviceSid


class Store(StrEnum):
    """The two name spaces of an owner: configs are readable, secrets write-only."""

    CONFIG = "config"
    SECRET = "secret"


class Owner(msgspec.Struct, frozen=True):
    """Who has the value: the account itself (``device_sid`` is ``None``) or one of its devices."""

    account_sid: AccountSid
    device_sid: DeviceSid | None = None

    @property
    def sid(self) -> str:
        """Return the SID that the rows carry."""
        return self.device_sid or self.account_sid


class Entry(msgspec.Struct, frozen=True):
    """One key of one owner. ``value`` is ``None`` for secrets, always."""

    key: str
    value: str | None
    date_updated: Millis
