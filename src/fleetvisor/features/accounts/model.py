"""What an account, an API key and a caller are.

Deliberately no secrets: they are shown once by the service that makes them, and never kept in these values.
"""

from typing import Final, Literal

import msgspec

from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, KeySid

Role = Literal["viewer", "operator", "admin"]
Status = Literal["active", "suspended", "ending"]
ROLES: Final[tuple[Role, ...]] = ("viewer", "operator", "admin")  # each may do what those before it may


class Caller(msgspec.Struct, frozen=True):
    """Whom a REST request speaks for. ``key_sid`` is set when an API key proved it, not the Auth Token."""

    account_sid: AccountSid
    is_first: bool
    key_sid: KeySid | None = None
    role: Role = "admin"
    date_expires: Millis | None = None

    @property
    def sid(self) -> str:
        """Return what proved it: the key's SID, else the account's."""
        return self.key_sid or self.account_sid

    def may(self, role: Role) -> bool:
        """Return whether it has this role, or one above it."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Tenant(msgspec.Struct, frozen=True):
    """An account as the first account's operator sees it: without anything that proves it."""

    account_sid: AccountSid
    ordinal: int
    friendly_name: str
    status: Status
    device_count: int
    date_created: Millis

    @property
    def is_first(self) -> bool:
        """Return whether it is the first account of the server."""
        return self.ordinal == 1


def trust_bell(account_sid: str) -> str:
    """Return the bell that rings when nothing may be trusted any more that proved anybody of an account."""
    return f"trust:{account_sid}"


class Key(msgspec.Struct, frozen=True):
    """An API key, without its secret."""

    key_sid: KeySid
    account_sid: AccountSid
    friendly_name: str
    date_created: Millis
    role: Role = "admin"
    date_expires: Millis | None = None
    date_last_used: Millis | None = None
    maker_sid: KeySid | None = None


class WantedKey(msgspec.Struct, frozen=True):
    """What an API key is to be made with. ``ttl_s``: 0, it never ends; ``None``, it ends with the key that makes it."""

    friendly_name: str = ""
    role: str = "viewer"
    ttl_s: int | None = None


class NewKey(msgspec.Struct, frozen=True):
    """An API key just made, with its secret: shown this once."""

    key: Key
    secret: str


class NewAccount(msgspec.Struct, frozen=True):
    """An account just made, with its Auth Token."""

    account_sid: AccountSid
    auth_token: str
    date_created: Millis
    friendly_name: str = ""
