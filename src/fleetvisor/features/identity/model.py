"""What proves a device, and what lets new devices in."""

from typing import Literal

import msgspec

from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, DeviceSid, EnrollmentTokenSid


class Credential(msgspec.Struct, frozen=True):
    """One thing that proves a device: a token or a public key.

    ``fingerprint`` is the SHA-256 of the token, or of the key's uncompressed point, in lower-case hex. A token that
    was replaced has a ``date_expires``.
    """

    type: Literal["token", "key"]
    fingerprint: str
    date_created: Millis
    date_expires: Millis | None


class NewCredential(msgspec.Struct, frozen=True):
    """A credential just made; a token is shown this once."""

    credential: Credential
    device_token: str | None


class EnrollmentToken(msgspec.Struct, frozen=True):
    """What lets ``uses_max`` new devices in; ``labels`` (JSON) and ``hardware_class`` are theirs from birth."""

    token_sid: EnrollmentTokenSid
    account_sid: AccountSid
    friendly_name: str
    uses: int
    uses_max: int
    date_expires: Millis | None
    hardware_class: str | None
    labels: str
    revoked: bool
    date_created: Millis
    account_secrets: bool = False
    waits: bool = False


class Grant(msgspec.Struct, frozen=True):
    """What an enrolment token is to be made for. ``ttl_s`` of 0: it never ends.

    ``account_secrets``: its devices may fetch the account's Secrets. ``waits``: they wait to be accepted.
    """

    friendly_name: str = ""
    uses_max: int = 1
    ttl_s: int = 30 * 24 * 3600
    hardware_class: str | None = None
    labels: tuple[str, ...] = ()
    account_secrets: bool = False
    waits: bool = False


class NewEnrollmentToken(msgspec.Struct, frozen=True):
    """An enrolment token just made; its text is shown this once."""

    token: EnrollmentToken
    secret: str


class Enrolled(msgspec.Struct, frozen=True):
    """How an enrolment ended; ``new`` is false when the key was enrolled already."""

    device_sid: DeviceSid
    new: bool


class GatewayState(msgspec.Struct, frozen=True):
    """Whether an account's gateway token lets devices register themselves, and how many wait to be accepted."""

    date_created: Millis | None
    waiting: int
