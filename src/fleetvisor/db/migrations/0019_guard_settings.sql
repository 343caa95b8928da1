-- The settings of a rollout's guard are one JSON object, so that one more needs no column. Rates become shares:
-- `50000e-6` is a number of JSON, and the same as 0.05.
ALTER TABLE rollouts ADD COLUMN guard TEXT NOT NULL DEFAULT '{}';
UPDATE rollouts SET guard = '{"limit":' || limit_ppm || 'e-6,"confidence":' || confidence_ppm || 'e-6,"minimum_sample":'
    || sample_min || ',"soak":' || soak_s || ',"silent_after":' || silent_s || ',"offline_after":' || offline_s
    || ',"on_unproven":"' || on_unproven || '","require_proof":'
    || CASE WHEN require_proof = 0 THEN 'false' ELSE 'true' END || '}';
ALTER TABLE rollouts DROP COLUMN limit_ppm;
ALTER TABLE rollouts DROP COLUMN confidence_ppm;
ALTER TABLE rollouts DROP COLUMN sample_min;
ALTER TABLE rollouts DROP COLUMN soak_s;
ALTER TABLE rollouts DROP COLUMN silent_s;
ALTER TABLE rollouts DROP COLUMN offline_s;
ALTER TABLE rollouts DROP COLUMN on_unproven;
ALTER TABLE rollouts DROP COLUMN require_proof;
