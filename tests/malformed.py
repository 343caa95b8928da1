"""One bundle of every malformed kind, by a name that says what it is; ``tests/corpus`` gives them out."""

import hashlib
import io
import struct
import zipfile
import zlib
from dataclasses import replace
from typing import Any

from tests import rawzip
from tests.bundles import (
    DIGEST,
    EXTERNAL,
    FIRMWARE,
    INTERNAL,
    ORDER,
    POINT,
    REGION,
    Body,
    Named,
    bundle_of,
    encrypt_layer,
    entries,
    manifest,
    with_body,
    with_manifest,
)
from tests.rawzip import STORED, STREAMED, UTF8, Raw, streamed

from fleetvisor.protocol import bundle_pb2, pack
from fleetvisor.protocol.manifest import Policies, encode


def malformed() -> Named:
    """Give a malformed bundle of every kind: each must be refused with 400."""
    kinds = (_not_zips(), _truncated(), _bombs(), _names(), _kinds_of_entry(), _headers(), _descriptors(), _ends())
    for kind in (*kinds, _manifests(), _layers(), _regions(), _keys(), _signatures()):
        yield from kind


def _not_zips() -> Named:
    yield "empty-file", b""
    yield "one-byte", b"P"
    yield "text", b"This is a letter, not a bundle.\n" * 99
    yield "elf", b"\x7fELF" + bytes(5000)
    yield "gzip", b"\x1f\x8b\x08" + bytes(300)
    yield "only-magic", b"PK\x03\x04"
    yield "magics-only", b"PK\x05\x06" * 5000
    yield "zeros", bytes(100_000)


