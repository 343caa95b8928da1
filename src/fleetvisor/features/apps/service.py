"""Apps: uploaded, found, read back, removed.

A bundle's layers (or the one file) are stored first, each durable before the next step; then one transaction makes the
app and counts its uses of them. A failed upload leaves at most bytes that ``sweep`` takes. Deliberately reads no
format: ``reading`` does. Spec: ``docs/adr/0002-layers-and-their-removal.md``.
"""

from pathlib import Path
from shutil import rmtree
from typing import Final, NamedTuple

from fleetvisor.blobs.store import Blobs
from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Body, Database, ReferenceViolated, Tx
from fleetvisor.features.apps import rules, store
from fleetvisor.features.apps.damage import Damage
from fleetvisor.features.apps.model import App, AppLayer, Content, LayerBlob, Manifest, Upload
from fleetvisor.features.apps.reading import Inline, Parsed, Reader, Reading
from fleetvisor.features.events import store as events
from fleetvisor.ground.clock import Clock, Entropy, Millis
from fleetvisor.ground.errors import Conflict, NotFound, Unavailable
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import LAYER_LISTS, BoundedMap
from fleetvisor.ground.offload import Offload
from fleetvisor.ground.pages import Page, PageRequest, page_of
from fleetvisor.ground.sids import AccountSid, AppSid, new_app_sid
from fleetvisor.protocol.bundle import ParsedBundle

_TRIES: Final = 5

_LAYER_BYTES: Final = 1024  # at most, with its digests and its measurement


class Apps:
    """The verbs on apps."""

    def __init__(
        self,
        *,
        db: Database,
        blobs: Blobs,
        clock: Clock,
        entropy: Entropy,
        limits: Limits,
        bus: Bus,
        offload: Offload,
        spool: Path,
        reader: Reader | None = None,
    ) -> None:
        """Keep what the verbs need; ``spool`` is the folder for layers on their way to the blob store.

        Without a ``reader`` uploads are read through ``offload``.
        """
        self._db = db
        self._blobs = blobs
        self._clock = clock
        self._entropy = entropy
        self._limits = limits
        self._bus = bus
        self._offload = offload
        self._spool = spool
        self._reader = reader or Inline(offload, limits)
        self._layers: BoundedMap[tuple[AccountSid, AppSid], tuple[AppLayer, ...]] = BoundedMap(
            LAYER_LISTS, lambda layers: _LAYER_BYTES * len(layers)
        )
        self.damage = Damage(db=db, blobs=blobs, clock=clock, bus=bus)

    async def create(self, account_sid: AccountSid, file: Path, upload: Upload) -> App:
        """Make an app of the bundle or other firmware in ``file``, which stays the caller's.

        Raises ``Invalid`` (what is wrong with the file or with what is said of it), ``TooLarge``, ``Conflict`` (the
        name is taken, or the account has too many).
        """
        rules.check_upload(upload, self._limits)
        folder = self._spool / f"parse-{self._entropy.token(16).hex()}"
        try:
            parsed = await self._reader(account_sid, Reading(file, upload.kind, folder))
            contents = _contents(parsed, file)
            for _ in range(_TRIES):
                placed = await self._store_layers(contents)
                birth = rules.Birth(new_app_sid(self._entropy), account_sid, self._clock.now())
                if isinstance(parsed, ParsedBundle):
                    app, manifest = rules.app_of(parsed, upload, birth), parsed.manifest
                else:
                    app, manifest = rules.app_of_image(parsed, upload, birth), b""
                making = _Making(app, manifest, tuple(content.layer for content in contents), placed)
                if await self._db.write(_insertion(making, self._limits.apps_per_account_max)):
                    return app
        finally:
            await self._offload(lambda: rmtree(folder, ignore_errors=True))
        raise Unavailable("The App's layers were removed repeatedly during the upload. Retry.", retry_after_s=1)

    async def get(self, account_sid: AccountSid, ref: str) -> App:
        """Return an app by SID or unique name. Raises ``NotFound``."""
        app = await store.find_in(self._db, account_sid, ref)
        if app is None:
            raise _missing()
        return app

    async def list(self, account_sid: AccountSid, page: PageRequest) -> Page[App]:
        """Return a page of the account's apps, newest first."""
        cursor = page.cursor
        key = None if cursor is None else (int(cursor.key[0]), str(cursor.key[1]))
        newer = cursor is not None and not cursor.forward
        rows = await store.page(self._db, account_sid, key=key, limit=page.size + 1, newer=newer)
        return page_of(rows, page, lambda app: (app.date_created, app.app_sid))

    async def manifest(self, account_sid: AccountSid, ref: str) -> Manifest:
        """Return an app's manifest as it was uploaded. Raises ``NotFound``."""
        app = await self.get(account_sid, ref)
        manifest = await store.find_manifest(self._db, account_sid, app.app_sid)
        if manifest is None:
            raise NotFound("This App has no Manifest, because it was not uploaded as a Microvisor bundle.")
        return manifest

    async def find_manifest(self, account_sid: AccountSid, manifest_hash: str) -> bytes | None:
        """Return a manifest by its SHA-256 (hex), if an app of the account has it."""
        found = await store.find_manifest_by_hash(self._db, account_sid, manifest_hash)
        return found.manifest if found else None

    async def find_layer(self, account_sid: AccountSid, digest: str) -> LayerBlob | None:
        """Return where a layer's bytes lie, if an app of the account has it."""
        return await store.find_layer(self._db, account_sid, digest)

    async def layers(self, account_sid: AccountSid, app_sid: AppSid) -> tuple[AppLayer, ...]:
        """Return the layers of an app of the account in manifest order, from memory; empty when there is none."""
        place = (account_sid, app_sid)
        known = self._layers.get(place)
        if known is None:
            known = tuple(await store.layers(self._db, account_sid, app_sid))
            if known:
                self._layers.put(place, known)
        return known

    async def delete(self, account_sid: AccountSid, ref: str) -> None:
        """Remove an app. Raises ``NotFound``, and ``Conflict`` while a device, an open update or a rollout needs it."""
        now = self._clock.now()

        async def body(tx: Tx) -> AppSid:
            app = await store.find_in(tx, account_sid, ref)
            if app is None:
                raise _missing()
            await store.delete(tx, account_sid, app.app_sid, now)
            await events.append(tx, account_sid=account_sid, type="app.deleted", subject_sid=app.app_sid, now=now)
            return app.app_sid

        try:
            app_sid = await self._db.write(body)
        except ReferenceViolated as error:
            raise Conflict(
                "A Device targets this App, has an open update to it, or an unfinished Rollout names it: give those"
                " Devices another target, or end the Rollout, first."
            ) from error
        self._layers.drop((account_sid, app_sid))
        self._bus.ring((account_sid, app_sid))

    async def _store_layers(self, contents: tuple[Content, ...]) -> dict[str, str]:
        """Put each distinct layer where its row says; return the blob names by digest.

        Also one that is stored: what is there is proved, and replaced if it is not what it should be.
        """
        placed: dict[str, str] = {}
        for content in contents:
            layer = content.layer
            if layer.digest not in placed:
                row = await self._db.write(_renewal(content, self._entropy.token(8).hex(), self._clock.now()))
                await self._blobs.put_file(row.blob, content.path, digest=layer.digest, size_bytes=layer.size_bytes)
                if row.damaged:  # now, because the app itself may yet be refused: its name may be taken
                    await self.damage.mend(layer.digest, row.blob)
                placed[layer.digest] = row.blob
        return placed


