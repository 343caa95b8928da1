"""The JSON of the REST API: one struct for each object, and how a domain value becomes one.

NOTE: these structs are the published contract; the OpenAPI document's schemas are made from them. Deliberately no
logic beyond naming. Spec: the API reference, sections 2 to 4 and 8 (the superset Device).
"""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fleetvisor.features.apps.model import App
from fleetvisor.features.configs.model import Entry
from fleetvisor.features.devices.attributes import AttributeSet
from fleetvisor.features.devices.model import Device
from fleetvisor.features.updates.log import LogLine
from fleetvisor.features.updates.model import Update
from fleetvisor.ground.clock import iso, iso_or_none
from fleetvisor.ground.sids import DeviceSid
from fleetvisor.protocol.images import Kind
from fleetvisor.web.urls import Urls, segment

AccountSidText = Annotated[str, Meta(pattern="^AC[0-9a-fA-F]{32}$", min_length=34, max_length=34)]
DeviceSidText = Annotated[str, Meta(pattern="^UV[0-9a-fA-F]{32}$", min_length=34, max_length=34)]
AppSidText = Annotated[str, Meta(pattern="^KA[0-9a-fA-F]{32}$", min_length=34, max_length=34)]
KeySidText = Annotated[str, Meta(pattern="^SK[0-9a-fA-F]{32}$", min_length=34, max_length=34)]
RolloutSidText = Annotated[str, Meta(pattern="^RO[0-9a-fA-F]{32}$", min_length=34, max_length=34)]
Date = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Url = Annotated[str, Meta(extra_json_schema={"format": "uri"})]
_EXTENSION: Final = Meta(extra_json_schema={"x-fleetvisor-extension": True})


class DeviceApp(msgspec.Struct, gc=False):
    """The target App and the App that the Device reports."""

    target_sid: AppSidText | None
    target_hash: str | None
    date_targeted: Date | None
    update_status: str
    update_error_code: int
    reported_sid: AppSidText | None
    date_reported: Date | None


class DeviceLogging(msgspec.Struct, gc=False):
    """Whether application logging is on, and until when."""

    enabled: bool
    date_expires: Date | None


class DeviceLinks(msgspec.Struct, gc=False):
    """The Device's subresources; ``device_updates`` is an extension."""

    device_configs: Url
    device_secrets: Url
    device_updates: Annotated[Url, _EXTENSION]


class UpdateShape(msgspec.Struct):
    """One attempt to bring a Device to an App (extension). ``rollout_sid``: whose it is, if it is a Rollout's.

    ``date_fetched``: when the Device last fetched bytes of it.
    """

    number: int
    app_sid: AppSidText
    rollout_sid: RolloutSidText | None
    state: str
    cancel_requested: bool
    bytes_done: int
    bytes_total: int
    error_code: int
    date_created: Date
    date_updated: Date
    date_fetched: Date | None


class LogLineShape(msgspec.Struct):
    """One line that a Device said about an update (extension)."""

    line: str
    date_created: Date


class UpdateDetailShape(UpdateShape):
    """One update by itself: also how it is offered, and what the Device said about it (extension)."""

    mode: str
    confirmation: str
    log: list[LogLineShape]


class AttributesShape(msgspec.Struct):
    """What a Device says about itself (extension)."""

    device_sid: DeviceSidText
    attributes: dict[str, str]
    date_updated: Date | None


class DeviceShape(msgspec.Struct, gc=False):
    """A Device: nested fields of the last published API, flat ones of the first, and our extensions."""

    sid: DeviceSidText
    unique_name: str | None
    account_sid: AccountSidText
    app: DeviceApp
    logging: DeviceLogging
    date_created: Date
    date_updated: Date
    url: Url
    links: DeviceLinks
    logging_enabled: bool
    date_logging_expires: Date | None
    app_update: str | None
    info: str | None
    status: str
    access: Annotated[str, _EXTENSION]
    date_last_seen: Annotated[Date | None, _EXTENSION]
    update: Annotated[UpdateShape | None, _EXTENSION]
    poll_interval_s: Annotated[int | None, _EXTENSION]
    hardware_class: Annotated[str | None, _EXTENSION]
    account_secrets: Annotated[bool, _EXTENSION]
    labels: Annotated[dict[str, str], _EXTENSION]
    controller_id: Annotated[str | None, _EXTENSION]


class DeviceGroupShape(msgspec.Struct):
    """How many Devices have a value; null: none (extension)."""

    value: str | None
    count: int


class DeviceCountsShape(msgspec.Struct):
    """How many Devices a selector selects, and of each value of what they are counted by (extension)."""

    account_sid: AccountSidText
    selector: str
    by: str | None
    total: int
    groups: list[DeviceGroupShape]
    others: int
    warnings: tuple[str, ...]


class NewDeviceShape(DeviceShape):
    """A Device just registered, with its token, shown this once (extension)."""

    device_token: Annotated[str, _EXTENSION]


class AppLinks(msgspec.Struct):
    """The App's subresources."""

    app_manifests: Url


class AppShape(msgspec.Struct):
    """An App; from ``signed`` on the fields are extensions."""

    sid: AppSidText
    account_sid: AccountSidText
    hash: str
    unique_name: str | None
    date_created: Date
    date_updated: Date
    url: Url
    links: AppLinks
    signed: Annotated[bool, _EXTENSION]
    bears_signature: Annotated[bool, _EXTENSION]
    kind: Annotated[Kind, _EXTENSION]
    version: Annotated[str | None, _EXTENSION]
    hardware_class: Annotated[str | None, _EXTENSION]
    hardware_compatibility: Annotated[list[str], _EXTENSION]
    security_counter: Annotated[int | None, _EXTENSION]
    damaged: Annotated[bool, _EXTENSION]
    size_bytes: Annotated[int, _EXTENSION]