def _truncated() -> Named:
    whole = rawzip.write([streamed(entry.name, entry.content) for entry in entries()], comment=b"comment")
    for length in {*range(1, len(whole), 9), *range(len(whole) - 30, len(whole))}:
        yield f"cut-off-at-{length}", whole[:length]
    yield "start-is-missing", whole[10:]
    yield "hole-in-the-middle", whole[: len(whole) // 2] + whole[len(whole) // 2 + 5 :]


def _bombs() -> Named:
    flood = bytes(66 << 20)
    packed = rawzip.deflate(flood, level=1)
    size = {"size": len(FIRMWARE), "crc": zlib.crc32(FIRMWARE)}
    yield "bomb-says-it-is-small", rawzip.write(entries(data=packed, local=size, central=size))
    yield "bomb-says-what-it-is", rawzip.write(entries(content=flood, data=packed))
    yield "bomb-streamed", rawzip.write([entries()[0], streamed(DIGEST, flood, data=packed)])
    yield "manifest-is-a-bomb", rawzip.write([Raw(b"manifest", flood, data=packed), entries()[1]])
    small = {"size": 100, "crc": 0}
    yield (
        "manifest-bomb-says-it-is-small",
        rawzip.write([Raw(b"manifest", flood, data=packed, local=small, central=small), entries()[1]]),
    )
    nested = rawzip.write([Raw(b"bomb", b"", data=packed)])
    yield "nested-bomb", rawzip.write([*entries(), Raw(b"bomb.zip", nested)])
    yield "nested-bomb-as-manifest", with_manifest(nested)
    many = [Raw(f"{number:064x}".encode(), b"x", STORED) for number in range(20_000)]
    yield "twenty-thousand-entries", rawzip.write(many)
    yield "sixty-five-entries", rawzip.write([*entries(), *many[:63]])
    yield "count-says-fewer-than-there-are", rawzip.write([*entries(), *many], end={"count_here": 2, "count": 2})
    huge = [pack.layer(bytes([n]), region="internal", start=n, size=1) for n in range(9)]
    lies = [Raw(hashlib.sha256(bytes([n])).hexdigest().encode(), bytes(8 << 20)) for n in range(9)]
    yield "all-together-too-much", rawzip.write([Raw(b"manifest", encode(huge, Policies())), *lies])
    lies = [replace(lie, central={"size": 1}, local={"size": 1}) for lie in lies]
    yield "all-together-too-much-and-lying", rawzip.write([Raw(b"manifest", encode(huge, Policies())), *lies])
    yield "endless-empty-deflate-blocks", rawzip.write(entries(data=b"\0\0\0\xff\xff" * 400_000))
    wide = {"local_extra": b"xx\xfb\xff" + bytes(0xFFFB), "central_extra": b"xx\xfb\xff" + bytes(0xFFFB)}
    yield "directory-is-very-wide", rawzip.write([replace(entry, comment=bytes(0xFFFF), **wide) for entry in entries()])


def _names() -> Named:
    spare = Raw(b"", b"spare")
    names = {
        "traversal": b"../../etc/passwd",
        "traversal-in-the-middle": b"layers/../../x",
        "traversal-by-backslash": b"..\\..\\x",
        "absolute-path": b"/etc/passwd",
        "absolute-path-of-windows": b"C:\\x",
        "absolute-path-by-backslash": b"\\x",
        "name-in-a-folder": b"folder/" + DIGEST,
        "foreign-name": b"README.txt",
        "foreign-name-like-a-layer": b"f" * 63,
        "layer-name-in-upper-case": b"AB" * 32,
        "manifest-in-upper-case": b"MANIFEST",
        "name-with-a-nul": b"manifest\0",
        "name-with-a-line-break": DIGEST + b"\n",
        "name-with-an-escape-sequence": b"\x1b[2J\x1b]0;x\x07",
        "name-not-in-utf8": b"\xff\xfe\xc3\x28",
        "very-long-name": b"n" * 1500,
        "empty-name": b"",
        "layer-that-nothing-names": b"ab" * 32,
    }
    for kind, name in names.items():
        yield kind, rawzip.write([*entries(), replace(spare, name=name)])
    yield "name-in-unicode", rawzip.write([*entries(), replace(spare, name="mañifest".encode(), flags=UTF8)])
    yield "manifest-twice", rawzip.write([*entries(), entries()[0]])
    yield "layer-twice", rawzip.write([*entries(), entries()[1]])
    yield "no-manifest", rawzip.write(entries()[1:])
    yield "no-entries", rawzip.write([])


def _kinds_of_entry() -> Named:
    kinds = {"symlink": 0o120777, "directory": 0o040755, "fifo": 0o010644, "device": 0o060644, "socket": 0o140644}
    for kind, mode in kinds.items():
        yield f"layer-is-a-{kind}", rawzip.write(entries(attributes=mode << 16))
        yield f"{kind}-besides", rawzip.write([*entries(), Raw(b"ab" * 32, b"/etc/passwd", attributes=mode << 16)])
    yield "dos-directory", rawzip.write(entries(attributes=0x10, system=0))
    yield "folder", rawzip.write([*entries(), Raw(b"folder/", b"", STORED)])
    flags = {"encrypted": 0x0001, "strongly-encrypted": 0x0041, "masked-headers": 0x2000, "patched": 0x0020}
    for kind, bits in flags.items():
        yield f"layer-is-{kind}", rawzip.write(entries(flags=bits))
    yield "manifest-is-encrypted", rawzip.write([replace(entries()[0], flags=1), entries()[1]])
    for method in (1, 6, 9, 12, 14, 93, 95, 99):
        yield f"compression-method-{method}", rawzip.write(entries(method=method, data=rawzip.deflate(FIRMWARE)))


def _headers() -> Named:
    """Both headers must agree, and both must be true."""
    other = b"ab" * 32
    lies: dict[str, Any] = {"name": other, "method": STORED, "flags": UTF8, "crc": 1, "packed": 5, "size": 5}
    for what, lie in lies.items():
        yield f"local-header-lies-about-{what}", rawzip.write(entries(local={what: lie}))
        yield f"central-header-lies-about-{what}", rawzip.write(entries(central={what: lie}))
    for what in ("crc", "packed", "size"):
        yield f"both-headers-lie-about-{what}", rawzip.write(entries(local={what: 5}, central={what: 5}))
        yield f"local-zero-{what}-without-streaming", rawzip.write(entries(local={what: 0}))
    for side in ("local", "central"):
        yield f"{side}-extra-field-is-damaged", rawzip.write(entries(**{f"{side}_extra": b"UT\xff\xffabc"}))
    yield "only-local-says-streamed", rawzip.write(entries(local={"flags": STREAMED}))
    yield "only-central-says-streamed", rawzip.write(entries(central={"flags": STREAMED}))
    wrong_crc = {"crc": zlib.crc32(FIRMWARE) ^ 1}
    yield "bad-crc", rawzip.write(entries(local=wrong_crc, central=wrong_crc))
    yield "bad-crc-stored", rawzip.write(entries(method=STORED, local=wrong_crc, central=wrong_crc))
    shorter = {"size": len(FIRMWARE) - 1}
    yield "stored-with-two-sizes", rawzip.write(entries(method=STORED, local=shorter, central=shorter))
    longer = {"size": len(FIRMWARE) + 1}
    yield "shorter-than-it-says", rawzip.write(entries(local=longer, central=longer))
    yield "bad-deflate", rawzip.write(entries(data=b"\x07" + b"\xff" * 50))
    yield "deflate-cut-off", rawzip.write(entries(data=rawzip.deflate(FIRMWARE)[:-3]))
    yield "deflate-goes-on", rawzip.write(entries(data=rawzip.deflate(FIRMWARE) + b"more"))
    yield "deflate-goes-on-for-long", rawzip.write(entries(data=rawzip.deflate(FIRMWARE) + bytes(200_000)))
    yield "deflate-of-nothing", rawzip.write(entries(data=b""))
    yield "zlib-instead-of-deflate", rawzip.write(entries(data=zlib.compress(FIRMWARE)))
    for kind, offset in {
        "behind-the-file": 1 << 30,
        "in-the-directory": None,
        "in-the-data": 20,
        "negative": -40,
    }.items():
        at = len(rawzip.write(entries())) - 100 if offset is None else offset % (1 << 32)
        yield f"offset-{kind}", rawzip.write(entries(central={"offset": at}))
    yield "data-leaves-the-file", rawzip.write(entries(local={"packed": 1 << 20}, central={"packed": 1 << 20}))
    inner = Raw(DIGEST, FIRMWARE)
    outer = Raw(b"manifest", rawzip.local_header(inner) + inner.packed, STORED)
    inside = replace(inner, data=inner.packed, central={"offset": len(rawzip.local_header(outer))})
    yield "entry-inside-another", rawzip.write([outer, inside])
    yield (
        "two-entries-share-data",
        rawzip.write([*entries(), Raw(DIGEST, FIRMWARE, central={"name": other, "offset": 0})]),
    )
    start = len(rawzip.local_header(entries()[0])) + len(entries()[0].packed)
    half = replace(entries()[0], local={"packed": start}, central={"packed": start})
    yield "entries-overlap", rawzip.write([half, entries()[1]])


def _descriptors() -> Named:
    size = len(rawzip.deflate(FIRMWARE))
    crc = zlib.crc32(FIRMWARE)
    numbers = {
        "crc": struct.pack("<3L", crc ^ 1, size, len(FIRMWARE)),
        "packed": struct.pack("<3L", crc, size + 1, len(FIRMWARE)),
        "size": struct.pack("<3L", crc, size, len(FIRMWARE) + 1),
    }
    for what, descriptor in numbers.items():
        for name, magic in (("", b"PK\x07\x08"), ("-without-signature", b"")):
            lie = streamed(DIGEST, FIRMWARE, descriptor=magic + descriptor)
            yield f"descriptor-lies-about-{what}{name}", rawzip.write([entries()[0], lie])
    yield "descriptor-is-missing", rawzip.write([entries()[0], streamed(DIGEST, FIRMWARE, descriptor=b"")])
    yield "descriptor-is-cut-off", rawzip.write([entries()[0], streamed(DIGEST, FIRMWARE, descriptor=b"PK\x07\x08abc")])
    wide = b"PK\x07\x08" + struct.pack("<LQQ", crc, size, len(FIRMWARE))
    yield "descriptor-of-zip64", rawzip.write([entries()[0], streamed(DIGEST, FIRMWARE, descriptor=wide)])
    lie = streamed(DIGEST, FIRMWARE, local={"crc": 1, "packed": 0, "size": 0})
    yield "streamed-and-local-header-lies", rawzip.write([entries()[0], lie])
    zero = {"crc": 0, "packed": 0, "size": 0}
    yield "streamed-and-central-is-zero", rawzip.write([entries()[0], streamed(DIGEST, FIRMWARE, central=zero)])


def _ends() -> Named:
    plain = entries()
    zip64 = b"\x01\x00\x10\x00" + struct.pack("<QQ", len(FIRMWARE), len(FIRMWARE))
    maxed = {"packed": 0xFFFFFFFF, "size": 0xFFFFFFFF}
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 2, 2, 200, 1000)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 1500, 1)
    yield "zip64-field-in-both", rawzip.write(entries(local_extra=zip64, central_extra=zip64))
    yield "zip64-field-in-local", rawzip.write(entries(local_extra=zip64))
    yield "zip64-sizes", rawzip.write(entries(local=maxed, central=maxed, local_extra=zip64, central_extra=zip64))
    yield "zip64-sizes-without-field", rawzip.write(entries(local=maxed, central=maxed))
    yield "zip64-end-record", rawzip.write(plain, before_end=end64 + locator)
    yield "zip64-locator-alone", rawzip.write(plain, before_end=locator)
    yield "zip64-count", rawzip.write(plain, end={"count_here": 0xFFFF, "count": 0xFFFF})
    yield "zip64-start", rawzip.write(plain, end={"start": 0xFFFFFFFF})
    yield "zip64-python", _zip64_by_python()
    yield "second-disk", rawzip.write(plain, end={"disk": 1, "directory_disk": 1})
    yield "entry-on-another-disk", rawzip.write(entries(disk=1))
    yield "counts-differ", rawzip.write(plain, end={"count_here": 1})
    yield "count-too-high", rawzip.write(plain, end={"count_here": 3, "count": 3})
    yield "count-too-low", rawzip.write(plain, end={"count_here": 1, "count": 1})
    yield "directory-is-elsewhere", rawzip.write(plain, end={"start": 0})
    yield "directory-is-behind-the-file", rawzip.write(plain, end={"start": 1 << 30})
    yield "directory-length-lies", rawzip.write(plain, end={"length": 100})
    yield "directory-length-is-zero", rawzip.write(plain, end={"length": 0})
    yield "trailing-byte", rawzip.write(plain, suffix=b"\0")
    yield "trailing-data", rawzip.write(plain, suffix=b"trailing " * 10_000)
    yield "leading-data", b"#!/bin/sh\n" + rawzip.write(plain)
    yield "two-bundles-in-a-row", rawzip.write(plain) * 2
    yield "comment-length-lies", rawzip.write(plain, comment=b"comment", end={"comment": 3})
    inner_end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0)
    yield "end-record-in-the-comment", rawzip.write(plain, comment=b"x" + inner_end)
    yield "end-magic-in-the-comment", rawzip.write(plain, comment=b"see PK\x05\x06")
    whole_file_as_comment = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 200)
    hidden = rawzip.write([plain[0], Raw(DIGEST, whole_file_as_comment, STORED)])
    at = len(hidden) - hidden.index(whole_file_as_comment) - 22
    yield "end-record-in-a-layer", hidden.replace(b"\xc8\0", at.to_bytes(2, "little"))
    yield "something-before-the-end-record", rawzip.write(plain, before_end=b"between")
    whole = bytearray(rawzip.write(plain))
    whole[whole.index(b"PK\x01\x02")] ^= 1
    yield "directory-magic-is-wrong", bytes(whole)
    whole = bytearray(rawzip.write(plain))
    whole[0] ^= 1
    yield "local-magic-is-wrong", bytes(whole)


