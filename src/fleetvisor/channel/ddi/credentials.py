"""What proves a DDI request: ``TargetToken`` names one device, ``GatewayToken`` all of an account's.

Pure. Deliberately proves nothing: ``features/identity`` does. Spec: ``docs/reference/ddi.md``, credentials.
"""

from typing import Final

from fleetvisor.ground.errors import Unauthenticated
from fleetvisor.web.auth import of_scheme

CHALLENGE: Final = b'TargetToken realm="Fleetvisor DDI"'
_GATEWAY_CHARS: Final = len(b"gatewaytoken ")


def parse_target_token(header: bytes | None) -> str:
    """Return the device token. Raises ``NoCredentials`` (nothing, another scheme), ``Unauthenticated``."""
    token = of_scheme(header, b"targettoken", "Send the device token as Authorization: TargetToken.")
    if not token.isascii():
        raise Unauthenticated("The device token is not ASCII.")
    return token.decode("ascii")


def parse_gateway_token(header: bytes | None) -> str | None:
    """Return the gateway token; ``None`` when the header is of another scheme. Raises ``Unauthenticated``."""
    if header is None or header[:_GATEWAY_CHARS].lower() != b"gatewaytoken ":
        return None
    token = header[_GATEWAY_CHARS:].strip()
    if not token or not token.isascii():
        raise Unauthenticated("The gateway token is empty or not ASCII.")
    return token.decode("ascii")
