"""Firmware files of any kind: told apart by their content, proved as far as their format allows, and hashed.

Deliberately reads no Microvisor bundle: ``protocol/bundle`` does. What a file states of itself is told here; what
the uploader adds is put beside it by ``features/apps``. Spec: ``docs/reference/firmware-formats.md``.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

from fleetvisor.ground.errors import Invalid, TooLarge
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.names import check_label
from fleetvisor.protocol import mcuboot, rauc, swupdate

Kind = Literal["bundle", "swupdate", "rauc", "mcuboot", "raw"]

KINDS: Final[tuple[Kind, ...]] = ("bundle", "swupdate", "rauc", "mcuboot", "raw")
ZIP_MAGICS: Final = (b"PK\x03\x04", b"PK\x05\x06")

_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What a file says of itself; ``None`` or empty where it says nothing."""

    version: str | None = None
    hardware_class: str | None = None
    hardware_compatibility: tuple[str, ...] = ()
    security_counter: int | None = None
    signed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedImage:
    """A firmware file that keeps its format's rules, with its digests in lower-case hex."""

    kind: Kind
    size_bytes: int
    sha256: str
    sha1: str
    md5: str
    stated: Stated


def recognise(file: Path) -> Kind | None:
    """Return a file's kind by its content; ``None`` when it is none that has a name here."""
    with file.open("rb") as source:
        head = source.read(6)
        if head[:4] in ZIP_MAGICS:
            return "bundle"
        if head in swupdate.MAGICS:
            return "swupdate"
        if head[:4] in mcuboot.MAGICS:
            return "mcuboot"
        return "rauc" if rauc.is_rauc(source, source.seek(0, 2)) else None


def parse(file: Path, kind: Kind, limits: Limits) -> ParsedImage:
    """Read and prove a file of this kind. Blocks: call it in a worker thread. Raises ``Invalid``, ``TooLarge``."""
    with file.open("rb") as source:
        size = source.seek(0, 2)
        if size > limits.firmware_bytes_max:
            raise TooLarge(f"The file has {size} bytes, more than the {limits.firmware_bytes_max} allowed.")
        if size == 0:
            raise Invalid("The file is empty.")
        stated = _read(source, size, kind)
        for what, text in (("version", stated.version), ("hardware class", stated.hardware_class)):
            if text is not None:
                check_label(f"The {what} in the file", text, limits.label_chars_max)
        sha256, sha1, md5 = _digests(source)
    return ParsedImage(kind=kind, size_bytes=size, sha256=sha256, sha1=sha1, md5=md5, stated=stated)


def _read(source: BinaryIO, size: int, kind: Kind) -> Stated:
    match kind:
        case "swupdate":
            software = swupdate.read(source, size)
            return Stated(
                version=software.version, hardware_compatibility=software.hardware_compatibility, signed=software.signed
            )
        case "rauc":
            bundle = rauc.read(source, size)
            return Stated(version=bundle.version, hardware_class=bundle.compatible, signed=True)
        case "mcuboot":
            image = mcuboot.read(source, size)
            return Stated(version=image.version, security_counter=image.security_counter, signed=image.signed)
        case "bundle" | "raw":
            return Stated()


def _digests(source: BinaryIO) -> tuple[str, str, str]:
    """Hash the whole file once; SHA-1 and MD5 are for clients that ask for them and prove nothing."""
    sha256 = hashlib.sha256()
    others = hashlib.sha1(usedforsecurity=False), hashlib.md5(usedforsecurity=False)
    source.seek(0)
    while piece := source.read(_CHUNK_BYTES):
        for running in (sha256, *others):
            running.update(piece)
    return sha256.hexdigest(), others[0].hexdigest(), others[1].hexdigest()