def _zip64_by_python() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest", manifest())
        with archive.open(DIGEST.decode(), "w", force_zip64=True) as member:
            member.write(FIRMWARE)
    return out.getvalue()


def _manifests() -> Named:
    opaque = bundle_pb2.OpaqueManifest
    group = b"\x0b" * 30_000
    yield "manifest-is-empty", with_manifest(b"")
    yield "manifest-is-text", with_manifest(b"signer: me\n")
    yield "manifest-is-garbage", with_manifest(b"\xff" * 300)
    yield "manifest-is-cut-off", with_manifest(manifest()[:-5])
    yield "manifest-is-json", with_manifest(b'{"layers": []}')
    yield "manifest-nests-without-end", with_manifest(group)
    yield "manifest-varint-without-end", with_manifest(b"\x08" + b"\xff" * 20)
    yield "manifest-too-large", with_manifest(manifest() + b"\x9a\x3f\x80\x80\x04" + bytes(65536))
    yield "body-is-missing", with_manifest(opaque(signer_id=0).SerializeToString() or b"\x08\x00")
    yield "body-is-empty", with_manifest(b"\x12\x00")
    yield "body-is-garbage", with_manifest(opaque(body=b"\xff" * 100).SerializeToString())
    yield "body-is-a-number", with_manifest(b"\x10\x05")
    yield "body-nests-without-end", with_manifest(opaque(body=group).SerializeToString())
    yield "no-layers", with_body(lambda body: body.ClearField("layers"))
    yield "thirty-thousand-empty-layers", with_manifest(opaque(body=b"\x0a\x00" * 30_000).SerializeToString())
    yield "sixty-five-layers-in-one-entry", with_body(_sixty_five_layers)


