-- Step 1: accounts, apps, layers, configs, devices, updates, events.
--
-- Written in the SQLite spelling; the PostgreSQL adapter replaces the four words that differ (see db/migrate).
-- Times are milliseconds since the epoch. Flags are 0 or 1. SIDs are globally unique.

CREATE TABLE accounts (
    account_sid TEXT NOT NULL PRIMARY KEY,
    ordinal INTEGER NOT NULL UNIQUE,
    auth_token_hash BLOB NOT NULL,
    auth_token_sealed BLOB NOT NULL,
    friendly_name TEXT NOT NULL DEFAULT '',
    device_count INTEGER NOT NULL DEFAULT 0,
    date_created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    key_sid TEXT NOT NULL PRIMARY KEY,
    account_sid TEXT NOT NULL REFERENCES accounts (account_sid),
    friendly_name TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    date_created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_by_age ON keys (account_sid, date_created, key_sid);

-- Things made once for all nodes, by insert-if-absent: the CA certificate and its sealed key.
CREATE TABLE keepsakes (
    name TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The sealing keys that sealed values may name; start is refused when one of their files is missing.
CREATE TABLE seal_keys (
    seal_key_id TEXT NOT NULL PRIMARY KEY,
    date_created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each distinct block of firmware bytes. `uses` counts app_layers rows. `blob` names the bytes; a
-- row that comes back after its removal gets a new name, so a late removal of the old bytes hurts nobody.
CREATE TABLE layers (
    digest TEXT NOT NULL PRIMARY KEY,
    blob TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    stored INTEGER NOT NULL DEFAULT 0,
    uses INTEGER NOT NULL DEFAULT 0,
    date_renewed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX layers_unused ON layers (date_renewed) WHERE uses = 0;

-- Bytes whose row was removed: deleted from the blob store when their grace is over.
CREATE TABLE removed_blobs (
    blob TEXT NOT NULL PRIMARY KEY,
    date_removed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX removed_blobs_by_age ON removed_blobs (date_removed, blob);

CREATE TABLE apps (
    app_sid TEXT NOT NULL PRIMARY KEY,
    account_sid TEXT NOT NULL REFERENCES accounts (account_sid),
    unique_name TEXT,
    manifest BLOB NOT NULL,
    manifest_hash TEXT NOT NULL,
    signed INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    politeness_s INTEGER NOT NULL,
    connection_grace_s INTEGER NOT NULL,
    check_in_s INTEGER NOT NULL,
    date_created INTEGER NOT NULL,
    UNIQUE (account_sid, unique_name)
) STRICT, WITHOUT ROWID;
CREATE INDEX apps_by_age ON apps (account_sid, date_created, app_sid);
CREATE INDEX apps_by_hash ON apps (account_sid, manifest_hash);

CREATE TABLE app_layers (
    app_sid TEXT NOT NULL REFERENCES apps (app_sid),
    position INTEGER NOT NULL,
    account_sid TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES layers (digest),
    measurement TEXT NOT NULL,
    region TEXT NOT NULL CHECK (region IN ('internal', 'external')),
    region_start INTEGER NOT NULL,
    region_size INTEGER NOT NULL,
    PRIMARY KEY (app_sid, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX app_layers_by_digest ON app_layers (account_sid, digest);
CREATE INDEX app_layers_of_layer ON app_layers (digest);

-- The last update number of every SID that ever was a device: numbers are never used again, even when a
-- device is removed and registered anew.
CREATE TABLE update_numbers (
    device_sid TEXT NOT NULL PRIMARY KEY,
    last_number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    device_sid TEXT NOT NULL PRIMARY KEY,
    account_sid TEXT NOT NULL REFERENCES accounts (account_sid),
    unique_name TEXT,
    access TEXT NOT NULL DEFAULT 'active' CHECK (access IN ('waiting', 'active', 'disabled')),
    restart_count INTEGER NOT NULL DEFAULT 0,
    date_created INTEGER NOT NULL,
    date_updated INTEGER NOT NULL,
    UNIQUE (account_sid, unique_name)
) STRICT, WITHOUT ROWID;
CREATE INDEX devices_by_age ON devices (account_sid, date_created, device_sid);

CREATE TABLE device_tokens (
    token_hash BLOB NOT NULL PRIMARY KEY,
    device_sid TEXT NOT NULL REFERENCES devices (device_sid) ON DELETE CASCADE,
    date_created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX device_tokens_of_device ON device_tokens (device_sid);

-- Logging, of features/logs: a row only while it was ever switched on.
CREATE TABLE device_logging (
    device_sid TEXT NOT NULL PRIMARY KEY REFERENCES devices (device_sid) ON DELETE CASCADE,
    date_expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What each device should run and says it runs; one row per device, of features/updates.
CREATE TABLE assignments (
    device_sid TEXT NOT NULL PRIMARY KEY REFERENCES devices (device_sid) ON DELETE CASCADE,
    account_sid TEXT NOT NULL,
    target_sid TEXT REFERENCES apps (app_sid) ON DELETE RESTRICT,
    target_hash TEXT,
    date_targeted INTEGER,
    target_reached INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0,
    last_number INTEGER,
    reported_sid TEXT,
    reported_hash TEXT,
    date_reported INTEGER,
    journal TEXT,
    sequence INTEGER NOT NULL DEFAULT 0,
    retired_journals TEXT NOT NULL DEFAULT '',
    boot_count INTEGER,
    wake_reason INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX assignments_of_target ON assignments (target_sid) WHERE target_sid IS NOT NULL;

-- `open_app_sid` is `app_sid` while the update is open, then null: so history never keeps an app from removal.
CREATE TABLE updates (
    device_sid TEXT NOT NULL REFERENCES devices (device_sid) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    account_sid TEXT NOT NULL,
    app_sid TEXT NOT NULL,
    app_hash TEXT NOT NULL,
    open_app_sid TEXT REFERENCES apps (app_sid) ON DELETE RESTRICT,
    state TEXT NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    bytes_done INTEGER NOT NULL DEFAULT 0,
    bytes_total INTEGER NOT NULL DEFAULT 0,
    error_code INTEGER NOT NULL DEFAULT 0,
    date_created INTEGER NOT NULL,
    date_updated INTEGER NOT NULL,
    date_deadline INTEGER,
    PRIMARY KEY (device_sid, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX updates_one_open ON updates (device_sid)
    WHERE state IN ('pending', 'downloading', 'installing', 'testing');
CREATE INDEX updates_of_app ON updates (open_app_sid) WHERE open_app_sid IS NOT NULL;
CREATE INDEX updates_by_deadline ON updates (date_deadline) WHERE date_deadline IS NOT NULL;

-- `owner_sid` is the account's SID or the device's.
CREATE TABLE configs (
    owner_sid TEXT NOT NULL,
    store TEXT NOT NULL CHECK (store IN ('config', 'secret')),
    key TEXT NOT NULL,
    account_sid TEXT NOT NULL REFERENCES accounts (account_sid),
    value TEXT,
    sealed BLOB,
    date_updated INTEGER NOT NULL,
    PRIMARY KEY (owner_sid, store, key),
    CHECK ((store = 'config') = (value IS NOT NULL) AND (store = 'secret') = (sealed IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- Written behind, at most once a second, in one batch: its last second may be lost.
CREATE TABLE presence (
    device_sid TEXT NOT NULL PRIMARY KEY,
    date_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The change log. `writer` orders rows so that a reader never passes an unfinished one: on PostgreSQL it is the
-- transaction's id, given by current_writer(); on SQLite, where commits are in order, 0.
CREATE TABLE events (
    event_id INTEGER PRIMARY KEY,
    writer INTEGER NOT NULL,
    account_sid TEXT NOT NULL,
    type TEXT NOT NULL,
    subject_sid TEXT NOT NULL,
    device_sid TEXT,
    data TEXT NOT NULL,
    date_created INTEGER NOT NULL
) STRICT;
CREATE INDEX events_tail ON events (writer, event_id);
CREATE INDEX events_of_account ON events (account_sid, event_id);
