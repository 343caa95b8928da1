"""Bundles for tests: good ones of every kind, and one of every malformed kind, each by a name that says what it is.

The place from which tests import: what makes them stands in ``tests/bundles`` and ``tests/malformed``.
"""

import zipfile
from dataclasses import replace

from tests import rawzip
from tests.bundles import (
    DIGEST,
    EXTERNAL,
    FIRMWARE,
    INTERNAL,
    KEY,
    POINT,
    REGION,
    Named,
    bundle_of,
    encode_bare,
    encrypt_layer,
    entries,
    manifest,
    simple_bundle,
    with_body,
    with_manifest,
    zipfile_bundle,
)
from tests.malformed import malformed
from tests.rawzip import STORED, UTF8, streamed

from fleetvisor.protocol import bundle_pb2

__all__ = [
    "DIGEST",
    "FIRMWARE",
    "KEY",
    "POINT",
    "REGION",
    "bundle_of",
    "entries",
    "good",
    "malformed",
    "manifest",
    "simple_bundle",
]


def good() -> Named:
    """Give a good bundle of every kind."""
    for kinds in (_good_zips(), _good_manifests()):
        yield from kinds


def _good_zips() -> Named:
    simple = entries()
    yield "plain", simple_bundle()
    yield "stored", rawzip.write([replace(entry, method=STORED) for entry in simple])
    yield "python-zipfile", zipfile_bundle()
    yield "python-zipfile-stored", zipfile_bundle(method=zipfile.ZIP_STORED)
    yield "python-zipfile-streaming", zipfile_bundle(seekable=False)
    yield "python-zipfile-streaming-stored", zipfile_bundle(method=zipfile.ZIP_STORED, seekable=False)
    yield "streamed", rawzip.write([streamed(entry.name, entry.content) for entry in simple])
    yield "streamed-without-signature", rawzip.write([streamed(e.name, e.content, signature=False) for e in simple])
    yield "streamed-with-sizes-in-front", rawzip.write([streamed(e.name, e.content, local={}) for e in simple])
    yield "utf8-flag", rawzip.write([replace(entry, flags=UTF8) for entry in simple])
    yield "deflate-level-flags", rawzip.write(entries(flags=0x0006))
    yield "file-comment", rawzip.write(simple, comment=b"a comment of the whole file")
    yield "longest-file-comment", rawzip.write(simple, comment=b"c" * 0xFFFF)
    yield "entry-comment", rawzip.write(entries(comment=b"a comment of one entry"))
    yield (
        "extra-fields-differ",
        rawzip.write(entries(local_extra=b"UT\x05\x00\x01\0\0\0\0", central_extra=b"xx\x00\x00")),
    )
    yield "loose-extra-bytes", rawzip.write(entries(local_extra=b"\0\0\0"))
    yield "manifest-last", rawzip.write(simple[::-1])
    yield "gap-between-entries", rawzip.write(entries(gap=b"what a deleted entry left"))
    yield "no-unix-mode", rawzip.write([replace(entry, attributes=0x20, system=0) for entry in simple])
    yield "empty-deflate-blocks", rawzip.write(entries(data=b"\0\0\0\xff\xff" * 50 + rawzip.deflate(FIRMWARE)))


def _good_manifests() -> Named:
    unknown_field = b"\x9a\x3f\x03new"
    known = bundle_pb2.OpaqueManifest.FromString(manifest())
    wrapped = bundle_pb2.OpaqueManifest(body=known.body + unknown_field).SerializeToString()
    inner = zipfile_bundle()
    yield "signed", simple_bundle(sign_key=KEY)
    yield "signed-by-someone-unknown", with_manifest(manifest(signer_id=7, signature=b"\x01" * 64))
    yield "unknown-fields", with_manifest(wrapped + unknown_field)
    yield "debug-key", simple_bundle(debug_key=POINT)
    yield "crash-key", with_body(lambda body: body.crash.MergeFrom(bundle_pb2.CrashPolicy(crash_report_pubkey=POINT)))
    yield "largest-policies", simple_bundle(politeness_s=2**32 - 1, connection_grace_time_s=2**32 - 1)
    yield "no-policies", with_manifest(encode_bare())
    yield "layer-fills-its-region", simple_bundle(b"x" * 4096, size=4096)
    yield "layer-of-one-byte", simple_bundle(b"x", size=1)
    yield "region-is-all-of-internal-flash", simple_bundle(size=INTERNAL)
    yield "external-layer", bundle_of([(b"out there", "external", EXTERNAL - 4096, 4096)])
    yield "same-offsets-in-both-flashes", bundle_of([(b"in", "internal", 0, 9), (b"out", "external", 0, 9)])
    yield "two-layers-touch", bundle_of([(b"second", "internal", 16, 16), (b"first", "internal", 0, 16)])
    yield "two-layers-share-bytes", bundle_of([(b"same", "internal", 0, 4), (b"same", "internal", 4, 8)])
    yield "sixty-three-layers", bundle_of([(bytes([place]), "internal", 2 * place, 2) for place in range(63)])
    yield "layer-is-a-zip", bundle_of([(inner, "internal", 0, REGION)])
    yield "layer-is-encrypted", with_body(encrypt_layer)
    yield "layer-of-zeros", simple_bundle(bytes(INTERNAL), size=INTERNAL)