def _sixty_five_layers(body: Body) -> None:
    for place in range(64):
        layer = body.layers.add()
        layer.CopyFrom(body.layers[0])
        layer.target.external_flash.start = place * REGION
        layer.target.external_flash.size = REGION


def _layers() -> Named:
    yield "layer-is-missing", rawzip.write(entries()[:1])
    yield "layer-has-other-bytes", rawzip.write(entries(content=FIRMWARE + b"!"))
    yield "layer-is-empty", bundle_of([(b"", "internal", 0, 16)])
    yield "layer-has-another-name", rawzip.write([entries()[0], Raw(b"ab" * 32, FIRMWARE)])
    yield "layer-does-not-fit", bundle_of([(b"x" * 17, "internal", 0, 16)])
    for name in ("fetch_hash", "measurement_hash"):
        for kind, value in {"missing": b"", "short": bytes(31), "long": bytes(33), "wrong": bytes(32)}.items():
            yield f"{name}-is-{kind}", with_body(lambda body, n=name, v=value: setattr(body.layers[0], n, v))
    hexed = DIGEST
    yield "fetch_hash-in-hex", with_body(lambda body: setattr(body.layers[0], "fetch_hash", hexed))
    unpadded = hashlib.sha256(FIRMWARE).digest()
    yield "measurement-without-padding", with_body(lambda body: setattr(body.layers[0], "measurement_hash", unpadded))
    zeros = hashlib.sha256(FIRMWARE + bytes(REGION - len(FIRMWARE))).digest()
    yield "measurement-padded-with-zeros", with_body(lambda body: setattr(body.layers[0], "measurement_hash", zeros))
    yield "encrypted-layer-has-other-bytes", rawzip.write(entries(manifest(encrypt_layer), content=b"other"))


