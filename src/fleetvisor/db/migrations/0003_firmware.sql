-- Step 2: firmware that is no Microvisor bundle. An app is then one file: one layer without a region, and no manifest;
-- its hash is the file's. A device and an app may have a hardware class.

ALTER TABLE apps ADD COLUMN kind TEXT NOT NULL DEFAULT 'bundle';
ALTER TABLE apps ADD COLUMN version TEXT;
ALTER TABLE apps ADD COLUMN hardware_class TEXT;
-- A JSON list of texts, as the file states them; shown, not compared.
ALTER TABLE apps ADD COLUMN hardware_compatibility TEXT NOT NULL DEFAULT '[]';
ALTER TABLE apps ADD COLUMN security_counter INTEGER;

ALTER TABLE devices ADD COLUMN hardware_class TEXT;

-- Digests for protocols that ask for them; computed at the upload of a file, else when first asked for.
ALTER TABLE layers ADD COLUMN sha1 TEXT;
ALTER TABLE layers ADD COLUMN md5 TEXT;

CREATE TABLE app_layers_3 (
    app_sid TEXT NOT NULL REFERENCES apps (app_sid),
    position INTEGER NOT NULL,
    account_sid TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES layers (digest),
    measurement TEXT,
    region TEXT CHECK (region IN ('internal', 'external')),
    region_start INTEGER,
    region_size INTEGER,
    PRIMARY KEY (app_sid, position)
) STRICT, WITHOUT ROWID;
INSERT INTO app_layers_3 (app_sid, position, account_sid, digest, measurement, region, region_start, region_size)
    SELECT app_sid, position, account_sid, digest, measurement, region, region_start, region_size FROM app_layers;
DROP TABLE app_layers;
ALTER TABLE app_layers_3 RENAME TO app_layers;
CREATE INDEX app_layers_by_digest ON app_layers (account_sid, digest);
CREATE INDEX app_layers_of_layer ON app_layers (digest);
