-- How many events each device caused in its present hour, and which of them stands for all that came beyond its budget.
CREATE TABLE device_events (
    device_sid TEXT PRIMARY KEY REFERENCES devices (device_sid) ON DELETE CASCADE,
    hour INTEGER NOT NULL,
    count INTEGER NOT NULL,
    merged_id INTEGER
) STRICT, WITHOUT ROWID;
-- Refusals live shorter than other events.
CREATE INDEX events_denied ON events (date_created) WHERE type = 'request.denied';
