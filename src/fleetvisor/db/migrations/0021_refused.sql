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
-- A refusal that named its device only in the path of DDI stays without one: to find it would take every device of the
-- account for each of these events, which is hours in a large fleet, and Explain looks an hour back only.
