"""What a proved upload becomes: the app, its layers, and the names of their bytes.

Deliberately judges no content: ``protocol/bundle`` and ``protocol/images`` did.
Spec: ``docs/adr/0002-layers-and-their-removal.md`` for names.
"""

from pathlib import Path
from typing import NamedTuple

import msgspec

from fleetvisor.features.apps.model import App, AppLayer, Content, Upload
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.errors import Conflict, Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.names import check_label, check_unique_name
from fleetvisor.ground.sids import AccountSid, AppSid
from fleetvisor.protocol.bundle import ParsedBundle, ParsedLayer
from fleetvisor.protocol.images import KINDS, Kind, ParsedImage


class Birth(NamedTuple):
    """Which app is made, whose, and when."""

    app_sid: AppSid
    account_sid: AccountSid
    now: Millis


def check_upload(upload: Upload, limits: Limits) -> None:
    """Refuse what an uploader may not say of a file. Raises ``Invalid``."""
    if upload.unique_name is not None:
        check_unique_name(upload.unique_name, limits.unique_name_chars_max)
    for what, text in (("Version", upload.version), ("HardwareClass", upload.hardware_class)):
        if text is not None:
            check_label(what, text, limits.label_chars_max)


def check_kind(found: Kind | None, asked: Kind | None) -> Kind:
    """Return the kind that a file is taken as. Raises ``Invalid``."""
    if asked == "raw":
        return "raw"
    if found is None:
        raise Invalid(
            "The File is no Microvisor bundle (a zip), SWUpdate image, RAUC bundle or MCUboot image. "
            "Send Kind=raw to keep any file."
        )
    if asked is not None and asked != found:
        raise Invalid(
            f"The File is of the kind {found}, not {asked}: leave Kind out, or send one of {', '.join(KINDS)}."
        )
    return found


def check_classes(app_class: str | None, device_class: str | None) -> None:
    """Refuse an app for a device of another hardware class; where a side has none, all goes. Raises ``Conflict``."""
    if app_class is not None and device_class is not None and app_class != device_class:
        raise Conflict(
            f"The App is for the hardware class {app_class!a} and the Device's is {device_class!a}: "
            "choose another App, or correct the Device's HardwareClass."
        )


def lowers_counter(wanted: int | None, running: int | None) -> bool:
    """Return whether an app's security counter is below that of the app that runs; where one has none, it is not."""
    return wanted is not None and running is not None and wanted < running


def check_counter(wanted: int | None, running: int | None) -> None:
    """Refuse an app that a device's boot loader would refuse as a downgrade. Raises ``Conflict``."""
    if lowers_counter(wanted, running):
        raise Conflict(
            f"The App's security counter is {wanted}, and the Device runs an App with {running}: "
            "its boot loader refuses to go back. Build the firmware with a higher counter."
        )


def blob_name(digest: str, generation: str) -> str:
    """Name a layer's bytes. ``generation`` is random: a name is never given again, so a late removal hurts nobody."""
    return f"layers/{digest[:2]}/{digest}-{generation}"


def app_of(parsed: ParsedBundle, upload: Upload, birth: Birth) -> App:
    """Return the app that a bundle becomes; its size is what a device downloads, layer by layer."""
    return App(
        app_sid=birth.app_sid,
        account_sid=birth.account_sid,
        unique_name=upload.unique_name,
        manifest_hash=parsed.manifest_hash,
        signed=parsed.signed,
        size_bytes=sum(layer.size_bytes for layer in parsed.layers),
        politeness_s=parsed.politeness_s,
        connection_grace_s=parsed.connection_grace_s,
        check_in_s=parsed.check_in_s,
        date_created=birth.now,
        version=upload.version,
        hardware_class=upload.hardware_class,
    )


def app_of_image(parsed: ParsedImage, upload: Upload, birth: Birth) -> App:
    """Return the app that another firmware file becomes. What the file states holds, whatever the uploader says."""
    stated = parsed.stated
    return App(
        app_sid=birth.app_sid,
        account_sid=birth.account_sid,
        unique_name=upload.unique_name,
        manifest_hash=parsed.sha256,
        signed=stated.signed,
        size_bytes=parsed.size_bytes,
        politeness_s=0,
        connection_grace_s=0,
        check_in_s=0,
        date_created=birth.now,
        kind=parsed.kind,
        version=stated.version or upload.version,
        hardware_class=stated.hardware_class or upload.hardware_class,
        hardware_compatibility=msgspec.json.encode(stated.hardware_compatibility).decode(),
        security_counter=stated.security_counter,
    )


def content_of(layer: ParsedLayer) -> Content:
    """Return what is kept of a bundle's layer, and where its bytes lie in the spool."""
    kept = AppLayer(
        digest=layer.digest,
        size_bytes=layer.size_bytes,
        measurement=layer.measurement,
        region=layer.region,
        region_start=layer.region_start,
        region_size=layer.region_size,
    )
    return Content(kept, layer.path)


def content_of_image(parsed: ParsedImage, path: Path) -> Content:
    """Return the one layer of a firmware file: the file."""
    layer = AppLayer(parsed.sha256, parsed.size_bytes, None, None, None, None, parsed.sha1, parsed.md5)
    return Content(layer, path)
