-- The names of values that the last report of a device had and that could not be read: they were left out.
ALTER TABLE assignments ADD COLUMN left_out TEXT NOT NULL DEFAULT '';
