"""The native device API's bodies, as both the server and the agent encode and decode them.

NOTE: these structs are the wire format; a field renamed here is a field renamed in every device in the field.
New fields come last, with a default. Deliberately no HTTP. Spec: ``docs/reference/device-api.md``.
"""

from typing import Annotated, Literal

import msgspec

from fleetvisor.protocol.lifecycle import State

# max_length beside each pattern: Python's `$` also matches before a final newline.
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
Uint32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
Uint63 = Annotated[int, msgspec.Meta(ge=0, le=0x7FFFFFFFFFFFFFFF)]
AppName = Annotated[str, msgspec.Meta(pattern="^KA[0-9a-fA-F]{32}$", max_length=34)]


class DesiredLayer(msgspec.Struct, frozen=True):
    """One layer to fetch: its content's digest and bytes, and the flash region it goes to.

    Firmware that is no Microvisor bundle is one layer without measurement and region: the file.
    """

    sha256: Sha256
    size_bytes: int
    measurement: Sha256 | None
    region: Literal["internal", "external"] | None
    region_start: int | None
    region_size: int | None


class FlashLayer(msgspec.Struct, frozen=True):
    """A layer that goes to a region of flash, as a bundle's layers do."""

    sha256: str
    size_bytes: int
    measurement: str
    region: Literal["internal", "external"]
    region_start: int
    region_size: int


class DesiredApp(msgspec.Struct, frozen=True, omit_defaults=True):
    """The target app. ``update`` is the number of the open update to it; ``None``: there is nothing to do.

    ``manifest`` is ``None`` for firmware that is no Microvisor bundle. ``security_counter`` is there for firmware that
    has one: a device must not install what is below the counter of what it runs.
    """

    sid: str
    manifest: Sha256 | None
    update: int | None
    layers: tuple[DesiredLayer, ...]
    security_counter: int | None = None


def flash_layers(app: DesiredApp) -> tuple[FlashLayer, ...] | None:
    """Return the layers of a bundle; ``None`` when the app is a file for another kind of installer."""
    found: list[FlashLayer] = []
    for layer in app.layers:
        if layer.measurement is None or layer.region is None or layer.region_start is None or layer.region_size is None:
            return None
        flash = FlashLayer(
            layer.sha256, layer.size_bytes, layer.measurement, layer.region, layer.region_start, layer.region_size
        )
        found.append(flash)
    return None if app.manifest is None else tuple(found)


class DesiredLogging(msgspec.Struct, frozen=True):
    """Whether the device may send logs, and until when (``YYYY-MM-DDTHH:MM:SSZ``)."""

    enabled: bool
    until: str | None


class Policy(msgspec.Struct, frozen=True):
    """What the manifest of the app that the device reports asks of it; all 0 when that is unknown."""

    politeness_s: int = 0
    connection_grace_s: int = 0
    check_in_s: int = 0


class Desired(msgspec.Struct, frozen=True):
    """The answer of ``GET /device/v1/desired``."""

    app: DesiredApp | None
    logging: DesiredLogging
    restart: int
    poll_interval_s: int
    policy: Policy


class Running(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """What runs: the SHA-256 of its manifest, and the app's SID when the device knows it."""

    manifest: Sha256 | None = None
    app: AppName | None = None


class UpdateReport(msgspec.Struct, frozen=True):
    """How far an update is. ``error_code`` counts with ``failed`` only."""

    number: Annotated[int, msgspec.Meta(ge=1, le=0xFFFFFFFF)]
    state: State
    bytes_done: Uint63 = 0
    bytes_total: Uint63 = 0
    error_code: Uint32 = 0


class Report(msgspec.Struct, frozen=True):
    """The body of ``POST /device/v1/report``.

    ``sequence`` counts up under ``journal``, a random id made at the device's first boot: a report whose
    sequence is not higher than the last one taken is acknowledged and ignored. A server reads it as
    ``protocol/reports`` says.
    """

    journal: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
    sequence: Annotated[int, msgspec.Meta(ge=1, le=0x7FFFFFFFFFFFFFFF)]
    running: Running
    update: UpdateReport | None = None
    boot_count: Uint32 = 0
    wake_reason: Uint32 = 0


class ReportAnswer(msgspec.Struct, frozen=True):
    """The answer to a report: ``taken`` is false for one that was not newer than the last."""

    taken: bool


class EnrollRequest(msgspec.Struct, frozen=True):
    """The body of ``POST /device/v1/enroll``.

    ``public_key`` is a P-256 key: PEM, or its 65-byte uncompressed point as base64 or hex. ``proof`` is a JWS (ES256)
    by its private half over ``sub`` (the token's SID), ``aud`` and ``iat``.
    """

    token: Annotated[str, msgspec.Meta(max_length=200)]
    public_key: Annotated[str, msgspec.Meta(max_length=2000)]
    proof: Annotated[str, msgspec.Meta(max_length=4096)]


class EnrollAnswer(msgspec.Struct, frozen=True):
    """The answer to an enrolment: the device's SID, which is the ``iss`` of its tokens from now on."""

    sid: str


class FetchItem(msgspec.Struct, frozen=True):
    """One value asked for by ``POST /device/v1/configs/fetch``."""

    scope: Literal["account", "device"]
    store: Literal["config", "secret"]
    key: str


class FetchRequest(msgspec.Struct, frozen=True):
    """The body of ``POST /device/v1/configs/fetch``: 1 to 64 items."""

    items: tuple[FetchItem, ...]


class FetchResult(msgspec.Struct, frozen=True):
    """One item's result, at the place of its item in the request."""

    scope: Literal["account", "device"]
    store: Literal["config", "secret"]
    key: str
    result: Literal["ok", "key_not_found", "server_error"]
    value: str | None = None


class FetchAnswer(msgspec.Struct, frozen=True):
    """The answer of ``POST /device/v1/configs/fetch``, in the order of the request."""

    items: tuple[FetchResult, ...]
