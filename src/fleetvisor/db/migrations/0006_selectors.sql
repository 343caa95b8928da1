-- Step 3: selectors. What a list of devices may be selected by has an index in the list's order, newest first.

ALTER TABLE device_labels ADD COLUMN date_created INTEGER NOT NULL DEFAULT 0;
UPDATE device_labels SET date_created =
    (SELECT d.date_created FROM devices d WHERE d.device_sid = device_labels.device_sid);
DROP INDEX device_labels_by_value;
CREATE INDEX device_labels_by_value ON device_labels (account_sid, key, value, date_created, device_sid);

ALTER TABLE assignments ADD COLUMN date_created INTEGER NOT NULL DEFAULT 0;
UPDATE assignments SET date_created =
    (SELECT d.date_created FROM devices d WHERE d.device_sid = assignments.device_sid);
CREATE INDEX assignments_by_target ON assignments (account_sid, target_sid, date_created, device_sid)
    WHERE target_sid IS NOT NULL;
CREATE INDEX assignments_by_reported ON assignments (account_sid, reported_sid, date_created, device_sid)
    WHERE reported_sid IS NOT NULL;

CREATE INDEX devices_by_hardware ON devices (account_sid, hardware_class, date_created, device_sid)
    WHERE hardware_class IS NOT NULL;
CREATE INDEX devices_disabled ON devices (account_sid, date_created, device_sid) WHERE access = 'disabled';
