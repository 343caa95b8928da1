-- Step 2: operators. Events say who acted and can be listed; API keys have a role and an end; the Auth Token has a successor.

ALTER TABLE events ADD COLUMN actor_sid TEXT;
ALTER TABLE events ADD COLUMN address TEXT;
ALTER TABLE events ADD COLUMN request_sid TEXT;
DROP INDEX events_of_account;
-- The first migration has one of these columns already.
DROP INDEX device_tokens_by_device;
CREATE INDEX events_listed ON events (account_sid, date_created, event_id);
CREATE INDEX events_by_type ON events (account_sid, type, date_created, event_id);
CREATE INDEX events_of_device ON events (device_sid, date_created, event_id) WHERE device_sid IS NOT NULL;

-- admin, operator or viewer.
ALTER TABLE keys ADD COLUMN role TEXT NOT NULL DEFAULT 'admin';
ALTER TABLE keys ADD COLUMN date_expires INTEGER;
ALTER TABLE keys ADD COLUMN date_last_used INTEGER;

-- A second Auth Token, until it is promoted or removed.
ALTER TABLE accounts ADD COLUMN secondary_hash BLOB;
ALTER TABLE accounts ADD COLUMN secondary_sealed BLOB;
ALTER TABLE accounts ADD COLUMN date_secondary INTEGER;
