-- Step 2: devices that speak hawkBit's DDI. They are asked before an update is canceled, say how an update went in
-- lines of text, and describe themselves by attributes.

ALTER TABLE devices ADD COLUMN poll_interval_s INTEGER;

-- `asks`: the device last polled by a protocol in which a cancel is a question that it answers.
ALTER TABLE assignments ADD COLUMN asks INTEGER NOT NULL DEFAULT 0;
ALTER TABLE assignments ADD COLUMN target_mode TEXT NOT NULL DEFAULT 'forced';
ALTER TABLE assignments ADD COLUMN target_confirm INTEGER NOT NULL DEFAULT 0;
ALTER TABLE assignments ADD COLUMN installed_number INTEGER;
ALTER TABLE assignments ADD COLUMN date_attributes INTEGER;

ALTER TABLE updates ADD COLUMN mode TEXT NOT NULL DEFAULT 'forced';
ALTER TABLE updates ADD COLUMN confirmation TEXT NOT NULL DEFAULT 'none';

-- The newest lines that the device said about an update; `position` counts up and is never used again.
CREATE TABLE update_log (
    device_sid TEXT NOT NULL,
    number INTEGER NOT NULL,
    position INTEGER NOT NULL,
    line TEXT NOT NULL,
    date_created INTEGER NOT NULL,
    PRIMARY KEY (device_sid, number, position),
    FOREIGN KEY (device_sid, number) REFERENCES updates (device_sid, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE device_attributes (
    device_sid TEXT NOT NULL REFERENCES devices (device_sid) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (device_sid, key)
) STRICT, WITHOUT ROWID;