class ManifestShape(msgspec.Struct):
    """An App's manifest, base64 of its bytes as uploaded."""

    app_sid: AppSidText
    hash: str
    encoded_bytes: str
    url: Url


class AccountConfigShape(msgspec.Struct):
    """A Config of the account."""

    key: str
    value: str
    date_updated: Date
    url: Url


class AccountSecretShape(msgspec.Struct):
    """A Secret of the account; its value is never shown."""

    key: str
    date_rotated: Date
    url: Url


class DeviceConfigShape(msgspec.Struct):
    """A Config of one Device."""

    device_sid: DeviceSidText
    key: str
    value: str
    date_updated: Date
    url: Url


class DeviceSecretShape(msgspec.Struct):
    """A Secret of one Device; its value is never shown."""

    device_sid: DeviceSidText
    key: str
    date_rotated: Date
    url: Url


def update_shape(update: Update) -> UpdateShape:
    """Render an update."""
    return UpdateShape(
        number=update.number,
        app_sid=update.app_sid,
        rollout_sid=update.rollout_sid,
        state=update.state.value,
        cancel_requested=update.cancel_requested,
        bytes_done=update.bytes_done,
        bytes_total=update.bytes_total,
        error_code=update.error_code,
        date_created=iso(update.date_created),
        date_updated=iso(update.date_updated),
        date_fetched=iso_or_none(update.date_fetched),
    )


def update_detail_shape(update: Update, lines: Sequence[LogLine]) -> UpdateDetailShape:
    """Render an update with its log."""
    return UpdateDetailShape(
        **msgspec.structs.asdict(update_shape(update)),
        mode=update.mode,
        confirmation=update.confirmation,
        log=[LogLineShape(line.line, iso(line.date_created)) for line in lines],
    )


def attributes_shape(device_sid: DeviceSid, found: AttributeSet) -> AttributesShape:
    """Render what a device says about itself."""
    return AttributesShape(device_sid, found.attributes, iso_or_none(found.date_updated))


_labels: Final = msgspec.json.Decoder(dict[str, str])


def device_shape(device: Device, urls: Urls) -> DeviceShape:
    """Render a Device."""
    url = urls.device(device.device_sid)
    expires = iso_or_none(device.logging_expires)
    status = device.update_status
    failed = status == "error"
    return DeviceShape(
        sid=device.device_sid,
        unique_name=device.unique_name,
        account_sid=device.account_sid,
        app=DeviceApp(
            target_sid=device.target_sid,
            target_hash=None if device.target_hash is None else f"sha256:{device.target_hash}",
            date_targeted=iso_or_none(device.date_targeted),
            update_status=status,
            update_error_code=device.update_error_code,
            reported_sid=device.reported_sid,
            date_reported=iso_or_none(device.date_reported),
        ),
        logging=DeviceLogging(expires is not None, expires),
        date_created=iso(device.date_created),
        date_updated=iso(device.date_updated),
        url=url,
        links=DeviceLinks(f"{url}/Configs", f"{url}/Secrets", f"{url}/Updates"),
        logging_enabled=expires is not None,
        date_logging_expires=expires,
        app_update=device.target_sid if status == "pending" else None,
        info=f"The last update failed with error code {device.update_error_code}." if failed else None,
        status=status,
        access=device.access,
        date_last_seen=iso_or_none(device.date_last_seen),
        update=None if device.update is None else update_shape(device.update),
        poll_interval_s=device.poll_interval_s,
        hardware_class=device.hardware_class,
        account_secrets=device.account_secrets,
        labels=_labels.decode(device.labels),
        controller_id=device.controller_id,
    )


def new_device_shape(device: Device, device_token: str, urls: Urls) -> NewDeviceShape:
    """Render a Device just registered."""
    shape = device_shape(device, urls)
    return NewDeviceShape(**msgspec.structs.asdict(shape), device_token=device_token)


def app_shape(app: App, urls: Urls) -> AppShape:
    """Render an App; after its upload only ``damaged`` changes."""
    url = urls.app(app.app_sid)
    created = iso(app.date_created)
    return AppShape(
        sid=app.app_sid,
        account_sid=app.account_sid,
        hash=f"sha256:{app.manifest_hash}",
        unique_name=app.unique_name,
        date_created=created,
        date_updated=created,
        url=url,
        links=AppLinks(urls.app_manifest(app.app_sid)),
        signed=app.signed,
        bears_signature=app.signed,
        kind=app.kind,
        version=app.version,
        hardware_class=app.hardware_class,
        hardware_compatibility=msgspec.json.decode(app.hardware_compatibility, type=list[str]),
        security_counter=app.security_counter,
        damaged=app.damaged,
        size_bytes=app.size_bytes,
    )


def config_shape(entry: Entry, device_sid: DeviceSid | None, urls: Urls) -> AccountConfigShape | DeviceConfigShape:
    """Render a Config."""
    base = urls.configs if device_sid is None else urls.device_configs(device_sid)
    url = f"{base}/{segment(entry.key)}"
    value = entry.value or ""
    if device_sid is None:
        return AccountConfigShape(entry.key, value, iso(entry.date_updated), url)
    return DeviceConfigShape(device_sid, entry.key, value, iso(entry.date_updated), url)


def secret_shape(entry: Entry, device_sid: DeviceSid | None, urls: Urls) -> AccountSecretShape | DeviceSecretShape:
    """Render a Secret, without its value."""
    base = urls.secrets if device_sid is None else urls.device_secrets(device_sid)
    url = f"{base}/{segment(entry.key)}"
    if device_sid is None:
        return AccountSecretShape(entry.key, iso(entry.date_updated), url)
    return DeviceSecretShape(device_sid, entry.key, iso(entry.date_updated), url)
