"""The rows of apps and their layers.

Deliberately decides nothing, and touches no bytes: ``service`` and ``sweep`` do. NOTE: ``layers.uses`` counts
rows of ``app_layers``; every statement that adds or removes those rows moves it in the same transaction.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.apps.model import App, AppLayer, Content, LayerBlob, Manifest
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, AppSid, is_sid, normalize

_COLUMNS: Final = """app_sid, account_sid, unique_name, manifest_hash, signed, size_bytes, politeness_s,
    connection_grace_s, check_in_s, date_created, kind, version, hardware_class, hardware_compatibility,
    security_counter, CASE WHEN EXISTS (SELECT 1 FROM app_layers u JOIN layers b ON b.digest = u.digest
        WHERE u.app_sid = apps.app_sid AND b.date_damaged IS NOT NULL) THEN 1 ELSE 0 END AS damaged"""
_BY_SID: Final = f"SELECT {_COLUMNS} FROM apps WHERE account_sid = :account_sid AND app_sid = :ref"
_BY_NAME: Final = f"SELECT {_COLUMNS} FROM apps WHERE account_sid = :account_sid AND unique_name = :ref"
_BY_HASH: Final = f"SELECT {_COLUMNS} FROM apps WHERE account_sid = :account_sid AND manifest_hash = :hash"
_PAGE: Final = f"SELECT {_COLUMNS} FROM apps WHERE account_sid = :account_sid"
_INSERT: Final = """
INSERT INTO apps (app_sid, account_sid, unique_name, manifest, manifest_hash, signed, size_bytes, politeness_s,
    connection_grace_s, check_in_s, date_created, kind, version, hardware_class, hardware_compatibility,
    security_counter)
VALUES (:app_sid, :account_sid, :unique_name, :manifest, :manifest_hash, :signed, :size_bytes, :politeness_s,
    :connection_grace_s, :check_in_s, :date_created, :kind, :version, :hardware_class, :hardware_compatibility,
    :security_counter)
ON CONFLICT DO NOTHING RETURNING app_sid AS sid"""
_LAYERS: Final = """
SELECT l.digest, b.size_bytes, l.measurement, l.region, l.region_start, l.region_size, b.sha1, b.md5
FROM app_layers l JOIN layers b ON b.digest = l.digest
WHERE l.account_sid = :account_sid AND l.app_sid = :app_sid ORDER BY l.position"""
_INSERT_LAYER: Final = """
INSERT INTO app_layers (app_sid, position, account_sid, digest, measurement, region, region_start, region_size)
VALUES (:app_sid, :position, :account_sid, :digest, :measurement, :region, :region_start, :region_size)"""
_LAYER: Final = """
SELECT digest, blob, size_bytes, CASE WHEN date_damaged IS NULL THEN 0 ELSE 1 END AS damaged
    FROM layers WHERE digest = :digest AND stored = 1
    AND EXISTS (SELECT 1 FROM app_layers a WHERE a.account_sid = :account_sid AND a.digest = layers.digest)"""
_RENEW: Final = """
INSERT INTO layers (digest, blob, size_bytes, date_renewed, sha1, md5)
VALUES (:digest, :blob, :size_bytes, :now, :sha1, :md5)
ON CONFLICT (digest) DO UPDATE SET date_renewed =
    CASE WHEN excluded.date_renewed > layers.date_renewed THEN excluded.date_renewed ELSE layers.date_renewed END,
    sha1 = COALESCE(excluded.sha1, layers.sha1), md5 = COALESCE(excluded.md5, layers.md5)
RETURNING digest, blob, size_bytes, stored, CASE WHEN date_damaged IS NULL THEN 0 ELSE 1 END AS damaged"""
_USE: Final = """
UPDATE layers SET uses = uses + 1, stored = 1, date_damaged = NULL, date_checked = :now
WHERE digest = :digest AND blob = :blob"""
_USED: Final = """
SELECT digest, count(*) AS count FROM app_layers WHERE account_sid = :account_sid AND app_sid = :app_sid
GROUP BY digest ORDER BY digest"""
_RELEASE: Final = """
UPDATE layers SET uses = uses - :count,
    date_renewed = CASE WHEN :now > date_renewed THEN :now ELSE date_renewed END
