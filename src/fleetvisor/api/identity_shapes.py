"""The JSON of identity (extensions): credentials, refused keys, enrolment tokens and the gateway token.

NOTE: these structs are the published contract; the OpenAPI document's schemas are made from them.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from fleetvisor.api.shapes import AccountSidText, Date, DeviceSidText, Url
from fleetvisor.features.devices.credentials import RefusedKey
from fleetvisor.features.identity.model import Credential, EnrollmentToken, GatewayState
from fleetvisor.ground.clock import iso, iso_or_none
from fleetvisor.ground.sids import AccountSid, DeviceSid
from fleetvisor.web.urls import Urls

EnrollmentTokenSidText = Annotated[str, Meta(pattern="^ET[0-9a-fA-F]{32}$", min_length=34, max_length=34)]
Fingerprint = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", min_length=64, max_length=64)]


class CredentialShape(msgspec.Struct):
    """What proves a Device: a token or a key, named by the SHA-256 of it (extension)."""

    type: str
    fingerprint: Fingerprint
    device_sid: DeviceSidText
    date_created: Date
    date_expires: Date | None
    url: Url


class NewCredentialShape(CredentialShape):
    """A credential just made; ``device_token`` is shown this once, and null for a key (extension)."""

    device_token: str | None


class RefusedKeyShape(msgspec.Struct):
    """A key that was a Device's and may not enrol again until it is freed (extension)."""

    fingerprint: Fingerprint
    device_sid: DeviceSidText
    date_created: Date
    url: Url


class EnrollmentTokenShape(msgspec.Struct):
    """What lets new Devices in, without its text (extension)."""

    sid: EnrollmentTokenSidText
    account_sid: AccountSidText
    friendly_name: str
    uses: int
    max_uses: int
    date_expires: Date | None
    hardware_class: str | None
    labels: dict[str, str]
    account_secrets: bool
    waits: bool
    revoked: bool
    date_created: Date
    url: Url


class NewEnrollmentTokenShape(EnrollmentTokenShape):
    """An enrolment token just made, with its text, shown this once (extension)."""

    token: str


class ImportedShape(msgspec.Struct):
    """A Device that an import made, and the line that it stood in (extension)."""

    line: int
    sid: DeviceSidText
    unique_name: str | None


class DeviceImportShape(msgspec.Struct):
    """What an import made (extension)."""

    account_sid: AccountSidText
    count: int
    devices: list[ImportedShape]


class GatewayTokenShape(msgspec.Struct):
    """Whether DDI devices may register themselves, and how many wait to be accepted (extension)."""

    account_sid: AccountSidText
    enabled: bool
    waiting: int
    date_created: Date | None


class NewGatewayTokenShape(GatewayTokenShape):
    """The gateway token just made, shown this once (extension)."""

    gateway_token: str


def credential_shape(credential: Credential, device_sid: DeviceSid, urls: Urls) -> CredentialShape:
    """Render a credential."""
    return CredentialShape(
        type=credential.type,
        fingerprint=credential.fingerprint,
        device_sid=device_sid,
        date_created=iso(credential.date_created),
        date_expires=iso_or_none(credential.date_expires),
        url=f"{urls.device(device_sid)}/Credentials/{credential.fingerprint}",
    )


def refused_key_shape(key: RefusedKey, urls: Urls) -> RefusedKeyShape:
    """Render a refused key."""
    url = f"{urls.base}/v1/RefusedKeys/{key.fingerprint}"
    return RefusedKeyShape(key.fingerprint, key.device_sid, iso(key.date_created), url)


def enrollment_token_shape(token: EnrollmentToken, urls: Urls) -> EnrollmentTokenShape:
    """Render an enrolment token."""
    return EnrollmentTokenShape(
        sid=token.token_sid,
        account_sid=token.account_sid,
        friendly_name=token.friendly_name,
        uses=token.uses,
        max_uses=token.uses_max,
        date_expires=iso_or_none(token.date_expires),
        hardware_class=token.hardware_class,
        labels=msgspec.json.decode(token.labels, type=dict[str, str]),
        account_secrets=token.account_secrets,
        waits=token.waits,
        revoked=token.revoked,
        date_created=iso(token.date_created),
        url=f"{urls.base}/v1/EnrollmentTokens/{token.token_sid}",
    )


def gateway_token_shape(account_sid: AccountSid, state: GatewayState) -> GatewayTokenShape:
    """Render the state of an account's gateway token."""
    return GatewayTokenShape(
        account_sid, state.date_created is not None, state.waiting, iso_or_none(state.date_created)
    )
