"""Firmware files of other kinds, made as their formats say: SWUpdate images, RAUC bundles, MCUboot images."""

import datetime
import functools
import hashlib
import struct

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID


def cpio(entries, *, crc=True, trailer=True):
    """An archive of ``(name, content)`` pairs in the format crc, or newc."""
    out = bytearray()
    for number, (name, content) in enumerate([*entries, *([("TRAILER!!!", b"")] if trailer else [])], 1):
        raw = name.encode() + b"\0"
        checksum = sum(content) & 0xFFFFFFFF if crc else 0
        fields = (number, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(raw), checksum)
        out += (b"070702" if crc else b"070701") + b"".join(b"%08x" % field for field in fields) + raw
        out += b"\0" * (-len(out) % 4) + content
        out += b"\0" * (-len(out) % 4)
    return bytes(out) + b"\0" * (-len(out) % 512 if trailer else 0)


def description(files=(), *, scripts=(), version="1.0", compatible=("1.0",), extra=""):
    """A sw-description: ``files`` are ``(name, content, path)``, ``scripts`` are ``(name, content, type)``."""

    def listed(entries, what):
        return ", ".join(
            f'{{ filename = "{name}"; {what} = "{value}"; sha256 = "{hashlib.sha256(content).hexdigest()}"; }}'
            for name, content, value in entries
        )

    revisions = ", ".join(f'"{text}"' for text in compatible)
    return f"""software =
{{
    version = "{version}";
    hardware-compatibility: [ {revisions} ];
    files: ( {listed(files, "path")} );
    scripts: ( {listed(scripts, "type")} );
    {extra}
}}
""".encode()


def swu(files=(("app.bin", b"firmware " * 100, "/tmp/app.bin"),), *, crc=True, sign=None, scripts=(), **stated):  # noqa: S108
    """A SWUpdate image, signed by ``sign(description)`` if given."""
    told = description(files, scripts=scripts, **stated)
    signature = [("sw-description.sig", sign(told))] if sign else []
    contents = [(name, content) for name, content, _ in [*files, *scripts]]
    return cpio([("sw-description", told), *signature, *contents], crc=crc)


def mcuboot(
    payload=b"\x01\x02\x03\x04" * 64, *, version=(1, 2, 3, 0), counter=None, header_bytes=32, digest=None, order="<"
):
    """An MCUboot image with a SHA-256 TLV, and a protected area when there is a security counter."""
    protected = b""
    if counter is not None:
        tlv = struct.pack(order + "BBHI", 0x50, 0, 4, counter)
        protected = struct.pack(order + "HH", 0x6908, 4 + len(tlv)) + tlv
    header = struct.pack(
        order + "IIHHIIBBHII", 0x96F3B83D, 0, header_bytes, len(protected), len(payload), 0, *version, 0
    )
    hashed = header.ljust(header_bytes, b"\0") + payload + protected
    value = hashlib.sha256(hashed).digest() if digest is None else digest
    tlv = struct.pack(order + "BBH", 0x10, 0, len(value)) + value
    return hashed + struct.pack(order + "HH", 0x6907, 4 + len(tlv)) + tlv


@functools.cache
def signer(*, rsa_key=False):
    """A certificate for signing firmware and its key."""
    key = rsa.generate_private_key(65537, 2048) if rsa_key else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "firmware")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return built.sign(key, hashes.SHA256()), key


def cms(content, *, detached=False):
    """A CMS signature over ``content``, with it inside unless ``detached``."""
    options = [pkcs7.PKCS7Options.Binary, *([pkcs7.PKCS7Options.DetachedSignature] if detached else [])]
    certificate, key = signer()
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content).add_signer(certificate, key, hashes.SHA256())
    return builder.sign(Encoding.DER, options)


def rauc(*, kind="verity", compatible="board-a", version="2026.1", squashfs=b"hsqs".ljust(8192, b"x"), manifest=None):
    """A RAUC bundle with the parts in their places; its hash tree is filling."""
    if kind == "plain":
        signature = cms(squashfs, detached=True)
        return squashfs + signature + len(signature).to_bytes(8, "big")
    tree = b"t" * 4096
    told = f"[update]\ncompatible={compatible}\nversion={version}\n\n[bundle]\nformat={kind}\nverity-hash={'0' * 64}\n"
    told += f"verity-salt={'0' * 64}\nverity-size={len(tree)}\n"
    signature = cms(told.encode() if manifest is None else manifest)
    return squashfs + tree + signature + len(signature).to_bytes(8, "big")