class _Making(NamedTuple):
    """An app on its way into the database, with the blob names of its layers by digest."""

    app: App
    manifest: bytes
    layers: tuple[AppLayer, ...]
    placed: dict[str, str]


def _contents(parsed: Parsed, file: Path) -> tuple[Content, ...]:
    if isinstance(parsed, ParsedBundle):
        return tuple(rules.content_of(layer) for layer in parsed.layers)
    return (rules.content_of_image(parsed, file),)


def _renewal(content: Content, generation: str, now: Millis) -> Body[store.LayerRow]:
    """Return the body that makes or renews the row of one layer; a row that is made names bytes never named before."""

    async def body(tx: Tx) -> store.LayerRow:
        return await store.renew(tx, content, rules.blob_name(content.layer.digest, generation), now)

    return body


def _insertion(making: _Making, apps_max: int) -> Body[bool]:
    """Return the body that makes an app, its layers, uses and event; it returns false where a layer's row is gone."""
    app, manifest, layers, placed = making

    async def body(tx: Tx) -> bool:
        lost = [blob for digest, blob in placed.items() if not await store.has_layer(tx, digest, blob)]
        for blob in lost:  # a sweep may have been here before the bytes were
            await store.note_removed(tx, blob, app.date_created)
        if lost:
            return False
        if await store.count(tx, app.account_sid) >= apps_max:
            raise Conflict(f"The account has {apps_max} Apps, which is the maximum.")
        if not await store.insert(tx, app, manifest):
            raise Conflict("An App with this UniqueName already exists.")
        for position, layer in enumerate(layers):
            await store.use_layer(tx, app, position, layer, placed[layer.digest])
        await events.append(
            tx,
            account_sid=app.account_sid,
            type="app.created",
            subject_sid=app.app_sid,
            data={"unique_name": app.unique_name, "manifest": app.manifest_hash},
            now=app.date_created,
        )
        return True

    return body


def _missing() -> NotFound:
    return NotFound("No App matches the given identifier.")
