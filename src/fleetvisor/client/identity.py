"""What proves devices and lets new ones in, as typed calls: credentials, enrolment tokens, the gateway token.

Beside ``resources`` as ``api/credentials`` and ``api/enrollment`` are beside ``api/devices``. Deliberately no domain
rules: the server decides, this asks. Spec: our extensions in ``docs/divergences.md``, ``docs/reference/device-api.md``
and ``docs/reference/ddi.md``.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from fleetvisor.client.resources import Resource, device_path, make_form, read, segment, walk

if TYPE_CHECKING:
    from pathlib import Path

    from fleetvisor.client.http import Http, Progress

_TOKENS: Final = "/v1/EnrollmentTokens"
_GATEWAY: Final = "/v1/GatewayToken"
_REFUSED: Final = "/v1/RefusedKeys"


class Credential(Resource, kw_only=True):
    """What proves a device. ``device_token`` is there only in the answer that made a token."""

    type: str
    fingerprint: str
    date_created: str | None = None
    date_expires: str | None = None
    device_token: str | None = None


class RefusedKey(Resource, kw_only=True):
    """A key that was a device's and may not enrol again."""

    fingerprint: str
    device_sid: str
    date_created: str | None = None


class EnrollmentToken(Resource, kw_only=True):
    """What lets new devices in. ``token`` is there only in the answer that made it."""

    sid: str
    friendly_name: str | None = None
    uses: int = 0
    max_uses: int = 0
    date_expires: str | None = None
    hardware_class: str | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    account_secrets: bool = False
    waits: bool = False
    revoked: bool = False
    token: str | None = None


class Imported(msgspec.Struct, kw_only=True):
    """A device that an import made, and the line that it stood in."""

    line: int
    sid: str
    unique_name: str | None = None


class Batch(Resource, kw_only=True):
    """What an import made."""

    count: int
    devices: list[Imported]


class GatewayToken(Resource, kw_only=True):
    """Whether DDI devices may register themselves. ``gateway_token`` is there only in the answer that made it."""

    enabled: bool
    waiting: int = 0
    gateway_token: str | None = None


class Identity:
    """The calls. Every one raises ``ApiProblem`` and ``Unreachable``."""

    def __init__(self, http: "Http") -> None:
        """Speak through ``http``."""
        self._http = http

    # credentials of a device, and refused keys

    def credentials(self, device: str) -> Iterator[Credential]:
        """Walk what proves a device: tokens first, the oldest first."""
        return walk(self._http, _credentials(device), "credentials", Credential)

    def add_token(self, device: str, overlap_s: int | None = None) -> Credential:
        """Make a new token for a device, which the answer holds; its older ones go on for ``overlap_s``."""
        form = make_form(Type="token", Overlap=None if overlap_s is None else str(overlap_s))
        return read(self._http.post(_credentials(device), form), Credential)

    def add_key(self, device: str, public_key: str) -> Credential:
        """Let a P-256 key prove a device: PEM, or its uncompressed point in base64 or hex."""
        return read(self._http.post(_credentials(device), make_form(Type="key", PublicKey=public_key)), Credential)

    def remove_credential(self, device: str, fingerprint: str) -> None:
        """Remove a credential: it proves nothing any more."""
        self._http.delete(f"{_credentials(device)}/{segment(fingerprint)}")

    def refused_keys(self) -> Iterator[RefusedKey]:
        """Walk the keys that may not enrol again, newest first."""
        return walk(self._http, _REFUSED, "refused_keys", RefusedKey)

    def free_key(self, fingerprint: str) -> None:
        """Let a refused key enrol again."""
        self._http.delete(f"{_REFUSED}/{segment(fingerprint)}")

    # enrolment tokens

    def create_enrollment_token(
        self,
        name: str | None = None,
        *,
        uses_max: int | None = None,
        ttl_s: int | None = None,
        hardware_class: str | None = None,
        labels: Sequence[str] = (),
        account_secrets: bool = False,
        waits: bool = False,
    ) -> EnrollmentToken:
        """Make a token that lets new devices in; the answer holds its text. ``ttl_s`` 0: it never ends."""
        form = make_form(
            FriendlyName=name,
            MaxUses=None if uses_max is None else str(uses_max),
            Ttl=None if ttl_s is None else str(ttl_s),
            HardwareClass=hardware_class,
            Labels=labels,
            AccountSecrets="true" if account_secrets else None,
            Waits="true" if waits else None,
        )
        return read(self._http.post(_TOKENS, form), EnrollmentToken)

    def enrollment_tokens(self) -> Iterator[EnrollmentToken]:
        """Walk the enrolment tokens, newest first."""
        return walk(self._http, _TOKENS, "enrollment_tokens", EnrollmentToken)

    def enrollment_token(self, sid: str) -> EnrollmentToken:
        """Fetch an enrolment token, without its text."""
        return read(self._http.get(f"{_TOKENS}/{segment(sid)}"), EnrollmentToken)

    def revoke_enrollment_token(self, sid: str) -> EnrollmentToken:
        """End an enrolment token: it lets nobody in any more, and stays in the list."""
        return read(self._http.post(f"{_TOKENS}/{segment(sid)}", {"Revoked": "true"}), EnrollmentToken)

    def remove_enrollment_token(self, sid: str) -> None:
        """Remove an enrolment token: it lets nobody in any more."""
        self._http.delete(f"{_TOKENS}/{segment(sid)}")

    def import_devices(self, file: "Path", progress: "Progress | None" = None) -> Batch:
        """Register the devices of a CSV file, all or none. Raises ``OSError`` when it cannot be read."""
        return read(self._http.send("/v1/DeviceImports", file, "text/csv", progress), Batch)

    # the gateway token

    def enable_gateway(self) -> GatewayToken:
        """Make the account's gateway token, in place of the one there was; the answer holds it."""
        return read(self._http.post(_GATEWAY, {}), GatewayToken)

    def gateway(self) -> GatewayToken:
        """Fetch whether there is a gateway token, and how many devices wait."""
        return read(self._http.get(_GATEWAY), GatewayToken)

    def disable_gateway(self) -> None:
        """Take the gateway token away: it proves nobody any more."""
        self._http.delete(_GATEWAY)


def _credentials(device: str) -> str:
    return f"{device_path(device)}/Credentials"
