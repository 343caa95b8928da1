"""The packer: firmware bytes and policies in, a bundle out, the same bytes each time.

Deliberately knows nothing of firmware file formats (``protocol/firmware``). What it made is held against the same
rules as an upload before it is given out. Spec: the Microvisor API reference, section 6.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol import manifest as manifests
from fleetvisor.protocol.manifest import LayerReference, Policies, Region
from fleetvisor.protocol.measurement import measure

SIZE_DEFAULT: Final = 1 << 20
_LIMITS: Final = Limits()
_UINT32_MAX: Final = 0xFFFFFFFF
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_UNIX: Final = 3
_PLAIN_FILE: Final = 0o100644 << 16


def pack(
    firmware: bytes,
    *,
    start: int = 0,
    size: int = SIZE_DEFAULT,
    debug_key: bytes | None = None,
    connection_grace_time_s: int = 0,
    minimum_check_in_time_s: int = 0,
    politeness_s: int = 0,
    minimum_kernel_version: int = 0,
    sign_key: ec.EllipticCurvePrivateKey | None = None,
    limits: Limits = _LIMITS,
) -> bytes:
    """Make a bundle of one layer in internal flash, at offset ``start`` of a region of ``size`` bytes.

    ``debug_key`` is an uncompressed P-256 point (``signing.point``). Raises ``Invalid`` when a number is out of
    range, or the firmware is empty or does not fit its region (it may fill it).
    """
    numbers = {
        "start": start,
        "size": size,
        "connection grace time": connection_grace_time_s,
        "minimum check-in time": minimum_check_in_time_s,
        "politeness": politeness_s,
        "minimum kernel version": minimum_kernel_version,
    }
    for name, number in numbers.items():
        if not 0 <= number <= _UINT32_MAX:
            raise Invalid(f"The {name} must be from 0 to {_UINT32_MAX}, not {number}.")
    if not firmware:
        raise Invalid("The firmware is empty.")
    if len(firmware) > size:
        raise Invalid(f"The firmware has {len(firmware)} bytes and does not fit its region of {size}.")
    # Before the padding is hashed: a region of 4 GiB would take its time only to be refused.
    if start + size > limits.internal_flash_bytes:
        raise Invalid(
            f"The region, {size} bytes at {start}, leaves the internal flash of {limits.internal_flash_bytes} bytes."
        )
    policies = Policies(
        politeness_s=politeness_s,
        connection_grace_s=connection_grace_time_s,
        check_in_s=minimum_check_in_time_s,
        minimum_kernel_version=minimum_kernel_version,
        debug_key=debug_key,
    )
    layers = [layer(firmware, region="internal", start=start, size=size)]
    raw = manifests.encode(layers, policies, sign_key)
    manifests.decode(raw, limits)
    return write(raw, [firmware])


def layer(data: bytes, *, region: Region, start: int, size: int) -> LayerReference:
    """Describe ``data`` as a layer of a region, with both its hashes."""
    digest = hashlib.sha256(data)
    return LayerReference(
        digest=digest.hexdigest(),
        measurement=measure(digest, len(data), size),
        region=region,
        region_start=start,
        region_size=size,
    )


def write(raw_manifest: bytes, layers: Iterable[bytes]) -> bytes:
    """Write the zip: ``manifest``, then each distinct layer under its digest. Fixed dates and modes, no chance."""
    members = {manifests.ENTRY: raw_manifest} | {hashlib.sha256(data).hexdigest(): data for data in layers}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = _UNIX
            info.external_attr = _PLAIN_FILE
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data, compresslevel=9)
    return out.getvalue()
