"""An app as files, for protocols that speak of files: one for each layer, with the digests that they ask for.

SHA-1 and MD5 prove nothing here; clients that want them get them. Those of a firmware file were computed at its upload;
those of a bundle's layers are computed from the stored bytes when first asked for, and kept in memory. Deliberately no
URLs.
"""

import asyncio
from collections import OrderedDict
from hashlib import md5, sha1, sha256
from typing import Final

import msgspec

from fleetvisor.blobs.store import Blobs
from fleetvisor.features.apps.damage import Damaged
from fleetvisor.features.apps.model import AppLayer
from fleetvisor.features.apps.service import Apps
from fleetvisor.ground.errors import NotFound
from fleetvisor.ground.memory import ARTIFACT_DIGESTS
from fleetvisor.ground.sids import AccountSid, AppSid

_CHUNK_BYTES: Final = 256 << 10
_SUFFIXES: Final = {"swupdate": "swu", "rauc": "raucb"}


class AppFile(msgspec.Struct, frozen=True):
    """One file of an app; digests in lower-case hex."""

    filename: str
    sha256: str
    sha1: str
    md5: str
    size_bytes: int


class Artifacts:
    """The files of apps."""

    def __init__(self, *, apps: Apps, blobs: Blobs) -> None:
        """Start with no digest known."""
        self._apps = apps
        self._blobs = blobs
        self._known: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._busy: dict[str, asyncio.Lock] = {}

    async def list(self, account_sid: AccountSid, app_sid: AppSid) -> tuple[AppFile, ...]:
        """Return an app's files, in the order of its layers. Raises ``NotFound`` for another account's."""
        layers = await self._apps.layers(account_sid, app_sid)
        if not layers:
            raise NotFound("No App of this account has this SID.")
        if layers[0].region is None:
            name = f"{app_sid}.{_SUFFIXES.get((await self._apps.get(account_sid, app_sid)).kind, 'bin')}"
            return (await self._file(account_sid, name, layers[0]),)
        return tuple(
            [await self._file(account_sid, f"{app_sid}-{place}.bin", layer) for place, layer in enumerate(layers, 1)]
        )

    async def _file(self, account_sid: AccountSid, name: str, layer: AppLayer) -> AppFile:
        sha1_text, md5_text = layer.sha1, layer.md5
        if sha1_text is None or md5_text is None:
            sha1_text, md5_text = await self._digests(account_sid, layer.digest)
        return AppFile(name, layer.digest, sha1_text, md5_text, layer.size_bytes)

    async def _digests(self, account_sid: AccountSid, digest: str) -> tuple[str, str]:
        known = self._known.get(digest)
        if known is not None:
            return known
        lock = self._busy.setdefault(digest, asyncio.Lock())
        try:
            async with lock:  # a whole fleet may ask at once: one of them computes
                known = self._known.get(digest)
                if known is None:
                    known = await self._compute(account_sid, digest)
                    self._known[digest] = known
                    if len(self._known) > ARTIFACT_DIGESTS.members_max:
                        self._known.popitem(last=False)
        finally:
            if not lock.locked():  # also when it failed: nothing stays of what nobody waits for
                self._busy.pop(digest, None)
        return known

    async def _compute(self, account_sid: AccountSid, digest: str) -> tuple[str, str]:
        layer = await self._apps.find_layer(account_sid, digest)
        if layer is None:
            raise NotFound("No App of this account has this layer.")
        first, second, proof = sha1(usedforsecurity=False), md5(usedforsecurity=False), sha256()
        for start in range(0, layer.size_bytes, _CHUNK_BYTES):
            piece = await self._blobs.get_range(layer.blob, start, min(start + _CHUNK_BYTES, layer.size_bytes))
            first.update(piece)
            second.update(piece)
            proof.update(piece)
        if proof.hexdigest() != digest:
            await self._apps.damage.note(layer, f"the bytes of {layer.blob} do not have its SHA-256")
            raise Damaged
        return first.hexdigest(), second.hexdigest()
