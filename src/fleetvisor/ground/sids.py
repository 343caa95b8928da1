"""SIDs: two letters and 32 hex digits that name a resource for ever.

Deliberately does not make randomness: the caller passes the entropy port. Spec: the Microvisor API
reference, section 1 (``^UV[0-9a-fA-F]{32}$`` and so on); those we make are lower case.
"""

import re
from typing import Final, NewType

from fleetvisor.ground.clock import Entropy

AccountSid = NewType("AccountSid", str)
DeviceSid = NewType("DeviceSid", str)
AppSid = NewType("AppSid", str)
KeySid = NewType("KeySid", str)
EnrollmentTokenSid = NewType("EnrollmentTokenSid", str)
RolloutSid = NewType("RolloutSid", str)
RequestSid = NewType("RequestSid", str)

_SID: Final = re.compile(r"[A-Z]{2}[0-9a-fA-F]{32}")


def is_sid(text: str, prefix: str | None = None) -> bool:
    """Return whether ``text`` has the form of a SID (of the kind ``prefix``, such as ``UV``)."""
    if _SID.fullmatch(text) is None:
        return False
    return prefix is None or text.startswith(prefix)


def normalize(sid: str) -> str:
    """Return a SID as the server stores it: clients may write its hex digits in either case."""
    return sid[:2] + sid[2:].lower()


def new_account_sid(entropy: Entropy) -> AccountSid:
    """Make the SID of a new account."""
    return AccountSid("AC" + entropy.token(16).hex())


def new_device_sid(entropy: Entropy) -> DeviceSid:
    """Make the SID of a new device."""
    return DeviceSid("UV" + entropy.token(16).hex())


def new_app_sid(entropy: Entropy) -> AppSid:
    """Make the SID of a new app."""
    return AppSid("KA" + entropy.token(16).hex())


def new_key_sid(entropy: Entropy) -> KeySid:
    """Make the SID of a new API key."""
    return KeySid("SK" + entropy.token(16).hex())


def new_enrollment_token_sid(entropy: Entropy) -> EnrollmentTokenSid:
    """Make the SID of a new enrolment token."""
    return EnrollmentTokenSid("ET" + entropy.token(16).hex())


def new_request_sid(entropy: Entropy) -> RequestSid:
    """Make the id of one request, as it stands in its answer and its log lines."""
    return RequestSid("RQ" + entropy.token(16).hex())


def new_rollout_sid(entropy: Entropy) -> RolloutSid:
    """Make the SID of a new rollout."""
    return RolloutSid("RO" + entropy.token(16).hex())