def _regions() -> Named:
    def region(start: int, size: int, kind: str = "internal_flash") -> bytes:
        def change(body: Body) -> None:
            body.layers[0].target.Clear()
            where = getattr(body.layers[0].target, kind)
            where.SetInParent()
            where.start, where.size = start, size

        return with_body(change)

    yield "region-is-missing", with_body(lambda body: body.layers[0].ClearField("target"))
    yield "region-is-empty", with_body(lambda body: body.layers[0].target.Clear())
    for flash, size in (("internal_flash", INTERNAL), ("external_flash", EXTERNAL)):
        yield f"{flash}-region-of-size-0", region(0, 0, flash)
        yield f"{flash}-region-too-large", region(0, size + 1, flash)
        yield f"{flash}-region-starts-behind", region(size, 4096, flash)
        yield f"{flash}-region-ends-behind", region(size - 4095, 4096, flash)
        yield f"{flash}-region-of-four-gigabytes", region(0, 2**32 - 1, flash)
        yield f"{flash}-region-wraps-around", region(2**32 - 1, 2**32 - 1, flash)
    yield "region-at-the-rom-address", region(0x08000000, 4096)
    overlaps = {"same": (0, 16), "inside": (4, 4), "around": (0, 64), "one-byte": (15, 16)}
    for kind, (start, size) in overlaps.items():
        yield f"regions-overlap-{kind}", bundle_of([(b"a", "internal", 0, 16), (b"b", "internal", start, size)])
    outer = [(b"a", "external", 0, 1000), (b"b", "external", 10, 10), (b"c", "external", 500, 10)]
    yield "regions-overlap-of-three", bundle_of(outer)
    yield "regions-overlap-sharing-bytes", bundle_of([(b"a", "external", 0, 16), (b"a", "external", 8, 16)])


