"""What an account, an API key and a caller are.

Deliberately no secrets: they are shown once by the service that makes them, and never kept in these values.
"""

import msgspec

from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, KeySid


class Caller(msgspec.Struct, frozen=True):
    """Whom a REST request speaks for. ``key_sid`` is set when an API key proved it, not the Auth Token."""

    account_sid: AccountSid
    is_first: bool
    key_sid: KeySid | None = None


class Key(msgspec.Struct, frozen=True):
    """An API key, without its secret."""

    key_sid: KeySid
    account_sid: AccountSid
    friendly_name: str
    date_created: Millis


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
