-- A rollout that ended can be removed. It is out of sight at once; its rows, one for each device, go in chunks.
ALTER TABLE rollouts ADD COLUMN removing INTEGER NOT NULL DEFAULT 0;

-- The rollouts that have something to do are read twice a second, and before each of their steps: drafts are none of them.
DROP INDEX rollouts_unfinished;
CREATE INDEX rollouts_under_way ON rollouts (date_created, rollout_sid)
    WHERE (date_ended IS NULL AND state <> 'draft') OR canceling = 1 OR removing = 1;