def _keys() -> Named:
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    keys = {
        "off-the-curve": POINT[:-1] + bytes([POINT[-1] ^ 1]),
        "all-zeros": bytes(65),
        "point-zero": b"\x04" + bytes(64),
        "beyond-the-field": b"\x04" + (prime + 1).to_bytes(32) + bytes(32),
        "compressed": bytes([2 + POINT[-1] % 2]) + POINT[1:33],
        "hybrid": bytes([6 + POINT[-1] % 2]) + POINT[1:],
        "short": POINT[:-1],
        "long": POINT + b"\0",
        "of-p384": b"\x04" + bytes(96),
        "without-its-first-byte": POINT[1:],
        "in-pem": b"-----BEGIN PUBLIC KEY-----\n",
        "infinity": b"\0",
    }
    for kind, key in keys.items():
        yield f"debug-key-{kind}", with_body(lambda body, k=key: setattr(body.debug, "debug_auth_pubkey", k))
        yield f"crash-key-{kind}", with_body(lambda body, k=key: setattr(body.crash, "crash_report_pubkey", k))


def _signatures() -> Named:
    one = (1).to_bytes(32)
    order = ORDER.to_bytes(32)
    yield "signer-without-signature", with_manifest(manifest(signer_id=7))
    yield "signature-without-signer", with_manifest(manifest(signature=one + one))
    forms = {
        "short": one + one[1:],
        "long": one + one + b"\0",
        "one-byte": b"\1",
        "der": b"\x30\x44\x02\x20" + one + b"\x02\x20" + one,
        "zeros": bytes(64),
        "r-is-zero": bytes(32) + one,
        "s-is-zero": one + bytes(32),
        "r-is-the-order": order + one,
        "s-is-the-order": one + order,
        "s-is-beyond-the-order": one + b"\xff" * 32,
    }
    for kind, signature in forms.items():
        yield f"signature-{kind}", with_manifest(manifest(signer_id=7, signature=signature))
