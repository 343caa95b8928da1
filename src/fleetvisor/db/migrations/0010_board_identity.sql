-- Step 4: what a board of another protocol keeps in its own memory must never mean two things here.

-- The highest update number of all devices that were removed, and of all controller ids that were given to another
-- device: new numbers are above it, because a board remembers the last one under its controller id.
CREATE TABLE number_floor (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    last_number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- When a device last fetched bytes of the update, and whether it closed it with success without having fetched any.
ALTER TABLE updates ADD COLUMN date_fetched INTEGER;
ALTER TABLE updates ADD COLUMN unfetched INTEGER NOT NULL DEFAULT 0;
UPDATE updates SET date_fetched = date_updated WHERE open_app_sid IS NOT NULL AND date_deadline IS NOT NULL;
