-- A rollout that ended can be removed. It is out of sight at once; its rows, one for each device, go in chunks.

ALTER TABLE rollouts ADD COLUMN removing INTEGER NOT NULL DEFAULT 0;
DROP INDEX rollouts_unfinished;
CREATE INDEX rollouts_unfinished ON rollouts (date_created, rollout_sid)
    WHERE date_ended IS NULL OR canceling = 1 OR removing = 1;
