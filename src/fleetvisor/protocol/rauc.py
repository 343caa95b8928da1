"""A RAUC bundle recognised by its end, and what its manifest states read from the signature's content.

A bundle ends with a CMS structure and its size. In the formats ``verity`` and ``crypt`` the manifest is signed inside
it; in ``plain`` it lies in the squashfs, which is not read here. Deliberately decides nothing about trust: whose
signature it bears is for the device's keyring. Spec: RAUC reference, "Bundle Formats" and "Manifest".
"""

import configparser
import re
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Literal, cast

from asn1crypto import cms  # pyright: ignore[reportMissingTypeStubs]

from fleetvisor.ground.errors import Invalid

SQUASHFS_MAGIC: Final = b"hsqs"

_SIZE_BYTES: Final = 8
_SIGNATURE_BYTES_MAX: Final = 1 << 16
_BLOCK_BYTES: Final = 4096
_SIGNED: Final = bytes.fromhex("06092a864886f70d010702")
_ENVELOPED: Final = bytes.fromhex("06092a864886f70d010703")
_OID_WITHIN: Final = 24
_ESCAPES: Final = {"\\s": " ", "\\n": "\n", "\\t": "\t", "\\r": "\r", "\\\\": "\\"}

Format = Literal["plain", "verity", "crypt", "encrypted"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle states of itself; ``None`` where only the device can read it."""

    format: Format
    compatible: str | None = None
    version: str | None = None


def is_rauc(source: BinaryIO, size: int) -> bool:
    """Tell whether the file ends as a RAUC bundle does: a CMS structure, signed or enveloped, and its size."""
    signature = _signature(source, size)
    if signature is None:
        return False
    head = signature[:_OID_WITHIN]
    return head[:1] == b"\x30" and (_SIGNED in head or _ENVELOPED in head)


def read(source: BinaryIO, size: int) -> Bundle:
    """Read the bundle in ``source`` (seekable, ``size`` bytes). Raises ``Invalid``."""
    signature = _signature(source, size)
    if signature is None:
        raise Invalid("RAUC bundle: does not end with a signature and its size in 8 bytes.")
    try:
        outer = cast("Any", cms).ContentInfo.load(signature, strict=True)
        if outer["content_type"].native == "enveloped_data":
            return Bundle("encrypted")
        content = outer["content"]
        signers = len(content["signer_infos"])
        manifest = content["encap_content_info"]["content"].native
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Invalid(f"RAUC bundle: its signature is malformed: {_first_line(error)}.") from None
    if not signers:
        raise Invalid("RAUC bundle: its signature has no signer.")
    if manifest is None:
        _check_squashfs(source)
        return Bundle("plain")
    if not isinstance(manifest, bytes):
        raise Invalid("RAUC bundle: the signed content is no manifest.")
    return _read_manifest(manifest, source, size - _SIZE_BYTES - len(signature))


def _signature(source: BinaryIO, size: int) -> bytes | None:
    if size <= _SIZE_BYTES:
        return None
    source.seek(size - _SIZE_BYTES)
    length = int.from_bytes(source.read(_SIZE_BYTES), "big")
    if not 0 < length <= min(size - _SIZE_BYTES, _SIGNATURE_BYTES_MAX):
        return None
    source.seek(size - _SIZE_BYTES - length)
    return source.read(length)


def _read_manifest(manifest: bytes, source: BinaryIO, payload_bytes: int) -> Bundle:
    parser = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#",), empty_lines_in_values=False)
    parser.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]  (keys are case-sensitive in a key file)
    try:
        parser.read_string(manifest.decode("utf-8"))
    except (UnicodeDecodeError, configparser.Error) as error:
        raise Invalid(f"RAUC bundle: its manifest is malformed: {_first_line(error)}.") from None
    kind = _value(parser, "bundle", "format")
    if kind not in {"verity", "crypt"}:
        raise Invalid("RAUC bundle: a signed manifest must have format=verity or format=crypt under [bundle].")
    compatible = _value(parser, "update", "compatible")
    if not compatible:
        raise Invalid("RAUC bundle: its manifest has no compatible under [update].")
    _check_verity(_value(parser, "bundle", "verity-size"), payload_bytes)
    if kind == "verity":
        _check_squashfs(source)
    return Bundle("verity" if kind == "verity" else "crypt", compatible, _value(parser, "update", "version") or None)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0] or type(error).__name__


def _value(parser: configparser.RawConfigParser, section: str, key: str) -> str | None:
    text = parser.get(section, key, fallback=None)
    return None if text is None else re.sub(r"\\[sntr\\]", lambda found: _ESCAPES[found[0]], text)


def _check_verity(text: str | None, payload_bytes: int) -> None:
    """Demand that image and hash tree are whole blocks and fill the payload: a truncated file does not."""
    tree = int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 12 else 0
    image = payload_bytes - tree
    if tree <= 0 or tree % _BLOCK_BYTES or image <= 0 or image % _BLOCK_BYTES:
        raise Invalid(
            f"RAUC bundle: its payload of {payload_bytes} bytes is not an image and a hash tree of whole blocks, "
            f"as verity-size={text} in the manifest demands."
        )


def _check_squashfs(source: BinaryIO) -> None:
    source.seek(0)
    if source.read(len(SQUASHFS_MAGIC)) != SQUASHFS_MAGIC:
        raise Invalid("RAUC bundle: does not begin with a squashfs image.")
