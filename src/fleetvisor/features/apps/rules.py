"""What a proved bundle becomes: the app, its layers, and the names of their bytes.

Deliberately judges no bundle: ``protocol/bundle`` did. Spec: ``docs/adr/0002-layers-and-their-removal.md`` for names.
"""

from fleetvisor.features.apps.model import App, AppLayer
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, AppSid
from fleetvisor.protocol.bundle import ParsedBundle, ParsedLayer


def blob_name(digest: str, generation: str) -> str:
    """Name a layer's bytes. ``generation`` is random: a name is never given again, so a late removal hurts nobody."""
    return f"layers/{digest[:2]}/{digest}-{generation}"


def app_of(
    parsed: ParsedBundle, *, app_sid: AppSid, account_sid: AccountSid, unique_name: str | None, now: Millis
) -> App:
    """Give the app that a bundle becomes; its size is what a device downloads, layer by layer."""
    return App(
        app_sid=app_sid,
        account_sid=account_sid,
        unique_name=unique_name,
        manifest_hash=parsed.manifest_hash,
        signed=parsed.signed,
        size_bytes=sum(layer.size_bytes for layer in parsed.layers),
        politeness_s=parsed.politeness_s,
        connection_grace_s=parsed.connection_grace_s,
        check_in_s=parsed.check_in_s,
        date_created=now,
    )


def layer_of(layer: ParsedLayer) -> AppLayer:
    """Give what is kept of a layer: all but where its bytes lay in the spool."""
    return AppLayer(
        digest=layer.digest,
        size_bytes=layer.size_bytes,
        measurement=layer.measurement,
        region=layer.region,
        region_start=layer.region_start,
        region_size=layer.region_size,
    )
