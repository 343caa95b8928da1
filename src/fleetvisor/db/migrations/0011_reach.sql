-- What a credential reaches: API keys that a key made end with it, and the account's Secrets reach a device by permission.

-- The key that made this one. Null: an Auth Token made it, or it is older than this column.
ALTER TABLE keys ADD COLUMN maker_sid TEXT;
CREATE INDEX keys_of_maker ON keys (maker_sid) WHERE maker_sid IS NOT NULL;

-- Whether the device may fetch its account's Secrets. Devices that are active now could, and still can.
ALTER TABLE devices ADD COLUMN account_secrets INTEGER NOT NULL DEFAULT 0;
UPDATE devices SET account_secrets = 1 WHERE access = 'active';
-- The day, in days since the epoch, of the device's last event of type secret.fetched.
ALTER TABLE devices ADD COLUMN day_secrets_fetched INTEGER NOT NULL DEFAULT -1;

-- Whether devices that enrol with the token may fetch the account's Secrets, and whether they wait to be accepted.
ALTER TABLE enrollment_tokens ADD COLUMN account_secrets INTEGER NOT NULL DEFAULT 0;
ALTER TABLE enrollment_tokens ADD COLUMN waits INTEGER NOT NULL DEFAULT 0;
