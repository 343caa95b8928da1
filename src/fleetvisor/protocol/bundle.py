"""A bundle read and proved: zip, manifest, and every layer against every hash.

NOTE: this is the gate. What passes here is stored, served to devices and never looked at again, so each rule of
the format is checked, in bounded time and memory, whatever the bytes are. Each refusal names the entry and the rule.

Deliberately decides nothing about trust: a well-formed signature by anyone is kept. Stores nothing beyond the spool.
Spec: the Microvisor API reference, section 6; ``docs/reference/bundle-format.md`` has the rules in this order.
"""

import hashlib
import re
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from fleetvisor.ground.errors import Invalid, TooLarge
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol import manifest as manifests
from fleetvisor.protocol import zipread
from fleetvisor.protocol.manifest import LayerReference, Manifest, Region
from fleetvisor.protocol.measurement import Sha256, measure

_LAYER_NAME: Final = re.compile(rb"[0-9a-f]{64}")
_DRIVE: Final = re.compile(rb"[A-Za-z]:")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedLayer:
    """One layer whose bytes lie, proved, in ``path``; layers with equal bytes share one file.

    Of a layer with ``encrypted_with_key_id`` the ``measurement`` is the manifest's word: only the device can check it.
    """

    digest: str
    size_bytes: int
    measurement: str
    region: Region
    region_start: int
    region_size: int
    encrypted_with_key_id: int
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedBundle:
    """A bundle that keeps every rule. ``manifest`` is the entry byte for byte, ``manifest_hash`` its hex SHA-256."""

    manifest: bytes
    manifest_hash: str
    signed: bool
    signer_id: int
    layers: tuple[ParsedLayer, ...]
    politeness_s: int
    connection_grace_s: int
    check_in_s: int
    minimum_kernel_version: int
    debug_key: bytes | None


@dataclass(frozen=True, slots=True)
class _Content:
    """A layer entry's bytes, in the spool, and the running hash of them."""

    path: Path
    size_bytes: int
    sha256: Sha256


def parse(source: BinaryIO, spool: Path, limits: Limits) -> ParsedBundle:
    """Read and prove the bundle in ``source`` (seekable), inflating its layers to new files in ``spool``.

    The files belong to the caller from then on; after a refusal none is left. Blocks: call it in a worker thread.
    Memory stays below a megabyte above the manifest, whatever the bundle. Raises ``Invalid``, and ``TooLarge`` for a
    file above the bound of uploads.
    """
    size = source.seek(0, 2)
    if size > limits.bundle_bytes_max:
        raise TooLarge(f"The bundle has {size} bytes, more than the {limits.bundle_bytes_max} allowed.")
    entries = _named_entries(zipread.read_entries(source, entries_max=limits.bundle_entries_max))
    budget = zipread.Budget(limits.bundle_inflated_bytes_max)
    manifest = manifests.decode(_read_manifest(source, entries, budget, limits), limits)
    _check_members(entries, manifest)
    with ExitStack() as undo:
        contents: dict[str, _Content] = {}
        for digest in dict.fromkeys(layer.digest for layer in manifest.layers):
            contents[digest] = _spool(source, entries[digest], budget, spool, undo)
        layers = tuple(_prove(place, layer, contents[layer.digest]) for place, layer in enumerate(manifest.layers))
        undo.pop_all()
    return ParsedBundle(
        manifest=manifest.raw,
        manifest_hash=manifest.hash,
        signed=manifest.signed,
        signer_id=manifest.signer_id,
        layers=layers,
        politeness_s=manifest.policies.politeness_s,
        connection_grace_s=manifest.policies.connection_grace_s,
        check_in_s=manifest.policies.check_in_s,
        minimum_kernel_version=manifest.policies.minimum_kernel_version,
        debug_key=manifest.policies.debug_key,
    )


