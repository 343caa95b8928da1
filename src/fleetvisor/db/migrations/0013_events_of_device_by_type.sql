-- Events of one device and one type are found without looking at all of either.
-- The account stands first: with as many equalities as the other indexes, SQLite would have no reason to prefer it.
CREATE INDEX events_of_device_by_type ON events (account_sid, device_sid, type, date_created, event_id)
    WHERE device_sid IS NOT NULL;
