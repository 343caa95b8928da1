-- Of a device's events of today: how many have rows of their own, and how many stand behind the merged one.
ALTER TABLE device_events ADD COLUMN own INTEGER NOT NULL DEFAULT 0;
ALTER TABLE device_events ADD COLUMN merged INTEGER NOT NULL DEFAULT 0;