def _named_entries(entries: tuple[zipread.Entry, ...]) -> Mapping[str, zipread.Entry]:
    """Return the entries by name; only ``manifest`` and 64 lower-case hex digits are names in a bundle."""
    named: dict[str, zipread.Entry] = {}
    for entry in entries:
        name = entry.name
        if name != manifests.ENTRY.encode() and _LAYER_NAME.fullmatch(name) is None:
            if name.startswith((b"/", b"\\")) or _DRIVE.match(name):
                raise Invalid(f"{entry.label}: has an absolute path; the entries of a bundle have plain names.")
            if b".." in re.split(rb"[/\\]", name):
                raise Invalid(f"{entry.label}: leads out of the bundle; its entries have plain names.")
            raise Invalid(
                f"{entry.label}: is no name in a bundle, which holds '{manifests.ENTRY}' and layers named by "
                "their SHA-256 in lower-case hex."
            )
        named[name.decode("ascii")] = entry
    return named


def _read_manifest(
    source: BinaryIO, entries: Mapping[str, zipread.Entry], budget: zipread.Budget, limits: Limits
) -> bytes:
    entry = entries.get(manifests.ENTRY)
    if entry is None:
        raise Invalid(f"Entry '{manifests.ENTRY}': is missing from the bundle.")
    if entry.size_bytes > limits.manifest_bytes_max:
        raise Invalid(
            f"{entry.label}: has {entry.size_bytes} bytes, more than the {limits.manifest_bytes_max} allowed."
        )
    return b"".join(zipread.inflate(source, entry, budget))


def _check_members(entries: Mapping[str, zipread.Entry], manifest: Manifest) -> None:
    """Demand one entry for each layer, of a size that fits, and no entry besides."""
    for place, layer in enumerate(manifest.layers):
        entry = entries.get(layer.digest)
        if entry is None:
            raise Invalid(f"Entry '{layer.digest}': is missing, but layer {place} of the manifest names it.")
        if entry.size_bytes == 0:
            raise Invalid(f"{entry.label}: is empty; a layer has at least one byte.")
        if entry.size_bytes > layer.region_size:
            raise Invalid(
                f"{entry.label}: has {entry.size_bytes} bytes and does not fit the region of "
                f"{layer.region_size} bytes that layer {place} of the manifest gives it."
            )
    wanted = {manifests.ENTRY, *(layer.digest for layer in manifest.layers)}
    for name, entry in entries.items():
        if name not in wanted:
            raise Invalid(f"{entry.label}: no layer of the manifest names it.")


def _spool(source: BinaryIO, entry: zipread.Entry, budget: zipread.Budget, spool: Path, undo: ExitStack) -> _Content:
    """Inflate an entry to a file of its own; ``undo`` removes it. Many parses may share one spool directory."""
    sha256 = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=spool, prefix="layer-", delete=False) as file:
        path = Path(file.name)
        undo.callback(path.unlink, missing_ok=True)
        for block in zipread.inflate(source, entry, budget):
            sha256.update(block)
            file.write(block)
    if sha256.hexdigest().encode() != entry.name:
        raise Invalid(f"{entry.label}: the SHA-256 of its bytes is not its name and fetch_hash.")
    return _Content(path, entry.size_bytes, sha256)


def _prove(place: int, layer: LayerReference, content: _Content) -> ParsedLayer:
    # Ciphertext says nothing about what the region will hold: only the device, which has the key, can measure it.
    if not layer.encrypted_with_key_id:
        measured = measure(content.sha256, content.size_bytes, layer.region_size)
        if measured != layer.measurement:
            raise Invalid(
                f"Entry '{layer.digest}': padded with 0xff to its region of {layer.region_size} bytes it does not "
                f"have the measurement_hash of layer {place} of the manifest."
            )
    return ParsedLayer(
        digest=layer.digest,
        size_bytes=content.size_bytes,
        measurement=layer.measurement,
        region=layer.region,
        region_start=layer.region_start,
        region_size=layer.region_size,
        encrypted_with_key_id=layer.encrypted_with_key_id,
        path=content.path,
    )
