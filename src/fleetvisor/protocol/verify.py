"""The offline check of a bundle: every rule that the server holds an upload against, and whose signature it bears.

Gives a report to show, and never raises for what is wrong with the bundle. Deliberately talks to no server. Spec:
``docs/reference/bundle-format.md``.
"""

import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from fleetvisor.ground.errors import Problem
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol import bundle, manifest, signing
from fleetvisor.protocol.bundle import ParsedBundle

_LIMITS: Final = Limits()


class Signature(StrEnum):
    """What is known about a bundle's signature."""

    ABSENT = "absent"
    UNCHECKED = "unchecked"
    GOOD = "good"
    WRONG = "wrong"
    BY_ANOTHER_KEY = "by another key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of a bundle, as the report shows it. ``measured`` is false for one that is encrypted."""

    digest: str
    size_bytes: int
    measurement: str
    measured: bool
    region: str
    region_start: int
    region_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleReport:
    """What a check found. ``problem`` is the first rule broken, in words; then nothing below it is known.

    ``hash`` is the app's hash as the API gives it; ``signer_id`` and ``debug_key`` are lower-case hex or ``None``.
    """

    ok: bool
    problem: str | None
    hash: str | None = None
    signature: Signature | None = None
    signer_id: str | None = None
    layers: tuple[Layer, ...] = ()
    politeness_s: int = 0
    connection_grace_s: int = 0
    check_in_s: int = 0
    minimum_kernel_version: int = 0
    debug_key: str | None = None


def verify_bundle(
    path: Path, public_key: ec.EllipticCurvePublicKey | None = None, *, limits: Limits = _LIMITS
) -> BundleReport:
    """Check the bundle in ``path`` against every rule of the format, and its signature when a key is given.

    With a key the bundle must be signed by it to be ``ok``; without one, signed or not, by whomever.
    """
    try:
        with path.open("rb") as source, tempfile.TemporaryDirectory() as spool:
            parsed = bundle.parse(source, Path(spool), limits)
    except OSError as error:
        return BundleReport(ok=False, problem=f"The file cannot be checked: {error.strerror}.")
    except Problem as error:
        return BundleReport(ok=False, problem=error.detail)
    signature = _judge(parsed, public_key, limits)
    problem: str | None = None
    match signature:
        case Signature.ABSENT if public_key is not None:
            problem = "The bundle is not signed."
        case Signature.BY_ANOTHER_KEY:
            problem = "The bundle is signed by another key than the one given."
        case Signature.WRONG:
            problem = "The bundle names the key given as its signer, but the signature is wrong."
        case _:
            pass
    return BundleReport(
        ok=problem is None,
        problem=problem,
        hash=f"sha256:{parsed.manifest_hash}",
        signature=signature,
        signer_id=f"{parsed.signer_id:016x}" if parsed.signed else None,
        layers=tuple(
            Layer(
                digest=layer.digest,
                size_bytes=layer.size_bytes,
                measurement=layer.measurement,
                measured=not layer.encrypted_with_key_id,
                region=layer.region,
                region_start=layer.region_start,
                region_size=layer.region_size,
            )
            for layer in parsed.layers
        ),
        politeness_s=parsed.politeness_s,
        connection_grace_s=parsed.connection_grace_s,
        check_in_s=parsed.check_in_s,
        minimum_kernel_version=parsed.minimum_kernel_version,
        debug_key=parsed.debug_key.hex() if parsed.debug_key else None,
    )


def _judge(parsed: ParsedBundle, key: ec.EllipticCurvePublicKey | None, limits: Limits) -> Signature:
    if not parsed.signed:
        return Signature.ABSENT
    if key is None:
        return Signature.UNCHECKED
    if parsed.signer_id != signing.key_id(key):
        return Signature.BY_ANOTHER_KEY
    decoded = manifest.decode(parsed.manifest, limits)
    return Signature.GOOD if signing.verify(key, decoded.body, decoded.signature) else Signature.WRONG
