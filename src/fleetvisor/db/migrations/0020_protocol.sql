-- By which protocol a device polled last. A device that never polled is taken for one of the native protocol.
ALTER TABLE assignments ADD COLUMN protocol TEXT NOT NULL DEFAULT 'native';
UPDATE assignments SET protocol = 'ddi' WHERE asks = 1;
ALTER TABLE assignments DROP COLUMN asks;
