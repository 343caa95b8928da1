"""The ``manifest`` entry of a bundle: which layers go where in flash, and the app's policies.

``decode`` proves every rule that needs no layer bytes; ``encode`` is its inverse for the packer. The manifest is
kept byte for byte: its hash and its signature are over bytes, so ``body`` is never serialised again, and fields
that we do not know are tolerated and survive.

Deliberately reads no zip and hashes no layer (``protocol/bundle``) and judges no signature beyond its form
(``protocol/signing``). Spec: the Microvisor API reference, section 6; ``docs/reference/bundle-format.md``.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import DecodeError

from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol import bundle_pb2, signing

ENTRY: Final = "manifest"
DIGEST_BYTES: Final = 32
_WHERE: Final = f"Entry '{ENTRY}'"

Region = Literal["internal", "external"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReference:
    """One layer as the manifest names it. Hashes are lower-case hex; ``region_start`` counts from the flash's begin."""

    digest: str
    measurement: str
    region: Region
    region_start: int
    region_size: int
    encrypted_with_key_id: int = 0

    @property
    def region_end(self) -> int:
        """Return the offset of the first byte behind the region."""
        return self.region_start + self.region_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What the manifest asks of the device that runs the app; times in seconds, 0 when absent.

    ``debug_key`` is an uncompressed P-256 point, or ``None``.
    """

    politeness_s: int = 0
    connection_grace_s: int = 0
    check_in_s: int = 0
    minimum_kernel_version: int = 0
    debug_key: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest that keeps every rule. ``raw`` is the entry as uploaded, ``body`` the part that is signed."""

    raw: bytes
    hash: str
    body: bytes
    signer_id: int
    signature: bytes
    layers: tuple[LayerReference, ...]
    policies: Policies

    @property
    def signed(self) -> bool:
        """Return whether there is a signature (whose, and whether it is good, is not known here)."""
        return bool(self.signature)


def decode(raw: bytes, limits: Limits) -> Manifest:
    """Read a manifest and prove its rules, in the order of the format's page. Raises ``Invalid``."""
    if len(raw) > limits.manifest_bytes_max:
        raise Invalid(f"{_WHERE}: has {len(raw)} bytes, more than the {limits.manifest_bytes_max} allowed.")
    if not raw:
        raise Invalid(f"{_WHERE}: is empty.")
    outer = bundle_pb2.OpaqueManifest()
    body = bundle_pb2.AppManifest.AppBody()
    try:
        outer.ParseFromString(raw)
    except DecodeError as error:
        raise Invalid(f"{_WHERE}: is not an OpaqueManifest protobuf message.") from error
    if not outer.body:
        raise Invalid(f"{_WHERE}: its body is missing or empty.")
    try:
        body.ParseFromString(outer.body)
    except DecodeError as error:
        raise Invalid(f"{_WHERE}: its body is not an AppBody protobuf message.") from error
    _check_signature_form(outer)
    return Manifest(
        raw=raw,
        hash=hashlib.sha256(raw).hexdigest(),
        body=outer.body,
        signer_id=outer.signer_id,
        signature=outer.signature,
        layers=_layers(body, limits),
        policies=_policies(body),
    )


def encode(
    layers: Sequence[LayerReference], policies: Policies, sign_key: ec.EllipticCurvePrivateKey | None = None
) -> bytes:
    """Make the bytes of a manifest, signed when a key is given. Checks nothing: ``decode`` does."""
    body = bundle_pb2.AppManifest.AppBody()
    for layer in layers:
        reference = body.layers.add()
        where = reference.target.internal_flash if layer.region == "internal" else reference.target.external_flash
        where.SetInParent()
        where.start = layer.region_start
        where.size = layer.region_size
        reference.encrypted_with_key_id = layer.encrypted_with_key_id
        reference.fetch_hash = bytes.fromhex(layer.digest)
        reference.measurement_hash = bytes.fromhex(layer.measurement)
    if policies.debug_key is not None:
        body.debug.debuggable = True
        body.debug.debug_auth_pubkey = policies.debug_key
    body.update.SetInParent()
    body.update.maximum_politeness_time_sec = policies.politeness_s
    body.update.minimum_kernel_version = policies.minimum_kernel_version
    body.connectivity.SetInParent()
    body.connectivity.connection_grace_time_sec = policies.connection_grace_s
    body.connectivity.minimum_check_in_time_sec = policies.check_in_s
    signed = body.SerializeToString(deterministic=True)
    outer = bundle_pb2.OpaqueManifest(body=signed)
    if sign_key is not None:
        outer.signer_id = signing.key_id(sign_key.public_key())
        outer.signature = signing.sign(sign_key, signed)
    return outer.SerializeToString(deterministic=True)


