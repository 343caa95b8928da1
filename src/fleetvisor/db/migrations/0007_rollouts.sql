-- Step 3: rollouts. An app offered to a selection of devices in waves, under a guard; and what each device made of it.

-- Rates are in millionths. `version` counts every step of the rollout itself: a step is taken by compare-and-set on it.
-- `open_app_sid` is `app_sid` until the rollout ends: until then its app cannot be removed.
CREATE TABLE rollouts (
    rollout_sid TEXT NOT NULL PRIMARY KEY,
    account_sid TEXT NOT NULL REFERENCES accounts (account_sid),
    friendly_name TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('release', 'rollback')),
    app_sid TEXT,
    open_app_sid TEXT REFERENCES apps (app_sid) ON DELETE RESTRICT,
    rollback_of TEXT,
    selector TEXT NOT NULL,
    state TEXT NOT NULL,
    limit_ppm INTEGER NOT NULL,
    confidence_ppm INTEGER NOT NULL,
    sample_min INTEGER NOT NULL,
    soak_s INTEGER NOT NULL,
    silent_s INTEGER NOT NULL,
    offline_s INTEGER NOT NULL,
    on_unproven TEXT NOT NULL,
    require_proof INTEGER NOT NULL,
    concurrent_max INTEGER NOT NULL,
    starts_per_minute INTEGER NOT NULL,
    wave INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0,
    -- Where the search for devices goes on (null: from the oldest), and when it last came to its end in this wave.
    scan_created INTEGER,
    scan_sid TEXT,
    date_scanned INTEGER,
    -- Until when starts are paid for, at `starts_per_minute`.
    date_paid INTEGER NOT NULL DEFAULT 0,
    -- Failed devices that changed before this time are to be tried again; null: none.
    date_retry INTEGER,
    -- Open updates are to be canceled.
    canceling INTEGER NOT NULL DEFAULT 0,
    date_start INTEGER,
    date_started INTEGER,
    date_ended INTEGER,
    date_created INTEGER NOT NULL,
    date_updated INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX rollouts_by_age ON rollouts (account_sid, date_created, rollout_sid);
CREATE INDEX rollouts_unfinished ON rollouts (date_created, rollout_sid) WHERE date_ended IS NULL OR canceling = 1;
CREATE INDEX rollouts_of_app ON rollouts (open_app_sid) WHERE open_app_sid IS NOT NULL;

-- `percent_ppm` or `devices` says how far a wave goes; `threshold` is the place under which its devices lie, of 2^53.
CREATE TABLE rollout_waves (
    rollout_sid TEXT NOT NULL REFERENCES rollouts (rollout_sid) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    percent_ppm INTEGER,
    devices INTEGER,
    threshold INTEGER,
    date_opened INTEGER,
    date_offered INTEGER,
    date_settled INTEGER,
    date_released INTEGER,
    PRIMARY KEY (rollout_sid, position)
) STRICT, WITHOUT ROWID;

-- One row for each device that a rollout came to. `number` is the update that it made there, once it is made.
CREATE TABLE rollout_devices (
    rollout_sid TEXT NOT NULL REFERENCES rollouts (rollout_sid) ON DELETE CASCADE,
    device_sid TEXT NOT NULL REFERENCES devices (device_sid) ON DELETE CASCADE,
    account_sid TEXT NOT NULL,
    wave INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    error_code INTEGER NOT NULL DEFAULT 0,
    number INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    app_sid TEXT,
    previous_sid TEXT,
    date_offered INTEGER NOT NULL,
    date_changed INTEGER NOT NULL,
    PRIMARY KEY (rollout_sid, device_sid)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollout_devices_of_device ON rollout_devices (device_sid);
CREATE INDEX rollout_devices_by_state ON rollout_devices (rollout_sid, state, date_changed, device_sid);

-- How many of those rows are in each state: the sum of the shards, changed in the transaction that changes the row.
CREATE TABLE rollout_counts (
    rollout_sid TEXT NOT NULL REFERENCES rollouts (rollout_sid) ON DELETE CASCADE,
    wave INTEGER NOT NULL,
    state TEXT NOT NULL,
    shard INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (rollout_sid, wave, state, shard)
) STRICT, WITHOUT ROWID;

-- What the guard or an operator decided, with the numbers it stood on, as a JSON object.
CREATE TABLE rollout_decisions (
    rollout_sid TEXT NOT NULL REFERENCES rollouts (rollout_sid) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    account_sid TEXT NOT NULL,
    wave INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    code TEXT NOT NULL,
    sentence TEXT NOT NULL,
    data TEXT NOT NULL,
    date_created INTEGER NOT NULL,
    PRIMARY KEY (rollout_sid, number)
) STRICT, WITHOUT ROWID;

-- How often each device failed an app since it was last told directly to run it: a penalty holds it back from rollouts.
CREATE TABLE app_failures (
    device_sid TEXT NOT NULL REFERENCES devices (device_sid) ON DELETE CASCADE,
    app_sid TEXT NOT NULL,
    account_sid TEXT NOT NULL,
    failures INTEGER NOT NULL,
    date_failed INTEGER NOT NULL,
    PRIMARY KEY (device_sid, app_sid)
) STRICT, WITHOUT ROWID;

-- Whose instruction the target is, and when it was given: the newest explicit one wins. Null rollout: given directly.
ALTER TABLE assignments ADD COLUMN rollout_sid TEXT;
ALTER TABLE assignments ADD COLUMN date_instructed INTEGER;
ALTER TABLE updates ADD COLUMN rollout_sid TEXT;
CREATE INDEX updates_of_rollout ON updates (rollout_sid, device_sid)
    WHERE rollout_sid IS NOT NULL AND open_app_sid IS NOT NULL;
