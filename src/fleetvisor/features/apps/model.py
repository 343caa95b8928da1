"""What an app and its layers are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, AppSid
from fleetvisor.protocol.images import Kind


class App(msgspec.Struct, frozen=True):
    """One uploaded bundle, or firmware file of another ``kind``.

    ``manifest_hash`` is the lower-case hex SHA-256 of the ``manifest`` entry as uploaded; of the file, where there is
    no manifest. ``hardware_compatibility`` is a JSON list of texts, as the file states them. ``damaged``: stored bytes
    of it were found damaged or missing, and nobody uploaded them anew since.
    """

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
    kind: Kind = "bundle"
    version: str | None = None
    hardware_class: str | None = None
    hardware_compatibility: str = "[]"
    security_counter: int | None = None
    damaged: bool = False


class Upload(msgspec.Struct, frozen=True):
    """What the uploader says of a file; ``None`` where nothing. ``kind``: what it must be, where ``raw`` takes any."""

    unique_name: str | None = None
    kind: Kind | None = None
    version: str | None = None
    hardware_class: str | None = None


class Manifest(msgspec.Struct, frozen=True):
    """An app's manifest, byte for byte as uploaded."""

    app_sid: AppSid
    manifest_hash: str
    manifest: bytes


class AppLayer(msgspec.Struct, frozen=True):
    """One layer of an app: ``digest`` names its bytes, the region says where they go in the device's flash.

    The one layer of an app that is no bundle is its file: it has no region and no measurement.
    """

    digest: str
    size_bytes: int
    measurement: str | None
    region: Literal["internal", "external"] | None
    region_start: int | None
    region_size: int | None
    sha1: str | None = None
    md5: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """A layer of an upload, and the file in which its bytes lie, proved."""

    layer: AppLayer
    path: Path


class LayerBlob(msgspec.Struct, frozen=True):
    """Where a layer's bytes lie in the blob store; ``damaged``: they were found to be other bytes, or missing."""

    digest: str
    blob: str
    size_bytes: int
    damaged: bool = False