WHERE digest = :digest"""
_UNUSED: Final = """
SELECT digest, blob, date_renewed FROM layers WHERE uses = 0 AND date_renewed < :before
ORDER BY date_renewed LIMIT :limit"""
_REMOVE: Final = """
DELETE FROM layers WHERE digest = :digest AND blob = :blob AND uses = 0 AND date_renewed = :renewed"""
_NOTE_REMOVED: Final = """
INSERT INTO removed_blobs (blob, date_removed) VALUES (:blob, :now) ON CONFLICT DO NOTHING"""
_REMOVED: Final = """
SELECT blob, date_removed FROM removed_blobs
WHERE date_removed < :before AND (date_removed, blob) > (:date, :blob)
ORDER BY date_removed, blob LIMIT :limit"""


class _Sid(msgspec.Struct, frozen=True):
    sid: str


class _Count(msgspec.Struct, frozen=True):
    count: int


class _Digest(msgspec.Struct, frozen=True):
    digest: str


class _Used(msgspec.Struct, frozen=True):
    digest: str
    count: int


class LayerRow(msgspec.Struct, frozen=True):
    """A layer's place in the blob store; ``stored``: its bytes were durable once; ``damaged``: they no longer are."""

    digest: str
    blob: str
    size_bytes: int
    stored: bool
    damaged: bool


class UnusedLayer(msgspec.Struct, frozen=True):
    """A layer that no app uses, with the renewal that was seen."""

    digest: str
    blob: str
    date_renewed: Millis


class RemovedBlob(msgspec.Struct, frozen=True):
    """Bytes whose row is gone."""

    blob: str
    date_removed: Millis


async def find_in(source: Tx | Database, account_sid: AccountSid, ref: str) -> App | None:
    """Read an app by SID or unique name, inside or outside a transaction."""
    if is_sid(ref, "KA"):
        return await source.one(App, _BY_SID, {"account_sid": account_sid, "ref": normalize(ref)})
    return await source.one(App, _BY_NAME, {"account_sid": account_sid, "ref": ref})


async def by_hash(tx: Tx, account_sid: AccountSid, manifest_hash: str) -> list[App]:
    """Read the account's apps with this manifest."""
    return await tx.all(App, _BY_HASH, {"account_sid": account_sid, "hash": manifest_hash})


async def page(
    db: Database, account_sid: AccountSid, *, key: tuple[int, str] | None, limit: int, newer: bool
) -> list[App]:
    """Read apps beside ``key`` (date_created, SID): older ones, newest first, or (``newer``) the reverse."""
    sign, order = (">", "ASC") if newer else ("<", "DESC")
    beside = f"AND (date_created, app_sid) {sign} (:created, :sid)" if key else ""
    sql = f"{_PAGE} {beside} ORDER BY date_created {order}, app_sid {order} LIMIT :limit"
    params: dict[str, str | int] = {"account_sid": account_sid, "limit": limit}
    if key:
        params |= {"created": key[0], "sid": key[1]}
    return await db.all(App, sql, params)


async def find_manifest(db: Database, account_sid: AccountSid, app_sid: AppSid) -> Manifest | None:
    """Read an app's manifest."""
    sql = """SELECT app_sid, manifest_hash, manifest FROM apps
        WHERE account_sid = :account_sid AND app_sid = :app_sid AND kind = 'bundle'"""
    return await db.one(Manifest, sql, {"account_sid": account_sid, "app_sid": app_sid})


async def find_manifest_by_hash(db: Database, account_sid: AccountSid, manifest_hash: str) -> Manifest | None:
    """Read a manifest by its hash, if an app of the account has it."""
    sql = """SELECT app_sid, manifest_hash, manifest FROM apps
        WHERE account_sid = :account_sid AND manifest_hash = :hash AND kind = 'bundle' LIMIT 1"""
    return await db.one(Manifest, sql, {"account_sid": account_sid, "hash": manifest_hash})


async def find_layer(db: Database, account_sid: AccountSid, digest: str) -> LayerBlob | None:
    """Read where a layer's bytes lie, if an app of the account has it."""
    return await db.one(LayerBlob, _LAYER, {"account_sid": account_sid, "digest": digest})


async def damaged(source: Tx | Database, app_sids: Sequence[str]) -> set[str]:
    """Return which of these apps have a layer whose stored bytes are damaged or missing."""
    if not app_sids:
        return set()
    params = {f"a{place}": sid for place, sid in enumerate(dict.fromkeys(app_sids))}
    sql = f"""SELECT DISTINCT u.app_sid AS sid FROM app_layers u JOIN layers b ON b.digest = u.digest
        WHERE b.date_damaged IS NOT NULL AND u.app_sid IN ({", ".join(f":{name}" for name in params)})"""
    return {row.sid for row in await source.all(_Sid, sql, params)}


