-- Layers whose bytes were found damaged or missing, and when each layer was last read and proved.

ALTER TABLE layers ADD COLUMN date_damaged INTEGER;
ALTER TABLE layers ADD COLUMN date_checked INTEGER NOT NULL DEFAULT 0;
CREATE INDEX layers_damaged ON layers (digest) WHERE date_damaged IS NOT NULL;
CREATE INDEX layers_by_check ON layers (date_checked, digest) WHERE stored = 1;
