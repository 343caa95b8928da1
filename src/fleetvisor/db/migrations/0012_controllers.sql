-- The id by which a board asks over DDI, apart from the name that people give. Of today's devices it is their name.
ALTER TABLE devices ADD COLUMN controller_id TEXT;
UPDATE devices SET controller_id = unique_name;
CREATE UNIQUE INDEX devices_by_controller ON devices (account_sid, controller_id);

-- Whether the device is to send its attributes anew: after each update that it finished, and when somebody asks.
ALTER TABLE assignments ADD COLUMN wants_attributes INTEGER NOT NULL DEFAULT 0;

-- Reports of a journal whose sequence did not rise: how many in a row were ignored, and when the last one was.
ALTER TABLE assignments ADD COLUMN ignored_reports INTEGER NOT NULL DEFAULT 0;
ALTER TABLE assignments ADD COLUMN date_ignored INTEGER;
