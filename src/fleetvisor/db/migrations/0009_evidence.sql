-- Which devices count as evidence for a rollout's guard, and counts that outlive the devices that they were made of.

-- `by_operator`: an operator registered the device, or accepted it. Devices of before count as others do: after a day.
ALTER TABLE devices ADD COLUMN by_operator INTEGER NOT NULL DEFAULT 0;

-- `known_by` says what makes a device known: `start` (the rollout's), `date` (`known_since`), or `none`: all count.
ALTER TABLE rollouts ADD COLUMN known_by TEXT NOT NULL DEFAULT 'none';
ALTER TABLE rollouts ADD COLUMN known_since INTEGER;

-- From when the device counts as evidence: 0 is always, null is never.
ALTER TABLE rollout_devices ADD COLUMN evidence_from INTEGER DEFAULT 0;
CREATE INDEX rollout_devices_not_yet ON rollout_devices (rollout_sid, evidence_from) WHERE evidence_from > 0;

-- `evidence`: whether the devices count for the guard. Shard -1 holds devices that were removed: they have no row.
CREATE TABLE rollout_counts_by_evidence (
    rollout_sid TEXT NOT NULL REFERENCES rollouts (rollout_sid) ON DELETE CASCADE,
    wave INTEGER NOT NULL,
    state TEXT NOT NULL,
    evidence INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (rollout_sid, wave, state, evidence, shard)
) STRICT, WITHOUT ROWID;
INSERT INTO rollout_counts_by_evidence (rollout_sid, wave, state, evidence, shard, count)
    SELECT rollout_sid, wave, state, 1, shard, count FROM rollout_counts;
DROP TABLE rollout_counts;
ALTER TABLE rollout_counts_by_evidence RENAME TO rollout_counts;
