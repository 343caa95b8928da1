-- Whose credentials were refused, of events of type request.denied.
ALTER TABLE events ADD COLUMN refused_sid TEXT;
CREATE INDEX events_refused ON events (refused_sid, date_created) WHERE refused_sid IS NOT NULL;
-- An explanation looks an hour back, so only the newest refusals get it. `identity` is the last key of their data.
UPDATE events SET refused_sid = (
    SELECT d.device_sid FROM devices d
    WHERE d.device_sid = 'UV' || lower(substr(events.data, length(events.data) - 33, 32))
        AND d.account_sid = events.account_sid)
WHERE event_id IN (
        SELECT event_id FROM events WHERE type = 'request.denied' ORDER BY date_created DESC, event_id DESC LIMIT 500)
    AND data LIKE '%"status":401,%' AND data LIKE '%"identity":"UV%';
-- Others named their device in the path, which ends with it or goes on below it.
UPDATE events SET refused_sid = (
    SELECT d.device_sid FROM devices d
    WHERE d.account_sid = events.account_sid AND (
        replace(events.data, '/controller/v1/' || d.device_sid || '"', '') <> events.data
        OR replace(events.data, '/controller/v1/' || d.device_sid || '/', '') <> events.data
        OR replace(events.data, '/controller/v1/' || replace(d.controller_id, ' ', '%20') || '"', '') <> events.data
        OR replace(events.data, '/controller/v1/' || replace(d.controller_id, ' ', '%20') || '/', '') <> events.data
        OR replace(events.data, '/controller/v1/' || replace(d.unique_name, ' ', '%20') || '"', '') <> events.data
        OR replace(events.data, '/controller/v1/' || replace(d.unique_name, ' ', '%20') || '/', '') <> events.data)
    LIMIT 1)
WHERE event_id IN (
        SELECT event_id FROM events WHERE type = 'request.denied' ORDER BY date_created DESC, event_id DESC LIMIT 500)
    AND refused_sid IS NULL AND data LIKE '%"status":401,%' AND data LIKE '%/controller/v1/%';