def _check_signature_form(outer: bundle_pb2.OpaqueManifest) -> None:
    """Refuse half a signature, or one that no key could have made; who signed is not asked."""
    if not outer.signature and not outer.signer_id:
        return
    if not outer.signature:
        raise Invalid(f"{_WHERE}: names a signer_id, but has no signature.")
    if not outer.signer_id:
        raise Invalid(f"{_WHERE}: has a signature, but no signer_id.")
    if len(outer.signature) != signing.SIGNATURE_BYTES:
        raise Invalid(f"{_WHERE}: the signature has {len(outer.signature)} bytes; it must be r || s, 64 bytes.")
    if not signing.is_signature(outer.signature):
        raise Invalid(f"{_WHERE}: the signature's r and s must be above 0 and below the order of P-256.")


def _layers(body: bundle_pb2.AppManifest.AppBody, limits: Limits) -> tuple[LayerReference, ...]:
    if not body.layers:
        raise Invalid(f"{_WHERE}: names no layer; at least one is needed.")
    # Two layers may share their bytes and so one entry: the number of entries alone would not bound the layers.
    if len(body.layers) > limits.bundle_entries_max:
        raise Invalid(f"{_WHERE}: names {len(body.layers)} layers, more than the {limits.bundle_entries_max} allowed.")
    layers = tuple(_layer(place, reference, limits) for place, reference in enumerate(body.layers))
    in_flash_order = sorted(range(len(layers)), key=lambda place: (layers[place].region, layers[place].region_start))
    for one, other in pairwise(in_flash_order):
        if layers[one].region == layers[other].region and layers[other].region_start < layers[one].region_end:
            low, high = sorted((one, other))
            raise Invalid(f"{_WHERE}: the regions of layers {low} and {high} overlap.")
    return layers


def _layer(place: int, reference: bundle_pb2.AppLayerReference, limits: Limits) -> LayerReference:
    """Check one layer reference alone; ``place`` counts from 0, as messages name it."""
    where = f"{_WHERE}, layer {place}"
    region: Region
    match reference.target.WhichOneof("where"):
        case "internal_flash":
            region, target, flash_bytes = "internal", reference.target.internal_flash, limits.internal_flash_bytes
        case "external_flash":
            region, target, flash_bytes = "external", reference.target.external_flash, limits.external_flash_bytes
        case _:
            raise Invalid(f"{where}: has no target region.")
    if target.size == 0:
        raise Invalid(f"{where}: its region has size 0.")
    if target.start + target.size > flash_bytes:
        raise Invalid(
            f"{where}: its region, {target.size} bytes at {target.start}, "
            f"leaves the {region} flash of {flash_bytes} bytes."
        )
    for name, value in (("fetch_hash", reference.fetch_hash), ("measurement_hash", reference.measurement_hash)):
        if len(value) != DIGEST_BYTES:
            raise Invalid(f"{where}: its {name} has {len(value)} bytes; a SHA-256 of 32 bytes is required.")
    return LayerReference(
        digest=reference.fetch_hash.hex(),
        measurement=reference.measurement_hash.hex(),
        region=region,
        region_start=target.start,
        region_size=target.size,
        encrypted_with_key_id=reference.encrypted_with_key_id,
    )


def _policies(body: bundle_pb2.AppManifest.AppBody) -> Policies:
    keys = (
        ("debug_auth_pubkey", body.debug.debug_auth_pubkey),
        ("crash_report_pubkey", body.crash.crash_report_pubkey),
    )
    for name, key in keys:
        if key and not signing.is_point(key):
            raise Invalid(f"{_WHERE}: its {name} is not an uncompressed point (65 bytes) on the curve P-256.")
    return Policies(
        politeness_s=body.update.maximum_politeness_time_sec,
        connection_grace_s=body.connectivity.connection_grace_time_sec,
        check_in_s=body.connectivity.minimum_check_in_time_sec,
        minimum_kernel_version=body.update.minimum_kernel_version,
        debug_key=body.debug.debug_auth_pubkey or None,
    )
