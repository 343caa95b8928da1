-- Step 2: how devices are born, known and revoked. Enrolment tokens, device keys, tokens that end, gateway tokens, labels.

CREATE TABLE enrollment_tokens (
    token_sid TEXT NOT NULL PRIMARY KEY,
    account_sid TEXT NOT NULL REFERENCES accounts (account_sid),
    friendly_name TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    uses INTEGER NOT NULL DEFAULT 0,
    uses_max INTEGER NOT NULL,
    date_expires INTEGER,
    hardware_class TEXT,
    -- A JSON object: the labels of the devices born with it.
    labels TEXT NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0,
    date_created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX enrollment_tokens_by_age ON enrollment_tokens (account_sid, date_created, token_sid);

-- Every public key that ever was a device's: the row outlives the device, so that its key stays refused until it is freed.
CREATE TABLE device_keys (
    account_sid TEXT NOT NULL REFERENCES accounts (account_sid),
    key_hash TEXT NOT NULL,
    device_sid TEXT NOT NULL,
    point BLOB NOT NULL,
    refused INTEGER NOT NULL DEFAULT 0,
    date_created INTEGER NOT NULL,
    PRIMARY KEY (account_sid, key_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_keys_by_device ON device_keys (device_sid);
CREATE INDEX device_keys_refused ON device_keys (account_sid, date_created, key_hash) WHERE refused = 1;

-- A token that was replaced ends after its overlap.
ALTER TABLE device_tokens ADD COLUMN date_expires INTEGER;
CREATE INDEX device_tokens_by_device ON device_tokens (device_sid);

CREATE TABLE gateway_tokens (
    account_sid TEXT NOT NULL PRIMARY KEY REFERENCES accounts (account_sid),
    token_hash BLOB NOT NULL UNIQUE,
    date_created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `by_gateway`: the account's gateway token proves this device, because it never had a credential of its own.
ALTER TABLE devices ADD COLUMN by_gateway INTEGER NOT NULL DEFAULT 0;
CREATE INDEX devices_waiting ON devices (account_sid, date_created, device_sid) WHERE access = 'waiting';

-- A JSON object, as the API shows it; `device_labels` has the same, to select by.
ALTER TABLE devices ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
CREATE TABLE device_labels (
    device_sid TEXT NOT NULL REFERENCES devices (device_sid) ON DELETE CASCADE,
    key TEXT NOT NULL,
    account_sid TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (device_sid, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_labels_by_value ON device_labels (account_sid, key, value, device_sid);