async def layers(db: Database, account_sid: AccountSid, app_sid: AppSid) -> list[AppLayer]:
    """Read an app's layers, in manifest order."""
    return await db.all(AppLayer, _LAYERS, {"account_sid": account_sid, "app_sid": app_sid})


async def renew(tx: Tx, content: Content, blob: str, now: Millis) -> LayerRow:
    """Make the layer's row, named ``blob``, or renew the grace of the one that is there; return the row."""
    params = {
        "digest": content.layer.digest,
        "blob": blob,
        "size_bytes": content.layer.size_bytes,
        "sha1": content.layer.sha1,
        "md5": content.layer.md5,
        "now": now,
    }
    row = await tx.one(LayerRow, _RENEW, params)
    if row is None:
        raise AssertionError("an upsert that returns always returns a row")
    return row


async def count(tx: Tx, account_sid: AccountSid) -> int:
    """Count the account's apps."""
    sql = "SELECT count(*) AS count FROM apps WHERE account_sid = :account_sid"
    row = await tx.one(_Count, sql, {"account_sid": account_sid})
    return row.count if row else 0


async def insert(tx: Tx, app: App, manifest: bytes) -> bool:
    """Make an app; false when its name is taken."""
    row = msgspec.structs.asdict(app) | {"manifest": manifest, "signed": int(app.signed)}
    del row["damaged"]  # it is its layers'
    return await tx.one(_Sid, _INSERT, row) is not None


async def has_layer(tx: Tx, digest: str, blob: str) -> bool:
    """Return whether a layer's row is still the one that was renewed."""
    sql = "SELECT digest FROM layers WHERE digest = :digest AND blob = :blob"
    return await tx.one(_Digest, sql, {"digest": digest, "blob": blob}) is not None


async def use_layer(tx: Tx, app: App, position: int, layer: AppLayer, blob: str) -> None:
    """Add a layer, whose bytes are durable under ``blob``, to an app, and count its use."""
    await tx.run(_USE, {"digest": layer.digest, "blob": blob, "now": app.date_created})
    await tx.run(
        _INSERT_LAYER,
        {
            "app_sid": app.app_sid,
            "position": position,
            "account_sid": app.account_sid,
            "digest": layer.digest,
            "measurement": layer.measurement,
            "region": layer.region,
            "region_start": layer.region_start,
            "region_size": layer.region_size,
        },
    )


async def delete(tx: Tx, account_sid: AccountSid, app_sid: AppSid, now: Millis) -> None:
    """Remove an app, and count its layers' uses down; their grace starts now."""
    which = {"account_sid": account_sid, "app_sid": app_sid}
    used = await tx.all(_Used, _USED, which)
    await tx.run("DELETE FROM app_layers WHERE account_sid = :account_sid AND app_sid = :app_sid", which)
    for row in used:
        await tx.run(_RELEASE, {"digest": row.digest, "count": row.count, "now": now})
    await tx.run("DELETE FROM apps WHERE account_sid = :account_sid AND app_sid = :app_sid", which)


async def unused(db: Database, before: Millis, limit: int) -> list[UnusedLayer]:
    """Read layers that no app uses and that were renewed before ``before``, the oldest first."""
    return await db.all(UnusedLayer, _UNUSED, {"before": before, "limit": limit})


async def remove_unused(tx: Tx, layer: UnusedLayer, now: Millis) -> bool:
    """Remove an unused layer's row unless somebody renewed or used it, and note its bytes for removal."""
    seen = {"digest": layer.digest, "blob": layer.blob, "renewed": layer.date_renewed}
    if await tx.run(_REMOVE, seen) == 0:
        return False
    await note_removed(tx, layer.blob, now)
    return True


async def note_removed(tx: Tx, blob: str, now: Millis) -> None:
    """Note bytes that no row names any more, nor ever will again."""
    await tx.run(_NOTE_REMOVED, {"blob": blob, "now": now})


async def removed(db: Database, after: RemovedBlob, before: Millis, limit: int) -> list[RemovedBlob]:
    """Read bytes whose row was removed before ``before``, those after ``after``, the oldest first."""
    params = {"before": before, "date": after.date_removed, "blob": after.blob, "limit": limit}
    return await db.all(RemovedBlob, _REMOVED, params)


async def forget_removed(tx: Tx, blob: str) -> None:
    """Forget bytes that are deleted."""
    await tx.run("DELETE FROM removed_blobs WHERE blob = :blob", {"blob": blob})
