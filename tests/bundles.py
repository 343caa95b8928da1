"""Bundles for tests, made to order. The same bytes at every run."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from tests import rawzip
from tests.rawzip import Raw

from fleetvisor.protocol import bundle_pb2, pack, signing
from fleetvisor.protocol.manifest import Policies, encode

KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
POINT = signing.point(KEY.public_key())
FIRMWARE = b"firmware of the corpus " * 40
REGION = 0x10000
INTERNAL = 1 << 20
EXTERNAL = 16 << 20
ORDER = signing.ORDER
DIGEST = hashlib.sha256(FIRMWARE).hexdigest().encode()

Named = Iterator[tuple[str, bytes]]
Body = bundle_pb2.AppManifest.AppBody
Place = tuple[bytes, str, int, int]


def simple_bundle(firmware: bytes = FIRMWARE, *, size: int = REGION, **options: Any) -> bytes:
    """Make a good bundle of one internal layer (region from 0, 64 KiB unless told); options are ``pack.pack``'s."""
    return pack.pack(firmware, size=size, **options)


def bundle_of(places: Sequence[Place], *, sign_key: ec.EllipticCurvePrivateKey | None = None, **policies: Any) -> bytes:
    """Make a bundle of several layers: ``(bytes, 'internal' or 'external', region start, region size)`` each."""
    layers = [pack.layer(data, region=region, start=start, size=size) for data, region, start, size in places]  # type: ignore[arg-type]
    return pack.write(encode(layers, Policies(**policies), sign_key), [place[0] for place in places])


def manifest(change: Callable[[Body], object] | None = None, **outer: Any) -> bytes:
    """Make the simple bundle's manifest, its body changed by ``change`` and the fields around it by ``outer``."""
    plain = bundle_pb2.OpaqueManifest.FromString(
        encode([pack.layer(FIRMWARE, region="internal", start=0, size=REGION)], Policies())
    )
    body = Body.FromString(plain.body)
    if change is not None:
        change(body)
    return bundle_pb2.OpaqueManifest(**({"body": body.SerializeToString()} | outer)).SerializeToString()


def entries(raw_manifest: bytes | None = None, **layer: Any) -> list[Raw]:
    """Give the simple bundle's two entries, the layer's headers changed by ``layer``."""
    return [
        Raw(b"manifest", manifest() if raw_manifest is None else raw_manifest),
        replace(Raw(DIGEST, FIRMWARE), **layer),
    ]


def with_manifest(raw_manifest: bytes) -> bytes:
    return rawzip.write(entries(raw_manifest))


def with_body(change: Callable[[Body], object]) -> bytes:
    return with_manifest(manifest(change))


def zipfile_bundle(*, method: int = zipfile.ZIP_DEFLATED, seekable: bool = True) -> bytes:
    """Make the simple bundle by Python's zipfile; not ``seekable``: as it writes to a pipe, with descriptors."""
    out = io.BytesIO()
    target: Any = out if seekable else _Pipe(out)
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr("manifest", manifest())
        with archive.open(DIGEST.decode(), "w") as member:
            member.write(FIRMWARE)
    return out.getvalue()


class _Pipe:
    """A file that can only be written on."""

    def __init__(self, out: io.BytesIO) -> None:
        self.write = out.write
        self.flush = out.flush


def encode_bare() -> bytes:
    """Make a manifest with nothing but a layer in its body."""

    def bare(body: Body) -> None:
        for field in ("update", "connectivity"):
            body.ClearField(field)

    return manifest(bare)


def encrypt_layer(body: Body) -> None:
    """Say that the layer is ciphertext: its measurement is of what only the device can know."""
    body.layers[0].encrypted_with_key_id = 5
    body.layers[0].measurement_hash = bytes(32)
