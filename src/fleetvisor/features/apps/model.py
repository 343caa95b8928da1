"""What an app and its layers are."""

from typing import Literal

import msgspec

from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, AppSid


class App(msgspec.Struct, frozen=True):
    """One uploaded bundle. ``manifest_hash`` is the lower-case hex SHA-256 of the ``manifest`` entry as uploaded."""

    app_sid: AppSid
    account_sid: AccountSid
    unique_name: str | None
    manifest_hash: str
    signed: bool
    size_bytes: int
    politeness_s: int
    connection_grace_s: int
    check_in_s: int
    date_created: Millis


class Manifest(msgspec.Struct, frozen=True):
    """An app's manifest, byte for byte as uploaded."""

    app_sid: AppSid
    manifest_hash: str
    manifest: bytes


class AppLayer(msgspec.Struct, frozen=True):
    """One layer of an app: ``digest`` names its bytes, the region says where they go in the device's flash."""

    digest: str
    size_bytes: int
    measurement: str
    region: Literal["internal", "external"]
    region_start: int
    region_size: int


class LayerBlob(msgspec.Struct, frozen=True):
    """Where a layer's bytes lie in the blob store."""

    digest: str
    blob: str
    size_bytes: int
