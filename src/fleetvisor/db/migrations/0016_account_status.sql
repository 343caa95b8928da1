-- Accounts can be suspended, and ended: then everything that they have is removed in chunks, and at last their row.

ALTER TABLE accounts ADD COLUMN status TEXT NOT NULL DEFAULT 'active'
    CHECK (status IN ('active', 'suspended', 'ending'));
CREATE INDEX accounts_by_age ON accounts (date_created, account_sid);
CREATE INDEX accounts_ending ON accounts (account_sid) WHERE status = 'ending';
CREATE INDEX configs_of_account ON configs (account_sid);

-- Whose device a key is, in any account: a device that proves its key may move.
CREATE INDEX device_keys_by_hash ON device_keys (key_hash);
